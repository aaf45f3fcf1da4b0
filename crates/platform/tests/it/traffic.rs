//! Pause and resume under load: nobody notices but by the wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::heroku_drains::LOCAL_RECEIVERS;
use crate::http::Connection;
use crate::load::Load;
use crate::platform::TestPlatform;
use crate::routing::old_host;
use crate::wait::wait_until;

fn traffic(platform: &TestPlatform) -> Value {
    serde_json::from_str(&platform.must(&["traffic", "-a", "shop", "--json"])).unwrap()
}

/// Whether no request is answered for a moment.
fn stands_still(load: &Load) -> bool {
    let before = load.requests_so_far();
    sleep(Duration::from_millis(700));
    load.requests_so_far() == before
}

fn goes_on(load: &Load) {
    let before = load.requests_so_far();
    wait_until("requests are answered", || load.requests_so_far() > before + 20);
}

#[test]
fn a_pause_holds_every_request_and_fails_none() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let load = Load::quick(&platform, "shop");
    goes_on(&load);

    let said = platform.must(&["traffic:pause", "-a", "shop", "--for", "20s"]);
    assert!(
        said.starts_with("New requests of shop are held until ") && said.contains("traffic:resume -a shop"),
        "{said}"
    );
    // Those that were under way have an instant.
    wait_until("nothing is answered", || stands_still(&load));
    assert!(traffic(&platform)["paused_until"].is_string());
    wait_until("the router reports what waits", || traffic(&platform)["waiting"].as_u64() >= Some(1));
    let said = platform.must(&["traffic:resume", "-a", "shop"]);
    assert_eq!(said, "Requests of shop are served.\n");
    goes_on(&load);
    assert!(traffic(&platform)["paused_until"].is_null());

    // Without a resume it ends by itself, also where the server has died meanwhile.
    let began = Instant::now();
    platform.must(&["traffic:pause", "-a", "shop", "--for", "6s"]);
    platform.kill_role("server");
    wait_until("nothing is answered", || stands_still(&load));
    goes_on(&load);
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    wait_until("the next server is up", || platform.is_connected());
    assert!(traffic(&platform)["paused_until"].is_null());

    // A new server and a new router know of a pause that was there before them.
    platform.must(&["traffic:pause", "-a", "shop", "--for", "30s"]);
    platform.kill_role("server");
    wait_until("the next server is up", || platform.is_connected());
    assert!(traffic(&platform)["in_force"] == true && stands_still(&load));
    platform.must(&["traffic:resume", "-a", "shop"]);
    goes_on(&load);

    let seen = load.finish();
    assert_eq!(seen.failures, Vec::<String>::new());
    platform.logged("shop", "app[api]: Pause traffic for 20s by user ");
    platform.logged("shop", "app[api]: Resume traffic by user ");
    let long = platform.berth(&["traffic:pause", "-a", "shop", "--for", "1h"]);
    assert!(long.code == Some(1) && long.stderr.contains("from 100ms to 5m"), "{long:?}");
    assert_eq!(platform.berth(&["traffic:pause", "-a", "shop", "--for", "soon"]).code, Some(2));
}

/// A visitor of `www.example.com` who asks again and again, on one kept connection or on new ones, and never twice for
/// the same: what every answer said.
struct Visitor {
    over: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<String>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Visitor {
    fn start(platform: &TestPlatform, kept: bool) -> Self {
        let (over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (port, is_over, told) = (platform.http_port, Arc::clone(&over), Arc::clone(&answers));
        let thread = spawn(move || {
            let mut open: Option<Connection> = None;
            while !is_over.load(Ordering::Relaxed) {
                let mut connection = open.take().unwrap_or_else(|| Connection::open(port).unwrap());
                let answer = connection.request("GET", "/", &[("Host", "www.example.com")], &[]).unwrap();
                told.lock().unwrap().push(format!("{} {}", answer.status, answer.text()));
                let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                open = (kept && !closes).then_some(connection);
                sleep(Duration::from_millis(10));
            }
        });
        Self { over, answers, thread }
    }

    fn last(&self) -> String {
        self.answers.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Arc::into_inner(self.answers).unwrap().into_inner().unwrap()
    }
}

#[test]
fn a_domain_moves_from_its_old_host_to_the_app_and_back_within_a_pause() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    let url = format!("http://127.0.0.1:{}", old_host());
    let front = |to: &str| drop(platform.must(&["domains:front", "www.example.com", to, "-a", "shop"]));
    platform.must(&["domains:add", "www.example.com", "-a", "shop"]);
    front(&url);
    let at = |visitor: &Visitor, start: &str| visitor.last().starts_with(start);
    let (at_old, at_app) = ("200 old host: www.example.com\n", "200 version=1 ");
    let visit = || {
        let mut connection = Connection::open(platform.http_port).unwrap();
        let answer = connection.request("GET", "/", &[("Host", "www.example.com"), ("Connection", "close")], &[]);
        answer.unwrap().text()
    };
    wait_until("the old host is asked", || visit().starts_with("old "));
    let visitors = [false, true].map(|kept| Visitor::start(&platform, kept));
    wait_until("the old host answers", || visitors.iter().all(|visitor| at(visitor, at_old)));

    let pause = || drop(platform.must(&["traffic:pause", "-a", "shop", "--for", "30s"]));
    let resume = || drop(platform.must(&["traffic:resume", "-a", "shop"]));
    let counts = || visitors.each_ref().map(|visitor| visitor.answers.lock().unwrap().len());
    let all_wait = || {
        let before = counts();
        sleep(Duration::from_millis(500));
        before == counts()
    };
    for (place, there) in [("--clear", at_app), (&url, at_old)] {
        pause();
        wait_until("everybody waits", all_wait);
        let before = counts();
        front(place);
        assert!(all_wait(), "a domain that is led elsewhere is held there, too");
        resume();
        wait_until("everybody is answered", || counts() != before && visitors.iter().all(|visitor| at(visitor, there)));
        // Also those that waited: nobody has seen the other place since.
        for (visitor, before) in visitors.iter().zip(before) {
            let answers = visitor.answers.lock().unwrap();
            let by_app = |answer: &String| answer.starts_with("200 version=1 ");
            assert!(answers[before..].iter().all(|answer| by_app(answer) == (place == "--clear")), "{answers:?}");
        }
    }
    for visitor in visitors {
        let answers = visitor.end();
        assert!(answers.iter().all(|answer| answer.starts_with("200 ")), "{answers:?}");
    }
}
