//! Which dyno a request goes to, and how often a request is tried again.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use router::Bounds;

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, bounds, ok, wait_until};

/// For how long a dyno is new.
const RAMP: Duration = Duration::from_secs(5);

fn held(concurrency: u32) -> (Sender<()>, TestDyno) {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let mut dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().ok();
        ok("done")
    });
    dyno.concurrency = Some(concurrency);
    (go, dyno)
}

fn flood(router: &TestRouter, count: usize) -> Vec<Client> {
    let ask = |_client| {
        let mut client = router.connect();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        client
    };
    (0..count).map(ask).collect()
}

#[test]
fn a_new_dyno_begins_with_a_small_share_and_takes_what_the_others_cannot() {
    for (room, share) in [(100, 1..=4), (10, 8..=8)] {
        let ((go_old, old), (go_new, new)) = (held(room), held(100));
        let mut router = TestRouter::start();
        router.route(app(&[&old]));
        thread::sleep(RAMP);
        router.route(app(&[&old, &new]));
        let mut clients = flood(&router, 18);
        wait_until(|| router.in_flight(old.id) + router.in_flight(new.id) == 18, "all in flight");
        let on_new = router.in_flight(new.id);
        assert!(share.contains(&on_new), "{on_new} of 18 are on the new dyno");
        drop((go_old, go_new));
        for client in &mut clients {
            assert_eq!(client.response().body, "done");
        }
        router.drain();
    }
}

#[test]
fn a_dyno_with_less_to_do_is_asked_first() {
    let ((go_one, one), (go_other, other)) = (held(100), held(100));
    let mut router = TestRouter::start();
    router.route(app(&[&one]));
    let mut clients = flood(&router, 6);
    router.wait_for_in_flight(one.id, 6);
    router.route(app(&[&one, &other]));
    // New as it is, it has nothing to do.
    clients.extend(flood(&router, 1));
    router.wait_for_in_flight(other.id, 1);
    drop((go_one, go_other));
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }
    router.drain();
}

#[test]
fn only_so_many_requests_are_sent_to_another_dyno() {
    // Left alone for no time at all, so that each request meets those that refuse.
    let quarantine = Duration::from_nanos(1);
    let refusing: Vec<TestDyno> = (0..5).map(|_dyno| TestDyno::refusing()).collect();
    let other = TestDyno::http(|_request| ok("other"));
    let mut router = TestRouter::start_with(Bounds { quarantine, ..bounds() });
    router.route(app(&refusing.iter().chain([&other]).collect::<Vec<_>>()));
    let answers: Vec<String> = (0..60).map(|_request| router.get("/").body).collect();
    let failed = answers.iter().filter(|body| body.contains("H21")).count();
    assert_eq!(answers.iter().filter(|body| *body == "other").count() + failed, 60);
    // Ten may always, and then a tenth of all: with as many tries as dynos, none would fail.
    assert!(failed > 0, "every request was tried again and again");
    router.drain();
}
