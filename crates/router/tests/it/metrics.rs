//! What the router counts, and where it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use router::Bounds;
use wire::routes::{AppRoute, EdgeSettings};
use wire::traffic::{AppTraffic, StatusPage, TrafficSecond};

use crate::harness::{
    Client, HOST, PATIENCE, TestDyno, TestRouter, app, bounds, limits, ok, read_head, reserved_address, wait_until,
};
use crate::limits::{behind_a_balancer, client_from};

/// Answers at once, after 50 ms, never, or not at all.
fn dyno() -> TestDyno {
    TestDyno::start(|mut stream| {
        while let Some(request) = crate::harness::read_request(&mut stream) {
            match request.path() {
                "/slow" => std::thread::sleep(Duration::from_millis(50)),
                "/hang" => return drop(read_head(&mut stream)),
                "/close" => return,
                "/missing" => {
                    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").unwrap();
                    continue;
                }
                _ => {}
            }
            stream.write_all(ok("0123456789").as_bytes()).unwrap();
        }
    })
}

/// The sum of all seconds until `done` is content with it.
fn follow(router: &mut TestRouter, after: &mut u64, sum: &mut AppTraffic, done: impl Fn(&AppTraffic) -> bool) {
    let id = app(&[]).app;
    wait_until(
        || {
            for second in router.runtime.block_on(router.server.traffic(*after)).unwrap() {
                assert!(second.unix_second > *after, "seconds come in order, each once");
                *after = second.unix_second;
                match second.apps.iter().find(|app| app.app == id) {
                    Some(app) => sum.add(app),
                    None => (sum.in_flight, sum.queued, sum.connections) = (0, 0, 0),
                }
            }
            done(sum)
        },
        "a second that counts everything",
    );
}

/// One request of each kind, on both ways through the router.
fn ask_all(router: &TestRouter) {
    for way in ["", "te: trailers\r\n"] {
        let mut client = router.connect();
        let mut ask = |method: &str, path: &str, body: &str| {
            let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            client.send(&format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{way}{length}\r\n{body}"));
            client.response().status()
        };
        assert_eq!(ask("GET", "/slow", ""), 200);
        assert_eq!(ask("POST", "/", "abcd"), 200);
        assert_eq!(ask("GET", "/missing", ""), 404);
        assert_eq!(ask("GET", "/close", ""), 503);
    }
}

#[test]
fn a_server_follows_every_second_of_an_app() {
    let dyno = dyno();
    let mut router = TestRouter::start();
    router.route(AppRoute { limits: limits(), ..app(&[&dyno]) });
    let (mut after, mut sum) = (0, AppTraffic::default());
    ask_all(&router);
    let mut hanging = router.connect();
    hanging.send(&format!("GET /hang HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let hangs = |sum: &AppTraffic| (sum.requests, sum.in_flight, sum.connections) == (8, 1, 1);
    follow(&mut router, &mut after, &mut sum, hangs);
    assert_eq!(sum.statuses, [0, 4, 0, 2, 2]);
    assert_eq!(sum.codes, BTreeMap::from([("H13".to_owned(), 2)]));
    assert_eq!(sum.request_bytes, 8);
    assert!(sum.response_bytes >= 4 * 10 + 2 * 2, "{sum:?}");
    assert_eq!(sum.queued, 0);
    for times in [&sum.queue, &sum.connect, &sum.service] {
        assert_eq!(times.0.iter().map(|&(_us, count)| count).sum::<u64>(), 8);
    }
    let slow = sum.service.0.iter().filter(|&&(us, _count)| us >= 50_000).map(|&(_us, count)| count).sum::<u64>();
    assert!(slow >= 2, "{:?}", sum.service);
    drop(hanging);
    follow(&mut router, &mut after, &mut sum, |sum| sum.requests == 9 && sum.connections == 0);
    assert_eq!(sum.codes["H27"], 1);
    // Seconds without requests come, too, and hold nothing.
    let quiet: Vec<TrafficSecond> = router.runtime.block_on(router.server.traffic(0)).unwrap();
    assert!(quiet.len() >= 2 && quiet.is_sorted_by_key(|second| second.unix_second), "{quiet:?}");
    router.drain();
}

fn ask_status(router: &TestRouter, path: &str) -> (String, String) {
    let socket = UnixStream::connect(router.dir.path().join("router/status.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client { stream: socket };
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: router\r\n\r\n"));
    let response = client.response();
    assert_eq!(response.status(), 200);
    (response.header("content-type").unwrap().to_owned(), response.body)
}

#[test]
fn prometheus_reads_totals_that_only_grow() {
    let dyno = dyno();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    ask_all(&router);
    let mut text = String::new();
    let counted = "berth_router_requests_total{app=\"shop\",status=\"5xx\"} 2\n";
    wait_until(
        || {
            text = ask_status(&router, "/metrics").1;
            text.contains(counted)
        },
        "the counts of all requests",
    );
    for line in [
        "# TYPE berth_router_requests_total counter",
        "berth_router_requests_total{app=\"shop\",status=\"2xx\"} 4",
        "berth_router_requests_total{app=\"shop\",status=\"4xx\"} 2",
        "berth_router_errors_total{app=\"shop\",code=\"H13\"} 2",
        "berth_router_request_bytes_total{app=\"shop\"} 8",
        "berth_router_in_flight_requests{app=\"shop\"} 0",
        "# TYPE berth_router_service_seconds histogram",
        "berth_router_service_seconds_bucket{app=\"shop\",le=\"+Inf\"} 8",
        "berth_router_service_seconds_count{app=\"shop\"} 8",
        "berth_router_queue_seconds_count{app=\"shop\"} 8",
        "berth_router_connect_seconds_count{app=\"shop\"} 8",
        "berth_router_received_requests_total 8",
        "berth_router_apps 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("berth_router_service_seconds_sum") >= 0.1);
    assert!(value("berth_router_service_seconds_bucket{app=\"shop\",le=\"0.025\"}") <= 6.0);
    // Every sample belongs to a family that was introduced, and buckets only grow.
    let mut known = Vec::new();
    let mut before = 0.0;
    for line in text.lines() {
        if let Some(introduced) = line.strip_prefix("# TYPE ") {
            known.push(introduced.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(known.contains(&family), "{line}");
            let value: f64 = value.parse().unwrap();
            if name.ends_with("_bucket") {
                assert!(value >= before || line.contains("le=\"0.001\""), "{line}");
                before = value;
            }
        }
    }
    // An app that leaves the table takes its counts with it.
    router.push(Vec::new(), vec![app(&[]).app]);
    wait_until(|| !ask_status(&router, "/metrics").1.contains("shop"), "an app that left to be forgotten");
    router.drain();
}

#[test]
fn requests_for_hosts_that_have_not_moved_in_are_the_apps_own() {
    let (dyno, old) = (dyno(), dyno());
    let mut router = TestRouter::start();
    let own = AppRoute { hosts: vec![HOST.to_owned(), "www.shop.example".to_owned()], ..app(&[&dyno]) };
    let edge = EdgeSettings { upstream: Some(format!("http://{}", old.address)), ..EdgeSettings::default() };
    let (hosts, logged_for) = (vec!["old.example".to_owned()], Some(own.app));
    let passed_on = AppRoute { app: uuid::Uuid::from_u128(8), hosts, logged_for, edge, ..app(&[]) };
    router.push(vec![own, passed_on], Vec::new());
    let hanging = ["old.example", "old.example", HOST, "www.shop.example", HOST].map(|host| {
        let mut client = router.connect();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\nGET /hang HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
        client
    });
    let mut text = String::new();
    let whole = ["requests_total{app=\"shop\",status=\"2xx\"} 5\n", "in_flight_requests{app=\"shop\"} 5\n"];
    wait_until(
        || {
            text = ask_status(&router, "/metrics").1;
            whole.iter().all(|line| text.contains(line))
        },
        "all that hang",
    );
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("{app=\"shop\"}")).collect();
    let names: BTreeSet<&str> = lines.iter().filter_map(|line| line.split('{').next()).collect();
    assert_eq!(lines.len(), names.len(), "{lines:?}");
    wait_until(
        || {
            let page: StatusPage = serde_json::from_str(&ask_status(&router, "/status").1).unwrap();
            page.apps.get("shop").is_some_and(|shop| (shop.requests, shop.in_flight, shop.connections) == (5, 5, 5))
        },
        "the page to have them all",
    );
    drop(hanging);
    router.drain();
}

#[test]
fn connections_that_were_refused_are_counted_by_reason() {
    let dyno = dyno();
    let bounds =
        Bounds { client_connections_max: 1, client_slow_heads_max: 0, handshakes_max: 0, ..crate::harness::bounds() };
    let router = behind_a_balancer(bounds, &dyno);
    let refused = |reason: &str| -> u64 {
        let start = format!("berth_router_connections_refused_total{{reason=\"{reason}\"}} ");
        let text = ask_status(&router, "/metrics").1;
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    };
    let of_all = || ["client_connections", "slow_heads", "handshakes", "http2_flood", "no_proxy_header"].map(refused);
    assert_eq!(of_all(), [0; 5]);
    let mut slow = client_from(&router, "192.0.2.1", "GET / HTTP/1.1\r\n");
    slow.expect_end();
    assert_eq!(of_all(), [0, 1, 0, 0, 0]);
    let mut tls = Client::connect(router.https_address);
    tls.send("PROXY TCP4 192.0.2.2 5.6.7.8 1 443\r\n");
    tls.stream.write_all(&[0x16, 3, 1]).unwrap();
    tls.expect_end();
    assert_eq!(of_all(), [0, 1, 1, 0, 0]);
    let mut flooding = client_from(&router, "192.0.2.3", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(1_000);
    // The router may close in the middle.
    flooding.stream.write_all(&settings).ok();
    flooding.expect_end();
    assert_eq!(of_all(), [0, 1, 1, 1, 0]);
    let mut headerless = router.connect();
    headerless.send("GET / HTTP/1.1\r\n\r\n");
    headerless.expect_end();
    assert_eq!(of_all(), [0, 1, 1, 1, 1]);
    let mut kept = Vec::new();
    let one_more_is_refused = || {
        kept.push(client_from(&router, "192.0.2.4", ""));
        refused("client_connections") > 0
    };
    wait_until(one_more_is_refused, "a client with too many connections");
    assert_eq!(of_all()[1..], [1; 4]);
    router.drain();
}

#[test]
fn the_status_page_is_json_about_the_last_minute() {
    let dyno = dyno();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    ask_all(&router);
    let mut page = StatusPage::default();
    wait_until(
        || {
            let (kind, body) = ask_status(&router, "/status");
            assert_eq!(kind, "application/json");
            page = serde_json::from_str(&body).unwrap();
            page.apps.get("shop").is_some_and(|shop| shop.requests == 8)
        },
        "the counts of all requests",
    );
    let shop = &page.apps["shop"];
    assert_eq!((shop.statuses, shop.codes["H13"]), ([0, 4, 0, 2, 2], 2));
    assert!(shop.service_ms.max >= 50.0 && shop.service_ms.p50 <= shop.service_ms.p99, "{shop:?}");
    assert_eq!((page.router.apps, page.router.requests_total), (1, 8));
    router.drain();
}

#[test]
fn the_status_address_answers_programs_on_this_machine_and_no_web_page() {
    let dyno = dyno();
    let (address, _reserved) = reserved_address();
    let mut router = TestRouter::start_on(Some(address), bounds());
    router.route(app(&[&dyno]));
    let ask = |host: &str, method: &str, path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(&address.to_string(), "GET", "/metrics"), "200");
    assert_eq!(ask("localhost", "GET", "/status"), "200");
    assert_eq!(ask("evil.example", "GET", "/status"), "403");
    assert_eq!(ask("localhost", "POST", "/status"), "405");
    assert_eq!(ask("localhost", "GET", "/"), "404");
    router.drain();
}
