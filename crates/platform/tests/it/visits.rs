//! `berth ps:exec`, `ps:copy`, `ps:forward`, `ps:socks`: somebody comes to a dyno that runs, without Heroku's client.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::heroku_cli::{Running, Terminal, ran};
use crate::http::Connection;
use crate::platform::TestPlatform;
use crate::run_session::Network;
use crate::wait::{wait_for, wait_until};

impl TestPlatform {
    fn in_shop(&self, arguments: &[&str]) -> Command {
        let mut command = self.client(self.scratch(), arguments);
        command.env("BERTH_APP", "shop").env("TERM", "xterm");
        command
    }

    /// A line of the shell in `web.1`, which must succeed.
    fn in_dyno(&self, line: &str) -> String {
        let said = ran(&mut self.in_shop(&["ps:exec", "--", line]));
        assert_eq!(said.code, Some(0), "{}", said.both());
        said.out
    }
}

/// Bytes in which nothing repeats and every value occurs.
fn noise(count: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()
    };
    (0..count / 4).flat_map(|_word| next()).collect()
}

/// Whether anything on this machine has exactly this command line.
fn runs(line: &str) -> bool {
    ran(Command::new("pgrep").args(["-f", &format!("^{line}$")])).code == Some(0)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn a_command_runs_in_a_dyno_with_its_own_exit_code_and_streams() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let visit = |arguments: &[&str]| ran(&mut platform.in_shop(arguments));
    let said = visit(&["ps:exec", "--", "echo in $DYNO; pwd; echo wrong >&2; exit 6"]);
    assert_eq!((said.code, said.out.as_str(), said.err.trim()), (Some(6), "in web.1\n/app", "wrong"));
    assert_eq!(visit(&["ps", "exec", "-d", "web.1", "printf", "%s|", "a b", "$DYNO"]).out, "a b|$DYNO|");
    assert_eq!(visit(&["ps:exec", "--", "kill -9 $$"]).code, Some(137));
    let said = visit(&["--json", "ps:exec", "--", "echo out; exit 3"]);
    assert_eq!((said.code, said.json()), (Some(3), json!({"dyno": "web.1", "exit_status": 3})));
    assert_eq!(said.err.trim(), "out");
    visit(&["ps:exec", "--status"]).shows("web.1").shows("up");
    assert_eq!(visit(&["ps:exec", "--status", "--json"]).json(), json!([{"dyno_name": "web.1"}]));
    let missing = visit(&["ps:exec", "-d", "web.7", "true"]);
    assert_eq!(missing.code, Some(1));
    missing.says("No dyno web.7 of shop runs.").says("berth ps:exec --status");

    // More than any queue or window holds, of every value, through a program that writes before it reads on.
    let sent = platform.scratch().join("sent");
    fs::write(&sent, noise(6_000_000)).unwrap();
    let back = platform.scratch().join("back");
    let mut through = platform.in_shop(&["ps:exec", "--", "cat; exit 9"]);
    through.stdin(File::open(&sent).unwrap()).stdout(File::create(&back).unwrap());
    assert_eq!(through.status().unwrap().code(), Some(9));
    assert!(fs::read(&sent).unwrap() == fs::read(&back).unwrap(), "bytes were lost");
    // Whoever reads our output may have enough before the program has.
    let mut head = platform.in_shop(&["ps:exec", "--", "yes 8421"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = [0; 10_000];
    head.stdout.take().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(head.wait().unwrap().code(), Some(141));
    wait_until("`yes` is hung up", || !runs("yes 8421"));

    platform.logged("shop", "Opening web.1 to a session of user admin@localhost");
    let audited = platform.get("/berth/apps/shop/audit").to_string();
    assert!(audited.contains("POST /berth/apps/{app}/dynos/{dyno}/visits"), "{audited}");
}

#[test]
fn a_shell_in_a_dyno_has_the_terminal_of_whoever_came() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let mut terminal = Terminal::start(&mut platform.in_shop(&["ps:exec"]));
    terminal.waits_for("$ ");
    terminal.types("tty; stty size; echo in $DYNO $TERM\r");
    terminal.waits_for("24 80");
    terminal.waits_for("/dev/pts/");
    terminal.waits_for("in web.1 xterm");
    terminal.resize(50, 132);
    wait_until("the terminal in the dyno has another size", || {
        terminal.types("stty size\r");
        terminal.text().contains("50 132")
    });
    terminal.types("sleep 4321\r");
    wait_until("the sleep", || runs("sleep 4321"));
    terminal.types("\u{3}");
    wait_until("Ctrl-C ends the sleep", || !runs("sleep 4321"));
    terminal.types("echo still $((6 * 7)); exit 7\r");
    terminal.waits_for("still 42");
    assert_eq!(terminal.ends().code, Some(7));
}

#[test]
fn signals_reach_a_program_that_reads_nothing_and_leaving_hangs_it_up() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let start = |line: &str| {
        let mut command = platform.in_shop(&["ps:exec", "--", line]);
        // There is always more to be read.
        command.stdin(File::open("/dev/zero").unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        child
    };
    let mut child = start("trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.01; done");
    signal(&child, Signal::TERM);
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(4), "told\n"));

    let child = start("trap '' INT; echo ready; sleep 5432");
    signal(&child, Signal::INT);
    signal(&child, Signal::HUP);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("you have left"));
    wait_until("the sleep is hung up", || !runs("sleep 5432"));

    let mut child = start("echo ready; sleep 6543");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the sleep is hung up", || !runs("sleep 6543"));
}

#[test]
fn a_network_that_is_cut_ends_a_visit_and_what_to_do_is_said() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let network = Network::to(platform.api_port, None);
    let start = |options: &[&str]| {
        let arguments = [options, &["ps:exec", "--", "echo begun; sleep 4322"]].concat();
        let mut command = platform.in_shop(&arguments);
        Running::start(command.env("BERTH_HOST", format!("http://localhost:{}", network.port)))
    };
    let running = start(&[]);
    running.waits_for("begun");
    network.cut();
    let ended = running.ends();
    assert_eq!(ended.code, Some(255), "not an exit code of the program's: {}", ended.both());
    ended.shows("the connection to the server was cut").shows("run the command again").shows("`berth run`");
    wait_until("what ran there is hung up", || !runs("sleep 4322"));
    let running = start(&["--json"]);
    running.waits_for("begun");
    network.cut();
    running.ends().shows("\"id\":\"connection_broken\"");
}

#[test]
fn a_file_is_copied_byte_for_byte_or_not_at_all() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let sent = platform.scratch().join("sent");
    fs::write(&sent, noise(3_000_000)).unwrap();
    let mut put = platform.in_shop(&["ps:exec", "--", "cat > 'a heap.dump'; : > empty"]);
    assert!(put.stdin(File::open(&sent).unwrap()).status().unwrap().success());

    let home = platform.scratch().join("home");
    fs::create_dir_all(&home).unwrap();
    let copy = |arguments: &[&str]| {
        let arguments = [&["ps:copy"][..], arguments].concat();
        ran(platform.in_shop(&arguments).current_dir(&home))
    };
    let copied = copy(&["a heap.dump"]);
    assert_eq!(copied.code, Some(0), "{}", copied.both());
    copied.shows("Copying a heap.dump of web.1 to a heap.dump").shows("Copied 2.8 MiB.");
    assert!(fs::read(home.join("a heap.dump")).unwrap() == fs::read(&sent).unwrap(), "not what is in the dyno");
    let described = copy(&["/app/empty", "--output", "nothing", "-d", "web.1", "--json"]);
    let expected = json!({"dyno": "web.1", "file": "/app/empty", "output": "nothing", "bytes": 0});
    assert_eq!((described.code, described.json()), (Some(0), expected));

    let fails = |arguments: &[&str], code: i32, text: &str| {
        let failed = copy(arguments);
        assert_eq!(failed.code, Some(code), "{}", failed.both());
        failed.says(text);
    };
    fails(&["a heap.dump"], 1, "the local file a heap.dump already exists");
    fails(&["missing"], 1, "nothing was copied from web.1: missing: No such file or directory");
    fails(&["/tmp", "-o", "tmp"], 1, "nothing was copied from web.1: /tmp: Is a directory");
    fails(&["/root/secret", "-o", "secret"], 1, "nothing was copied from web.1: /root/secret: ");
    fails(&["/"], 2, "names no file");
    fails(&["empty", "-o", "no/such/directory"], 1, "cannot make a file in no/such");
    let mut left: Vec<String> =
        fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["a heap.dump", "nothing"]);
}

/// The answer of a server, if there is one.
fn get(port: u16, path: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(bytes.split_off(body + 4))
}

#[test]
fn ports_lead_many_connections_at_once_to_a_dyno_and_to_its_successor() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    // On the dyno's own loopback, which nobody outside can reach.
    let serve = |secret: &str| {
        platform.in_dyno(&format!(
            "mkdir -p /tmp/web; cd /tmp/web; echo {secret} > secret; head -c 5000000 /dev/zero > big; \
             setsid nohup python3 -m http.server 7777 --bind 127.0.0.1 </dev/null >/dev/null 2>&1 & sleep 0"
        ));
    };
    serve("first");
    let [local, other, taken] = platform.more_ports();
    let mapping = format!("{local}:7777,{other}:7778");
    let mut command = platform.in_shop(&["ps:forward", &mapping]);
    let mut forwarder = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let secret = || get(local, "/secret").filter(|body| !body.is_empty());
    assert_eq!(wait_for("an answer through the port", secret), b"first\n");
    // Some that say nothing yet, and others that are served meanwhile.
    let mut slow: Vec<TcpStream> = (0..5).map(|_one| TcpStream::connect(("127.0.0.1", local)).unwrap()).collect();
    let fetches: Vec<_> = (0..6).map(|_one| std::thread::spawn(move || get(local, "/big"))).collect();
    for fetch in fetches {
        assert_eq!(fetch.join().unwrap().map(|body| body.len()), Some(5_000_000));
    }
    for stream in &mut slow {
        // Whoever says that this was all still gets the answer.
        stream.write_all(b"GET /secret HTTP/1.0\r\n\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("first\n"), "{text}");
    }
    assert_eq!(get(other, "/"), None, "nothing listens there");

    platform.ask("DELETE", "/apps/shop/dynos", &Value::Null);
    let is_new = || ran(&mut platform.in_shop(&["ps:exec", "--", "test ! -e /tmp/web"])).code == Some(0);
    wait_until("the dyno is replaced", is_new);
    serve("second");
    assert_eq!(wait_for("an answer from the next dyno", secret), b"second\n");

    signal(&forwarder, Signal::INT);
    assert_eq!(forwarder.wait().unwrap().code(), Some(0));
    let (mut said, mut warned) = (String::new(), String::new());
    forwarder.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    forwarder.stderr.take().unwrap().read_to_string(&mut warned).unwrap();
    let expected = format!(
        "Listening on {local} and forwarding to web.1:7777\nListening on {other} and forwarding to web.1:7778\n"
    );
    assert_eq!(said, expected);
    assert!(warned.contains("connect to localhost:7778 from the dyno: Connection refused"), "{warned}");

    let _listener = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let refused = ran(&mut platform.in_shop(&["ps:forward", &taken.to_string()]));
    assert_eq!(refused.code, Some(1));
    refused.says(&format!("cannot listen on port {taken}: Address already in use"));
    assert_eq!(ran(&mut platform.in_shop(&["ps:forward", "http"])).code, Some(2));
}

#[test]
fn a_proxy_connects_from_a_dyno() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let [proxy] = platform.more_ports();
    let running = Running::start(&mut platform.in_shop(&["ps:socks", "--port", &proxy.to_string()]));
    running.waits_for(&format!("SOCKSv5 proxy server started on port {proxy}"));
    // The app's own port, by a name that only the dyno gives to itself, and by an address.
    let port = platform.in_dyno("echo $PORT");
    let curl =
        |url: &str| ran(Command::new("curl").args(["-sS", "--socks5-hostname", &format!("127.0.0.1:{proxy}"), url]));
    for host in ["localhost", "127.0.0.1"] {
        let answer = curl(&format!("http://{host}:{port}/"));
        assert!(answer.out.contains("dyno=web.1"), "{}", answer.both());
    }
    assert_ne!(curl("http://localhost:7/").code, Some(0));
    running.waits_for("connect to localhost:7 from the dyno: Connection refused");
    running.end();
}

#[test]
fn a_session_is_for_whoever_opened_it_and_may_still_come() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let (ada, grace) = (platform.join("ada@example.com"), platform.join("grace@example.com"));
    for (email, permissions) in [("ada@example.com", ["view", "operate"]), ("grace@example.com", ["view", "deploy"])] {
        platform.ask("POST", "/apps/shop/collaborators", &json!({"user": email, "permissions": permissions}));
    }
    let refused = platform.berth_as(&grace, &["ps:exec", "-a", "shop", "true"]);
    assert_eq!(refused.code, Some(1));
    refused.says("You do not have the permission to operate this app.");
    assert_eq!(platform.berth_as(&ada, &["ps:exec", "-a", "shop", "--", "echo $DYNO"]).out, "web.1");

    let (status, session) = platform.ask_as(&ada, "POST", "/berth/apps/shop/dynos/web.1/visits", &json!({}));
    assert_eq!(status, 201, "{session}");
    let path = format!("/berth/apps/shop/visits/{}", session["id"].as_str().unwrap());
    let connects = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Host", "localhost"),
            ("Authorization", bearer.as_str()),
            ("Connection", "upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Connection::open(platform.api_port).unwrap().request("GET", &path, &headers, &[]).unwrap().status
    };
    assert_eq!((connects(&ada), connects(&platform.token), connects(&grace)), (101, 404, 403));
    platform.ask("PATCH", "/berth/apps/shop/collaborators/ada@example.com", &json!({"permissions": ["view"]}));
    assert_eq!(connects(&ada), 403);
}
