//! What stands where an answer has ended: fields behind its body, and a length where there can be no body.

use std::io::Write as _;

use http::{HeaderMap, HeaderValue};

use crate::harness::{HOST, TestDyno, TestRouter, app, header, read_chunked, read_head, read_request};
use crate::http2_peer::{next, plain, request, send};

/// The express lane and the full path.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

/// A dyno that answers each request so, in pieces of this many bytes, and closes.
fn raw(answer: &'static str, piece_bytes: usize) -> TestDyno {
    TestDyno::start(move |mut stream| {
        stream.set_nodelay(true).unwrap();
        read_request(&mut stream);
        for piece in answer.as_bytes().chunks(piece_bytes) {
            // The router may have seen enough.
            stream.write_all(piece).unwrap_or_default();
        }
    })
}

#[test]
fn fields_behind_a_body_go_on_as_far_as_they_frame_nothing() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, content-length\r\n\r\n\
                  3\r\nabc\r\n0\r\nContent-Length: 9\r\nx-sum: 1\r\nTransfer-Encoding: chunked\r\nhost: y\r\n\r\n";
    for piece_bytes in [usize::MAX, 1] {
        let dyno = raw(answer, piece_bytes);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        for way in WAYS {
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            client.head();
            let (body, trailers) = read_chunked(&mut client.stream);
            assert_eq!((&body[..], &trailers[..]), (&b"abc"[..], "x-sum: 1\r\n\r\n"), "{way:?}");
        }
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            for full in [false, true] {
                let mut get = request("GET", "/");
                if full {
                    get.headers_mut().insert("te", HeaderValue::from_static("trailers"));
                }
                let mut body = send(&client, get, true).await.0.await.unwrap().into_body();
                while next(&mut body).await.is_some() {}
                let trailers = body.trailers().await.unwrap().unwrap();
                let expected = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("1"))]);
                assert_eq!(trailers, expected, "full: {full}");
            }
        });
        for line in router.next_log_lines(2 * WAYS.len()) {
            assert!(line.starts_with("at=info ") && line.contains(" status=200 bytes="), "{line}");
        }
        router.wait_for_in_flight(dyno.id, 0);
        router.drain();
    }
}

#[test]
fn what_is_no_field_behind_a_body_is_no_answer() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\nnonsense\r\n\r\n";
    for piece_bytes in [usize::MAX, 1] {
        let dyno = raw(answer, piece_bytes);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        for way in WAYS {
            let mut client = router.connect();
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}connection: close\r\n\r\n"));
            let head = client.head();
            let rest = String::from_utf8(client.expect_end()).unwrap();
            assert!(!rest.contains("nonsense"), "{way:?} {rest}");
            let is_whole = head.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\n");
            assert!(!is_whole, "{way:?} {head}{rest}");
        }
        router.runtime.block_on(async {
            let client = plain(router.address).await;
            let (response, _stream) = send(&client, request("GET", "/"), true).await;
            match response.await {
                Ok(response) if response.status() == 200 => {
                    let mut body = response.into_body();
                    while let Some(Ok(_data)) = body.data().await {}
                    assert!(body.trailers().await.is_err(), "it is not whole");
                }
                Ok(response) => assert!(response.status().is_server_error()),
                Err(error) => assert!(error.is_reset(), "{error}"),
            }
        });
        router.drain();
    }
}

#[test]
fn an_answer_that_can_have_no_body_says_no_length() {
    let dyno = TestDyno::http(|_request| "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n".to_owned());
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    for way in WAYS {
        let mut client = router.connect();
        for _request in 0..2 {
            client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
            let head = read_head(&mut client.stream).unwrap();
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            assert_eq!((header(&head, "content-length"), header(&head, "transfer-encoding")), (None, None), "{way:?}");
        }
    }
    router.runtime.block_on(async {
        let client = plain(router.address).await;
        for full in [false, true] {
            let mut get = request("GET", "/");
            if full {
                get.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            }
            let response = send(&client, get, true).await.0.await.unwrap();
            assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (204, None));
        }
    });
    router.drain();
}
