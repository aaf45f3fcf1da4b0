//! Session affinity: a session stays on its dyno while that can take its requests, and moves when it cannot.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use wire::routes::{AppRoute, EdgeSettings};

use crate::harness::{HOST, Response, TestDyno, TestRouter, app, ok};

fn sticky(dynos: &[&TestDyno]) -> AppRoute {
    AppRoute { edge: EdgeSettings { session_affinity: true, ..EdgeSettings::default() }, ..app(dynos) }
}

/// The cookie as a client sends it back.
fn cookie(response: &Response) -> Option<String> {
    response.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

fn ask(router: &TestRouter, path: &str, cookie: &str) -> Response {
    let mut client = router.connect();
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\ncookie: a=b; {cookie}\r\n\r\n"));
    client.response()
}

#[test]
fn a_session_stays_on_its_dyno_until_that_is_full_refuses_or_leaves() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let mut first = TestDyno::http(move |request| {
        if request.path() == "/slow" {
            wait.lock().unwrap().recv().unwrap();
        }
        ok("first")
    });
    first.concurrency = Some(1);
    let second = TestDyno::http(|_request| ok("second"));
    let mut router = TestRouter::start();
    router.route(sticky(&[&first]));
    let session = cookie(&router.get("/")).unwrap();
    assert!(session.starts_with("heroku-session-affinity="), "{session}");
    router.route(sticky(&[&first, &second]));
    for _request in 0..20 {
        let answer = ask(&router, "/", &session);
        assert_eq!((answer.body.as_str(), cookie(&answer)), ("first", None));
    }

    // Full: another dyno and its cookie. Free again: whoever still has the old cookie is back.
    let mut slow = router.connect();
    slow.send(&format!("GET /slow HTTP/1.1\r\nhost: {HOST}\r\ncookie: {session}\r\n\r\n"));
    router.wait_for_in_flight(first.id, 1);
    let answer = ask(&router, "/", &session);
    assert_eq!(answer.body, "second");
    let moved = cookie(&answer).unwrap();
    assert_ne!(moved, session);
    go.send(()).unwrap();
    assert_eq!(slow.response().body, "first");
    assert_eq!(ask(&router, "/", &session).body, "first");
    assert_eq!(ask(&router, "/", &moved).body, "second");

    // It refuses connections: the same, and nobody waits for it.
    let mut refusing = TestDyno::refusing();
    refusing.id = first.id;
    router.route(sticky(&[&refusing, &second]));
    let answer = ask(&router, "/", &session);
    assert_eq!((answer.body.as_str(), cookie(&answer)), ("second", Some(moved.clone())));

    // It has left.
    router.route(sticky(&[&second]));
    let answer = ask(&router, "/", &session);
    assert_eq!((answer.body.as_str(), cookie(&answer)), ("second", Some(moved)));
    // Nobody else gets a cookie.
    router.route(app(&[&second]));
    assert_eq!(cookie(&router.get("/")), None);
    router.drain();
}
