//! What certificate authorities are told that ask whether a host leads here.

use std::sync::Arc;

use router::client::TableUpdate;
use rustls::ClientConfig;
use rustls::version::TLS13;
use wire::routes::{AppRoute, ChallengeAnswer, ChallengeRoute, EdgeSettings, FrontPolicy, FrontRoute};

use crate::harness::{HOST, TestDyno, TestRouter, app, bounds, ok};
use crate::tls_client::{Authority, open};

const PATH: &str = "/.well-known/acme-challenge/token-1";

fn http_answer(host: &str) -> ChallengeRoute {
    let answer =
        ChallengeAnswer::Http { token: "token-1".to_owned(), key_authorization: "token-1.thumbprint".to_owned() };
    ChallengeRoute { host: host.to_owned(), answer }
}

fn challenges(routes: Vec<ChallengeRoute>) -> TableUpdate {
    TableUpdate { challenges: Some(routes), ..TableUpdate::default() }
}

/// An authority that looks: it speaks one protocol, and trusts whoever it finds.
fn looking(authority: &Authority, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = (*authority.client(&[&TLS13])).clone();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[test]
fn a_file_is_given_before_anything_that_the_app_wants() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start();
    let https_only = EdgeSettings { https_only: true, ..EdgeSettings::default() };
    router.route(AppRoute { edge: https_only, ..app(&[&dyno]) });
    assert_eq!(router.get(PATH).status(), 301);
    router.update(challenges(vec![http_answer(HOST)]));
    let response = router.get(PATH);
    assert_eq!((response.status(), response.body.as_str()), (200, "token-1.thumbprint"));
    assert_eq!(router.get("/.well-known/acme-challenge/token-2").status(), 301, "an app may order, too");

    // The authority comes around the front, and an app that is down is no reason to have no certificate.
    let nets = vec!["203.0.113.0/24".to_owned()];
    let front = FrontRoute { name: "elsewhere".to_owned(), networks: nets, ..FrontRoute::default() };
    let fronts = Some(FrontPolicy { fronts: vec![front], only: true, ..FrontPolicy::default() });
    router.update(TableUpdate { fronts, ..TableUpdate::default() });
    assert_eq!((router.get("/").status(), router.get(PATH).status()), (403, 200));

    // And from the table on disk.
    let router = TestRouter::start_in(router.drain(), bounds());
    assert_eq!(router.get(PATH).status(), 200);
    router.drain();
}

#[test]
fn a_file_is_of_one_host_and_of_no_host_afterwards() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.update(challenges(vec![http_answer("other.example")]));
    assert_eq!(router.get(PATH).body, PATH, "the app's own");
    router.update(challenges(vec![http_answer(HOST)]));
    // On the same connection as ordinary requests, which go another way through the router.
    let mut client = router.connect();
    for (path, expect) in [("/a", "/a"), (PATH, "token-1.thumbprint"), ("/b", "/b")] {
        client.send(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(client.response().body, expect);
    }
    router.push(Vec::new(), Vec::new());
    assert_eq!(router.get(PATH).body, "token-1.thumbprint", "other changes leave it");
    router.update(challenges(Vec::new()));
    assert_eq!(router.get(PATH).body, PATH);
    router.drain();
}

#[test]
fn a_certificate_is_shown_to_who_asks_for_the_challenge_only() {
    let dyno = TestDyno::http(|request| ok(request.path()));
    let authority = Authority::new();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let (own, proof) = (authority.certify(1, &[HOST]), authority.certify(2, &[HOST]));
    router.certify(vec![own.clone()]);
    let asks = looking(&authority, &["acme-tls/1"]);
    assert!(open(router.https_address, HOST, &asks).is_err(), "there is no challenge");
    let answer = ChallengeAnswer::TlsAlpn { chain: proof.chain.clone(), key: proof.key };
    router.update(challenges(vec![ChallengeRoute { host: HOST.to_owned(), answer }]));
    let mut seen = open(router.https_address, HOST, &asks).unwrap();
    assert_eq!(seen.stream.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_ne!(seen.shown(), crate::tls::leaf(&own));
    seen.expect_end();
    assert!(open(router.https_address, "other.example", &asks).is_err());
    for usual in [&["http/1.1"][..], &["acme-tls/1", "http/1.1"], &[]] {
        let mut client = open(router.https_address, HOST, &looking(&authority, usual)).unwrap();
        assert_eq!(client.shown(), crate::tls::leaf(&own));
        assert_eq!(client.get("/x").body, "/x");
    }
    router.drain();
}
