//! What happens to more requests than the dynos can serve, on real sockets.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use router::Bounds;
use wire::routes::{AdmissionSettings, AppAdmission, AppRoute};

use crate::harness::{HOST, PATIENCE, TestDyno, TestRouter, app, bounds, ok, wait_until};

/// A dyno that answers when it is told to.
fn held() -> (Sender<()>, TestDyno) {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let dyno = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().unwrap();
        ok("done")
    });
    (go, dyno)
}

fn admission(router: &mut TestRouter) -> AppAdmission {
    let status = router.runtime.block_on(router.server.status()).unwrap();
    status.admission.into_iter().next().unwrap_or_default()
}

#[test]
fn a_limit_is_learned_from_the_answers_and_reported() {
    const CLIENTS: usize = 24;
    const WORKERS: usize = 4;
    // Takes everything at once and answers four at a time, as a server with four workers does.
    let (free, worker) = channel();
    (0..WORKERS).for_each(|_worker| free.send(()).unwrap());
    let worker = Mutex::new(worker);
    let dyno = TestDyno::http(move |_request| {
        worker.lock().unwrap().recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        free.send(()).unwrap();
        ok("done")
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let (address, deadline) = (router.address, Instant::now() + PATIENCE);
    let learned = thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        for _client in 0..CLIENTS {
            let stop = stop.clone();
            scope.spawn(move || {
                let mut client = crate::harness::Client::connect(address);
                while stop.send(()).is_ok() && Instant::now() < deadline {
                    client.get("/");
                }
            });
        }
        drop(stop);
        let mut learned = 0;
        wait_until(
            || {
                stopped.try_iter().for_each(drop);
                learned = admission(&mut router).workers.unwrap_or(0);
                learned >= 3
            },
            "a learned limit",
        );
        learned
    });
    assert!(learned <= 16, "{learned}");
    router.drain();
}

#[test]
fn an_app_that_is_held_answers_when_it_is_resumed_and_when_the_hold_is_over() {
    let dyno = TestDyno::http(|_request| ok("served"));
    let mut router = TestRouter::start();
    let held = |from_now: Duration| {
        let until = std::time::SystemTime::now() + from_now;
        let until = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let admission = AdmissionSettings { held_until_unix_ms: u64::try_from(until).ok(), ..Default::default() };
        AppRoute { admission, ..app(&[&dyno]) }
    };
    router.route(held(PATIENCE));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    wait_until(|| admission(&mut router).queued == 1, "a held request");
    router.route(app(&[&dyno]));
    assert_eq!(client.response().body, "served");

    let began = Instant::now();
    router.route(held(Duration::from_millis(300)));
    assert_eq!(client.get("/").body, "served");
    assert!(began.elapsed() >= Duration::from_millis(200));
    router.drain();
}

#[test]
fn a_hold_lasts_as_long_as_it_says_and_refuses_what_it_has_no_room_for() {
    let dyno = TestDyno::http(|_request| ok("served"));
    let mut router = TestRouter::start_with(Bounds { queue_requests_max: 1, ..bounds() });
    let mut route = app(&[&dyno]);
    // Neither a start nor a slot is waited for so long.
    route.limits.boot_wait_ms = 100;
    let until = std::time::SystemTime::now() + Duration::from_secs(4);
    let until = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    route.admission.held_until_unix_ms = u64::try_from(until).ok();
    router.route(route);
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    wait_until(|| admission(&mut router).queued == 1, "a held request");
    let refused = router.get("/");
    assert_eq!(refused.status(), 503, "{}", refused.body);
    // Until the hold is over, which is longer than others are told to wait.
    let retry_after: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((2..=4).contains(&retry_after) && refused.body.contains("H11"), "{retry_after}: {}", refused.body);
    assert_eq!(client.response().body, "served");
    router.drain();
}

#[test]
fn a_start_is_waited_for_from_the_end_of_a_pause_on() {
    let mut router = TestRouter::start();
    let mut route = app(&[]);
    route.limits.boot_wait_ms = 300;
    let until = std::time::SystemTime::now() + Duration::from_millis(700);
    let until = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    route.admission.held_until_unix_ms = u64::try_from(until).ok();
    router.route(route);
    let began = Instant::now();
    assert!(router.get("/").body.contains("H20"));
    let waited = began.elapsed();
    assert!((Duration::from_millis(950)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    router.drain();
}

/// Those that waited for a slot already, those that came in the pause, and those that came while it became longer.
#[test]
fn a_pause_that_becomes_longer_refuses_nobody_and_keeps_their_order() {
    let (seen, paths) = channel();
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let mut dyno = TestDyno::http(move |request| {
        seen.send(request.path().to_owned()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        ok("done")
    });
    dyno.concurrency = Some(1);
    // A slot is waited for for less time than the pauses take.
    let mut router = TestRouter::start_with(Bounds { queue_wait: Duration::from_secs(2), ..bounds() });
    let pause = |from_now: Duration| {
        let until = (std::time::SystemTime::now() + from_now).duration_since(std::time::UNIX_EPOCH).unwrap();
        let held_until_unix_ms = u64::try_from(until.as_millis()).ok();
        let settings = AdmissionSettings { held_until_unix_ms, queue_target_ms: 1_000, ..Default::default() };
        AppRoute { admission: settings, ..app(&[&dyno]) }
    };
    router.route(pause(Duration::ZERO));
    let mut clients = Vec::new();
    let mut ask = |router: &mut TestRouter| {
        let mut client = router.connect();
        client.send(&format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", clients.len()));
        clients.push(client);
        let queued = u32::try_from(clients.len() - 1).unwrap();
        wait_until(|| admission(router).queued == queued, "a request that waits");
    };
    ask(&mut router);
    router.wait_for_in_flight(dyno.id, 1);
    ask(&mut router);
    let began = Instant::now();
    router.route(pause(PATIENCE));
    ask(&mut router);
    ask(&mut router);
    router.route(pause(Duration::from_secs(3)));
    ask(&mut router);
    for client in &mut clients {
        go.send(()).unwrap();
        assert_eq!(client.response().body, "done");
    }
    assert!(began.elapsed() > Duration::from_secs(3), "only after the pause");
    assert_eq!(paths.try_iter().collect::<Vec<String>>(), ["/0", "/1", "/2", "/3", "/4"]);
    router.drain();
}

#[test]
fn a_request_whose_client_left_the_queue_is_never_sent() {
    let (go, mut dyno) = held();
    dyno.concurrency = Some(1);
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut served = router.connect();
    served.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);
    let mut queued = router.connect();
    queued.send(&format!("GET /queued HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    wait_until(|| admission(&mut router).queued == 1, "a queued request");
    drop(queued);
    wait_until(|| admission(&mut router).queued == 0, "an empty queue");
    assert!(router.next_log_line().contains(" code=H27 "));
    // A body that comes after its head, in more than one piece, whole or not.
    for sent in [20_000, 30_000] {
        let mut queued = router.connect();
        queued.send(&format!("POST /queued HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 30000\r\n\r\n"));
        wait_until(|| admission(&mut router).queued == 1, "a queued upload");
        queued.send(&"x".repeat(sent));
        drop(queued);
        wait_until(|| admission(&mut router).queued == 0, "an empty queue");
        let line = router.next_log_line();
        assert!(line.contains(" code=H27 ") && line.contains(" status=499 "), "{line}");
    }
    go.send(()).unwrap();
    assert_eq!(served.response().body, "done");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn an_upload_that_had_to_wait_arrives_as_it_was_sent() {
    let (go, mut dyno) = held();
    dyno.concurrency = Some(1);
    let echo = TestDyno::http(|request| ok(&String::from_utf8_lossy(&request.body)));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut served = router.connect();
    served.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);
    let body: String = (0..50_000).map(|n| char::from(b'a' + u8::try_from(n % 23).unwrap())).collect();
    let (first, rest) = body.split_at(10_000);
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let with_length = (format!("content-length: {}\r\n", body.len()), first.to_owned(), rest.to_owned());
    let chunked = ("transfer-encoding: chunked\r\n".to_owned(), chunk(first), chunk(rest) + "0\r\n\r\n");
    let mut clients: Vec<_> = [with_length, chunked]
        .into_iter()
        .map(|(framing, first, rest)| {
            let mut client = router.connect();
            client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{framing}\r\n"));
            client.send(&first);
            (client, rest)
        })
        .collect();
    wait_until(|| admission(&mut router).queued == 2, "queued uploads");
    router.route(app(&[&echo]));
    for (client, rest) in &mut clients {
        client.send(rest);
        assert!(client.response().body == body);
    }
    go.send(()).unwrap();
    assert_eq!(served.response().body, "done");
    router.drain();
}

#[test]
fn under_overload_the_newest_is_served_and_the_oldest_refused_with_a_time() {
    let (go, mut dyno) = held();
    dyno.concurrency = Some(1);
    let mut router = TestRouter::start_with(bounds());
    let admission_settings = AdmissionSettings { queue_target_ms: 100, ..Default::default() };
    router.route(AppRoute { admission: admission_settings, ..app(&[&dyno]) });
    let mut served = router.connect();
    served.send(&format!("GET /served HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    router.wait_for_in_flight(dyno.id, 1);
    // They keep coming, so the queue stands.
    let mut waiting = Vec::new();
    wait_until(
        || {
            let mut client = router.connect();
            client.send(&format!("GET /waits HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
            waiting.push(client);
            admission(&mut router).overloaded
        },
        "overload",
    );
    let refused = waiting[0].response();
    assert_eq!(refused.status(), 503);
    assert!(refused.body.contains("H11"), "{}", refused.body);
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    go.send(()).unwrap();
    assert_eq!(served.response().body, "done");
    (0..waiting.len()).for_each(|_request| go.send(()).unwrap());
    router.drain();
}

#[test]
fn while_nothing_is_known_requests_reach_a_dyno_that_has_not_answered_the_first() {
    let (go, mut dyno) = held();
    dyno.concurrency = None;
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut clients: Vec<_> = (0..3).map(|_client| router.connect()).collect();
    for client in &mut clients {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    router.wait_for_in_flight(dyno.id, 3);
    (0..3).for_each(|_client| go.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }
    router.drain();
}

#[test]
fn what_was_learned_before_holds_from_the_first_request_on() {
    let (go, mut dyno) = held();
    dyno.concurrency = None;
    let mut router = TestRouter::start();
    let hinted = AdmissionSettings { workers_hint: Some(3), ..Default::default() };
    router.route(AppRoute { admission: hinted, ..app(&[&dyno]) });
    let mut clients: Vec<_> = (0..4).map(|_client| router.connect()).collect();
    for client in &mut clients {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    wait_until(|| admission(&mut router).queued == 1, "the fourth to wait");
    assert_eq!(admission(&mut router).in_flight, 3);
    (0..4).for_each(|_client| go.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }
    router.drain();
}

#[test]
fn dynos_work_in_proportion_to_their_weights_at_once_and_one_after_the_other() {
    let ((go_light, mut light), (go_heavy, mut heavy)) = (held(), held());
    (light.concurrency, heavy.concurrency) = (Some(100), Some(100));
    heavy.weight = 2 * light.weight;
    let mut router = TestRouter::start();
    router.route(app(&[&light, &heavy]));
    let mut clients: Vec<_> = (0..30).map(|_client| router.connect()).collect();
    for client in &mut clients {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    wait_until(|| router.in_flight(light.id) + router.in_flight(heavy.id) == 30, "all in flight");
    let on_light = router.in_flight(light.id);
    assert!((9..=11).contains(&on_light), "{on_light} of 30 are on the dyno of half the weight");
    for go in [go_light, go_heavy] {
        (0..30).for_each(|_client| go.send(()).unwrap());
    }
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }

    let named = |name: &'static str| TestDyno::http(move |_request| ok(name));
    let (light, mut heavy) = (named("light"), named("heavy"));
    heavy.weight = 2 * light.weight;
    router.route(app(&[&light, &heavy]));
    let mut client = router.connect();
    let on_light = (0..600).filter(|_request| client.get("/").body == "light").count();
    assert!((150..250).contains(&on_light), "{on_light} of 600 went to the dyno of half the weight");
    router.drain();
}

#[test]
fn a_flood_of_one_app_takes_no_place_in_the_queue_of_another() {
    let ((go, mut flooded), (go_other, mut other)) = (held(), held());
    (flooded.concurrency, other.concurrency) = (Some(1), Some(1));
    let mut router = TestRouter::start_with(router::Bounds { queue_requests_max: 4, ..bounds() });
    let other_app =
        AppRoute { app: uuid::Uuid::from_u128(8), hosts: vec!["other.example".to_owned()], ..app(&[&other]) };
    router.push(vec![app(&[&flooded]), other_app], Vec::new());
    let mut flood: Vec<_> = (0..40).map(|_client| router.connect()).collect();
    for client in &mut flood {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    router.wait_for_in_flight(flooded.id, 1);
    let mut clients = [router.connect(), router.connect(), router.connect()];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: other.example\r\n\r\n");
        go_other.send(()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().body, "done");
    }
    // Whoever came after the first answer would be served, too.
    let received = |router: &mut TestRouter| router.runtime.block_on(router.server.status()).unwrap().requests_total;
    wait_until(|| received(&mut router) == 43, "all requests");
    wait_until(|| admission(&mut router).queued <= 4, "refusals");
    (0..flood.len()).for_each(|_request| go.send(()).unwrap());
    let answers: Vec<_> = flood.iter_mut().map(|client| client.response()).collect();
    let refused = answers.iter().filter(|answer| answer.body.contains("H11")).count();
    assert!(refused >= 35, "one is served and four wait: {refused}");
    router.drain();
}
