//! Builds are as untrusted as apps and weigh less: bounded in time, memory and disk, and confined.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_for, wait_until};

/// A source whose build runs this script.
fn hooked(script: &str) -> Source {
    Source::procfile("web: true\n").file("bin/post_compile", &format!("#!/bin/sh\n{script}\n"))
}

fn check_limit(limit: &str, script: &str, expect: &str) {
    let Some(platform) = TestPlatform::with_limits(limit) else { return };
    let source = platform.python_web("shop");
    let deployed = platform.deploy("shop", &hooked(script));
    assert_eq!(deployed.state, "no release", "{}", deployed.output);
    assert_eq!(deployed.failure, expect, "{}", deployed.output);
    assert!(deployed.output.contains(&format!(" !     {expect}")), "{}", deployed.output);
    // The app goes on, and so do its builds.
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    platform.serve("shop", &source.version("2"));
    platform.shows("shop", "version=2 ");
}

#[test]
fn a_build_that_takes_too_long_is_stopped() {
    check_limit("build_seconds = 3", "exec sleep 600", "the build ran longer than 3 seconds and was stopped");
}

#[test]
fn a_build_that_needs_too_much_memory_is_stopped() {
    check_limit(
        "build_memory_mib = 128",
        "exec python3 -c 'held = bytearray(400 << 20); held[::4096] = b\"x\" * len(held[::4096])'",
        "the build needed more than 128 MiB of memory and was stopped",
    );
}

#[test]
fn a_build_that_writes_too_much_is_stopped_with_its_cache_emptied() {
    check_limit(
        "build_disk_mib = 64",
        "head -c 100M /dev/zero > big; exec sleep 600",
        "the build wrote more than 64 MiB and was stopped; its cache was emptied",
    );
}

#[test]
fn a_source_is_fetched_from_nowhere_that_drains_may_not_go() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let url = format!("https://127.0.0.1:{}/source.tgz", inside.local_addr().unwrap().port());
    let build = platform.ask("POST", "/berth/apps/shop/builds", &json!({"source_blob": {"url": url}, "hold": false}));
    let ended = platform.follow("shop", &build);
    assert!(ended.failure.contains("127.0.0.1 is not on the internet"), "{ended:?}");
    assert!(ended.failure.contains("[deliveries] allowed_networks"), "it says what to do: {ended:?}");
    assert_eq!(inside.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody has connected");
}

#[test]
fn the_apps_own_buildpacks_decide_how_it_is_built() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let detected = Source::app("python-web").file("index.html", "<h1>a static site, by its files</h1>");
    let list = json!({"updates": [{"buildpack": "heroku/static"}]});
    platform.ask("PUT", "/apps/shop/buildpack-installations", &list);
    let set = platform.get("/apps/shop/buildpack-installations");
    assert_eq!(set[0]["buildpack"]["name"], "heroku/static", "{set}");
    let deployed = platform.deploy("shop", &detected);
    for line in ["Using the app's buildpacks: heroku/static", "-----> Static site detected"] {
        assert!(deployed.output.contains(line), "no {line:?} in {}", deployed.output);
    }
    platform.ask("PUT", "/apps/shop/buildpack-installations", &json!({"updates": []}));
    let deployed = platform.deploy("shop", &detected);
    assert!(deployed.output.contains("Procfile app detected"), "{}", deployed.output);
}

#[test]
fn registry_django_without_a_procfile_serves() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::builder_app("django-default"));
    assert_eq!(platform.text("shop", "/"), "hello without a Procfile\n");
}

/// What the probe may do here, because builds are allowed more processes than dynos.
const ALLOWED: &str = "start 600 children";

/// Where a cloud keeps credentials, another link-local address, the same over IPv6, and a private network's: on this
/// machine's loopback for the time of the test.
const ADDRESSES: [&str; 4] = ["169.254.170.2", "169.254.78.8", "fd00:ec2::23", "192.168.214.8"];

/// Listens on a second port, as an app with an admin page does.
const VICTIM_PROCFILE: &str = "web: python3 -m http.server 7007 & exec python3 server.py\n";

struct LoopbackAddresses;

impl LoopbackAddresses {
    fn add() -> Self {
        ip("add");
        Self
    }
}

impl Drop for LoopbackAddresses {
    fn drop(&mut self) {
        ip("del");
    }
}

fn ip(verb: &str) {
    for address in ADDRESSES {
        // Without `nodad` an address of version 6 can be bound only a moment later.
        let (bits, at_once) = if address.contains(':') { (128, Some("nodad")) } else { (32, None) };
        let mut command = Command::new("ip");
        command.args(["addr", verb, &format!("{address}/{bits}"), "dev", "lo"]).args(at_once);
        assert!(command.status().unwrap().success(), "{command:?}");
    }
}

#[test]
fn a_build_is_confined_as_a_dyno_is_and_weighs_less() {
    let Some(platform) = TestPlatform::with_limits("build_memory_mib = 1000") else { return };
    platform.create("victim");
    platform.serve("victim", &Source::app("python-web").file("Procfile", VICTIM_PROCFILE));
    platform.create("shop");
    let victim = Running::find(&platform, "web.1");

    let abstract_name = format!("berth-build-isolation-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
    let _addresses = LoopbackAddresses::add();
    let listen = |host: &str| TcpListener::bind((host, 0)).unwrap();
    let (loopback, everywhere) = (listen("127.0.0.1"), listen("0.0.0.0"));
    let servers = ADDRESSES.map(listen);
    let address = |server: &TcpListener| server.local_addr().unwrap().to_string();
    let host_port = everywhere.local_addr().unwrap().port();
    let data = platform.data();
    let targets: BTreeMap<&str, String> = [
        ("VICTIM_PID", victim.state["init"]["pid"].to_string()),
        ("VICTIM_ADDRESS", format!("{}:5000", victim.network("address"))),
        ("DATABASE", data.join("berth.db").display().to_string()),
        ("MASTER_KEY", data.join("master.key").display().to_string()),
        ("SLUGS", data.join("slugs").display().to_string()),
        ("API_SOCKET", data.join("run/api.sock").display().to_string()),
        ("ABSTRACT", abstract_name),
        ("LOOPBACK_ADDRESS", address(&loopback)),
        ("METADATA_ADDRESS", address(&servers[0])),
        ("LINK_LOCAL_ADDRESS", address(&servers[1])),
        ("METADATA6_ADDRESS", address(&servers[2])),
        ("PRIVATE_ADDRESS", address(&servers[3])),
        ("HOST_ADDRESS", format!("{}:{host_port}", victim.network("gateway"))),
        ("NETWORK_ADDRESS", format!("{}:{host_port}", network_address())),
        ("API_ADDRESS", format!("127.0.0.1:{}", platform.api_port)),
        ("ROOT_FILE", fs::read_dir("/root").unwrap().next().unwrap().unwrap().path().display().to_string()),
        ("VICTIM_OTHER_ADDRESS", format!("{}:7007", victim.network("address"))),
        ("VICTIM_RUN", data.join("run").join(&victim.id).display().to_string()),
    ]
    .into();
    wait_until("the victim's other port is open", || TcpStream::connect(&targets["VICTIM_OTHER_ADDRESS"]).is_ok());
    let script = Source::app("probe").files["probe.py"].clone();
    let unconfined = Command::new("/usr/bin/python3")
        .args(["-c", std::str::from_utf8(&script).unwrap()])
        .envs(&targets)
        .output()
        .unwrap();
    let unconfined = String::from_utf8(unconfined.stdout).unwrap();
    let attempts = unconfined.lines().count();
    assert!(attempts >= 33 && unconfined.lines().all(|line| line.starts_with("possible ")), "{unconfined}");

    let variables: Vec<String> = targets.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let probe = format!("{} python3 probe.py", variables.join(" "));
    // It stays until its cgroup has been looked at: the test makes the file.
    let source = hooked(&format!("{probe}\necho probed > probed\nwhile [ ! -e go-on ]; do sleep 0.05; done"))
        .file("probe.py", std::str::from_utf8(&script).unwrap());
    let build = platform.build("shop", &source.tar(), true);
    let tree = data.join("builds").join(build["id"].as_str().unwrap()).join("app");
    wait_for("the probe has ended", || tree.join("probed").exists().then_some(()));

    let building = Running::find(&platform, "build.1");
    let (of_build, of_dyno) = (building.cpu_weight(&platform), victim.cpu_weight(&platform));
    assert!(of_build > 0 && of_build * 5 <= of_dyno, "build {of_build}, dyno {of_dyno}");
    assert_ne!(building.spec["identity"]["uid"], victim.spec["identity"]["uid"]);

    fs::write(tree.join("go-on"), "").unwrap();
    let output = platform.follow("shop", &build).output;
    let said = |word: &str| -> Vec<&str> {
        output.lines().map(str::trim).filter_map(|line| line.strip_prefix(word)).collect()
    };
    assert_eq!(said("possible "), [ALLOWED], "{output}");
    assert_eq!(said("denied ").len(), attempts - 1, "{output}");
    assert_eq!(platform.visit("victim", "/").unwrap().status, 200);
}

/// The address that this machine has in the network around it.
fn network_address() -> IpAddr {
    // Nothing is sent: connecting a datagram socket only chooses the route.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// The host's view of a process in a sandbox.
struct Running {
    id: String,
    spec: Value,
    state: Value,
}

impl Running {
    fn find(platform: &TestPlatform, name: &str) -> Self {
        let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
        let look = |run: PathBuf| {
            let (spec, state) = (json(&run.join("spec.json"))?, json(&run.join("state.json"))?);
            let id = run.file_name()?.to_str()?.to_owned();
            (spec["name"] == name).then_some(Self { id, spec, state })
        };
        wait_for(name, || {
            let runs = fs::read_dir(platform.data().join("run")).unwrap().flatten();
            runs.map(|entry| entry.path()).find_map(look)
        })
    }

    fn network(&self, field: &str) -> &str {
        self.spec["network"][field].as_str().unwrap()
    }

    /// In the scale of the cgroup's own version: only a comparison means something.
    fn cpu_weight(&self, platform: &TestPlatform) -> u64 {
        let instance = format!("berth-{}", platform.instance());
        let files = [("cpu", "cpu.shares"), ("cpu,cpuacct", "cpu.shares"), ("", "cpu.weight")];
        let texts = files.map(|(tree, file)| {
            let dyno = Path::new("/sys/fs/cgroup").join(tree).join(&instance).join(&self.id);
            fs::read_to_string(dyno.join(file)).or_else(|_nested| fs::read_to_string(dyno.join("app").join(file)))
        });
        let text = texts.into_iter().find_map(Result::ok).expect("a cgroup with a weight");
        text.trim().parse().unwrap()
    }
}

#[test]
fn one_upload_is_built_for_several_apps_and_removed_in_time() {
    let Some(platform) = TestPlatform::start() else { return };
    let url = platform.upload(&Source::app("python-web").tar());
    let old = platform.data().join("sources/01234567-89ab-cdef-0123-456789abcdef");
    std::fs::write(&old, "given up").unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(24 * 60 * 60);
    std::fs::File::options().append(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    for app in ["shop-staging", "shop"] {
        platform.create(app);
        let build = platform.ask("POST", &format!("/apps/{app}/builds"), &json!({"source_blob": {"url": url}}));
        let deployed = platform.follow(app, &build);
        assert_eq!(deployed.state, "serving", "{app}: {deployed:?}");
        platform.shows(app, "version=1 ");
    }
    assert!(!old.exists(), "what nobody builds any more is removed");
}
