//! TLS: which certificate is shown, what requests over it look like, and what a change does to connections.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use router::client::TableUpdate;
use router::{Bounds, Listen};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, NamedGroup};
use socket2::{Domain, SockRef, Socket, Type};
use uuid::Uuid;
use wire::routes::{AppRoute, CertificateRoute, EdgeSettings, FrontPolicy, FrontRoute, Hsts, RequestLimits};

use crate::harness::{Client, HOST, PATIENCE, TestDyno, TestRouter, app, bounds, header, limits, ok, read_head};
use crate::tls_client::{Authority, open, open_over};

const OTHER: &str = "other.example";

fn other_app() -> AppRoute {
    AppRoute { app: Uuid::from_u128(8), name: "other".to_owned(), hosts: vec![OTHER.to_owned()], ..app(&[]) }
}

pub(crate) fn leaf(route: &CertificateRoute) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(route.chain.as_bytes()).unwrap()
}

#[test]
fn a_request_over_tls_reaches_the_dyno_as_https_and_is_logged_as_such() {
    let dyno = TestDyno::http(|request| ok(&request.head));
    let authority = Authority::new();
    for (version, name) in [(&TLS12, "tls1.2"), (&TLS13, "tls1.3")] {
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.certify(vec![authority.certify(1, &[HOST])]);
        let mut client = open(router.https_address, HOST, &authority.client(&[version])).unwrap();
        let response = client.get("/x");
        assert_eq!(response.status(), 200);
        let seen = crate::harness::Request { head: response.body, body: Vec::new() };
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("x-forwarded-port"), Some(router.https_address.port().to_string().as_str()));
        assert!(client.get("/y").body.starts_with("GET /y "), "kept alive");
        let line = router.next_log_lines(2).remove(0);
        assert!(line.contains(&format!(" protocol=https tls_version={name} queue=")), "{line}");
        router.drain();
    }
}

#[test]
fn the_certificate_follows_the_host_and_the_fallback_is_for_the_rest() {
    let authority = Authority::new();
    let mut router = TestRouter::start();
    let exact = authority.certify(1, &[HOST]);
    let wildcard = authority.certify(2, &["*.wild.example"]);
    router.certify(vec![exact.clone(), wildcard.clone()]);
    let client = authority.client(&[&TLS13]);
    assert_eq!(open(router.https_address, HOST, &client).unwrap().shown(), leaf(&exact));
    assert_eq!(open(router.https_address, "a.wild.example", &client).unwrap().shown(), leaf(&wildcard));
    let refused = open(router.https_address, "unknown.test", &client).map(|_client| ()).unwrap_err();
    assert!(refused.to_string().contains("certificate"), "the router's own, which nobody trusts: {refused}");
    let fallback = CertificateRoute { fallback: true, ..authority.certify(3, &["unknown.test"]) };
    router.certify(vec![CertificateRoute { hosts: Vec::new(), ..fallback.clone() }]);
    assert_eq!(open(router.https_address, "unknown.test", &client).unwrap().shown(), leaf(&fallback));
    // And all of it again from the table on disk.
    let router = TestRouter::start_in(router.drain(), bounds());
    assert_eq!(open(router.https_address, HOST, &client).unwrap().shown(), leaf(&exact));
    router.drain();
}

#[test]
fn a_changed_certificate_is_shown_to_new_connections_and_ends_no_old_one() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let (first, second) = (authority.certify(1, &[HOST]), authority.certify(1, &[HOST]));
    router.certify(vec![first.clone()]);
    let config = authority.client(&[&TLS13]);
    let mut before = open(router.https_address, HOST, &config).unwrap();
    assert_eq!(before.get("/1").body, "/1");
    router.certify(vec![second.clone()]);
    assert_eq!(before.get("/2").body, "/2");
    let mut after = open(router.https_address, HOST, &authority.client(&[&TLS13])).unwrap();
    assert_eq!((before.shown(), after.shown()), (leaf(&first), leaf(&second)));
    assert_eq!(after.get("/3").body, "/3");
    router.drain();
}

#[test]
fn a_session_is_resumed_whichever_thread_takes_the_connection() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        router.certify(vec![authority.certify(1, &[HOST])]);
        let config = authority.client(&[version]);
        for round in 0..20 {
            let mut client = open(router.https_address, HOST, &config).unwrap();
            assert_eq!(client.get("/").body, "/");
            assert_eq!(client.was_resumed(), round > 0, "round {round}");
        }
        router.drain();
    }
}

#[test]
fn a_client_that_wants_its_secrets_kept_from_quantum_computers_gets_that() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    // As browsers ask: the hybrid first, and what everybody understands with it.
    let as_browsers = |kx_groups| CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    for (groups, agreed) in
        [(vec![X25519MLKEM768, X25519], NamedGroup::X25519MLKEM768), (vec![X25519, SECP256R1], NamedGroup::X25519)]
    {
        let client = authority.client_with(as_browsers(groups), &[&TLS13]);
        let mut client = open(router.https_address, HOST, &client).unwrap();
        assert_eq!((client.get("/").status(), client.key_exchange()), (200, agreed));
    }
    router.drain();
}

#[test]
fn a_request_for_an_app_with_another_certificate_is_misdirected() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.push(vec![app(&[&dyno]), other_app()], Vec::new());
    router.certify(vec![authority.certify(1, &[HOST]), authority.certify(2, &[OTHER])]);
    let config = authority.client(&[&TLS13]);
    let mut client = open(router.https_address, OTHER, &config).unwrap();
    let response = client.get("/");
    assert_eq!(response.status(), 421);
    assert!(response.body.contains("H31"), "{}", response.body);
    let line = router.next_log_line();
    assert!(line.starts_with("at=error code=H31 desc=\"Misdirected Request\" "), "{line}");
    assert!(line.contains(" status=421 "), "{line}");
    // One certificate for both: a client may use the connection for either.
    router.certify(vec![authority.certify(1, &[HOST, OTHER])]);
    router.update(router::client::TableUpdate { removed_certificates: vec![Uuid::from_u128(2)], ..Default::default() });
    let mut client = open(router.https_address, OTHER, &config).unwrap();
    assert_eq!(client.get("/shared").body, "/shared");
    router.drain();
}

#[test]
fn plain_requests_are_sent_to_https_where_the_app_wants_that() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    let hsts = Some(Hsts { max_age_seconds: 300, include_subdomains: false, preload: false });
    router
        .route(AppRoute { edge: EdgeSettings { https_only: true, hsts, ..EdgeSettings::default() }, ..app(&[&dyno]) });
    router.certify(vec![authority.certify(1, &[HOST])]);
    let response = router.get("/x?y=1");
    assert_eq!(response.status(), 301);
    let port = router.https_address.port();
    assert_eq!(response.header("location"), Some(format!("https://{HOST}:{port}/x?y=1").as_str()));
    assert_eq!(response.header("strict-transport-security"), None);
    assert!(router.next_log_line().contains(" status=301 "));
    let mut client = open(router.https_address, HOST, &authority.client(&[&TLS13])).unwrap();
    let response = client.get("/x");
    assert_eq!((response.status(), response.header("strict-transport-security")), (200, Some("max-age=300")));
    router.drain();
}

#[test]
fn a_client_that_does_not_speak_tls_is_told_so_and_one_that_does_not_speak_is_closed() {
    let bounds = Bounds { handshake: Duration::from_secs(1), ..bounds() };
    let router = TestRouter::start_with(Bounds { client_idle: Duration::from_secs(1), ..bounds });
    let mut plain = Client::connect(router.https_address);
    plain.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let response = plain.response();
    assert_eq!((response.status(), response.body.ends_with("address.\n")), (400, true));
    plain.expect_end();
    Client::connect(router.https_address).expect_end();
    let mut half = Client::connect(router.https_address);
    half.stream.write_all(&[0x16, 3, 1]).unwrap();
    half.expect_end();
    Client::connect(router.address).expect_end();
    router.drain();
}

#[test]
fn handshakes_beyond_the_bound_are_closed_at_once() {
    let authority = Authority::new();
    let mut router = TestRouter::start_with(Bounds { handshakes_max: 1, ..bounds() });
    router.certify(vec![authority.certify(1, &[HOST])]);
    let config = authority.client(&[&TLS13]);
    let mut holding = Vec::new();
    let is_refused = || {
        // One more each time: it is refused itself when the handshake before has not quite given its place back.
        let mut client = Client::connect(router.https_address);
        client.stream.write_all(&[0x16, 3, 1]).unwrap();
        holding.push(client);
        open(router.https_address, HOST, &config).is_err()
    };
    crate::harness::wait_until(is_refused, "a refused handshake");
    drop(holding);
    crate::harness::wait_until(|| open(router.https_address, HOST, &config).is_ok(), "room again");
    router.drain();
}

#[test]
fn an_address_has_only_so_many_slow_handshakes_and_others_are_not_touched() {
    let authority = Authority::new();
    let handshake = crate::harness::PATIENCE * 2;
    let mut router = TestRouter::start_with(Bounds { client_slow_heads_max: 2, handshake, ..bounds() });
    router.certify(vec![authority.certify(1, &[HOST])]);
    let networks = vec!["127.0.0.0/8".to_owned()];
    let balancer = FrontRoute { networks, proxy_protocol: true, ..FrontRoute::default() };
    let fronts = Some(FrontPolicy { fronts: vec![balancer], only: false, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    let connect = |address: &str| {
        let mut client = Client::connect(router.https_address);
        client.send(&format!("PROXY TCP4 {address} 5.6.7.8 1234 443\r\n"));
        client
    };
    let mut slow: Vec<Client> = (0..5).map(|_client| connect("9.9.9.9")).collect();
    for client in &mut slow {
        client.stream.write_all(&[0x16, 3, 1]).unwrap();
        client.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    let mut closed = || slow.iter_mut().filter_map(|client| client.stream.read(&mut [0]).ok()).count();
    crate::harness::wait_until(|| closed() == 3, "all but two to be closed");
    let config = authority.client(&[&TLS13]);
    for address in ["8.8.8.8", "9.9.9.9"] {
        open_over(connect(address).stream, HOST, &config).unwrap();
    }
    assert_eq!(closed(), 3);
    router.drain();
}

#[test]
fn a_connection_over_tls_ends_in_tls_too() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let client_idle = Duration::from_secs(1);
    let mut router = TestRouter::start_with(Bounds { client_idle, ..bounds() });
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    for version in [&TLS12, &TLS13] {
        for headers in ["connection: close\r\n", "connection: close\r\nte: trailers\r\n", "", "te: trailers\r\n"] {
            let mut client = open(router.https_address, HOST, &authority.client(&[version])).unwrap();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"));
            assert_eq!(client.response().body, "/");
            // Without a word in TLS this would be an error: somebody may have cut off what followed.
            assert_eq!(client.stream.read_to_end(&mut Vec::new()).unwrap(), 0, "{headers:?}");
        }
    }
    router.drain();
}

#[test]
fn a_client_without_a_common_protocol_is_told_in_tls() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    for version in [&TLS12, &TLS13] {
        let mut config = ClientConfig::clone(&authority.client(&[version]));
        config.alpn_protocols = vec![b"gopher".to_vec()];
        let error = open(router.https_address, HOST, &Arc::new(config)).err().unwrap();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    }
    router.drain();
}

#[test]
fn a_large_body_over_tls_arrives_whole_both_ways() {
    const BYTES: usize = 8 << 20;
    let dyno = TestDyno::http(|request| {
        let same = request.body.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at % 251);
        ok(&"x".repeat(if same { request.body.len() } else { 0 }))
    });
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    let mut client = open(router.https_address, HOST, &authority.client(&[&TLS13])).unwrap();
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {BYTES}\r\n\r\n"));
    let body: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    client.stream.write_all(&body).unwrap();
    assert_eq!(client.response().body.len(), BYTES);
    router.drain();
}

#[test]
fn a_websocket_over_tls_carries_bytes_both_ways() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n").unwrap();
        let mut bytes = [0; 5];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
    });
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.certify(vec![authority.certify(1, &[HOST])]);
    let mut client = open(router.https_address, HOST, &authority.client(&[&TLS13])).unwrap();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    for word in ["hello", "again"] {
        client.send(word);
        let mut echoed = [0; 5];
        client.stream.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, word.as_bytes());
    }
    router.drain();
}

/// Where the socket has no room for it, a part of what was passed on waits in TLS. It must not wait for what the dyno says
/// next: that may be nothing.
#[test]
fn the_end_of_a_burst_reaches_a_slow_client() {
    const BYTES: usize = 1 << 20;
    /// Of sockets, and of what the client takes at a time.
    const BUFFER_BYTES: usize = 8 * 1024;
    let dyno = TestDyno::start(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        let begin = match header(&head, "upgrade") {
            Some(_) => "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: x\r\n\r\n".to_owned(),
            None => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{BYTES:x}\r\n"),
        };
        stream.write_all(begin.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; BYTES]).unwrap();
        // Nothing more until the client leaves.
        stream.read(&mut [0]).unwrap_or_default();
    });
    let authority = Authority::new();
    let mut router = TestRouter::start_changed(|config| {
        let [Listen::Inherited(listener)] = &config.https[..] else { panic!("another listener") };
        // Of its connections, too.
        SockRef::from(listener).set_send_buffer_size(BUFFER_BYTES).unwrap();
    });
    // With the end of the connection the rest would come, too.
    let limits = RequestLimits { idle_ms: 3 * 1_000 * PATIENCE.as_secs(), ..limits() };
    router.route(AppRoute { limits, ..app(&[&dyno]) });
    router.certify(vec![authority.certify(1, &[HOST])]);
    // The express lane, the full path, an upgraded connection.
    for way in ["", "te: trailers\r\n", "connection: upgrade\r\nupgrade: x\r\n"] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
        socket.connect(&router.https_address.into()).unwrap();
        let mut client = open_over(socket.into(), HOST, &authority.client(&[&TLS13])).unwrap();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
        let is_chunked = header(&client.head(), "transfer-encoding").is_some();
        let mut left = BYTES + if is_chunked { format!("{BYTES:x}\r\n").len() } else { 0 };
        let mut piece = vec![0; BUFFER_BYTES];
        while left > 0 {
            let room = left.min(BUFFER_BYTES);
            let count = client.stream.read(&mut piece[..room]);
            let count = count.unwrap_or_else(|error| panic!("{way:?}: the last {left} bytes do not come: {error}"));
            assert!(count > 0, "{way:?}: {left} bytes are missing");
            left -= count;
            // Slower than the router.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    router.drain();
}
