//! `heroku ps:exec`, `ps:copy`, `ps:forward`, `ps:socks`: somebody comes to a dyno that runs.
//!
//! The client makes an RSA key in JavaScript each time, which is slow. What is not about the client is asked for by
//! OpenSSH's own, over the same port.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::heroku_cli::{Ran, Running, Terminal, no_heroku_cli, ran};
use crate::platform::{TestPlatform, skipped};
use crate::wait::{wait_for, wait_until};

const PUBLIC_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

impl TestPlatform {
    fn for_exec() -> Option<Self> {
        if no_heroku_cli() { None } else { Self::for_ssh() }
    }

    fn for_ssh() -> Option<Self> {
        Self::for_ssh_with("")
    }

    fn for_ssh_with(limits: &str) -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("-V").output().is_ok();
        if skipped((!has("ssh")).then_some("needs OpenSSH's client")) {
            return None;
        }
        let platform = Self::with_limits(limits)?;
        platform.python_web("shop");
        Some(platform)
    }

    /// The client behind `berth heroku --`.
    fn exec_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.berth_heroku_command();
        command.args(arguments);
        command
    }
}

/// A session in `web.1` with OpenSSH's client.
struct Session<'a> {
    platform: &'a TestPlatform,
    identity: PathBuf,
    known_hosts: PathBuf,
    user: String,
}

impl<'a> Session<'a> {
    fn open(platform: &'a TestPlatform) -> Self {
        Self::open_as(platform, &platform.token)
    }

    fn open_as(platform: &'a TestPlatform, token: &str) -> Self {
        let identity = key(platform, "mine");
        let public = fs::read_to_string(identity.with_extension("pub")).unwrap();
        let body = json!({"client_key": public});
        let (status, opened) = platform.ask_as(token, "PUT", "/berth/apps/shop/dynos/web.1/exec", &body);
        assert_eq!(status, 200, "{opened}");
        let known_hosts = platform.scratch().join("known_hosts");
        let key = opened["proxy_public_key"].as_str().unwrap();
        fs::write(&known_hosts, format!("[localhost]:{} {key}\n", platform.api_port)).unwrap();
        let user = opened["client_user"].as_str().unwrap().to_owned();
        Self { platform, identity, known_hosts, user }
    }

    /// `ssh` or `scp`, and what both take.
    fn command(&self, program: &str, port: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-F", "none", "-o", &format!("UserKnownHostsFile={}", self.known_hosts.display())])
            .args(["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i"])
            .arg(&self.identity)
            .args([port, &self.platform.api_port.to_string()]);
        command
    }

    fn ssh(&self, line: &str) -> Command {
        let mut command = self.command("ssh", "-p");
        command.arg(format!("{}@localhost", self.user)).arg(line);
        command
    }

    fn runs(&self, line: &str) -> Ran {
        ran(&mut self.ssh(line))
    }

    fn copies(&self, from: &str, to: &str) {
        let place = |path: &str| path.replace("dyno:", &format!("{}@localhost:", self.user));
        let copied = ran(self.command("scp", "-P").args([place(from), place(to)]));
        assert_eq!(copied.code, Some(0), "{}", copied.both());
    }
}

/// A key pair of the test's own.
fn key(platform: &TestPlatform, name: &str) -> PathBuf {
    let path = platform.scratch().join(name);
    // RSA, as the `heroku` client makes.
    let made = ran(Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f"]).arg(&path));
    assert_eq!(made.code, Some(0), "{}", made.both());
    path
}

#[test]
fn heroku_runs_a_command_in_a_dyno_that_runs() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    platform.heroku("config:set GREETING=salut -a shop");
    wait_until("the new release serves", || platform.text("shop", "/").contains("salut"));
    ran(&mut platform.exec_command(&["ps:exec", "--status", "-a", "shop"])).shows("web.1").shows("running");
    let line = "echo I am $DYNO and say $GREETING on $PORT; pwd";
    let terminal = Terminal::start(&mut platform.exec_command(&["ps:exec", "-a", "shop", "--", line]));
    terminal.waits_long_for("I am web.1 and say salut on ");
    let shown = terminal.ends();
    assert_eq!(shown.code, Some(0), "{}", shown.both());
    shown.shows("/app");
    platform.logged("shop", "Opening web.1 to a session of user admin@localhost");
    let audited = platform.get("/berth/apps/shop/audit").to_string();
    assert!(audited.contains("PUT /berth/apps/{app}/dynos/{dyno}/exec"), "{audited}");
    platform.heroku("features:info runtime-heroku-exec -a shop").shows("true");
    platform.heroku_fails("features:disable runtime-heroku-exec -a shop").says("cannot be switched off");
}

#[test]
fn heroku_starts_openssh_where_it_is_told_to() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    let said = ran(&mut platform.exec_command(&["ps:exec", "--ssh", "-a", "shop", "--", "env"]));
    assert_eq!(said.code, Some(0), "{}", said.both());
    said.shows("DYNO=web.1");
}

#[test]
fn heroku_opens_a_shell_in_a_dyno_that_runs() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    let mut terminal = Terminal::start(&mut platform.exec_command(&["ps:exec", "-a", "shop"]));
    terminal.waits_long_for("$ ");
    terminal.types("tty; stty size; echo in $DYNO $((40 + 2))\r");
    terminal.waits_for("24 80");
    terminal.waits_for("/dev/pts/");
    terminal.waits_for("in web.1 42");
    terminal.types("sleep 1234\r");
    wait_until("the sleep", || ran(Command::new("pgrep").args(["-f", "^sleep 1234$"])).code == Some(0));
    terminal.types("\u{3}");
    terminal.types("echo still $((6 * 7)); touch /app/was-here\r");
    terminal.waits_for("still 42");
    terminal.types("exit\r");
    terminal.ends();
    assert_eq!(Session::open(&platform).runs("ls was-here").out, "was-here");
}

#[test]
fn heroku_shows_why_a_dyno_ends_under_it() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    let mut terminal = Terminal::start(&mut platform.exec_command(&["ps:exec", "-a", "shop"]));
    terminal.waits_long_for("$ ");
    terminal.types("echo in $((40 + 2))\r");
    terminal.waits_for("in 42");
    platform.ask("DELETE", "/apps/shop/dynos/web.1", &Value::Null);
    terminal.ends().shows("web.1 was restarted; run the command again for the new dyno");
}

#[test]
fn heroku_copies_a_file_out_of_a_dyno() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    Session::open(&platform).runs("seq 1 300000 > numbers");
    let copied = platform.scratch().join("home/copied.txt");
    let target = copied.to_str().unwrap();
    let said = ran(&mut platform.exec_command(&["ps:copy", "numbers", "-o", target, "-a", "shop"]));
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(fs::read_to_string(&copied).is_ok_and(|text| text == expected), "{}", said.both());
}

#[test]
fn heroku_forwards_ports_to_a_dyno() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    // On the dyno's own loopback, which nobody outside can reach.
    let server =
        "cd /tmp && echo only inside > secret && python3 -m http.server 7777 --bind 127.0.0.1 >/dev/null 2>&1 &";
    assert_eq!(Session::open(&platform).runs(server).code, Some(0));
    let [local, other] = platform.more_ports();
    // The client has one port for its proxy; nobody else may have it.
    let _turn = ProxyPort::take();
    let forward = format!("{local}:7777,{other}:7778");
    let running = Running::start(&mut platform.exec_command(&["ps:forward", &forward, "-a", "shop"]));
    running.waits_long_for("CTRL+C to stop");
    for _round in 0..3 {
        let answer = wait_for("an answer through the forwarded port", || get(local, "/secret"));
        assert!(answer.ends_with("only inside\n"), "{answer}");
    }
    assert_eq!(get(other, "/"), None, "nothing listens there");
    running.end();
}

#[test]
fn heroku_proxies_connections_through_a_dyno() {
    let Some(platform) = TestPlatform::for_exec() else { return };
    let _turn = ProxyPort::take();
    let running = Running::start(&mut platform.exec_command(&["ps:socks", "-a", "shop"]));
    running.waits_long_for("SOCKSv5 proxy server started on port 1080");
    // The app's own port, by a name that only the dyno gives to itself.
    let port = Session::open(&platform).runs("echo $PORT").out;
    let curl = || {
        let mut curl = Command::new("curl");
        ran(curl.args(["-sS", "--socks5-hostname", "127.0.0.1:1080", &format!("http://localhost:{port}/")]))
    };
    let answer = wait_for("an answer through the proxy", || Some(curl()).filter(|ran| ran.code == Some(0)));
    assert!(answer.out.contains("dyno=web.1"), "{}", answer.both());
    running.end();
}

/// The answer of a server, if there is one.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

/// The port 1080 of this machine, for one test at a time.
struct ProxyPort(#[expect(dead_code, reason = "held for its lock")] fs::File);

impl ProxyPort {
    fn take() -> Self {
        let path = std::env::temp_dir().join("berth-tests-socks.lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        file.lock().unwrap();
        Self(file)
    }
}

#[test]
fn a_session_is_for_one_key_and_one_dyno() {
    let Some(platform) = TestPlatform::for_ssh() else { return };
    let session = Session::open(&platform);
    assert_eq!(session.runs("echo $DYNO").out, "web.1");
    let mode = fs::metadata(platform.data().join("ssh-host.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = |session: &Session<'_>| {
        let refused = session.runs("id");
        assert_eq!(refused.code, Some(255), "{}", refused.both());
        refused.shows("Permission denied (publickey)");
    };
    let stranger = Session {
        identity: key(&platform, "stranger"),
        known_hosts: session.known_hosts.clone(),
        user: session.user.clone(),
        platform: &platform,
    };
    refused(&stranger);
    let nobody = Session {
        identity: session.identity.clone(),
        known_hosts: session.known_hosts.clone(),
        user: "root".to_owned(),
        platform: &platform,
    };
    refused(&nobody);
    let (status, answer) =
        platform.api("PUT", "/berth/apps/shop/dynos/web.7/exec", &json!({"client_key": PUBLIC_KEY})).unwrap();
    assert_eq!((status, answer["id"].as_str()), (404, Some("not_found")));
    let (status, _answer) =
        platform.api("PUT", "/berth/apps/shop/dynos/web.1/exec", &json!({"client_key": "no key"})).unwrap();
    assert_eq!(status, 422);
    // A dyno that is gone takes its sessions along.
    platform.ask("DELETE", "/apps/shop/dynos", &Value::Null);
    wait_until("the dyno is replaced", || session.runs("true").code == Some(255));
}

#[test]
fn an_introduced_key_ends_with_the_token_that_it_stands_for() {
    let Some(platform) = TestPlatform::for_ssh() else { return };
    let made = platform.local("POST", "/oauth/authorizations", &json!({"description": "short"})).unwrap();
    let id = made["id"].as_str().unwrap();
    let as_token = format!("Bearer {}", made["access_token"]["token"].as_str().unwrap());
    let key = format!("local-{}", "k".repeat(40));
    let body = json!({"key": key, "tunnel_host": "localhost"}).to_string();
    let headers = [("Authorization", as_token.as_str()), ("Content-Type", "application/json")];
    let introduced = platform.api_raw("PUT", "/berth/exec-key", &headers, body.as_bytes()).unwrap();
    assert_eq!(introduced.status, 202, "{}", introduced.text());
    let as_key = format!("Bearer {key}");
    let dynos = || platform.api_raw("GET", "/berth/apps/shop/exec", &[("Authorization", &as_key)], &[]).unwrap();
    assert_eq!(dynos().status, 200, "{}", dynos().text());
    platform.ask("DELETE", &format!("/oauth/authorizations/{id}"), &Value::Null);
    assert_eq!(dynos().status, 401, "{}", dynos().text());
}

#[test]
fn a_session_ends_with_the_token_that_opened_it() {
    let Some(platform) = TestPlatform::for_ssh() else { return };
    let made = platform.local("POST", "/oauth/authorizations", &json!({"description": "short"})).unwrap();
    let session = Session::open_as(&platform, made["access_token"]["token"].as_str().unwrap());
    let running = Running::start(&mut session.ssh("echo begun; sleep 6003"));
    running.waits_for("begun");
    platform.ask("DELETE", &format!("/oauth/authorizations/{}", made["id"].as_str().unwrap()), &Value::Null);
    let ended = running.ends();
    assert_eq!(ended.code, Some(255), "{}", ended.both());
    ended.shows("This session is over: the token that it was opened with has ended");
    let sleeps = || crate::left_over::running(&platform.instance(), "sleep 6003");
    wait_until("what ran there is hung up", || sleeps().is_empty());
    session.runs("true").shows("Permission denied (publickey)");
}

#[test]
fn a_session_ends_with_its_dyno_and_says_so() {
    let Some(platform) = TestPlatform::for_ssh() else { return };
    let running = Running::start(&mut Session::open(&platform).ssh("echo begun; sleep 6006"));
    running.waits_for("begun");
    platform.ask("DELETE", "/apps/shop/dynos/web.1", &Value::Null);
    let ended = running.ends();
    assert_eq!(ended.code, Some(255), "{}", ended.both());
    ended.shows("web.1 was restarted; run the command again for the new dyno");
}

#[test]
fn a_silent_session_ends_and_says_so() {
    let Some(platform) = TestPlatform::for_ssh_with("session_idle_seconds = 3") else { return };
    let session = Session::open(&platform);
    let talking = Running::start(&mut session.ssh("for n in 1 2 3 4 5 6; do echo $n; sleep 1; done; exit 7"));
    let silent = Running::start(&mut session.ssh("echo begun; sleep 6010")).ends();
    assert_eq!(silent.code, Some(255), "{}", silent.both());
    silent.shows("begun").shows("nothing was written in it, by you or to you, for 3s");
    assert_eq!(talking.ends().code, Some(7));
}

#[test]
fn ssh_itself_works_with_exit_codes_and_many_bytes_both_ways() {
    let Some(platform) = TestPlatform::for_ssh() else { return };
    let session = Session::open(&platform);
    let exited = session.runs("echo out; echo err >&2; exit 6");
    assert_eq!((exited.code, exited.out.as_str(), exited.err.trim()), (Some(6), "out", "err"));
    assert_eq!(session.runs("kill -9 $$").code, Some(137));
    // More than any queue or window holds, through a program that writes before it reads on.
    let text = platform.scratch().join("numbers");
    fs::write(&text, (0..2_000_000).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
    let size = fs::metadata(&text).unwrap().len().to_string();
    let back = platform.scratch().join("back");
    let mut through = session.ssh("cat");
    through.stdin(fs::File::open(&text).unwrap()).stdout(fs::File::create(&back).unwrap());
    assert!(through.status().unwrap().success());
    assert!(fs::read(&text).unwrap() == fs::read(&back).unwrap(), "bytes were lost");
    // And to one that begins to read late.
    let late =
        ran(session.ssh("until [ -e go ]; do sleep 0.1; touch go; done; wc -c").stdin(fs::File::open(&text).unwrap()));
    assert_eq!((late.code, late.out.as_str()), (Some(0), size.as_str()), "{}", late.both());

    // A connection of the client's goes on from the dyno.
    let port = session.runs("echo $PORT").out;
    let request = platform.scratch().join("request");
    fs::write(&request, "GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut through = session.command("ssh", "-p");
    through.args(["-W", &format!("localhost:{port}"), &format!("{}@localhost", session.user)]);
    let answer = ran(through.stdin(fs::File::open(&request).unwrap()));
    assert!(answer.out.contains("dyno=web.1"), "{}", answer.both());

    let copied = platform.scratch().join("copied.py");
    session.copies("dyno:server.py", copied.to_str().unwrap());
    assert!(fs::read_to_string(&copied).unwrap().contains("serve_forever"));
    session.copies(text.to_str().unwrap(), "dyno:/tmp/there");
    assert_eq!(session.runs("wc -c < /tmp/there").out, size);
}
