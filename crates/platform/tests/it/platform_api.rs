//! Requests of the Platform API that no other test makes, against the real server and what they change in the world.

use std::io::{Read as _, Write as _};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::path_of;
use crate::http::{Connection, Response};
use crate::left_over;
use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_for, wait_until};

/// A slug as Heroku's Platform API takes it: a gzipped archive with the app below `./app/`.
fn slug_archive(platform: &TestPlatform, source: &Source) -> Vec<u8> {
    let root = platform.scratch().join("slug");
    for (name, content) in &source.files {
        let path = root.join("app").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let packed = Command::new("tar").args(["-cz", "-C"]).arg(&root).arg("./app").output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

fn announce_slug(platform: &TestPlatform) -> (String, String) {
    let body = json!({"process_types": {"web": "python3 server.py", "worker": "sleep 1000"}, "commit": "0123456789ab"});
    let slug = platform.ask("POST", "/apps/shop/slugs", &body);
    assert_eq!((&slug["blob"]["method"], &slug["checksum"]), (&json!("put"), &Value::Null));
    (slug["id"].as_str().unwrap().to_owned(), slug["blob"]["url"].as_str().unwrap().to_owned())
}

fn release_slug(platform: &TestPlatform, slug: &str) -> (String, String) {
    let release = platform.ask("POST", "/apps/shop/releases", &json!({"slug": slug}));
    platform.settled("shop", release["version"].as_u64().unwrap())
}

#[test]
fn a_slug_that_was_made_elsewhere_is_uploaded_and_released() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let (slug, put_url) = announce_slug(&platform);
    let (status, answer) = platform.api("POST", "/apps/shop/releases", &json!({"slug": slug})).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("has not been uploaded"), "{answer}");

    let archive = slug_archive(&platform, &Source::app("python-web"));
    // Its URL is its own authority.
    assert_eq!(platform.api_raw("PUT", path_of(&put_url), &[], &archive).unwrap().status, 200);
    assert_eq!(release_slug(&platform, &slug), ("serving".to_owned(), String::new()));
    platform.shows("shop", "version=1 ");
    let release = platform.get("/apps/shop/releases/2");
    assert_eq!((&release["slug"]["id"], &release["description"]), (&json!(slug), &json!("Deploy 01234567")));
    assert_eq!(platform.get("/apps/shop/formation/worker")["quantity"], 0);
    let shown = platform.get(&format!("/apps/shop/slugs/{slug}"));
    assert!(shown["checksum"].as_str().unwrap().starts_with("SHA256:"), "{shown}");
    let blob = platform.api_raw("GET", path_of(shown["blob"]["url"].as_str().unwrap()), &[], &[]).unwrap();
    assert_eq!((blob.status, Some(blob.body.len() as u64)), (200, shown["size"].as_u64()));

    // What is no slug fails its release with the reason, and is not felt.
    let (broken, put_url) = announce_slug(&platform);
    assert_eq!(platform.api_raw("PUT", path_of(&put_url), &[], b"no archive").unwrap().status, 200);
    let (state, failure) = release_slug(&platform, &broken);
    assert_eq!(state, "failed");
    assert!(!failure.is_empty());
    assert!(platform.text("shop", "/").starts_with("version=1 "));
}

#[test]
fn a_build_that_is_cancelled_ends_and_makes_no_release() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let endless = source.version("2").file("bin/post_compile", "#!/bin/sh\necho compiling\nexec sleep 1000\n");
    let build = platform.build("shop", &endless.tar(), false);
    let path = format!("/apps/shop/builds/{}", build["id"].as_str().unwrap());
    let ours = format!("/berth{path}");
    assert_eq!(platform.get(&path)["status"], "pending");
    wait_until("the build's process runs", || !left_over::running(&platform.instance(), "sleep 1000").is_empty());
    let (status, answer) = platform.api("DELETE", &path, &Value::Null).unwrap();
    assert_eq!(status, 202, "{answer}");
    let ended = platform.follow("shop", &build);
    assert_eq!(ended.state, "no release", "{ended:?}");
    assert!(ended.output.contains("compiling"), "{ended:?}");
    assert_eq!(platform.get(&ours)["status"], "canceled");
    wait_until("the build's process is gone", || left_over::running(&platform.instance(), "sleep 1000").is_empty());
    let (status, answer) = platform.api("DELETE", &path, &Value::Null).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    assert_eq!(platform.releases("shop").len(), 2);
}

/// The living dynos, by name and id.
fn ids(platform: &TestPlatform) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut ids: Vec<_> = platform
        .dynos("shop")
        .iter()
        .filter(|dyno| dyno["state"] == "up")
        .map(|dyno| (text(&dyno["name"]), text(&dyno["id"])))
        .collect();
    ids.sort();
    ids
}

/// Waits until these two dynos are up, neither of them one of `old`.
fn replaced(platform: &TestPlatform, old: &[&(String, String)]) -> Vec<(String, String)> {
    wait_for("new dynos are up", || {
        let now = ids(platform);
        let is_new = old.iter().all(|(_name, id)| now.iter().all(|(_name, other)| other != id));
        (is_new && now.len() == 2 && platform.dynos("shop").len() == 2).then_some(now)
    })
}

#[test]
fn dynos_are_restarted_without_a_lost_request_and_stopped() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.scale_and_wait("shop", 2);
    let load = Load::requests(&platform, "shop");
    let first = ids(&platform);
    platform.must(&["ps:restart", "-a", "shop"]);
    let second = replaced(&platform, &[&first[0], &first[1]]);
    platform.must(&["ps:restart", "-a", "shop", "web.1"]);
    let third = replaced(&platform, &[&second[0]]);
    assert!(third.contains(&second[1]), "only web.1 was to be restarted: {second:?} {third:?}");
    platform.must(&["ps:restart", "-a", "shop", "web"]);
    let fourth = replaced(&platform, &[&third[0], &third[1]]);
    wait_until("enough requests", || load.requests_so_far() > 100);
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");

    // A dyno of the formation that is stopped starts again; a one-off does not.
    platform.must(&["ps:stop", "-a", "shop", &fourth[0].0]);
    replaced(&platform, &[&fourth[0]]);
    let body = json!({"command": "sleep 1000", "type": "console", "size": "standard-2x"});
    let one_off = platform.ask("POST", "/apps/shop/dynos", &body);
    let name = one_off["name"].as_str().unwrap();
    assert!(name.starts_with("console.") && one_off["size"] == "Standard-2X", "{one_off}");
    let path = format!("/apps/shop/dynos/{name}");
    wait_until("the one-off is up", || platform.get(&path)["state"] == "up");
    platform.must(&["ps:stop", "-a", "shop", name]);
    wait_until("the one-off is gone", || platform.dynos("shop").iter().all(|dyno| dyno["name"] != name));
    for (method, path) in [
        ("DELETE", "/apps/shop/dynos/web.9"),
        ("DELETE", "/apps/shop/formations/clock"),
        ("POST", "/apps/shop/dynos/web.9/actions/stop"),
        ("POST", "/apps/shop/formations/clock/actions/stop"),
    ] {
        let (status, answer) = platform.api(method, path, &Value::Null).unwrap();
        assert_eq!((status, &answer["id"]), (404, &json!("not_found")), "{method} {path}");
    }
}

#[test]
fn an_app_is_renamed_and_closed_for_maintenance() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let renamed = platform.ask("PATCH", "/apps/shop", &json!({"name": "store"}));
    assert_eq!(renamed["name"], "store");
    let host = format!("http://store.localhost:{}/", platform.http_port);
    assert_eq!(renamed["web_url"], json!(host));
    wait_until("the new name answers", || platform.visit("store", "/").unwrap().status == 200);
    wait_until("the old name does not", || platform.visit("shop", "/").unwrap().status == 404);
    assert_eq!(platform.api("GET", "/apps/shop", &Value::Null).unwrap().0, 404);
    // The old name is free.
    platform.create("shop");
    let (status, answer) = platform.api("PATCH", "/apps/store", &json!({"name": "shop"})).unwrap();
    assert_eq!(status, 422, "{answer}");

    assert_eq!(platform.must(&["maintenance:on", "-a", "store"]), "Maintenance mode of store is on.\n");
    assert_eq!(platform.must(&["maintenance", "-a", "store"]), "on\n");
    wait_until("maintenance", || platform.visit("store", "/").unwrap().status == 503);
    platform.logged("store", "code=H80 desc=\"Maintenance mode\"");
    assert_eq!(platform.get("/apps/store")["maintenance"], true);
    platform.ask("PATCH", "/apps/store", &json!({"maintenance": false}));
    wait_until("it serves again", || platform.visit("store", "/").unwrap().status == 200);
    platform.must(&["config:set", "-a", "store", "GREETING=ahoy"]);
    platform.shows("store", "version=1 greeting=ahoy ");
}

#[test]
fn whoever_has_the_token_gets_in_and_nobody_else() {
    let Some(platform) = TestPlatform::start() else { return };
    let account = platform.get("/account");
    assert_eq!(account["email"], "admin@localhost");
    assert_eq!(platform.get("/users/~")["id"], account["id"]);
    let sizes = platform.get("/dyno-sizes");
    assert!(sizes.as_array().unwrap().iter().any(|size| size["name"] == "Standard-1X" && size["memory"] == 0.5));

    let status = |authorization: &str| {
        platform.api_raw("GET", "/account", &[("Authorization", authorization)], &[]).unwrap().status
    };
    // Clients put an e-mail address, `heroku`, `_` or nothing in front of the token.
    for user in ["", "_", "heroku", "ann@example.com"] {
        let basic = |token: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
        assert_eq!((status(&basic(&platform.token)), status(&basic("wrong"))), (200, 401), "{user:?}");
    }

    let made: Value = serde_json::from_str(&platform.must(&["tokens:create", "-d", "for CI", "--json"])).unwrap();
    let bearer = format!("Bearer {}", made["access_token"]["token"].as_str().unwrap());
    assert_eq!(status(&bearer), 200);
    platform.must(&["tokens:revoke", made["id"].as_str().unwrap()]);
    assert_eq!(status(&bearer), 401);
    assert_eq!(status(&format!("Bearer {}", platform.token)), 200);

    // Whoever owns the machine gets back in, also while the server runs; every other token ends.
    let data = platform.data();
    let reset = platform.must(&["tokens:reset", "--json", "--data-dir", data.to_str().unwrap()]);
    let reset: Value = serde_json::from_str(&reset).unwrap();
    assert_eq!((&reset["account"], reset["token"].is_null()), (&json!("admin@localhost"), true), "{reset}");
    assert_eq!(status(&format!("Bearer {}", platform.token)), 401);
    let stored = platform.client(platform.scratch(), &["whoami"]).env_remove("BERTH_API_KEY").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stored.stdout), "admin@localhost\n", "{stored:?}");
}

/// An open tail, and what it has shown so far.
struct Tail {
    connection: Connection,
    text: String,
}

impl Tail {
    fn open(platform: &TestPlatform, mut session: Value) -> Self {
        session["tail"] = json!(true);
        session["lines"] = json!(0);
        let session = platform.ask("POST", "/apps/shop/log-sessions", &session);
        let path = path_of(session["logplex_url"].as_str().unwrap()).to_owned();
        let mut connection = Connection::open(platform.api_port).unwrap();
        connection.send("GET", &path, &[("Host", "localhost")], &[]).unwrap();
        let (status, headers) = connection.head().unwrap();
        assert_eq!(status, 200, "{headers:?}");
        assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
        Self { connection, text: String::new() }
    }

    /// Reads on until a line with `text` has come; gives all lines so far.
    fn until(&mut self, text: &str) -> Vec<&str> {
        while !self.text.contains(text) {
            let chunk = self.connection.chunk().unwrap().expect("the tail goes on");
            self.text.push_str(&String::from_utf8(chunk).unwrap());
        }
        self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }
}

#[test]
fn a_tail_shows_what_was_asked_for_as_it_comes() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::app("python-web").process("worker: sleep 1000"));
    let mut all = Tail::open(&platform, json!({}));
    let mut web = Tail::open(&platform, json!({"source": "app", "dyno": "web"}));
    let mut router = Tail::open(&platform, json!({"source": "heroku", "dyno": "router"}));
    let mut worker = Tail::open(&platform, json!({"dyno": "worker.1"}));
    platform.text("shop", "/say?text=one");
    platform.scale("shop", "worker", 1);
    worker.until("State changed from starting to up");
    platform.text("shop", "/say?text=two");

    let expect = |lines: Vec<&str>, origin: &str| {
        assert!(lines.iter().all(|line| line.contains(origin)), "something else than {origin}: {lines:#?}");
    };
    expect(web.until("two"), " app[web.1]: ");
    expect(router.until("text=two"), " heroku[router]: ");
    expect(worker.until("up"), " heroku[worker.1]: ");
    let everything = all.until("two");
    for part in ["app[web.1]: one", "app[api]: Scaled to", "heroku[worker.1]: State changed"] {
        assert!(everything.iter().any(|line| line.contains(part)), "no {part:?} in {everything:#?}");
    }
}

#[test]
fn requests_are_taken_as_clients_really_write_them() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let request_ids = vec!["01234567-89ab-cdef-0123-456789abcdef"; 190].join(",");
    assert!(request_ids.len() > 7000);
    let table = [
        ("an empty range", "GET /apps/shop/releases", "Range: \r\n".to_owned(), "", 200),
        ("a collection of request ids", "GET /apps", format!("Request-Id: {request_ids}\r\n"), "", 200),
        ("a body on DELETE", "DELETE /apps/shop/dynos", "Content-Length: 2\r\n".to_owned(), "{}", 202),
        ("no body on POST", "POST /sources", String::new(), "", 201),
        ("no body on POST, with a type", "POST /apps", "Content-Type: application/json\r\n".to_owned(), "", 201),
        ("an empty body on POST", "POST /apps/shop/log-sessions", "Content-Length: 0\r\n".to_owned(), "", 201),
        ("brackets in a query", "GET /apps/shop/releases?ids[]=1&filter[name][]=x", String::new(), "", 200),
        ("another host", "GET /apps", "X-Forwarded-Host: api.heroku.com\r\n".to_owned(), "", 200),
    ];
    for (what, request, headers, body, expect) in table {
        let mut connection = Connection::open(platform.api_port).unwrap();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Accept: application/vnd.heroku+json; version=3\r\n{headers}\r\n{body}",
            platform.token
        );
        connection.stream.get_mut().write_all(text.as_bytes()).unwrap();
        let (status, headers) = connection.head().unwrap();
        let mut answer = String::new();
        connection.stream.read_to_string(&mut answer).unwrap();
        assert_eq!(status, expect, "{what}: {answer}");
        assert!(headers.iter().any(|(name, _value)| name == "request-id"), "{what}: {headers:?}");
        assert!(answer.contains(['[', '{']), "{what}: {answer}");
    }
}

#[test]
fn a_list_goes_on_also_if_what_the_last_page_ended_with_has_gone() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let list = "/apps/shop/log-drains";
    for number in 0..5 {
        platform.ask("POST", list, &json!({"url": format!("https://logs{number}.example.com/")}));
    }
    let mut ids: Vec<String> =
        platform.get(list).as_array().unwrap().iter().map(|drain| drain["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    let token = format!("Bearer {}", platform.token);
    let page = |range: &str| {
        let page = platform.api_raw("GET", list, &[("Authorization", token.as_str()), ("Range", range)], &[]).unwrap();
        let items: Value = serde_json::from_slice(&page.body).unwrap();
        let ids: Vec<String> =
            items.as_array().unwrap().iter().map(|drain| drain["id"].as_str().unwrap().to_owned()).collect();
        (page.header("next-range").map(str::to_owned), ids)
    };
    let (next, first) = page("id ..; max=2");
    assert_eq!(first, ids[..2]);
    platform.ask("DELETE", &format!("{list}/{}", ids[1]), &Value::Null);
    assert_eq!(page(&next.unwrap()), (Some(format!("id ]{}..; max=2", ids[3])), ids[2..4].to_vec()));
    platform.ask("DELETE", &format!("{list}/{}", ids[3]), &Value::Null);
    assert_eq!(page(&format!("id ]{}..; max=2", ids[3])), (None, ids[4..].to_vec()));
}

#[test]
fn lists_come_page_by_page_and_what_is_known_is_not_sent_again() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    for number in 0..6 {
        platform.ask("PATCH", "/apps/shop/config-vars", &json!({"NUMBER": number.to_string()}));
    }
    let token = format!("Bearer {}", platform.token);
    let get = |header: &str, value: &str| {
        let headers = [("Authorization", token.as_str()), (header, value)];
        platform.api_raw("GET", "/apps/shop/releases", &headers, &[]).unwrap()
    };
    let versions = |response: &Response| -> Vec<u64> {
        let list: Value = serde_json::from_slice(&response.body).unwrap();
        list.as_array().unwrap().iter().map(|release| release["version"].as_u64().unwrap()).collect()
    };
    for (range, expect) in [
        ("version ..; max=3", [vec![1, 2, 3], vec![4, 5, 6], vec![7]]),
        ("version ..; order=desc,max=3;", [vec![7, 6, 5], vec![4, 3, 2], vec![1]]),
    ] {
        let (mut range, mut pages) = (range.to_owned(), Vec::new());
        loop {
            let page = get("Range", &range);
            pages.push(versions(&page));
            let next = page.header("next-range").map(str::to_owned);
            assert_eq!(page.status, if next.is_some() { 206 } else { 200 });
            match next {
                Some(next) => range = next,
                None => break,
            }
        }
        assert_eq!(pages, expect, "{range}");
    }
    let refused = get("Range", "version latest..");
    assert_eq!(refused.status, 416, "{}", refused.text());
    let refused = get("Range", "shoe-size ..");
    assert_eq!(refused.status, 416, "{}", refused.text());
    assert!(refused.text().contains("requested_range_not_satisfiable"), "{}", refused.text());

    let tag = get("Range", "").header("etag").unwrap().to_owned();
    let known = get("If-None-Match", &tag);
    assert_eq!((known.status, known.body.len()), (304, 0), "{}", known.text());
    assert_eq!(known.header("etag"), Some(tag.as_str()));
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"NUMBER": "7"}));
    let changed = get("If-None-Match", &tag);
    assert_eq!((changed.status, versions(&changed).len()), (200, 8));
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}
