//! `berth up` becomes the executable that is on disk now, and no visitor notices.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::http::Connection;
use crate::load::Load;
use crate::platform::{BERTH, TestPlatform, kill};
use crate::wait::wait_until;

fn roles(platform: &TestPlatform) -> [i32; 2] {
    ["server", "router"].map(|role| platform.role(role).expect("every role runs"))
}

/// Whether each role is another process, the old ones have ended, and the new ones know each other.
fn are_replaced(platform: &TestPlatform, before: [i32; 2]) -> bool {
    let now = ["server", "router"].map(|role| platform.all_of_role(role));
    let new = now.iter().zip(before).all(|(now, before)| now.len() == 1 && now[0] != before);
    new && platform.is_connected()
}

#[test]
fn no_request_fails_while_berth_is_replaced_under_load() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let load = Load::start(&platform, "shop");
    for round in 1..=2 {
        let before = roles(&platform);
        let so_far = load.requests_so_far();
        wait_until("requests before", || load.requests_so_far() > so_far + 50);
        let port = platform.http_port;
        let (begun, has_begun) = std::sync::mpsc::channel();
        let download = thread::spawn(move || {
            let mut connection = Connection::open(port).unwrap();
            connection.send("GET", "/drip?seconds=8", &[("Host", "shop.localhost")], b"").unwrap();
            assert_eq!(connection.head().unwrap().0, 200);
            begun.send(()).unwrap();
            let mut body = [0; 80];
            std::io::Read::read_exact(&mut connection.stream, &mut body).unwrap();
            body
        });
        has_begun.recv().unwrap();
        platform.hang_up();
        wait_until("two routers at work", || {
            let routers = platform.all_of_role("router");
            routers.len() == 2 && routers.contains(&before[1]) && platform.is_connected()
        });
        // The new one serves while the old one sees the download out.
        let so_far = load.requests_so_far();
        wait_until("requests meanwhile", || load.requests_so_far() > so_far + 50);
        assert_eq!(download.join().unwrap(), [b'x'; 80]);
        wait_until("the old roles to end", || are_replaced(&platform, before));
        let so_far = load.requests_so_far();
        wait_until("requests after", || load.requests_so_far() > so_far + 50);
        assert_eq!(platform.log().matches("Becoming ").count(), round);
    }
    let seen = load.finish();
    println!("{seen:?}");
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
    assert!(seen.echoes > 20 && seen.closes > 0, "{seen:?}");
}

#[test]
fn with_settings_that_cannot_be_read_everything_stays_as_it_is() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let before = roles(&platform);
    let path = platform.data().join("settings.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{settings}[router]\nstatus_address = \"0.0.0.0:9191\"\n")).unwrap();
    platform.hang_up();
    wait_until("the refusal", || platform.log().contains("Everything stays as it is"));
    assert!(platform.log().contains("status_address must be one of this machine alone"), "{}", platform.log());
    assert_eq!(roles(&platform), before);
    platform.shows("shop", "version=");
    // Repaired, it is taken, and what it says about the router is in force.
    fs::write(&path, format!("{settings}[router.limits]\nhead_seconds = 0.3\n")).unwrap();
    platform.hang_up();
    wait_until("the old roles to end", || are_replaced(&platform, before));
    platform.shows("shop", "version=");
    let mut client = TcpStream::connect(("127.0.0.1", platform.http_port)).unwrap();
    // Half as long as a head may take by default.
    client.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

/// What systemd does for a service with a socket unit: a listening socket as descriptor 3, and says so.
const SOCKET_ACTIVATION: &str = "import os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='http')
os.execv(sys.argv[1], sys.argv[1:])";

#[test]
fn a_router_serves_on_the_sockets_that_systemd_passes() {
    let data = tempfile::tempdir().unwrap();
    let mut router = Command::new("python3")
        .args(["-c", SOCKET_ACTIVATION, BERTH, "router", "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(router.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // The socket listens before the router does anything: the connection waits.
    let mut connection = Connection::open(line.trim().parse().unwrap()).unwrap();
    let health = connection.request("GET", "/.well-known/berth/health", &[("Host", "x")], b"").unwrap();
    assert_eq!(health.status, 200);
    kill(router.id().cast_signed(), Signal::TERM);
    assert!(router.wait().unwrap().success());
}
