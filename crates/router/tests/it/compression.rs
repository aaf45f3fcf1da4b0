//! Compressed responses, and events that are not held back, compressed or not.

use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use wire::routes::{AppRoute, EdgeSettings};

use crate::harness::{HOST, TestDyno, TestRouter, app, header, read_head};
use crate::http2_peer::{next, plain, request, send};

fn compressing(dyno: &TestDyno) -> AppRoute {
    AppRoute { edge: EdgeSettings { compression: true, ..EdgeSettings::default() }, ..app(&[dyno]) }
}

fn text() -> String {
    (0..20_000).map(|n| format!("line {n}\n")).collect()
}

fn answering(headers: &'static str, body: String) -> TestDyno {
    TestDyno::http(move |_request| format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

/// The head, and the body as it came.
fn ask(router: &TestRouter, headers: &str) -> (String, Vec<u8>) {
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"));
    let head = client.head();
    let body = if header(&head, "transfer-encoding").is_some() {
        crate::harness::read_chunked(&mut client.stream).0
    } else {
        let mut body = vec![0; header(&head, "content-length").unwrap().parse().unwrap()];
        client.stream.read_exact(&mut body).unwrap();
        body
    };
    (head, body)
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain),
        _ => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut plain),
    }
    .unwrap();
    plain
}

#[test]
fn a_text_is_compressed_as_the_client_likes_it() {
    let dyno = answering("content-type: text/plain\r\netag: \"x\"\r\naccept-ranges: bytes\r\n", text());
    let mut router = TestRouter::start();
    router.route(compressing(&dyno));
    for coding in ["gzip", "br", "zstd"] {
        let (head, body) = ask(&router, &format!("accept-encoding: {coding}\r\n"));
        assert_eq!(header(&head, "content-encoding"), Some(coding));
        assert_eq!((header(&head, "vary"), header(&head, "etag")), (Some("accept-encoding"), Some("W/\"x\"")));
        assert_eq!((header(&head, "content-length"), header(&head, "accept-ranges")), (None, None));
        assert!(body.len() < text().len() / 2, "{coding}: {}", body.len());
        assert_eq!(decoded(coding, &body), text().as_bytes(), "{coding}");
    }
    let (head, body) = ask(&router, "");
    assert_eq!((header(&head, "content-encoding"), header(&head, "vary")), (None, Some("accept-encoding")));
    assert_eq!(body, text().as_bytes());
    router.drain();
}

#[test]
fn what_gains_nothing_or_must_not_change_is_left_alone() {
    let accepts = "accept-encoding: gzip, br, zstd\r\n";
    for headers in [
        "content-type: image/png\r\n",
        "content-type: text/html\r\ncontent-encoding: gzip\r\n",
        "content-type: text/html\r\ncache-control: public, no-transform\r\n",
        "content-type: text/html\r\ncache-control: public\r\ncache-control: no-transform\r\n",
        "",
    ] {
        let dyno = answering(headers, text());
        let mut router = TestRouter::start();
        router.route(compressing(&dyno));
        assert_eq!(ask(&router, accepts).1, text().as_bytes(), "{headers}");
        router.drain();
    }
    let short = answering("content-type: text/html\r\n", "short".to_owned());
    let mut router = TestRouter::start();
    router.route(compressing(&short));
    assert_eq!(ask(&router, accepts).1, b"short");
    let dyno = answering("content-type: text/html\r\n", text());
    router.route(app(&[&dyno]));
    assert_eq!(ask(&router, accepts).1, text().as_bytes(), "off unless asked for");
    router.drain();
}

/// Sends one event for each message, and ends when there is nobody to send any.
fn events() -> (TestDyno, Sender<&'static str>) {
    let (say, said) = channel::<&'static str>();
    let said = Mutex::new(said);
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        while let Ok(event) = said.lock().unwrap().recv() {
            if stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).is_err() {
                return;
            }
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    (dyno, say)
}

#[test]
fn an_event_arrives_before_the_next_one_is_sent() {
    for (compression, accepts) in [(false, ""), (true, "gzip"), (true, "br"), (true, "zstd")] {
        let (dyno, say) = events();
        let mut router = TestRouter::start();
        let edge = EdgeSettings { compression, ..EdgeSettings::default() };
        router.route(AppRoute { edge, ..app(&[&dyno]) });
        let mut client = router.connect();
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: {accepts}\r\n\r\n"));
        client.head();
        let mut chunks = Chunks(client.stream);
        // Before the decoders are made: one of them reads at once.
        say.send("data: one\n\n").unwrap();
        let mut received: Box<dyn std::io::Read> = match accepts {
            "" => Box::new(&mut chunks),
            "gzip" => Box::new(flate2::read::GzDecoder::new(&mut chunks)),
            "br" => Box::new(brotli::Decompressor::new(&mut chunks, 4096)),
            _ => Box::new(zstd::stream::read::Decoder::new(&mut chunks).unwrap()),
        };
        for (event, then) in
            [("data: one\n\n", "data: two\n\n"), ("data: two\n\n", "data: three\n\n"), ("data: three\n\n", "")]
        {
            let mut bytes = vec![0; event.len()];
            received.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{accepts}: {event:?}: {error}"));
            assert_eq!(bytes, event.as_bytes(), "{accepts}");
            if !then.is_empty() {
                say.send(then).unwrap();
            }
        }
        drop(say);
        let mut rest = Vec::new();
        received.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        drop(received);
        router.drain();
    }
}

#[test]
fn an_answer_is_passed_on_as_it_is_when_there_is_no_room_to_compress_it() {
    let dyno = TestDyno::start(|mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        std::io::Read::read(&mut stream, &mut [0]).ok();
    });
    // Room for two encoders: half of what an app may have, which is half of all.
    let mut router = TestRouter::start_with(router::Bounds { held_bytes_max: 7 << 20, ..crate::harness::bounds() });
    router.route(compressing(&dyno));
    let mut clients: Vec<_> = (0..4).map(|_client| router.connect()).collect();
    let heads = clients.iter_mut().map(|client| {
        client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: gzip\r\n\r\n"));
        client.head()
    });
    let compressed: Vec<bool> = heads.map(|head| header(&head, "content-encoding").is_some()).collect();
    assert_eq!(compressed, [true, true, false, false]);
    clients.remove(0);
    crate::harness::wait_until(
        || {
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\naccept-encoding: gzip\r\n\r\n"));
            header(&client.head(), "content-encoding").is_some()
        },
        "room that was given back",
    );
    drop(clients);
    router.drain();
}

#[test]
fn an_event_arrives_over_http2_before_the_next_one_is_sent() {
    let (dyno, say) = events();
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        let (response, _stream) = send(&client, request("GET", "/"), true).await;
        let mut body = response.await.unwrap().into_body();
        for event in ["data: one\n\n", "data: two\n\n"] {
            say.send(event).unwrap();
            assert_eq!(next(&mut body).await.unwrap(), event);
        }
        drop(say);
        while let Some(rest) = next(&mut body).await {
            assert!(rest.is_empty());
        }
    });
    router.drain();
}

/// The bytes inside chunks, as they come.
struct Chunks(std::net::TcpStream);

impl std::io::Read for Chunks {
    /// Gives one whole chunk; the buffers here are larger than any.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk)?;
        buffer[..size].copy_from_slice(&chunk[..size]);
        Ok(size)
    }
}
