//! How the table changes under traffic, and what is left of it after a restart.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use router::client::{ClientError, Pushed, RouterClient, TableUpdate};
use uuid::Uuid;
use wire::routes::{AdmissionSettings, AppRoute, RouteTable};

use crate::harness::{Client, HOST, TestDyno, TestRouter, app, bounds, ok};

fn update(base: u64, generation: u64) -> TableUpdate {
    TableUpdate { base, generation, changed: vec![app(&[])], ..TableUpdate::default() }
}

#[test]
fn an_older_generation_is_refused_and_a_gap_needs_the_whole_table() {
    let mut router = TestRouter::start();
    router.route(app(&[]));
    let server = &mut router.server;
    let runtime = &router.runtime;
    let pushed = runtime.block_on(server.push(update(5, 6))).unwrap();
    assert_eq!(pushed, Pushed::NeedWhole { generation: 1 });
    let refused = runtime.block_on(server.push(update(0, 1))).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
    runtime
        .block_on(server.replace(RouteTable { generation: 6, apps: vec![app(&[])], ..RouteTable::default() }))
        .unwrap();
    let refused = runtime.block_on(server.replace(RouteTable { generation: 5, ..RouteTable::default() })).unwrap_err();
    assert_eq!(refused.to_string(), "router refused: generation 5 is not newer than 6, now in force");
    assert_eq!(runtime.block_on(server.push(update(6, 7))).unwrap(), Pushed::Applied);
    let status = runtime.block_on(server.status()).unwrap();
    assert_eq!((status.generation, status.apps, status.threads), (7, 1, 2));
    router.drain();
}

#[test]
fn a_server_of_another_instance_is_refused() {
    let router = TestRouter::start();
    let refused = router.runtime.block_on(RouterClient::connect(router.dir.path(), "another")).unwrap_err();
    assert_eq!(refused.to_string(), "router refused: this router belongs to instance 0123456789abcdef");
    router.drain();
}

#[test]
fn a_restarted_router_serves_its_last_table_without_a_server() {
    let dyno = TestDyno::http(|_request| ok("still here"));
    let mut router = TestRouter::start();
    router.replace(vec![app(&[])]);
    router.route(app(&[&dyno]));
    let dir = router.drain();
    let router = TestRouter::start_in(dir, bounds());
    assert_eq!(router.server.generation_at_connect(), 2);
    assert_eq!(router.get("/").body, "still here");
    router.drain();
}

#[test]
fn a_removed_app_is_gone_and_a_renamed_host_moves() {
    let dyno = TestDyno::http(|_request| ok("here"));
    let mut router = TestRouter::start();
    router.route(AppRoute { hosts: vec!["old.example".to_owned()], ..app(&[&dyno]) });
    assert_eq!(router.get("/").status(), 404);
    router.route(app(&[&dyno]));
    assert_eq!(router.get("/").body, "here");
    router.push(Vec::new(), vec![Uuid::from_u128(7)]);
    assert_eq!(router.get("/").status(), 404);
    router.drain();
}

#[test]
fn a_limit_is_exact_across_threads_and_the_queue_uses_it_up() {
    let most = Arc::new(AtomicUsize::new(0));
    let now = Arc::new(AtomicUsize::new(0));
    let mut dyno = {
        let (most, now) = (most.clone(), now.clone());
        TestDyno::http(move |_request| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for another one to come meanwhile, if one may.
            thread::sleep(std::time::Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            ok("done")
        })
    };
    dyno.concurrency = Some(2);
    let mut router = TestRouter::start();
    // On a busy machine ten may wait for longer than usual.
    let admission = AdmissionSettings { queue_target_ms: 10_000, ..AdmissionSettings::default() };
    router.route(AppRoute { admission, ..app(&[&dyno]) });
    let address = router.address;
    let clients: Vec<_> = (0..12)
        .map(|_client| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _request in 0..50 {
                    assert_eq!(client.get("/").body, "done");
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(most.load(Ordering::SeqCst), 2);
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

/// Zero-downtime deploys rest on this: two dynos are replaced 50 times under load; once a removal is acknowledged the
/// dyno may refuse everything, and no request fails.
#[test]
fn no_request_fails_and_none_reaches_a_dyno_after_its_removal_was_acknowledged() {
    let mut router = TestRouter::start();
    let removed: Arc<Mutex<HashSet<Uuid>>> = Arc::default();
    let violations = Arc::new(AtomicUsize::new(0));
    let start = || {
        let id = Arc::new(Mutex::new(None::<Uuid>));
        let (seen_id, removed, violations) = (id.clone(), removed.clone(), violations.clone());
        let dyno = TestDyno::http(move |_request| {
            let id = seen_id.lock().unwrap().unwrap();
            if removed.lock().unwrap().contains(&id) {
                violations.fetch_add(1, Ordering::SeqCst);
            }
            ok("served")
        });
        *id.lock().unwrap() = Some(dyno.id);
        dyno
    };
    let mut dynos = vec![start(), start()];
    router.route(app(&dynos.iter().collect::<Vec<_>>()));

    let stop = Arc::new(AtomicBool::new(false));
    let address = router.address;
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut served = 0;
                while !stop.load(Ordering::SeqCst) {
                    if n % 2 == 0 && served % 10 == 0 {
                        client = Client::connect(address);
                    }
                    if n == 1 {
                        client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\nhi"));
                        assert_eq!(client.response().body, "served");
                    } else {
                        assert_eq!(client.get("/").body, "served");
                    }
                    served += 1;
                }
                served
            })
        })
        .collect();

    for _deploy in 0..50 {
        let new = vec![start(), start()];
        router.route(app(&new.iter().collect::<Vec<_>>()));
        for old in std::mem::replace(&mut dynos, new) {
            // What was given to it before may still be under way; what comes after the count is zero may not.
            router.wait_for_in_flight(old.id, 0);
            removed.lock().unwrap().insert(old.id);
            drop(old);
        }
    }
    stop.store(true, Ordering::SeqCst);
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(served > 100, "only {served} requests were made");
    assert_eq!(violations.load(Ordering::SeqCst), 0);
    router.drain();
}
