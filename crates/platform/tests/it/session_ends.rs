//! Sessions that go on for long end with what they rest on: a token, a place in the app, the account, a dyno.

use serde_json::{Value, json};

use crate::heroku_cli::{Ran, Running, Terminal};
use crate::left_over;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

const ADA: &str = "ada@example.com";

/// What somebody has open.
struct Open {
    exec: Running,
    run: Running,
    tail: Running,
}

impl TestPlatform {
    /// A token of somebody's, besides the one that they have.
    fn another_token(&self, token: &str, body: &Value) -> (String, String) {
        let (status, made) = self.ask_as(token, "POST", "/oauth/authorizations", body);
        assert_eq!(status, 201, "{made}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&made["id"]), text(&made["access_token"]["token"]))
    }

    pub(crate) fn start_as(&self, token: &str, arguments: &[&str]) -> Running {
        let mut command = self.client(self.scratch(), arguments);
        Running::start(command.env("BERTH_API_KEY", token).env("BERTH_APP", "shop"))
    }

    /// A command in a dyno, an attached one-off, and a log tail, each of which has begun.
    fn open_as(&self, token: &str) -> Open {
        let exec = self.start_as(token, &["ps:exec", "--", "echo exec $((40 + 2)); sleep 6001"]);
        let run = self.start_as(token, &["run", "--stdin", "--", "echo run $((40 + 2)); sleep 6002"]);
        let tail = self.start_as(token, &["logs", "--tail", "-n", "50"]);
        exec.waits_for("exec 42");
        run.waits_for("run 42");
        tail.waits_for("app[");
        Open { exec, run, tail }
    }

    /// Restarts the app, and waits until a tail that began when it was up says so.
    fn restart_seen_by(&self, tail: &Running) {
        let ups = || tail.text().matches("State changed from starting to up").count();
        let before = ups();
        self.must(&["ps:restart", "-a", "shop"]);
        wait_until("what happens now is on the tail", || ups() > before);
    }

    fn sleeps(&self) -> usize {
        ["sleep 6001", "sleep 6002"].map(|line| left_over::running(&self.instance(), line).len()).iter().sum()
    }
}

pub(crate) fn ended(running: Running, code: i32, words: &str) -> Ran {
    let ended = running.ends();
    assert_eq!(ended.code, Some(code), "{}", ended.both());
    ended.shows(words);
    ended
}

impl Open {
    fn end_in_dynos(exec: Running, run: Running) {
        ended(exec, 255, "This session is over: the token that it was opened with has ended, or you may no longer");
        ended(run, 255, "This session is over: the token");
    }

    fn ends(self, refusal: &str) {
        Self::end_in_dynos(self.exec, self.run);
        ended(self.tail, 1, refusal);
    }
}

#[test]
fn sessions_end_with_the_token_that_opened_them_and_no_others() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let ada = platform.join(ADA);
    platform.must(&["access:add", ADA, "-p", "operate", "-a", "shop"]);
    let others = platform.open_as(&ada);

    // Revoked.
    let (id, token) = platform.another_token(&ada, &json!({"description": "lost"}));
    let open = platform.open_as(&token);
    assert_eq!(platform.sleeps(), 4);
    assert_eq!(platform.ask_as(&ada, "DELETE", &format!("/oauth/authorizations/{id}"), &Value::Null).0, 200);
    open.ends("the server does not accept this token");
    wait_until("what ran there is hung up", || platform.sleeps() == 2);

    // Given another text, because somebody has read the old one.
    let (id, token) = platform.another_token(&ada, &json!({"description": "read by others"}));
    let open = platform.open_as(&token);
    let rotate = format!("/oauth/authorizations/{id}/actions/regenerate-tokens");
    assert_eq!(platform.ask_as(&ada, "POST", &rotate, &Value::Null).0, 200);
    open.ends("the server does not accept this token");

    // Over by itself.
    let (_id, token) = platform.another_token(&ada, &json!({"expires_in": 15}));
    platform.open_as(&token).ends("the server does not accept this token");
    wait_until("what ran there is hung up", || platform.sleeps() == 2);

    // Nothing of that was felt elsewhere: what the app logs arrives.
    platform.restart_seen_by(&others.tail);
    let Open { exec, run, tail } = others;
    for running in [exec, run, tail] {
        running.end();
    }
}

#[test]
fn sessions_end_with_their_users_place_in_the_app() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let ada = platform.join(ADA);
    platform.must(&["access:add", ADA, "-p", "operate", "-a", "shop"]);
    let open = platform.open_as(&ada);
    let session = json!({"tail": true});
    let (_status, tail) = platform.ask_as(&ada, "POST", "/apps/shop/log-sessions", &session);

    let output = |platform: &TestPlatform| {
        let (_status, builds) = platform.ask_as(&ada, "GET", "/apps/shop/builds", &Value::Null);
        builds[0]["output_stream_url"].as_str().map(str::to_owned)
    };
    let built = output(&platform).unwrap();
    assert_eq!(output(&platform).unwrap(), built, "an answer that is the same has the same tag");
    assert!(platform.stream(&built).contains("-----> Building on "));

    // Who may still see the app goes on to see its log.
    platform.must(&["access:update", ADA, "-p", "view", "-a", "shop"]);
    Open::end_in_dynos(open.exec, open.run);
    wait_until("what ran there is hung up", || platform.sleeps() == 0);
    platform.restart_seen_by(&open.tail);

    platform.must(&["access:remove", ADA, "-a", "shop"]);
    ended(open.tail, 1, "Couldn't find that app");
    // An address that was given before does not lead there either.
    let url = crate::api::path_of(tail["logplex_url"].as_str().unwrap());
    let refused = platform.api_raw("GET", url, &[], &[]).unwrap();
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(platform.stream(&built).contains("no longer valid"));

    platform.must(&["access:add", ADA, "-p", "operate", "-a", "shop"]);
    let open = platform.open_as(&ada);
    platform.must(&["people:remove", ADA]);
    open.ends("the server does not accept this token");
    wait_until("what ran there is hung up", || platform.sleeps() == 0);
}

/// A program that somebody has agreed to.
struct Program {
    client: Value,
    authorization: String,
    token: String,
    refresh: Value,
}

impl Program {
    fn of(platform: &TestPlatform, token: &str) -> Self {
        let body = json!({"name": "board", "redirect_uri": "https://board.example.com/callback"});
        let client = platform.ask("POST", "/oauth/clients", &body);
        let (_status, granted) =
            platform.ask_as(token, "POST", "/oauth/authorizations", &json!({"client": client["id"]}));
        let code = &granted["grant"]["code"];
        let body =
            json!({"client": {"secret": client["secret"]}, "grant": {"code": code, "type": "authorization_code"}});
        let made = platform.ask("POST", "/oauth/tokens", &body);
        Self {
            client,
            authorization: granted["id"].as_str().unwrap().to_owned(),
            token: made["access_token"]["token"].as_str().unwrap().to_owned(),
            refresh: made["refresh_token"]["token"].clone(),
        }
    }

    fn renew(&self, platform: &TestPlatform) {
        let body = json!({
            "client": {"secret": self.client["secret"]}, "grant": {"type": "refresh_token"},
            "refresh_token": {"token": self.refresh},
        });
        platform.ask("POST", "/oauth/tokens", &body);
        assert_eq!(platform.ask_as(&self.token, "GET", "/account", &Value::Null).0, 401, "it has another text");
    }
}

#[test]
fn sessions_of_a_program_outlive_its_token_and_end_with_its_authorization() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let ada = platform.join(ADA);
    platform.must(&["access:add", ADA, "-p", "operate", "-a", "shop"]);
    let program = Program::of(&platform, &ada);
    let open = platform.open_as(&program.token);
    program.renew(&platform);
    // Everybody looks a second or two after a change: when two others have ended in turn, the program's have looked.
    for _round in 0..2 {
        let (id, token) = platform.another_token(&ada, &json!({}));
        let other = platform.start_as(&token, &["ps:exec", "--", "echo other $((40 + 2)); sleep 6007"]);
        other.waits_for("other 42");
        platform.ask_as(&ada, "DELETE", &format!("/oauth/authorizations/{id}"), &Value::Null);
        ended(other, 255, "This session is over");
    }
    assert_eq!(platform.sleeps(), 2);
    platform.must(&["ps:exec", "-a", "shop", "--", "true"]);
    open.tail.waits_for("Opening web.1 to a session of user admin@localhost");
    let rotate = format!("/oauth/authorizations/{}/actions/regenerate-tokens", program.authorization);
    assert_eq!(platform.ask_as(&ada, "POST", &rotate, &Value::Null).0, 422, "only the program can");

    let revoked = format!("/oauth/authorizations/{}", program.authorization);
    assert_eq!(platform.ask_as(&ada, "DELETE", &revoked, &Value::Null).0, 200);
    open.ends("the server does not accept this token");
    wait_until("what ran there is hung up", || platform.sleeps() == 0);

    // And with the program.
    let program = Program::of(&platform, &ada);
    let open = platform.open_as(&program.token);
    platform.ask("DELETE", &format!("/oauth/clients/{}", program.client["id"].as_str().unwrap()), &Value::Null);
    open.ends("the server does not accept this token");
}

#[test]
fn heroku_is_told_when_a_session_ends_with_its_token() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    let (id, token) = platform.another_token(&platform.token, &json!({"description": "lost"}));
    let start = |arguments: &[&str]| {
        let mut command = platform.heroku_command(arguments);
        Running::start(command.env("HEROKU_API_KEY", &token))
    };
    let run = start(&["run", "-a", "shop", "--exit-code", "echo run $((40 + 2)); sleep 6002"]);
    let tail = start(&["logs", "--tail", "-a", "shop"]);
    run.waits_for("run 42");
    tail.waits_for("app[");
    platform.ask("DELETE", &format!("/oauth/authorizations/{id}"), &Value::Null);
    ended(run, 255, "This session is over: the token");
    let tail = tail.ends();
    assert_ne!(tail.code, Some(0), "{}", tail.both());
    tail.shows("Log stream timed out");
    wait_until("what ran there is hung up", || platform.sleeps() == 0);
}

#[test]
fn whoever_is_in_a_dyno_that_ends_is_told_why() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    // One that takes a moment to leave: with its last process everything ends that came from elsewhere.
    let web = "web: python3 server.py & trap 'sleep 1' TERM; wait; wait";
    platform.serve("shop", &Source::app("python-web").file("Procfile", web));
    let enter = |dyno: &str, line: &str| {
        let line = format!("echo in $((40 + 2)); {line}");
        let running = platform.start_as(&platform.token, &["ps:exec", "-d", dyno, "--", &line]);
        running.waits_for("in 42");
        running
    };
    let new = "run the command again for the new dyno";

    let running = enter("web.1", "sleep 6004");
    platform.configure("shop", &json!({"GREETING": "new"}));
    ended(running, 255, &format!("web.1 was replaced by release v3; {new}"));

    let running = enter("web.1", "sleep 6004");
    platform.must(&["ps:restart", "-a", "shop"]);
    ended(running, 255, &format!("web.1 was restarted; {new}"));

    // A program that ends as it was asked to has an exit code of its own.
    let running = enter("web.1", "trap 'echo asked; exit 3' TERM; while :; do sleep 0.1; done");
    platform.must(&["ps:restart", "-a", "shop"]);
    ended(running, 3, "asked").shows(&format!("web.1 was restarted; {new}"));

    // A shell ignores what it is asked to.
    let mut command = platform.client(platform.scratch(), &["ps:exec", "-a", "shop"]);
    let mut terminal = Terminal::start(command.env("TERM", "xterm"));
    terminal.waits_for("$ ");
    terminal.types("echo in $((40 + 2))\r");
    terminal.waits_for("in 42");
    platform.must(&["ps:stop", "web.1", "-a", "shop"]);
    let told = terminal.ends();
    assert_eq!(told.code, Some(255), "{}", told.both());
    told.shows("web.1 was stopped; run the command again for the dyno that takes its place");

    platform.scale_and_wait("shop", 2);
    let running = enter("web.2", "sleep 6004");
    let other = enter("web.1", "sleep 6004");
    platform.scale("shop", "web", 1);
    ended(running, 255, "web.2 was taken away: web was scaled to 1");

    // Nobody announces a crash.
    let servers = left_over::running(&platform.instance(), "python3 server.py");
    assert!(!servers.is_empty());
    for pid in servers {
        crate::platform::kill(pid, rustix::process::Signal::KILL);
    }
    ended(other, 255, "web.1 has crashed; run the command again once another one is up");
    platform.scale_and_wait("shop", 1);

    let one_off = platform.start_as(&platform.token, &["run", "--stdin", "--", "echo run $((40 + 2)); sleep 6005"]);
    one_off.waits_for("run 42");
    let dynos = platform.dynos("shop");
    let name = dynos.iter().find(|dyno| dyno["type"] == "run").unwrap()["name"].as_str().unwrap();
    let running = enter(name, "sleep 6004");
    platform.must(&["ps:stop", name, "-a", "shop"]);
    ended(running, 255, &format!("{name} has ended"));
    one_off.ends();

    // What is killed in a dyno that goes on was not ended with it.
    assert_eq!(platform.berth_as(&platform.token, &["ps:exec", "-a", "shop", "--", "kill -9 $$"]).code, Some(137));
}
