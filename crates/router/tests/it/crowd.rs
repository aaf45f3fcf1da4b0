//! What happens when connections run out: that whoever holds them without asking for anything makes room.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use router::Bounds;
use router::client::RouterClient;
use uuid::Uuid;
use wire::routes::{AppRoute, RouteTable};

use crate::harness::{
    Client, HOST, INSTANCE, Stop, TestDyno, TestRouter, app, bounds, ok, read_head, reserved_address, wait_until,
};
use crate::http2_peer::{plain, request};
use crate::memory::hundred_requests;
use crate::shutdown::{start_process_with, wait_for_server};

const OTHER: &str = "other.example";

fn other(dyno: &TestDyno) -> AppRoute {
    AppRoute { app: Uuid::from_u128(8), name: "other".to_owned(), hosts: vec![OTHER.to_owned()], ..app(&[dyno]) }
}

/// Asks the other app on a connection of its own.
fn ask_other(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send(&format!("GET / HTTP/1.1\r\nhost: {OTHER}\r\n\r\n"));
    assert_eq!(client.response().body, "other");
    client
}

/// What a client does before it is idle.
type Begin = dyn Fn(&mut Client) + Sync;

#[test]
fn idle_connections_of_every_kind_make_room() {
    const CONNECTIONS_MAX: usize = 40;
    let silent = |_client: &mut Client| {};
    let express = |client: &mut Client| drop(client.get("/"));
    let full = |client: &mut Client| {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nte: trailers\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    };
    let half_a_head = |client: &mut Client| client.send("GET / HTTP/1.1\r\nhost: ");
    let http2 = |client: &mut Client| {
        client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
    };
    let kinds: [(&str, &Begin); 5] =
        [("silent", &silent), ("express", &express), ("full", &full), ("half a head", &half_a_head), ("http2", &http2)];
    thread::scope(|scope| {
        for (kind, begin) in kinds {
            scope.spawn(move || {
                let (dyno, of_other) = (TestDyno::http(|_request| ok("shop")), TestDyno::http(|_request| ok("other")));
                let mut router = TestRouter::start_with(Bounds { connections_max: CONNECTIONS_MAX, ..bounds() });
                router.push(vec![app(&[&dyno]), other(&of_other)], Vec::new());
                let open = |router: &mut TestRouter| {
                    let status = router.runtime.block_on(router.server.status()).unwrap();
                    usize::try_from(status.connections).unwrap()
                };
                let mut idle = Vec::new();
                while open(&mut router) < CONNECTIONS_MAX - 1 {
                    let mut client = router.connect();
                    begin(&mut client);
                    idle.push(client);
                }
                let mut kept = Vec::new();
                for _client in 0..CONNECTIONS_MAX {
                    kept.push(ask_other(router.address));
                    let open = open(&mut router);
                    assert!(open <= CONNECTIONS_MAX + 2, "{kind}: {open} connections");
                }
                router.drain();
            });
        }
    });
}

#[test]
fn busy_connections_of_one_app_let_another_one_in() {
    const CONNECTIONS_MAX: usize = 16;
    let mut dyno = TestDyno::http(|_request| {
        thread::sleep(Duration::from_millis(5));
        ok("shop")
    });
    dyno.concurrency = Some(100);
    let of_other = TestDyno::http(|_request| ok("other"));
    let mut router = TestRouter::start_with(Bounds { connections_max: CONNECTIONS_MAX, ..bounds() });
    router.push(vec![app(&[&dyno]), other(&of_other)], Vec::new());
    let stop = AtomicBool::new(false);
    let address = router.address;
    thread::scope(|scope| {
        for _client in 0..2 * CONNECTIONS_MAX {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let mut client = Client::connect(address);
                    // As long as it is allowed, and never idle.
                    while !stop.load(Ordering::SeqCst) {
                        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
                        let Ok(()) = client.stream.write_all(request.as_bytes()) else { break };
                        let Some(head) = read_head(&mut client.stream) else { break };
                        let mut body =
                            vec![0; crate::harness::header(&head, "content-length").unwrap().parse().unwrap()];
                        std::io::Read::read_exact(&mut client.stream, &mut body).unwrap();
                        if crate::harness::header(&head, "connection") == Some("close") {
                            break;
                        }
                    }
                }
            });
        }
        let _stop = Stop(&stop);
        for _request in 0..20 {
            ask_other(router.address);
        }
    });
    router.drain();
}

#[test]
fn busy_http2_connections_of_one_app_let_another_one_in() {
    const CONNECTIONS_MAX: usize = 16;
    let (dyno, of_other) = (TestDyno::http(|_request| ok("shop")), TestDyno::http(|_request| ok("other")));
    let mut router = TestRouter::start_with(Bounds { connections_max: CONNECTIONS_MAX, ..bounds() });
    router.push(vec![app(&[&dyno]), other(&of_other)], Vec::new());
    let (address, answers) = (router.address, Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..2 * CONNECTIONS_MAX)
        .map(|_client| {
            let answers = answers.clone();
            router.runtime.spawn(async move {
                loop {
                    let client = plain(address).await;
                    // As long as it is allowed, and never idle for as long as it takes to be closed for that.
                    while let Ok(mut client) = client.clone().ready().await
                        && let Ok((response, _stream)) = client.send_request(request("GET", "/"), true)
                        && response.await.is_ok()
                    {
                        answers.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                }
            })
        })
        .collect();
    wait_until(|| answers.load(Ordering::SeqCst) > 2 * CONNECTIONS_MAX, "clients that hold all there is");
    for _request in 0..5 {
        ask_other(router.address);
    }
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    router.drain();
}

#[test]
fn an_app_never_holds_more_connections_than_it_leaves_to_others() {
    const CONNECTIONS_MAX: usize = 96;
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let mut flooded = TestDyno::http(move |_request| {
        wait.lock().unwrap().recv().ok();
        ok("shop")
    });
    flooded.concurrency = Some(1_000);
    let of_other = TestDyno::http(|_request| ok("other"));
    let mut router = TestRouter::start_with(Bounds { connections_max: CONNECTIONS_MAX, ..bounds() });
    router.push(vec![app(&[&flooded]), other(&of_other)], Vec::new());
    let mut clients: Vec<Client> = (0..80).map(|_client| router.connect()).collect();
    for client in &mut clients {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    }
    let answered = |router: &mut TestRouter| router.runtime.block_on(router.server.status()).unwrap().requests_total;
    wait_until(|| answered(&mut router) == 80, "all requests");
    for _request in 0..20 {
        ask_other(router.address);
    }
    drop(go);
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response()).collect();
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status() == 200);
    assert!(served.len() <= CONNECTIONS_MAX / 2, "{} were let in", served.len());
    for answer in refused {
        assert!(answer.body.contains("H22"), "{}", answer.body);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    router.drain();
}

#[test]
fn requests_of_a_few_apps_that_wait_for_long_do_not_use_up_the_descriptors() {
    const DESCRIPTORS: u64 = 256;
    const APPS: u64 = 4;
    // Until the test is over.
    let polled: Vec<TestDyno> = (0..APPS)
        .map(|_app| {
            let mut dyno = TestDyno::start(|mut stream| while read_head(&mut stream).is_some() {});
            dyno.concurrency = Some(1_000);
            dyno
        })
        .collect();
    let host = |n: u128| format!("{n}.example");
    let polled_apps = (0..).zip(&polled).map(|(n, dyno)| AppRoute {
        app: Uuid::from_u128(100 + n),
        hosts: vec![host(n)],
        ..app(&[dyno])
    });
    let of_other = TestDyno::http(|_request| ok("other"));
    let (dir, (address, _reserved)) = (tempfile::tempdir().unwrap(), reserved_address());
    let mut process = start_process_with(DESCRIPTORS, dir.path(), &address.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    wait_for_server(&runtime, dir.path(), process.id());
    let mut server = runtime.block_on(RouterClient::connect(dir.path(), INSTANCE)).unwrap();
    let apps = polled_apps.chain([other(&of_other)]).collect();
    runtime.block_on(server.replace(RouteTable { generation: 1, apps, ..RouteTable::default() })).unwrap();
    let mut asked = 0;
    // Then the same of clients that come after others have left without their answers.
    for _round in 0..5 {
        let clients: Vec<Client> = (0..2 * u128::from(APPS))
            .map(|n| {
                let mut client = Client::connect(address);
                client.stream.write_all(&hundred_requests(&host(n / 2))).unwrap();
                client
            })
            .collect();
        asked += 100 * clients.len() as u64;
        wait_until(|| runtime.block_on(server.status()).unwrap().requests_total >= asked, "all requests");
        for _request in 0..10 {
            ask_other(address);
            asked += 1;
        }
        drop(clients);
        wait_until(|| runtime.block_on(server.status()).unwrap().connections == 0, "the clients to be gone");
    }
    let held = runtime.block_on(server.in_flight()).unwrap();
    let held = |dyno: &TestDyno| held.iter().any(|(id, count)| *id == dyno.id && *count > 0);
    assert!(polled.iter().all(held), "each has some");
    process.kill().unwrap();
    process.wait().unwrap();
}
