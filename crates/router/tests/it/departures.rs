//! Clients that leave while a dyno is at work for them: for how long their slots are kept.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::harness::{HOST, PATIENCE, TestDyno, TestRouter, app, read_head};

#[test]
fn a_dyno_is_told_that_the_rest_of_a_request_will_not_come() {
    // Its socket takes so little that a request of 60 kB does not leave the router as long as the dyno does not read.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(100).unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(8).unwrap();
    let listener: TcpListener = socket.into();
    let dyno = TestDyno::elsewhere(listener.local_addr().unwrap());
    let (go, gone) = channel::<()>();
    let (report, heard) = channel();
    let serving = thread::spawn(move || {
        let (mut stream, _peer) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        read_head(&mut stream).unwrap();
        gone.recv().unwrap();
        let mut part = Vec::new();
        let read = stream.read_to_end(&mut part);
        report.send((read.is_ok(), part.len())).unwrap();
        stream
    });
    let mut router = TestRouter::start();
    router.route(app(&[&dyno]));
    let mut client = router.connect();
    let body = "x".repeat(60_000);
    client.send(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    router.wait_for_in_flight(dyno.id, 1);
    drop(client);
    assert!(router.next_log_line().contains(" code=H27 "));
    go.send(()).unwrap();
    let (ended, part) = heard.recv().unwrap();
    assert!(ended, "the dyno waits for what does not come");
    assert!(part < body.len(), "all of it has left: {part}");
    assert_eq!(router.in_flight(dyno.id), 1, "it has not answered yet");
    drop(serving.join().unwrap());
    router.wait_for_in_flight(dyno.id, 0);
    router.drain();
}
