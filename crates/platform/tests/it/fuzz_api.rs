//! Everything that can be wrong with a request, at every route: Heroku's form of an error, never a 5xx, and never a word
//! of somebody else's app.

use serde_json::{Map, Value, json};

use crate::conformance::{BODIES, Field, Form};
use crate::http::Response;
use crate::platform::TestPlatform;
use crate::source::Source;

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

/// What a field of some type is not, and what it is at its limits.
fn misfits() -> Vec<Value> {
    let text = |text: &str| Value::String(text.to_owned());
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        text(""),
        text("\u{0}\r\nX: y"),
        text("../../etc/passwd"),
        text("01234567-89ab-cdef-0123-456789abcdef"),
        text(&"x".repeat(10_000)),
        json!([]),
        json!([null, [], {}]),
        json!({}),
        json!({"id": {"id": []}, "name": 1}),
    ]
}

/// What a field may be.
fn fitting(field: &Field) -> Value {
    match field.types[0] {
        "array" => json!([]),
        "object" | "any" => json!({}),
        "boolean" => json!(false),
        "integer" | "number" => json!(1),
        "uuid" => json!("01234567-89ab-cdef-0123-456789abcdef"),
        "date-time" => json!("2026-01-01T00:00:00Z"),
        "null" if field.types.len() > 1 => fitting(&Field { types: field.types[1..].to_vec(), ..field.clone() }),
        _string => json!("x"),
    }
}

/// Puts a value where a path leads, making what it leads through; without one, takes away what is there.
fn put(body: &mut Value, path: &str, value: Option<Value>) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let name = first.trim_end_matches("[]").replace('*', "ANY");
    if !body.is_object() {
        *body = Value::Object(Map::new());
    }
    let Some(fields) = body.as_object_mut() else { return };
    let is_list = first.ends_with("[]");
    if rest.is_none() && !is_list {
        match value {
            Some(value) => drop(fields.insert(name, value)),
            None => drop(fields.remove(&name)),
        }
        return;
    }
    let mut place = fields.entry(name).or_insert_with(|| json!({}));
    if is_list {
        if place.as_array().is_none_or(Vec::is_empty) {
            *place = json!([{}]);
        }
        place = &mut place[0];
    }
    match (rest, value) {
        (Some(rest), value) => put(place, rest, value),
        (None, value) => *place = value.unwrap_or(Value::Null),
    }
}

/// A body with everything that the schema knows.
fn whole(fields: &[Field]) -> Value {
    let mut body = json!({});
    for field in fields {
        put(&mut body, field.path, Some(fitting(field)));
    }
    body
}

#[test]
fn every_field_of_every_request_is_tried_with_what_it_is_not() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::app("python-web"));
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"KEY": "the-value-of-a-secret"}));
    let pipeline = platform.ask("POST", "/pipelines", &json!({"name": "line"}));
    let coupling = json!({"app": "shop", "pipeline": pipeline["id"], "stage": "staging"});
    let coupling = platform.ask("POST", "/pipeline-couplings", &coupling);
    platform.newest_serves("shop");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let app = text(&platform.get("/apps/shop")["id"]);
    let release = platform.releases("shop").pop().unwrap();
    // Things of the first app's, by every name that they have.
    let others = [
        "shop".to_owned(),
        app.clone(),
        text(&pipeline["id"]),
        text(&coupling["id"]),
        text(&release["id"]),
        text(&release["slug"]["id"]),
        text(&platform.get("/account")["id"]),
        "admin@localhost".to_owned(),
    ];
    let stranger = platform.join("stranger@example.com");
    assert_eq!(platform.ask_as(&stranger, "POST", "/apps", &json!({"name": "mine"})).0, 201);
    platform.create("victim");
    let victim = text(&platform.get("/apps/victim")["id"]);
    let state = || {
        let config = platform.get("/apps/shop/config-vars");
        let people = platform.get("/apps/shop/collaborators");
        [config, people, platform.get("/apps/shop"), platform.releases("shop").into(), platform.get("/pipelines/line")]
    };
    let before = state();

    let (mut wrong, mut requests) = (Vec::new(), 0_u32);
    let mut ask = |token: &str, method: &str, path: &str, body: &Value, secrets: &[&str]| {
        let form = if requests.is_multiple_of(2) { Form::Three } else { Form::Sdk };
        let headers = [("Authorization", &*format!("Bearer {token}")), ("Accept", form.accept())];
        let response = platform.api_raw(method, path, &headers, &serde_json::to_vec(body).unwrap()).unwrap();
        let shown: String = body.to_string().chars().take(200).collect();
        check(&mut wrong, &format!("{method} {path} {shown}"), &response, secrets);
        requests += 1;
    };
    for ((method, path), fields) in BODIES.iter().filter(|((method, _path), _fields)| *method != "DELETE") {
        let whole = whole(fields);
        let path = path.replace("{app}", &victim);
        let path = filled(&path, "none");
        ask(&platform.token, method, &path, &whole, &[]);
        for field in fields {
            let mut body = whole.clone();
            for misfit in misfits() {
                put(&mut body, field.path, Some(misfit));
                ask(&platform.token, method, &path, &body, &[]);
            }
            if field.required {
                put(&mut body, field.path, None);
                ask(&platform.token, method, &path, &body, &[]);
            }
        }
        // With an app of one's own in the path, and things of somebody else's in the body.
        let secrets = ["the-value-of-a-secret"];
        for other in &others {
            let names = |field: &&Field| field.types.iter().any(|one| matches!(*one, "uuid" | "string"));
            let mut body = whole.clone();
            for field in fields.iter().filter(names) {
                put(&mut body, field.path, Some(json!(other)));
            }
            ask(&stranger, method, &path.replace(&victim, "mine"), &body, &secrets);
        }
    }
    assert!(requests > 5000, "{requests}");
    assert!(wrong.is_empty(), "{} of {requests}: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert!(!platform.log().contains("panicked"), "{}", platform.log());
    assert_eq!(state(), before, "somebody else's app is as it was");
}
