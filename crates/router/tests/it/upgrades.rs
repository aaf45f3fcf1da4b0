//! WebSockets and other upgrades.

use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use wire::routes::RequestLimits;

use crate::harness::{Client, HOST, PATIENCE, TestDyno, TestRouter, app, header, ok, read_head};

const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

fn upgrade(router: &TestRouter) -> Client {
    let mut client = router.connect();
    client.send(&format!(
        "GET /ws HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    ));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
    client
}

fn echo() -> TestDyno {
    TestDyno::start(|mut stream| {
        let head = read_head(&mut stream).unwrap();
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(header(&head, "sec-websocket-version"), Some("13"));
        stream.write_all(UPGRADED.as_bytes()).unwrap();
        let mut bytes = [0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_websocket_carries_bytes_both_ways_and_counts_as_in_flight() {
    let dyno = echo();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = upgrade(&router);
    let text: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let writer = {
        let (mut stream, text) = (client.stream.try_clone().unwrap(), text.clone());
        std::thread::spawn(move || stream.write_all(&text).unwrap())
    };
    let mut echoed = vec![0; text.len()];
    client.stream.read_exact(&mut echoed).unwrap();
    writer.join().unwrap();
    assert!(echoed == text);
    assert_eq!(router.in_flight(dyno.id), 1);
    drop(client);
    router.wait_for_in_flight(dyno.id, 0);
    let line = router.next_log_line();
    assert!(line.starts_with("at=info method=GET path=\"/ws\"") && line.contains(" status=101 "), "{line}");
    assert!(line.contains(&format!(" bytes={} ", text.len())), "{line}");
    router.drain();
}

/// A dyno whose every written byte the test decides, and which reports what it reads until the end.
fn scripted() -> (TestDyno, Sender<Vec<u8>>, Receiver<Vec<u8>>) {
    let (say, said) = channel::<Vec<u8>>();
    let (report, heard) = channel();
    let said = Mutex::new(said);
    let report = Mutex::new(report);
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(UPGRADED.as_bytes()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        let report = report.lock().unwrap().clone();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            drop(reading.read_to_end(&mut all));
            report.send(all).unwrap();
        });
        while let Ok(bytes) = said.lock().unwrap().recv() {
            stream.write_all(&bytes).unwrap();
        }
        reader.join().unwrap();
    });
    (dyno, say, heard)
}

#[test]
fn a_websocket_is_closed_with_1001_between_two_frames() {
    let (dyno, say, heard) = scripted();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = upgrade(&router);
    // Half of a text frame is under way when the close is asked for; it must be finished first.
    say.send(b"\x81\x05he".to_vec()).unwrap();
    let mut half = [0; 4];
    client.stream.read_exact(&mut half).unwrap();
    let closing = router.server.close_upgraded(vec![dyno.id]);
    router.runtime.block_on(closing).unwrap();
    say.send(b"llo".to_vec()).unwrap();
    let mut rest = [0; 7];
    client.stream.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"llo\x88\x02\x03\xe9");
    client.stream.write_all(b"\x88\x82\x00\x00\x00\x00\x03\xe9").unwrap();
    assert_eq!(client.expect_end(), b"");
    drop(say);
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"\x88\x82\x00\x00\x00\x00\x03\xe9");
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}

#[test]
fn a_silent_websocket_ends_with_h15() {
    let dyno = echo();
    let mut router = TestRouter::start();
    let limits = RequestLimits { idle_ms: 150, ..crate::harness::limits() };
    router.route(wire::routes::AppRoute { limits, ..app(&[&dyno]) });
    let mut client = upgrade(&router);
    assert_eq!(&client.expect_end()[..4], b"\x88\x02\x03\xe9");
    assert!(router.next_log_line().starts_with("at=error code=H15 "));
    router.drain();
}

/// Frames look like the beginning of a request, and are none: however long no line ends in them, nobody minds, and no
/// address has only so many.
#[test]
fn a_websocket_is_no_slow_head() {
    const CLIENTS: usize = 4;
    let dyno = echo();
    let head = std::time::Duration::from_millis(700);
    let bounds = crate::harness::bounds();
    let mut router = TestRouter::start_with(router::Bounds { head, client_slow_heads_max: 1, ..bounds });
    router.route(app(&[&dyno]));
    let networks = vec!["127.0.0.0/8".to_owned()];
    let balancer = wire::routes::FrontRoute { networks, proxy_protocol: true, ..Default::default() };
    let fronts =
        Some(wire::routes::FrontPolicy { fronts: vec![balancer], only: false, ..wire::routes::FrontPolicy::default() });
    router.update(router::client::TableUpdate { fronts, ..Default::default() });
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_client| {
            let mut client = router.connect();
            // The first frame comes with the request, before anybody knows that there is a WebSocket.
            client.send(&format!(
                "PROXY TCP4 9.9.9.9 5.6.7.8 1234 80\r\nGET /ws HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\n\r\nframe"
            ));
            assert!(client.head().starts_with("HTTP/1.1 101 "));
            client
        })
        .collect();
    std::thread::sleep(2 * head);
    for client in &mut clients {
        client.send("frame");
        let mut echoed = [0; 10];
        client.stream.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"frameframe");
    }
    std::thread::sleep(2 * head);
    for client in &mut clients {
        client.send("frame");
        let mut echoed = [0; 5];
        client.stream.read_exact(&mut echoed).unwrap();
    }
    router.drain();
}

#[test]
fn an_upgrade_that_the_dyno_declines_is_an_ordinary_request() {
    let dyno = TestDyno::http(|request| ok(request.header("upgrade").unwrap_or("none")));
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n"));
    assert_eq!(client.response().body, "chat");
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"));
    assert_eq!(client.response().body, "none");
    router.drain();
}

#[test]
fn the_end_of_the_router_closes_websockets_properly() {
    let dyno = echo();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = upgrade(&router);
    let drained = router.begin_drain();
    let mut close = [0; 4];
    client.stream.read_exact(&mut close).unwrap();
    assert_eq!(&close, b"\x88\x02\x03\xe9");
    client.stream.write_all(b"\x88\x82\x00\x00\x00\x00\x03\xe9").unwrap();
    assert_eq!(client.expect_end(), b"");
    drained.join().unwrap();
}
