//! Proxies in front of the router: what they say is believed, what others say is not.

use std::io::Write as _;
use std::time::Duration;

use domain::secret::Secret;
use http::HeaderName;
use router::Bounds;
use router::client::TableUpdate;
use rustls::version::{TLS12, TLS13};
use wire::routes::{AppRoute, EdgeSettings, FrontPolicy, FrontRoute, FrontSecret};

use crate::harness::{Client, HOST, Request, TestDyno, TestRouter, app, bounds, ok, wait_until};
use crate::http2_peer;
use crate::tls_client::{Authority, open, open_over};

fn here() -> FrontRoute {
    FrontRoute { name: "test".to_owned(), networks: vec!["127.0.0.0/8".to_owned()], ..FrontRoute::default() }
}

fn elsewhere() -> FrontRoute {
    FrontRoute { networks: vec!["192.0.2.0/24".to_owned()], ..here() }
}

fn start(dyno: &TestDyno, front: FrontRoute, only: bool) -> TestRouter {
    start_with(dyno, front, only, bounds())
}

fn start_with(dyno: &TestDyno, front: FrontRoute, only: bool, bounds: Bounds) -> TestRouter {
    let mut router = TestRouter::start_with(bounds);
    router.route(app(&[dyno]));
    let fronts = Some(FrontPolicy { fronts: vec![front], only, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    router
}

fn mirror() -> TestDyno {
    TestDyno::http(|request| ok(&request.head))
}

fn ask(client: &mut Client<impl std::io::Read + std::io::Write>, headers: &str) -> Request {
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"));
    let response = client.response();
    assert_eq!(response.status(), 200);
    Request { head: response.body, body: Vec::new() }
}

const CLAIMS: &str = "x-forwarded-for: 6.6.6.6, 1.1.1.1\r\nx-forwarded-proto: https\r\nx-forwarded-port: 443\r\n\
                      cf-connecting-ip: 1.1.1.1\r\n";

#[test]
fn a_front_is_believed_about_its_client_and_a_stranger_is_not() {
    let dyno = mirror();
    let client_header = Some("cf-connecting-ip".to_owned());
    let mut router = start(&dyno, FrontRoute { client_header: client_header.clone(), ..here() }, false);
    let seen = ask(&mut router.connect(), CLAIMS);
    assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 1.1.1.1"));
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")), (Some("https"), Some("443")));
    assert_eq!(seen.header("cf-connecting-ip"), Some("1.1.1.1"));
    let line = router.next_log_line();
    assert!(line.contains(" fwd=\"6.6.6.6, 1.1.1.1\" ") && line.contains(" protocol=https queue="), "{line}");
    let look_alike = "CF_Connecting_IP: 6.6.6.6\r\ncf-connecting_ip: 6.6.6.6\r\nX_Own: 1\r\n";
    let is_clean = |seen: &Request| !seen.head.contains("onnecting_") && seen.header("x_own") == Some("1");
    assert!(is_clean(&ask(&mut router.connect(), look_alike)));
    router.drain();

    let router = start(&dyno, FrontRoute { client_header, ..elsewhere() }, false);
    let seen = ask(&mut router.connect(), CLAIMS);
    assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 1.1.1.1, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("cf-connecting-ip"), None);
    assert!(is_clean(&ask(&mut router.connect(), look_alike)));
    router.drain();
}

/// What the router makes of a request on one of its two ways: the dyno's view, and the line in the log.
fn judged(router: &mut TestRouter, way: &str, headers: &str) -> Result<(Vec<String>, String), u16> {
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-request-id: {ID}\r\n{headers}{way}\r\n"));
    let response = client.response();
    let line = router.next_log_line();
    if response.status() != 200 {
        return Err(response.status());
    }
    let is_own = |line: &String| line.starts_with("x-request-start: ") || line.starts_with("te: ");
    let mut lines: Vec<String> =
        response.body.lines().map(str::to_ascii_lowercase).filter(|line| !is_own(line)).collect();
    lines.sort();
    let begin = line.split(" connect=").next().unwrap_or_default();
    let end = line.split(" protocol=").nth(1).and_then(|end| end.split(" queue=").next()).unwrap_or_default();
    Ok((lines, format!("{begin} {end}")))
}

const ID: &str = "8601b555-6a83-4c12-8269-97c8e32cdb22";

#[test]
fn both_ways_through_the_router_judge_alike() {
    const EXPRESS: &str = "";
    // Trailers are for the full path.
    const FULL: &str = "te: trailers\r\n";
    let dyno = mirror();
    let secret = FrontSecret { header: "x-front-secret".to_owned(), value: Secret::new("correct horse".to_owned()) };
    let client_header = Some("cf-connecting-ip".to_owned());
    let plain = FrontRoute { client_header, ..here() };
    let secretive = FrontRoute { secret: Some(secret), ..plain.clone() };
    let asked = [
        "",
        CLAIMS,
        "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for:  1.1.1.1 ,, 127.0.0.9\r\n",
        "X-Forwarded-For: 1.1.1.1:99\r\nCF-Connecting-IP: 2001:db8::1\r\nX-Forwarded-Port: 99999\r\n",
        "x-forwarded-for: \u{e9}\r\nx-forwarded-proto: http, HTTPS\r\n",
        "cloudfront-forwarded-proto: https\r\nX-Front-Secret: correct horse\r\nx-forwarded-for: 1.1.1.1\r\n",
        "x-front-secret: correct hors\r\nx-forwarded-for: 1.1.1.1\r\n",
        "x-front-secret: correct hors\r\nx-front-secret: correct horse\r\n",
        FORWARDING,
    ];
    for (front, only) in
        [(plain.clone(), false), (secretive, false), (plain, true), (elsewhere(), false), (elsewhere(), true)]
    {
        let mut router = start(&dyno, front.clone(), only);
        for headers in asked {
            let express = judged(&mut router, EXPRESS, headers);
            assert_eq!(express, judged(&mut router, FULL, headers), "{front:?}, only: {only}, {headers:?}");
        }
        router.drain();
    }
}

/// What frameworks read about the client besides the three headers that the router writes.
const FORWARDING: &str = "Forwarded: for=6.6.6.6;proto=https;host=bank.example\r\nX-Real-IP: 6.6.6.6\r\n\
                          X-Forwarded-Host: bank.example\r\nX-Forwarded-Ssl: on\r\nx-forwarded-scheme: https\r\n\
                          X-FORWARDED-SERVER: bank.example\r\nX-Forwarded-Prefix: /admin\r\nX-Forwarde: 1\r\n";

#[test]
fn a_dyno_gets_forwarding_headers_of_fronts_and_of_nobody_else() {
    let names = FORWARDING.lines().filter_map(|line| line.split(':').next()).filter(|name| *name != "X-Forwarde");
    let names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
    assert_eq!(names.len(), 7);
    let dyno = mirror();
    for (front, believed) in [(here(), true), (elsewhere(), false)] {
        let router = start(&dyno, front, false);
        let check = |seen: &Request| {
            for name in &names {
                assert_eq!(seen.header(name).is_some(), believed, "{name} of {}", seen.head);
            }
            assert_eq!(seen.header("x-forwarde"), Some("1"));
        };
        check(&ask(&mut router.connect(), FORWARDING));
        check(&ask(&mut router.connect(), &format!("{FORWARDING}te: trailers\r\n")));
        for way in [None, Some(("te", "trailers"))] {
            let mut request = http2_peer::request("GET", "/");
            for (name, value) in FORWARDING.lines().filter_map(|line| line.split_once(": ")).chain(way) {
                request.headers_mut().insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
            let answer = router.runtime.block_on(async {
                let client = http2_peer::plain(router.address).await;
                http2_peer::ask(&client, request, None).await
            });
            check(&Request { head: answer.text().to_owned(), body: Vec::new() });
        }
        router.drain();
    }
}

#[test]
fn requests_from_a_front_take_the_express_lane() {
    let dyno = mirror();
    let router = start(&dyno, here(), true);
    // Names keep their case there, and lose it on the full path.
    let seen = ask(&mut router.connect(), "X-Own: 1\r\n");
    assert!(seen.head.contains("X-Own: 1\r\n"), "{}", seen.head);
    let seen = ask(&mut router.connect(), "X-Own: 1\r\nte: trailers\r\n");
    assert!(seen.head.contains("x-own: 1\r\n"), "{}", seen.head);
    router.drain();
}

#[test]
fn the_scheme_that_a_front_tells_decides_about_the_redirect() {
    let dyno = mirror();
    let mut router = start(&dyno, here(), false);
    router.route(AppRoute { edge: EdgeSettings { https_only: true, ..EdgeSettings::default() }, ..app(&[&dyno]) });
    ask(&mut router.connect(), "x-forwarded-proto: https\r\n");
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-proto: http\r\n\r\n"));
    assert_eq!(client.response().status(), 301);
    router.drain();
}

#[test]
fn nobody_goes_around_the_front_but_the_health_check() {
    let dyno = mirror();
    let mut router = start(&dyno, elsewhere(), true);
    let response = router.get("/");
    assert_eq!(response.status(), 403);
    assert!(response.body.contains("H31"), "{}", response.body);
    let line = router.next_log_line();
    assert!(
        line.starts_with("at=error code=H31 desc=\"Misdirected Request\" cause=\"not through the front\""),
        "{line}"
    );
    assert_eq!(router.get("/.well-known/berth/health").status(), 200);
    router.drain();
}

#[test]
fn a_front_with_a_secret_must_send_it_and_the_dyno_does_not_see_it() {
    let dyno = mirror();
    let secret = FrontSecret { header: "X-Front-Secret".to_owned(), value: Secret::new("correct horse".to_owned()) };
    let router = start(&dyno, FrontRoute { secret: Some(secret), ..here() }, false);
    assert_eq!(router.get("/").status(), 403);
    let seen = ask(&mut router.connect(), "x-front-secret: correct horse\r\nx-forwarded-for: 1.1.1.1\r\n");
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-front-secret")), (Some("1.1.1.1"), None));
    router.drain();
}

#[test]
fn an_address_that_is_never_a_front_is_believed_nothing_of_either_kind() {
    let dyno = mirror();
    for proxy_protocol in [false, true] {
        let mut router = start(&dyno, FrontRoute { proxy_protocol, ..here() }, false);
        let fronts = vec![FrontRoute { proxy_protocol, ..here() }];
        let never = vec!["127.0.0.1/32".to_owned()];
        router.replace_with(vec![app(&[&dyno])], FrontPolicy { fronts, only: false, never: never.clone() });
        let seen = ask(&mut router.connect(), CLAIMS);
        assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 1.1.1.1, 127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        let mut client = router.connect();
        client.send(&format!("PROXY TCP4 1.2.3.4 5.6.7.8 1234 443\r\nGET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(client.response().status(), 400);
        let fronts = vec![FrontRoute { proxy_protocol, ..here() }];
        router.replace_with(vec![app(&[&dyno])], FrontPolicy { fronts, only: true, never });
        assert_eq!(router.get("/").status(), 403);
        router.drain();
    }
}

#[test]
fn the_policy_is_in_the_table_on_disk() {
    let dyno = mirror();
    let mut router = start(&dyno, elsewhere(), true);
    router.replace_with(
        vec![app(&[&dyno])],
        FrontPolicy { fronts: vec![elsewhere()], only: true, ..FrontPolicy::default() },
    );
    let router = TestRouter::start_in(router.drain(), bounds());
    assert_eq!(router.get("/").status(), 403);
    router.drain();
}

#[test]
fn a_connection_from_a_front_may_be_idle_for_longer() {
    let dyno = mirror();
    let bounds = Bounds { client_idle: Duration::from_secs(1), ..bounds() };
    let router = start_with(&dyno, here(), false, bounds.clone());
    let mut client = router.connect();
    ask(&mut client, "");
    // Others are closed meanwhile.
    let stranger = start_with(&dyno, elsewhere(), false, bounds);
    let mut other = stranger.connect();
    ask(&mut other, "");
    other.expect_end();
    ask(&mut client, "");
    router.drain();
    stranger.drain();
}

#[test]
fn the_proxy_protocol_tells_the_client_in_both_versions_with_and_without_tls() {
    let dyno = mirror();
    let authority = Authority::new();
    let mut router = start(&dyno, FrontRoute { proxy_protocol: true, ..here() }, false);
    router.certify(vec![authority.certify(1, &[HOST])]);
    let text = b"PROXY TCP4 1.2.3.4 5.6.7.8 1234 443\r\n".to_vec();
    let binary = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[1, 2, 3, 4, 5, 6, 7, 8, 4, 210, 1, 187]].concat();
    // As an NLB sends it: with values behind the addresses, of which this is an id of its own.
    let with_values = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12"[..], &binary[16..], &[0xea, 0, 3, 1, 2, 3]].concat();
    for header in [text, binary, with_values] {
        let mut client = router.connect();
        client.stream.write_all(&header).unwrap();
        for _request in 0..2 {
            let seen = ask(&mut client, "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\n");
            assert_eq!(seen.header("x-forwarded-for"), Some("6.6.6.6, 1.2.3.4"));
            assert_eq!(
                (seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")),
                (Some("http"), Some("443"))
            );
        }
        let mut socket = Client::connect(router.https_address).stream;
        socket.write_all(&header).unwrap();
        let mut client = open_over(socket, HOST, &authority.client(&[&TLS13])).unwrap();
        let seen = ask(&mut client, "");
        assert_eq!(seen.header("x-forwarded-for"), Some("1.2.3.4"));
        assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")), (Some("https"), Some("443")));
    }
    assert_eq!(router.next_log_lines(9).iter().filter(|line| line.contains("1.2.3.4\" ")).count(), 9);
    router.drain();
}

#[test]
fn a_front_behind_the_proxy_protocol_is_known_by_its_own_address() {
    let dyno = mirror();
    let mut router = start(&dyno, FrontRoute::default(), false);
    let balancer = FrontRoute { proxy_protocol: true, ..here() };
    let fronts = Some(FrontPolicy { fronts: vec![balancer, elsewhere()], only: true, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    let mut client = router.connect();
    client.send("PROXY TCP4 192.0.2.9 5.6.7.8 1234 443\r\n");
    let seen = ask(&mut client, "x-forwarded-for: 1.1.1.1\r\n");
    assert_eq!(seen.header("x-forwarded-for"), Some("1.1.1.1"));
    let mut around = router.connect();
    around.send(&format!("PROXY TCP4 9.9.9.9 5.6.7.8 1234 443\r\nGET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(around.response().status(), 403);
    router.drain();
}

#[test]
fn who_came_through_a_balancer_has_come_through_the_front() {
    let dyno = mirror();
    let secret = FrontSecret { header: "x-front-secret".to_owned(), value: Secret::new("correct horse".to_owned()) };
    let balancer = FrontRoute { proxy_protocol: true, ..here() };
    let router = start(&dyno, balancer.clone(), true);
    for way in ["", "te: trailers\r\n"] {
        let mut client = router.connect();
        client.send("PROXY TCP4 1.2.3.4 5.6.7.8 1234 80\r\n");
        let seen = ask(&mut client, &format!("x-forwarded-for: 6.6.6.6\r\nx-forwarded-host: bank.example\r\n{way}"));
        // What it says about itself is believed no more than before.
        assert_eq!((seen.header("x-forwarded-for"), seen.header("x-forwarded-host")), (Some("6.6.6.6, 1.2.3.4"), None));
    }
    router.drain();

    // One that adds headers as well can prove itself.
    let router = start(&dyno, FrontRoute { secret: Some(secret), ..balancer }, true);
    let mut client = router.connect();
    client.send("PROXY TCP4 1.2.3.4 5.6.7.8 1234 80\r\n");
    let seen = ask(&mut client, "x-front-secret: correct horse\r\n");
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-front-secret")), (Some("1.2.3.4"), None));
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(client.response().status(), 403);
    router.drain();
}

#[test]
fn the_scheme_behind_a_balancer_that_ends_tls_is_https() {
    let dyno = mirror();
    let balancer = FrontRoute { proxy_protocol: true, tls_ports: vec![443, 8443], ..here() };
    let mut router = start(&dyno, balancer, false);
    router.route(AppRoute { edge: EdgeSettings { https_only: true, ..EdgeSettings::default() }, ..app(&[&dyno]) });
    let addresses = [1, 2, 3, 4, 5, 6, 7, 8, 4, 210, 0, 80];
    let told = |client: u8| {
        let ssl = [0x20, 0, 5, client, 0, 0, 0, 0];
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14"[..], &addresses, &ssl].concat()
    };
    let over_tls = [b"PROXY TCP4 1.2.3.4 5.6.7.8 1234 8443\r\n".to_vec(), told(1)];
    for (header, port) in over_tls.into_iter().zip(["8443", "80"]) {
        let mut client = router.connect();
        client.stream.write_all(&header).unwrap();
        let seen = ask(&mut client, "x-forwarded-proto: http\r\n");
        assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")), (Some("https"), Some(port)));
    }
    for header in [b"PROXY TCP4 1.2.3.4 5.6.7.8 1234 80\r\n".to_vec(), told(0)] {
        let mut client = router.connect();
        client.stream.write_all(&header).unwrap();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-proto: https\r\n\r\n"));
        assert_eq!(client.response().status(), 301);
    }
    router.drain();
}

#[test]
fn a_connection_that_a_front_opens_ahead_may_wait_for_its_first_byte() {
    let dyno = mirror();
    let bounds = Bounds { client_idle: Duration::from_secs(1), ..bounds() };
    let router = start_with(&dyno, here(), false, bounds.clone());
    let stranger = start_with(&dyno, elsewhere(), false, bounds);
    let (mut ahead, mut other) = (router.connect(), stranger.connect());
    // Others are closed meanwhile.
    other.expect_end();
    ask(&mut ahead, "");
    router.drain();
    stranger.drain();
}

#[test]
fn a_connection_without_the_header_is_closed_unanswered() {
    let dyno = mirror();
    let bounds = Bounds { handshake: Duration::from_secs(1), ..bounds() };
    let router = start_with(&dyno, FrontRoute { proxy_protocol: true, ..here() }, false, bounds);
    for begin in ["GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n", "PROXY nonsense\r\n", "PROXY TCP4 1.2"] {
        let mut client = router.connect();
        client.send(begin);
        assert_eq!(client.expect_end(), b"", "{begin:?}");
    }
    // The load balancer's own check speaks for itself.
    let mut check = router.connect();
    check.stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").unwrap();
    check.send("GET /.well-known/berth/health HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(check.response().status(), 200);
    wait_until(|| dyno.connections.load(std::sync::atomic::Ordering::SeqCst) == 0, "no request at the dyno");
    router.drain();
}

#[test]
fn a_front_with_a_certificate_must_show_it_on_both_ways() {
    let dyno = mirror();
    let (authority, of_front, of_others) = (Authority::new(), Authority::new(), Authority::new());
    let client_ca = Some(of_front.pem.clone());
    let mut router = start(&dyno, FrontRoute { client_ca, ..here() }, true);
    router.certify(vec![authority.certify(1, &[HOST])]);
    for version in [&TLS12, &TLS13] {
        for way in ["", "te: trailers\r\n"] {
            let mut front =
                open(router.https_address, HOST, &authority.certified_client(&of_front, &[version])).unwrap();
            let seen = ask(&mut front, &format!("x-forwarded-for: 1.1.1.1\r\n{way}"));
            assert_eq!(seen.header("x-forwarded-for"), Some("1.1.1.1"));
            // One that shows none is told so.
            let mut stranger = open(router.https_address, HOST, &authority.client(&[version])).unwrap();
            stranger.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            assert_eq!(stranger.response().status(), 403);
        }
        // Somebody else's is no proof, and not even a handshake; TLS 1.3 tells the client only afterwards.
        let other = open(router.https_address, HOST, &authority.certified_client(&of_others, &[version]));
        let refused = other.map_or(true, |mut client| {
            let asked = client.stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes());
            asked.is_err() || std::io::Read::read(&mut client.stream, &mut [0]).is_err()
        });
        assert!(refused, "{version:?}");
    }
    // Plain HTTP has no certificates.
    assert_eq!(router.get("/").status(), 403);
    router.drain();
}
