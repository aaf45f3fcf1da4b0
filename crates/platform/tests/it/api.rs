//! What users do, through the Platform API.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::conformance::{self, Form};
use crate::http::{Connection, Response};
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_for, wait_until};

/// How a deploy ended.
#[derive(Debug, Clone)]
pub(crate) struct Deployed {
    pub(crate) output: String,
    /// `serving`, `failed`, `held`, `superseded`; `no release` after a failed build.
    pub(crate) state: String,
    pub(crate) version: u64,
    pub(crate) failure: String,
}

impl TestPlatform {
    /// Asks the API with the administrator's token.
    pub(crate) fn api(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        self.api_as(Form::Three, method, path, body)
    }

    /// Asks for one of the two forms of a resource. Every answer has to be as Heroku's API documents it.
    pub(crate) fn api_as(&self, form: Form, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let token = format!("Bearer {}", self.token);
        let headers = [("Authorization", token.as_str()), ("Accept", form.accept())];
        let response = self.api_raw(method, path, &headers, json_bytes(body).as_slice())?;
        let answer = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        if (200..300).contains(&response.status)
            && let Some(link) = conformance::link_of(form, method, path)
        {
            let complaints = conformance::complaints(form, link, &answer);
            assert!(complaints.is_empty(), "{method} {path} ({form:?}): {complaints:#?}");
        }
        Ok((response.status, answer))
    }

    pub(crate) fn api_raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let usual = [("Content-Type", "application/json"), ("Accept", Form::Three.accept())];
        let mut all = vec![("Host", "localhost"), ("Connection", "close")];
        all.extend(usual.iter().filter(|(usual, _value)| !headers.iter().any(|(name, _value)| name == usual)));
        all.extend(headers);
        Connection::open(self.api_port)?.request(method, path, &all, body)
    }

    /// A request that must succeed.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.api(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null)
    }

    /// Whether the API answers and the router has its table from this server.
    pub(crate) fn is_connected(&self) -> bool {
        let status = self.local("GET", "/berth/status", &Value::Null).ok();
        status.is_some_and(|status| !status["router"].is_null())
    }

    /// A token of the administrator's, by way of the local socket.
    pub(crate) fn make_token(&self) -> String {
        let made = self.local("POST", "/oauth/authorizations", &json!({"description": "test"})).unwrap();
        made["access_token"]["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn local(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let mut stream = UnixStream::connect(self.data().join("run/api.sock"))?;
        let body = json_bytes(body);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no answer"))?;
        serde_json::from_str(body).map_err(io::Error::other)
    }

    pub(crate) fn create(&self, app: &str) {
        self.ask("POST", "/apps", &json!({"name": app}));
    }

    /// Uploads a source and gives its `get_url`.
    pub(crate) fn upload(&self, archive: &[u8]) -> String {
        let source = self.ask("POST", "/sources", &Value::Null);
        let put = source["source_blob"]["put_url"].as_str().unwrap();
        let response = self.api_raw("PUT", path_of(put), &[], archive).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        source["source_blob"]["get_url"].as_str().unwrap().to_owned()
    }

    /// Requests a build and gives it.
    pub(crate) fn build(&self, app: &str, archive: &[u8], hold: bool) -> Value {
        let url = self.upload(archive);
        let body = json!({"source_blob": {"url": url, "version": "0123456789abcdef"}, "hold": hold});
        self.ask("POST", &format!("/berth/apps/{app}/builds"), &body)
    }

    /// Follows a build and the release that it makes until both have ended.
    pub(crate) fn follow(&self, app: &str, build: &Value) -> Deployed {
        let output = self.stream(build["output_stream_url"].as_str().unwrap());
        let path = format!("/berth/apps/{app}/builds/{}", build["id"].as_str().unwrap());
        let ended = wait_for("the build ends", || {
            let progress = self.get(&path);
            (progress["status"] != "pending").then_some(progress)
        });
        let Some(version) = ended["release_version"].as_u64() else {
            let failure = ended["failure"].as_str().unwrap_or("").to_owned();
            return Deployed { output, state: "no release".to_owned(), version: 0, failure };
        };
        let (state, failure) = self.settled(app, version);
        Deployed { output, state, version, failure }
    }

    /// Waits until a release is not under way any more; its state and why it failed.
    pub(crate) fn settled(&self, app: &str, version: u64) -> (String, String) {
        let path = format!("/berth/apps/{app}/releases/{version}");
        wait_for("the release is settled", || {
            let progress = self.get(&path);
            let state = progress["state"].as_str().unwrap();
            let failure = progress["failure"].as_str().unwrap_or("").to_owned();
            (!matches!(state, "pending" | "preparing" | "rolling_out")).then(|| (state.to_owned(), failure))
        })
    }

    pub(crate) fn deploy(&self, app: &str, source: &Source) -> Deployed {
        let build = self.build(app, &source.tar(), false);
        self.follow(app, &build)
    }

    /// Deploys what must serve; gives the version.
    pub(crate) fn serve(&self, app: &str, source: &Source) -> u64 {
        let deployed = self.deploy(app, source);
        assert_eq!(deployed.state, "serving", "{}\n{}", deployed.output, deployed.failure);
        deployed.version
    }

    /// A new app that serves version 1 of `tests/apps/python-web`.
    pub(crate) fn python_web(&self, app: &str) -> Source {
        self.create(app);
        let source = Source::app("python-web");
        self.serve(app, &source);
        source
    }

    /// Plain text of an output stream, until it ends.
    pub(crate) fn stream(&self, url: &str) -> String {
        self.api_raw("GET", path_of(url), &[], &[]).unwrap().text()
    }

    /// Sets (or unsets, with null) config vars and waits until the release that this makes serves.
    pub(crate) fn configure(&self, app: &str, vars: &Value) -> u64 {
        self.ask("PATCH", &format!("/apps/{app}/config-vars"), vars);
        self.newest_serves(app)
    }

    pub(crate) fn roll_back(&self, app: &str, version: u64) -> u64 {
        let release = self.ask("POST", &format!("/apps/{app}/releases"), &json!({"release": format!("v{version}")}));
        let version = release["version"].as_u64().unwrap();
        let (state, failure) = self.settled(app, version);
        assert_eq!(state, "serving", "{failure}");
        version
    }

    pub(crate) fn newest_serves(&self, app: &str) -> u64 {
        let version = self.releases(app).last().unwrap()["version"].as_u64().unwrap();
        let (state, failure) = self.settled(app, version);
        assert_eq!(state, "serving", "{failure}");
        version
    }

    pub(crate) fn releases(&self, app: &str) -> Vec<Value> {
        self.get(&format!("/apps/{app}/releases")).as_array().unwrap().clone()
    }

    pub(crate) fn scale(&self, app: &str, process_type: &str, quantity: u32) {
        self.ask("PATCH", &format!("/apps/{app}/formation/{process_type}"), &json!({"quantity": quantity}));
    }

    /// Scales `web` and waits until exactly so many dynos are up.
    pub(crate) fn scale_and_wait(&self, app: &str, quantity: u32) {
        self.scale(app, "web", quantity);
        wait_for("the formation is as asked", || {
            let dynos = self.dynos(app);
            let up = dynos.iter().filter(|dyno| dyno["state"] == "up").count();
            (up == dynos.len() && up as u64 == u64::from(quantity)).then_some(())
        });
    }

    pub(crate) fn dynos(&self, app: &str) -> Vec<Value> {
        self.get(&format!("/apps/{app}/dynos")).as_array().unwrap().clone()
    }

    /// Runs a command in a one-off dyno; its output and its exit status.
    pub(crate) fn run(&self, app: &str, command: &str, release: Option<u64>) -> (String, Value) {
        let body = json!({"command": command, "release": release.map(|version| format!("v{version}"))});
        let run = self.ask("POST", &format!("/berth/apps/{app}/runs"), &body);
        let output = self.stream(run["output_stream_url"].as_str().unwrap());
        let path = format!("/berth/apps/{app}/runs/{}", run["dyno"]["id"].as_str().unwrap());
        let ended = wait_for("the one-off dyno ends", || {
            let result = self.get(&path);
            (result["state"] == "exited").then_some(result)
        });
        (output, ended["exit_status"].clone())
    }

    /// The last 1500 lines of an app's log, as Heroku shows them.
    pub(crate) fn logs(&self, app: &str) -> Vec<String> {
        self.logs_of(app, &json!({"lines": 1500}))
    }

    /// Lines of an app's log, with the filters of a log session.
    pub(crate) fn logs_of(&self, app: &str, session: &Value) -> Vec<String> {
        let session = self.ask("POST", &format!("/apps/{app}/log-sessions"), session);
        let text = self.stream(session["logplex_url"].as_str().unwrap());
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// Waits for a line of the log that contains `text`, and gives it.
    pub(crate) fn logged(&self, app: &str, text: &str) -> String {
        wait_for(&format!("{text:?} in the log"), || self.logs(app).into_iter().find(|line| line.contains(text)))
    }

    /// One request to an app on a connection of its own.
    pub(crate) fn visit(&self, app: &str, path: &str) -> io::Result<Response> {
        let host = format!("{app}.localhost");
        Connection::open(self.http_port)?.request("GET", path, &[("Host", &host), ("Connection", "close")], &[])
    }

    /// Waits until `/` answers with a text that begins so. For a moment after a release began to serve, both the old
    /// and the new dynos do; every answer until then must be a success.
    pub(crate) fn shows(&self, app: &str, begin: &str) {
        wait_until(&format!("{app} shows {begin:?}"), || self.text(app, "/").starts_with(begin));
    }

    /// The text of a request that must succeed.
    pub(crate) fn text(&self, app: &str, path: &str) -> String {
        let response = self.visit(app, path).unwrap_or_else(|error| panic!("{app} {path}: {error}"));
        assert_eq!(response.status, 200, "{app} {path}: {}", response.text());
        response.text()
    }
}

/// The path and the query of one of our own URLs.
pub(crate) fn path_of(url: &str) -> &str {
    let (_scheme, rest) = url.split_once("://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

fn json_bytes(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() }
}
