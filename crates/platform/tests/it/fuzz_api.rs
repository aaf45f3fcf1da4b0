//! Everything that can be wrong with a request, at every route: Heroku's form of an error, never a 5xx, and never a word
//! of somebody else's app.

use serde_json::{Value, json};

use crate::http::Response;
use crate::platform::TestPlatform;

/// Bodies that no route takes as they are, with their types.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let words = ["name", "app", "user", "url", "slug", "quantity", "size", "include", "hostname", "stage", "updates"];
    let every = |value: Value| {
        let fields: serde_json::Map<String, Value> =
            words.iter().map(|word| ((*word).to_owned(), value.clone())).collect();
        serde_json::to_vec(&fields).unwrap()
    };
    let mut deep = vec![b'['; 100_000];
    deep.extend(b"{\"name\":");
    vec![
        ("application/json", b"{".to_vec()),
        ("application/json", b"[]".to_vec()),
        ("application/json", b"null".to_vec()),
        ("application/json", b"\"text\"".to_vec()),
        ("application/json", b"\xff\xfe{}".to_vec()),
        ("application/json", deep),
        ("application/json", every(json!(-1))),
        ("application/json", every(json!(1e300))),
        ("application/json", every(json!({"id": "../../etc/passwd", "name": "\u{0}\r\nX: y"}))),
        ("application/json", every(json!([null, {}, []]))),
        ("application/json", every(json!("'; DROP TABLE app; --\u{202e}"))),
        ("application/json", every(json!("x".repeat(100_000)))),
        ("text/plain", b"name=shop".to_vec()),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n".to_vec()),
    ]
}

/// Names for what the path asks for.
const NAMES: [&str; 6] =
    ["0", "-1", "%00", "%2e%2e%2f%2e%2e%2fetc", "01234567-89ab-cdef-0123-456789abcdef", "%F0%9F%92%A9"];

/// A route with this name for each of its parameters.
fn filled(route: &str, name: &str) -> String {
    let mut parts = route.split('{');
    let mut path = parts.next().unwrap().to_owned();
    for part in parts {
        path.push_str(name);
        path.push_str(part.split_once('}').unwrap().1);
    }
    path
}

fn check(wrong: &mut Vec<String>, what: &str, response: &Response, secrets: &[&str]) {
    let text = response.text();
    if response.status >= 500 {
        wrong.push(format!("{what}: {} {text}", response.status));
    }
    if response.status >= 400 {
        let answer: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        if !answer["id"].is_string() || !answer["message"].is_string() {
            wrong.push(format!("{what}: not Heroku's form: {} {text}", response.status));
        }
    }
    if let Some(secret) = secrets.iter().find(|secret| text.contains(**secret)) {
        wrong.push(format!("{what}: shows {secret:?}: {text}"));
    }
}

#[test]
fn no_request_breaks_the_api_or_opens_an_app_of_somebody_else() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"KEY": "the-value-of-a-secret"}));
    let app = platform.get("/apps/shop")["id"].as_str().unwrap().to_owned();
    let owner = platform.get("/account")["id"].as_str().unwrap().to_owned();
    let invited = platform.ask("POST", "/berth/people", &json!({"email": "stranger@example.com"}));
    let bearer = |token: &str| format!("Bearer {token}");
    let invitation = bearer(invited["invitation"].as_str().unwrap());
    let login = platform.api_raw("POST", "/oauth/authorizations", &[("Authorization", &invitation)], b"{}").unwrap();
    let login: Value = serde_json::from_slice(&login.body).unwrap();
    let stranger = bearer(login["access_token"]["token"].as_str().unwrap());
    let administrator = bearer(&platform.token);
    platform.create("victim");

    let secrets = ["the-value-of-a-secret", owner.as_str(), "admin@localhost", app.as_str()];
    let table = std::fs::read_to_string("../../docs/reference/access.md").unwrap();
    let mut wrong = Vec::new();
    let mut requests = 0;
    for row in table.lines().filter(|line| line.contains(" `/")) {
        let (methods, path) = row.trim_start_matches("| ").split_once(" `").unwrap();
        let route = path.split('`').next().unwrap();
        // What asks for a body, and what the path must name.
        for method in methods.split(' ') {
            // As a stranger, with the app of somebody else: by name and by id.
            for (name, secrets) in [("shop", &secrets[..]), (&app, &secrets[..3])] {
                let path = route.replace("{app}", name).replace(['{', '}'], "");
                for query in ["", "?eq[name]=shop&ids[]=1&x=%zz", "?%00=%ff&status[]=&&=&eq[status]=x"] {
                    let headers =
                        [("Authorization", stranger.as_str()), ("Range", "id ]x..y; max=99999999999, order=up")];
                    let response = platform.api_raw(method, &format!("{path}{query}"), &headers, b"{}").unwrap();
                    check(&mut wrong, &format!("stranger: {method} {path}{query}"), &response, secrets);
                    requests += 1;
                }
            }
            // As an administrator, with names and bodies that nobody means. The app is one that may come to harm.
            let named = route.replace("{app}", "victim");
            for name in NAMES.into_iter().filter(|_name| named.contains('{')) {
                let path = filled(&named, name);
                let headers = [("Authorization", administrator.as_str()), ("Accept", "image/png;q=x, */*; version=99")];
                let response = platform.api_raw(method, &path, &headers, b"").unwrap();
                check(&mut wrong, &format!("administrator: {method} {path}"), &response, &[]);
                requests += 1;
            }
            if matches!(method, "POST" | "PUT" | "PATCH") {
                let path = named.replace(['{', '}'], "");
                for (kind, body) in bodies() {
                    let headers = [("Authorization", administrator.as_str()), ("Content-Type", kind)];
                    let response = platform.api_raw(method, &path, &headers, &body).unwrap();
                    let begin = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
                    check(&mut wrong, &format!("administrator: {method} {path} {begin:?}"), &response, &[]);
                    requests += 1;
                }
            }
        }
    }
    let huge = vec![b' '; 5 << 20];
    let headers = [("Authorization", administrator.as_str())];
    let response = platform.api_raw("PATCH", "/apps/victim/config-vars", &headers, &huge).unwrap();
    assert_eq!(response.status, 413, "{}", response.text());
    assert!(requests > 2000, "{requests}");
    assert!(wrong.is_empty(), "{} of {requests}: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert!(!platform.log().contains("panicked"), "{}", platform.log());
    assert_eq!(platform.get("/apps/shop/config-vars")["KEY"], "the-value-of-a-secret");
}
