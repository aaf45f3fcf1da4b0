//! What an app must not be able to do to the host and to other apps, tried from inside a dyno that was deployed by push.
//!
//! The same script runs first as an ordinary root process of the host, where every attempt must succeed: an attempt
//! that could not succeed anywhere would prove nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::platform::TestPlatform;
use crate::source::Source;

/// Addresses that clouds use, put on this machine's loopback for the time of the test.
const METADATA: &str = "169.254.169.254";
const LINK_LOCAL: &str = "169.254.77.7";
const METADATA6: &str = "fd00:ec2::254";
/// As if the machine had a private network of its own.
const PRIVATE: &str = "192.168.213.7";

/// Not tried in a web dyno, which it would end: the one-off tries it.
const FATAL: &str = "use 1.3 GB of memory";

/// Listens on a second port, as an app with an admin page does.
const VICTIM_PROCFILE: &str = "web: python3 -m http.server 7007 & exec python3 server.py\n";

struct LoopbackAddress(&'static str);

impl LoopbackAddress {
    fn add(address: &'static str) -> Self {
        ip("add", address);
        Self(address)
    }
}

impl Drop for LoopbackAddress {
    fn drop(&mut self) {
        ip("del", self.0);
    }
}

fn ip(verb: &str, address: &str) {
    let bits = if address.contains(':') { 128 } else { 32 };
    let status = Command::new("ip").args(["addr", verb, &format!("{address}/{bits}"), "dev", "lo"]).status().unwrap();
    assert!(status.success(), "ip addr {verb} {address}");
}

#[test]
fn a_pushed_app_reaches_nothing_of_the_host_or_of_other_apps() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("victim");
    platform.serve("victim", &Source::app("python-web").file("Procfile", VICTIM_PROCFILE));
    platform.create("prober");
    push(&platform, "prober", &source_of("probe"));

    let abstract_name = format!("berth-isolation-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
    let _addresses = [METADATA, LINK_LOCAL, METADATA6, PRIVATE].map(LoopbackAddress::add);
    let network = network_address();
    let servers = ["127.0.0.1", METADATA, LINK_LOCAL, "0.0.0.0", METADATA6, PRIVATE, &network]
        .map(|host| TcpListener::bind((host, 0)).unwrap());
    let port = |index: usize| servers[index].local_addr().unwrap().port();
    let victim = victim(&platform, "victim");
    let data = platform.data();
    let root_file = fs::read_dir("/root").unwrap().next().unwrap().unwrap().path().display().to_string();
    let environment: BTreeMap<&str, String> = [
        ("VICTIM_PID", victim.pid.to_string()),
        ("VICTIM_ADDRESS", format!("{}:5000", victim.address)),
        ("DATABASE", data.join("berth.db").display().to_string()),
        ("MASTER_KEY", data.join("master.key").display().to_string()),
        ("SLUGS", data.join("slugs").display().to_string()),
        ("API_SOCKET", data.join("run/api.sock").display().to_string()),
        ("ABSTRACT", abstract_name),
        ("LOOPBACK_ADDRESS", format!("127.0.0.1:{}", port(0))),
        ("METADATA_ADDRESS", format!("{METADATA}:{}", port(1))),
        ("LINK_LOCAL_ADDRESS", format!("{LINK_LOCAL}:{}", port(2))),
        ("HOST_ADDRESS", format!("{}:{}", victim.gateway, port(3))),
        ("API_ADDRESS", format!("127.0.0.1:{}", platform.api_port)),
        ("METADATA6_ADDRESS", format!("[{METADATA6}]:{}", port(4))),
        ("PRIVATE_ADDRESS", format!("{PRIVATE}:{}", port(5))),
        ("NETWORK_ADDRESS", format!("{network}:{}", port(6))),
        ("ROOT_FILE", root_file),
        ("VICTIM_OTHER_ADDRESS", format!("{}:7007", victim.address)),
        ("VICTIM_RUN", data.join("run").join(&victim.id).display().to_string()),
    ]
    .into();

    let script = source_of("probe").join("probe.py");
    let unconfined = Command::new("/usr/bin/python3").arg(script).envs(&environment).output().unwrap();
    let unconfined = String::from_utf8(unconfined.stdout).unwrap();
    let attempts: Vec<&str> = unconfined.lines().collect();
    assert!(attempts.len() >= 33, "{unconfined}");
    let impossible: Vec<_> = attempts.iter().filter(|line| !line.starts_with("possible ")).collect();
    assert!(impossible.is_empty(), "not possible unconfined: {impossible:#?}");

    let variables: Vec<String> = environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let command = format!("{} python3 probe.py", variables.join(" "));
    let (output, result) = platform.run("prober", &command, None);
    let denied: Vec<&str> = output.lines().filter(|line| line.starts_with("denied ")).collect();
    let possible: Vec<&str> = output.lines().filter(|line| line.starts_with("possible ")).collect();
    assert_eq!(possible, Vec::<&str>::new(), "{output}\n{result}");
    assert_eq!(denied.len(), attempts.len(), "{output}\n{result}");

    // The same in a dyno that serves requests.
    let query: Vec<String> = environment.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    let answer = platform.text("prober", &format!("/run?SKIP={}&{}", escaped(FATAL), query.join("&")));
    assert_eq!(answer.lines().filter(|line| line.starts_with("denied ")).count(), attempts.len() - 1, "{answer}");

    // The victim and the platform have noticed nothing.
    assert_eq!(platform.visit("victim", "/").unwrap().status, 200);
}

/// Answers with what it was told about its visitor.
const MIRROR: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        names = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
        self.wfile.write(" | ".join(self.headers.get(name, "") for name in names).encode())

HTTPServer(("", int(os.environ["PORT"])), Mirror).serve_forever()
"#;

/// Visits the mirror from inside, as a load balancer of either kind would, and says what it was answered.
const FORGER: &str = r#"
import socket, sys

REQUEST = (b"GET / HTTP/1.1\r\nHost: mirror.paas.test\r\nX-Forwarded-For: 6.6.6.6\r\n"
           b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\nConnection: close\r\n\r\n")
print("own", socket.gethostbyname(socket.gethostname()))
for kind, begin in (("alb", b""), ("nlb", b"PROXY TCP4 7.7.7.7 5.6.7.8 1234 443\r\n")):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as router:
        router.sendall(begin + REQUEST)
        answer = b"".join(iter(lambda: router.recv(65536), b"")).decode()
        told = [line for line in answer.splitlines() if " | " in line]
        print(kind, answer.split(" ")[1] if answer else "closed", told)
"#;

#[test]
fn a_dyno_is_no_load_balancer_though_its_address_is_private() {
    let settings = "[router]\nfronts = [\"alb\", \"nlb\"]\n";
    let Some(platform) = TestPlatform::below_with("paas.test", settings) else { return };
    let source = Source::app("python-web").file("server.py", MIRROR).file("forger.py", FORGER);
    platform.create("mirror");
    platform.serve("mirror", &source);
    let gateway = victim(&platform, "mirror").gateway;
    let command = format!("python3 forger.py {gateway} {}", platform.http_port);
    let (output, result) = platform.run("mirror", &command, None);
    let own = output.lines().find_map(|line| line.strip_prefix("own ")).unwrap_or_default();
    assert!(output.contains(&format!("alb 200 ['6.6.6.6, {own} | http | ']")), "{output}\n{result}");
    assert!(!output.contains("7.7.7.7") && output.contains("nlb 400"), "{output}\n{result}");
}

/// The address that this machine has in the network around it.
fn network_address() -> String {
    // Nothing is sent: connecting a datagram socket only chooses the route.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

struct Victim {
    id: String,
    pid: i32,
    address: String,
    gateway: String,
}

/// The host's view of the victim's process, and of its network.
fn victim(platform: &TestPlatform, app: &str) -> Victim {
    let id = platform.dynos(app)[0]["id"].as_str().unwrap().to_owned();
    let run = platform.data().join("run").join(&id);
    let json =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(run.join(name)).unwrap()).unwrap() };
    let (spec, state) = (json("spec.json"), json("state.json"));
    let text = |name: &str| spec["network"][name].as_str().unwrap().to_owned();
    let pid = i32::try_from(state["init"]["pid"].as_i64().unwrap()).unwrap();
    Victim { pid, address: text("address"), gateway: text("gateway"), id }
}

fn source_of(app: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(app)
}

/// Pushes a directory as the only commit of a new repository.
fn push(platform: &TestPlatform, app: &str, source: &Path) {
    let repository = platform.scratch().join("pushed");
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
            .args(["-c", &format!("http.sslCAInfo={}", platform.data().join("ca/ca.pem").display())])
            .args(["-c", &format!("http.extraHeader=Authorization: Bearer {}", platform.token)])
            .args(arguments)
            .current_dir(&repository)
            .env_remove("GIT_SSL_CAINFO")
            .env_remove("SSL_CERT_FILE")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    fs::create_dir(&repository).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), repository.join(entry.file_name())).unwrap();
    }
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    git(&["push", "-q", &format!("https://localhost:{}/{app}.git", platform.api_port), "main"]);
}
