//! Answers that become conversations, which a learned limit does not count: when they do.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use wire::frame;
use wire::routes::{FromRouter, PROTOCOL, ROUTER_SOCKET, ToRouter};

use crate::harness::{Client, HOST, INSTANCE, TestDyno, TestRouter, app, read_head, wait_until};

/// After this much of an answer it is one.
const LONG: Duration = Duration::from_secs(2);

/// By the express lane, and by the full path.
const WAYS: [&str; 2] = ["", "te: trailers\r\n"];

/// Begins an answer of this type after `thought`, and says no more until the sender is dropped.
fn streaming(content_type: &'static str, thought: Duration) -> (TestDyno, Sender<()>) {
    let (end, streaming) = channel::<()>();
    let streaming = Mutex::new(streaming);
    let dyno = TestDyno::start(move |mut stream| {
        read_head(&mut stream).unwrap();
        thread::sleep(thought);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n\r\ndata: 1\n\n");
        stream.write_all(head.as_bytes()).unwrap();
        streaming.lock().unwrap().recv().unwrap_err();
    });
    (dyno, end)
}

fn ask(router: &TestRouter, way: &str) -> Client {
    let mut client = router.connect();
    client.send(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{way}\r\n"));
    client.head();
    client
}

/// What a successor would be told.
fn conversations(router: &TestRouter, dyno: &TestDyno) -> u32 {
    let mut stream = UnixStream::connect(router.dir.path().join(ROUTER_SOCKET)).unwrap();
    let mut ask = |message: &ToRouter| {
        frame::write(&mut stream, message).unwrap();
        frame::read::<FromRouter>(&mut stream).unwrap().unwrap()
    };
    ask(&ToRouter::Hello { protocol: PROTOCOL, instance: INSTANCE.to_owned() });
    let FromRouter::InFlight { conversations, .. } = ask(&ToRouter::InFlight) else { panic!("another answer") };
    conversations.into_iter().find(|(id, _count)| *id == dyno.id).map_or(0, |(_id, count)| count)
}

#[test]
fn a_stream_of_events_is_a_conversation_from_its_beginning() {
    for way in WAYS {
        let (dyno, end) = streaming("text/event-stream", Duration::ZERO);
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        let asked_at = Instant::now();
        let client = ask(&router, way);
        wait_until(|| conversations(&router, &dyno) == 1, "a conversation");
        assert!(asked_at.elapsed() < LONG, "{way:?}");
        drop((client, end));
        router.drain();
    }
}

#[test]
fn another_answer_is_one_when_it_has_been_under_way_for_long_even_without_another_byte() {
    for way in WAYS {
        let (dyno, end) = streaming("text/plain", LONG + Duration::from_millis(100));
        let mut router = TestRouter::start();
        router.route(app(&[&dyno]));
        // What the dyno thought about it is no part of that.
        let client = ask(&router, way);
        let begun_at = Instant::now();
        assert_eq!((conversations(&router, &dyno), router.in_flight(dyno.id)), (0, 1), "{way:?}");
        wait_until(|| conversations(&router, &dyno) == 1, "a conversation");
        assert!(begun_at.elapsed() >= LONG / 2, "{way:?} {:?}", begun_at.elapsed());
        drop((client, end));
        router.drain();
    }
}
