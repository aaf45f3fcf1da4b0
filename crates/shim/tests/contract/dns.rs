//! Names, for dynos of a host whose only resolver listens on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::thread;

use shim::dns::{Forwarder, Upstreams};
use shim::host::{self, HostNetwork};

use crate::harness::{Dyno, eventually, needs_root, skip};
use crate::network::{GATEWAY, Prepared, isolated};

/// Nothing listens there, and no test gets the port.
const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// A resolver on loopback that knows one address for every name, and is longer on TCP than a datagram may be.
fn resolver(udp: UdpSocket, tcp: TcpListener, answer: Ipv4Addr) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((count, client)) = udp.recv_from(&mut buffer) {
            udp.send_to(&reply(&buffer[..count], answer, 1), client).unwrap();
        }
    });
    thread::spawn(move || {
        while let Ok((mut client, _)) = tcp.accept() {
            let mut length = [0; 2];
            client.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            client.read_exact(&mut query).unwrap();
            let reply = reply(&query, answer, 2000);
            client.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
            client.write_all(&reply).unwrap();
        }
    });
}

/// The question, and `count` times `answer` if it asks for IPv4 addresses.
fn reply(query: &[u8], answer: Ipv4Addr, count: u16) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap() + 1;
    let count = if query[name_end..name_end + 2] == [0, 1] { count } else { 0 };
    let mut reply = query[..name_end + 4].to_vec();
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    reply[4..12].copy_from_slice(&[0, 1, count.to_be_bytes()[0], count.to_be_bytes()[1], 0, 0, 0, 0]);
    for _ in 0..count {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(answer.octets());
    }
    reply
}

/// Starts a forwarder on a port that is free for datagrams and for connections.
fn forwarder(upstreams: Upstreams) -> SocketAddrV4 {
    let (listen, forwarder) = on_a_free_port(|port| {
        let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Some((listen, Forwarder::bind(listen).ok()?))
    });
    thread::spawn(move || forwarder.serve(&upstreams));
    listen
}

/// What `bind` takes on a port. A port that is free for datagrams may well be that of some test's connection.
fn on_a_free_port<T>(bind: impl Fn(u16) -> Option<T>) -> T {
    let port = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (0..100).find_map(|_| bind(port())).expect("a free port")
}

const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04name\x04test\x00\x00\x01\x00\x01";

/// Asks once; nothing is an answer too.
fn ask(forwarder: SocketAddrV4, query: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(forwarder).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    socket.send(query).ok()?;
    let mut buffer = [0; 4096];
    let count = socket.recv(&mut buffer).ok()?;
    Some(buffer[..count].to_vec())
}

#[tokio::test]
async fn datagrams_and_connections_come_back_with_their_answers() {
    let known = Ipv4Addr::new(192, 0, 2, 77);
    let (upstream, udp, tcp) = on_a_free_port(|port| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Some((address, UdpSocket::bind(address).ok()?, TcpListener::bind(address).ok()?))
    });
    resolver(udp, tcp, known);
    // Nobody waits for the first one.
    let forwarder = forwarder(Upstreams::Fixed(vec![NOBODY, upstream]));
    let answer = eventually("an answer", || ask(forwarder, QUERY)).await;
    assert_eq!(answer, reply(QUERY, known, 1));
    assert_eq!(ask(forwarder, b"\x12\x34\x81\x80 an answer nobody asked for"), None);

    let mut stream = std::net::TcpStream::connect(forwarder).unwrap();
    stream.write_all(&[&[0, u8::try_from(QUERY.len()).unwrap()], QUERY].concat()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    assert_eq!(text[2..], reply(QUERY, known, 2000));
}

#[tokio::test]
async fn a_query_that_nobody_can_answer_fails_at_once() {
    let forwarder = forwarder(Upstreams::Fixed(vec![NOBODY]));
    let answer = eventually("a failure", || ask(forwarder, QUERY)).await;
    assert_eq!((&answer[..2], answer[2] & 0x80, answer[3] & 0x0f), (&QUERY[..2], 0x80, 2));
}

#[tokio::test]
async fn a_dyno_resolves_names_through_the_gateway() {
    if skip("a_dyno_resolves_names_through_the_gateway", needs_root()) {
        return;
    }
    let script = "getent ahostsv4 name.test | head -n 1; echo ready; sleep 1000";
    let dyno = isolated(Dyno::shell(script), 31);
    let network = HostNetwork {
        range: "10.213.0.0/16".parse().unwrap(),
        gateway: GATEWAY,
        dns_on_gateway: true,
        resolvers: Vec::new(),
        host_ports: Vec::new(),
        allowed_networks: Vec::new(),
    };
    let prepared = Prepared(dyno.spec.instance.clone());
    host::prepare(&dyno.spec.instance, &network).unwrap();
    host::prepare(&dyno.spec.instance, &network).unwrap();
    // Before any dyno runs.
    drop(UdpSocket::bind((GATEWAY, 0)).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    let loopback = Ipv4Addr::new(127, 213, 0, 53);
    std::fs::write(&file, format!("nameserver {loopback}\n")).unwrap();
    let (udp, tcp) = (UdpSocket::bind((loopback, 53)).unwrap(), TcpListener::bind((loopback, 53)).unwrap());
    resolver(udp, tcp, Ipv4Addr::new(192, 0, 2, 99));
    let forwarder = Forwarder::bind(SocketAddrV4::new(GATEWAY, 53)).unwrap();
    thread::spawn(move || forwarder.serve(&Upstreams::File(file)));

    dyno.launch().await.unwrap();
    dyno.says("ready").await;
    let lines = dyno.lines("out");
    assert!(lines[0].starts_with("192.0.2.99 "), "{lines:?}");
    dyno.ask(wire::shim::Request::Kill).await;
    dyno.exit().await;
    drop(prepared);
    let left = format!("/sys/class/net/b{}gw", dyno.spec.instance);
    assert!(!std::path::Path::new(&left).exists(), "{left}");
}
