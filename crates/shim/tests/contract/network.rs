//! The dyno's network: what it reaches and what reaches it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use shim::host::{self, HostNetwork, Notice};
use wire::shim::{Mechanism, Network, Request, Response};

use crate::harness::{Dyno, eventually, needs_root, skip};

/// Addresses that nothing else on a developer's machine uses, apart from the default range of a live installation.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);

/// With the last byte of its address, which must be unique among the tests.
pub(crate) fn isolated(dyno: Dyno, last: u8) -> Dyno {
    let mut dyno = dyno;
    let address = Ipv4Addr::new(10, 213, 77, last);
    let host_interface = host::host_interface(&dyno.spec.instance, address);
    dyno.spec.network = Network::Isolated { address, gateway: GATEWAY, host_interface, nameservers: vec![GATEWAY] };
    dyno
}

/// Removes what was prepared for an instance also when its test fails: the gateway's address would be in the way of
/// every later run on this machine.
pub(crate) struct Prepared(pub(crate) String);

impl Drop for Prepared {
    fn drop(&mut self) {
        let removed = host::remove(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()
}

#[tokio::test]
async fn host_and_dyno_reach_each_other_and_nothing_else_is_reached() {
    if skip("host_and_dyno_reach_each_other_and_nothing_else_is_reached", needs_root()) {
        return;
    }
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let closed = TcpListener::bind("0.0.0.0:0").unwrap();
    let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let script = format!(
        "import socket, time
def reaches(host, port):
    try: socket.create_connection((host, port), 0.7).close(); return True
    except OSError: return False
print('open', reaches('{GATEWAY}', {open}), flush=True)
print('closed', reaches('{GATEWAY}', {closed}), flush=True)
print('loopback', reaches('127.0.0.1', {loopback}), flush=True)
print('metadata', reaches('169.254.169.254', 80), flush=True)
print('other', reaches('10.213.77.3', 5000), flush=True)
server = socket.create_server(('0.0.0.0', 5000))
print('listening', flush=True)
while True: server.accept()[0].sendall(b'hello')",
        open = port(&open),
        closed = port(&closed),
        loopback = port(&loopback),
    );
    let other = isolated(Dyno::command(&["/usr/bin/python3", "-m", "http.server", "5000"]), 3);
    let mut dyno = isolated(Dyno::command(&["/usr/bin/python3", "-c", &script]), 2);
    dyno.spec.instance.clone_from(&other.spec.instance);
    let dyno = isolated(dyno, 2);
    let network = HostNetwork {
        resolvers: vec![],
        range: "10.213.0.0/16".parse().unwrap(),
        gateway: GATEWAY,
        dns_on_gateway: true,
        host_ports: vec![port(&open)],
        allowed_networks: Vec::new(),
    };
    let forwarded = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let prepared = Prepared(dyno.spec.instance.clone());
    let notices = host::prepare(&dyno.spec.instance, &network).unwrap();
    assert_eq!(notices.contains(&Notice::ForwardingEnabled), forwarded.trim() == "0");
    assert_eq!(host::prepare(&dyno.spec.instance, &network).unwrap(), []);

    other.launch().await.unwrap();
    let state = dyno.launch().await.unwrap();
    assert!(state.in_force.contains(&Mechanism::NetworkNamespace));
    let other_address = SocketAddr::from((Ipv4Addr::new(10, 213, 77, 3), 5000));
    eventually("the other dyno's server", || connect(other_address)).await;
    dyno.says("listening").await;
    assert_eq!(
        dyno.lines("out"),
        ["open True", "closed False", "loopback False", "metadata False", "other False", "listening"]
    );
    let address = SocketAddr::from((Ipv4Addr::new(10, 213, 77, 2), 5000));
    let mut text = [0; 5];
    connect(address).unwrap().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
    let Response::Listening { addresses } = dyno.ask(Request::Listening).await else { panic!() };
    assert_eq!(addresses, ["0.0.0.0:5000".parse().unwrap()]);

    // The gateway's address stands on every host interface; the end of one dyno must not take it from the others.
    other.ask(Request::Kill).await;
    other.exit().await;
    connect(address).unwrap().write_all(b"x").unwrap();
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
    host::remove(&dyno.spec.instance).unwrap();
    // A second time there is nothing to do.
    drop(prepared);
    // Forwarding stays on, as after a real platform: others may rely on it by now.
}

#[tokio::test]
async fn a_range_that_is_routed_elsewhere_is_refused() {
    if skip("a_range_that_is_routed_elsewhere_is_refused", needs_root()) {
        return;
    }
    let table = std::fs::read_to_string("/proc/net/route").unwrap();
    let routed = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (destination, mask) = (u32::from_str_radix(fields.get(1)?, 16).ok()?, fields.get(7)?);
        // The route to a single address may be that of some test's dyno, and gone in a moment.
        (destination != 0 && *mask != "FFFFFFFF").then(|| Ipv4Addr::from(destination.to_le_bytes()))
    });
    let reason = routed.is_none().then_some("the host has no route but the default one");
    if skip("a_range_that_is_routed_elsewhere_is_refused", reason) {
        return;
    }
    let range = format!("{}/32", routed.unwrap()).parse().unwrap();
    let network = HostNetwork {
        resolvers: vec![],
        range,
        gateway: GATEWAY,
        dns_on_gateway: false,
        host_ports: Vec::new(),
        allowed_networks: Vec::new(),
    };
    let error = host::prepare("e0e0e0e0", &network).unwrap_err().to_string();
    assert!(error.contains("overlaps"), "{error}");
}

#[tokio::test]
async fn only_the_given_port_can_be_bound_in_the_hosts_network() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "import socket
def binds(port):
    try: socket.socket().bind(('127.0.0.1', port)); return True
    except PermissionError: return False
    # Somebody else may have the port by now: what may not be bound is refused before that is looked at.
    except OSError: return True
print(binds({port}), binds({}), binds(0))",
        port ^ 1
    );
    let mut dyno = Dyno::command(&["/usr/bin/python3", "-c", &script]);
    dyno.spec.network = Network::Host { port: Some(port) };
    let state = dyno.launch().await.unwrap();
    dyno.exit().await;
    let enforced = state.in_force.contains(&Mechanism::Landlock);
    let reason = (!enforced).then_some("this kernel's Landlock cannot restrict ports and scopes");
    if skip("only_the_given_port_can_be_bound_in_the_hosts_network", reason) {
        return;
    }
    assert_eq!(dyno.lines("out"), ["True False True"], "{:?}", dyno.lines("err"));
}

#[tokio::test]
async fn an_orphan_of_this_instance_is_cleaned_up_and_others_are_kept() {
    if skip("an_orphan_of_this_instance_is_cleaned_up_and_others_are_kept", needs_root()) {
        return;
    }
    let dyno = isolated(Dyno::shell("exec sleep 1000"), 9);
    let state = dyno.launch().await.unwrap();
    let Network::Isolated { host_interface, .. } = &dyno.spec.network else { panic!() };
    let run_root = dyno.run_dir().parent().unwrap().to_owned();
    shim::client::clean_up(&run_root, &dyno.spec.instance, &[dyno.spec.dyno], std::slice::from_ref(host_interface))
        .unwrap();
    assert!(dyno.run_dir().exists() && Path::new(&format!("/proc/{}", state.init.pid)).exists());
    crate::harness::kill(state.shim.pid);
    shim::client::clean_up(&run_root, &dyno.spec.instance, &[], &[]).unwrap();
    assert!(!dyno.run_dir().exists());
    assert!(!Path::new("/sys/class/net").join(host_interface).exists());
    eventually("the end", || (!Path::new(&format!("/proc/{}", state.init.pid)).exists()).then_some(())).await;
}
