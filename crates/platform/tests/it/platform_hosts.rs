//! The platform's own hosts through the router: what somebody on another machine does, who knows nothing but the host.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::client::Ended;
use crate::cloudflare::{Cloudflare, TOKEN};
use crate::heroku_cli::{Terminal, installed, no_heroku_cli, ran};
use crate::http::Response;
use crate::managed_certificates::QUARTER_SECONDS;
use crate::pebble::Pebble;
use crate::platform::{BERTH, TestPlatform};
use crate::source::Source;
use crate::tls::{Authority, TlsConnection};
use crate::wait::{PATIENCE, wait_until};

const DOMAIN: &str = "paas.test";
const HOST: &str = "berth.paas.test";

/// Somebody with a home and a resolver of their own.
struct Outsider<'a> {
    platform: &'a TestPlatform,
    home: PathBuf,
    hosts: PathBuf,
    ca: PathBuf,
    /// Where they come from.
    address: IpAddr,
}

impl<'a> Outsider<'a> {
    fn new(platform: &'a TestPlatform, authority: &str) -> Self {
        let home = platform.scratch().join("outside");
        fs::create_dir(&home).unwrap();
        let (hosts, ca) = (home.join("hosts"), home.join("authority.pem"));
        // A connection to an address of this machine's comes from that address.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        let address = routed.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip());
        let names = format!("{address} {HOST} git.{DOMAIN}\n127.0.0.1 localhost\n");
        fs::write(&hosts, names).unwrap();
        fs::write(&ca, authority).unwrap();
        Self { platform, home, hosts, ca, address }
    }

    /// A command that finds the platform's host.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut path = std::env::var_os("PATH").unwrap();
        if program == BERTH && arguments.first() == Some(&"heroku") {
            path = [installed().parent().unwrap().as_os_str(), path.as_os_str()].join(std::ffi::OsStr::new(":"));
        }
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .args(["mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"", "sh", program])
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("HOSTS", &self.hosts)
            .env("HOME", &self.home)
            .env("TERM", "dumb")
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    /// `berth` with something on its standard input, which must succeed; what it printed.
    fn tells(&self, input: &str, arguments: &[&str]) -> String {
        let mut command = self.command(BERTH, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let ended = Ended::from(child.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}\n{}", self.platform.log());
        ended.stdout
    }

    fn berth(&self, arguments: &[&str]) -> String {
        self.tells("", arguments)
    }

    fn logs_in(&self) -> String {
        let url = format!("https://{HOST}:{}", self.platform.https_port);
        self.tells(&format!("{}\n", self.platform.token), &["login", &url, "--ca", self.ca.to_str().unwrap()]);
        url
    }

    fn git(&self, repository: &Path, arguments: &[&str]) -> String {
        let mut command = self.command("git", &["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        let output = command.args(arguments).current_dir(repository).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "git {arguments:?}: {text}\n{}", self.platform.log());
        text
    }
}

impl TestPlatform {
    /// One request to the platform's host over TLS, with the administrator's token and more headers.
    fn ask_host(&self, client: &Arc<ClientConfig>, request: (&str, &str, &Value), more: &[(&str, &str)]) -> Response {
        let (method, path, body) = request;
        let (host, token) = (format!("{HOST}:{}", self.https_port), format!("Bearer {}", self.token));
        let mut headers =
            vec![("Host", host.as_str()), ("Authorization", &token), ("Content-Type", "application/json")];
        headers.extend(more);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut connection = TlsConnection::open_tls(self.https_port, HOST, client).unwrap();
        connection.request(method, path, &headers, &body).unwrap()
    }
}

#[test]
fn a_user_elsewhere_needs_the_platforms_host_only() {
    let Some(platform) = TestPlatform::below(DOMAIN) else { return };
    let Some(pebble) = Pebble::start(&platform, QUARTER_SECONDS) else { return };
    // Nobody has to ask for the certificate.
    platform.reconfigure(&pebble.settings(&platform, "challenges = [\"http-01\"]"));
    let client = pebble.client();
    let opens = || TlsConnection::open_tls(platform.https_port, HOST, &client).is_ok();
    wait_until("the host has a certificate", opens);
    let ada = Outsider::new(&platform, &pebble.root_pem());
    let url = ada.logs_in();
    let status = ada.berth(&["status"]);
    assert!(status.contains(&format!("{url}, with a certificate until ")), "{status}");

    let repository = ada.home.join("shop");
    fs::create_dir(&repository).unwrap();
    for (name, content) in &Source::app("python-web").files {
        fs::write(repository.join(name), content).unwrap();
    }
    ada.git(&repository, &["init", "--quiet", "--initial-branch", "main"]);
    ada.git(&repository, &["add", "--all"]);
    ada.git(&repository, &["commit", "--quiet", "--message", "a shop"]);
    let created = ada.command(BERTH, &["create", "shop"]).current_dir(&repository).output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let remotes = ada.git(&repository, &["remote", "-v"]);
    assert!(remotes.contains(&format!("{url}/shop.git")), "{remotes}");
    let pushed = ada.git(&repository, &["push", "berth", "main"]);
    assert!(pushed.contains("Released v2"), "{pushed}");
    let apps: Value = serde_json::from_str(&ada.berth(&["apps", "--json"])).unwrap();
    assert_eq!(apps[0]["name"], "shop");

    // A tail is open while things happen, and shows them at once.
    let mut tail = ada.command(BERTH, &["logs", "--tail", "-a", "shop"]).stdout(Stdio::piped()).spawn().unwrap();
    let (lines, shown) = mpsc::channel();
    let output = BufReader::new(tail.stdout.take().unwrap());
    std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    ada.berth(&["config:set", "GREETING=hello", "-a", "shop"]);
    let tells_of_it = || shown.recv_timeout(PATIENCE).expect("the tail goes on").contains("Set GREETING config var");
    while !tells_of_it() {}
    tail.kill().and_then(|()| tail.wait()).ok();

    let echoed = ada.tells("one\ntwo\n", &["run", "--stdin", "-a", "shop", "sed s/^/$GREETING:/"]);
    assert_eq!(echoed, "hello:one\nhello:two\n");

    // Who came from where: the client's own address, and never what a client says about itself.
    let origins = |action: &str| -> Vec<String> {
        let audit = platform.get("/berth/apps/shop/audit");
        let entries = audit.as_array().unwrap().iter().filter(|entry| entry["action"] == action);
        entries.map(|entry| entry["origin"].as_str().unwrap().to_owned()).collect()
    };
    let configured = "PATCH /apps/{app}/config-vars";
    assert_eq!(origins(configured), [ada.address.to_string()]);
    let spoofed = [("X-Forwarded-For", "9.9.9.9"), ("X_Forwarded_For", "9.9.9.9"), ("X-Forwarded-Proto", "http")];
    let request = ("PATCH", "/apps/shop/config-vars", &json!({"SPOOFED": "1"}));
    assert_eq!(platform.ask_host(&client, request, &spoofed).status, 200);
    let token = format!("Bearer {}", platform.token);
    let headers = [("Authorization", token.as_str()), ("X-Forwarded-For", "9.9.9.9")];
    let direct = platform.api_raw("PATCH", "/apps/shop/config-vars", &headers, b"{\"DIRECT\": \"1\"}").unwrap();
    assert_eq!(direct.status, 200);
    let seen = origins(configured);
    assert!(seen.contains(&"127.0.0.1".to_owned()), "{seen:?}");
    assert!(!platform.get("/berth/audit").to_string().contains("9.9.9.9"));

    // A token that comes in the clear is not looked at.
    for (method, status) in [("GET", 301), ("POST", 308)] {
        let plain = platform.request(method, &format!("{HOST}:1"), "/account", &[("Authorization", &token)], &[]);
        assert_eq!((plain.status, plain.header("location")), (status, Some(format!("{url}/account").as_str())));
    }
    // The names are nobody else's.
    assert_eq!(platform.api("POST", "/apps", &json!({"name": "git"})).unwrap().0, 422);
    let own = json!({"hostname": HOST, "sni_endpoint": null});
    assert_eq!(platform.api("POST", "/apps/shop/domains", &own).unwrap().0, 422);

    // A server that is exchanged is waited for.
    platform.kill_role("server");
    let answer = platform.ask_host(&client, ("GET", "/account", &Value::Null), &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the server is back", || platform.is_connected());
}

#[test]
fn with_the_domains_dns_one_certificate_is_good_for_all_names() {
    let Some(platform) = TestPlatform::below("paas.example.com") else { return };
    let Some(pebble) = Pebble::start(&platform, QUARTER_SECONDS) else { return };
    let cloudflare = Cloudflare::start(pebble.dns_manager());
    let add = ["certs:dns:add", "example.com", "--provider", "cloudflare", "--endpoint", &cloudflare.endpoint];
    let added = platform.client(platform.scratch(), &add).env("CLOUDFLARE_API_TOKEN", TOKEN).output().unwrap();
    assert!(added.status.success(), "{added:?}");
    platform.reconfigure(&pebble.settings(&platform, ""));
    let client = pebble.client();
    for host in ["berth.paas.example.com", "git.paas.example.com", "any-app.paas.example.com"] {
        let opens = || TlsConnection::open_tls(platform.https_port, host, &client).is_ok();
        wait_until(&format!("{host} has a certificate"), opens);
    }
    assert_eq!(cloudflare.seen(), ["_acme-challenge.paas.example.com"]);
    wait_until("the record is gone", || cloudflare.standing().is_empty());
}

#[test]
fn what_an_order_for_the_platforms_host_failed_of_is_in_its_status() {
    // Nobody answers there.
    let acme = "[acme]\nterms_agreed = true\ndirectory = \"https://localhost:9/directory\"\n";
    let Some(mut platform) = TestPlatform::below_with(DOMAIN, acme) else { return };
    let failure = || platform.local("GET", "/berth/status", &Value::Null).unwrap()["api_certificate_failure"].clone();
    wait_until("the order has failed", || failure().is_string());
    let text = failure().as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("{HOST}: cannot talk to the authority")), "{text}");
    let shown = platform.must(&["status"]);
    assert!(shown.contains(&format!("certificate: {HOST}: cannot talk to the authority")), "{shown}");
    // It is not known any more once nothing is ordered.
    platform.terminate();
    let settings = platform.data().join("settings.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("terms_agreed = true", "terms_agreed = false")).unwrap();
    platform.up();
    assert_eq!(platform.local("GET", "/berth/status", &Value::Null).unwrap()["api_certificate_failure"], Value::Null);
}

#[test]
fn a_server_that_is_down_is_told_of_in_the_apis_own_words() {
    let Some(mut platform) = TestPlatform::below(DOMAIN) else { return };
    let authority = Authority::new();
    platform.bring_certificate(&authority);
    let client = authority.client();
    platform.kill_supervisor();
    platform.kill_role("server");
    let asked = platform.ask_host(&client, ("GET", "/apps", &Value::Null), &[]);
    let told: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!((asked.status, &told["id"]), (503, &json!("service_unavailable")), "{told}");
    assert!(asked.header("retry-after").is_some() && told["message"].as_str().unwrap().contains("server"), "{told}");
    let page = platform.ask_host(&client, ("GET", "/auth/browser/x", &Value::Null), &[("Accept", "text/html")]);
    assert!(page.status == 503 && page.text().starts_with("<!doctype html>"), "{}", page.text());
    platform.up();
    assert_eq!(platform.ask_host(&client, ("GET", "/apps", &Value::Null), &[]).status, 200);
}

#[test]
fn herokus_client_works_from_elsewhere_with_a_certificate_that_was_brought() {
    if no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::below(DOMAIN) else { return };
    let authority = Authority::new();
    platform.bring_certificate(&authority);
    platform.create("shop");
    platform.serve("shop", &Source::app("python-web"));
    let ada = Outsider::new(&platform, &authority.root_pem);
    ada.logs_in();
    let heroku = |arguments: &[&str]| ran(&mut ada.command(BERTH, &[&["heroku", "--"], arguments].concat()));
    heroku(&["apps"]).shows("shop");
    heroku(&["logs", "-n", "100", "-a", "shop"]).shows("app[api]: ");
    // Both come to the API port, through the host.
    let run = heroku(&["run", "--exit-code", "-a", "shop", "--", "echo $DYNO; exit 6"]);
    assert_eq!(run.code, Some(6), "{}", run.both());
    run.shows("run.");
    let line = ["heroku", "--", "ps:exec", "-a", "shop", "--", "echo I am $DYNO"];
    let terminal = Terminal::start(&mut ada.command(BERTH, &line));
    terminal.waits_long_for("I am web.1");
    assert_eq!(terminal.ends().code, Some(0));

    // The wildcard is good for apps' own names, too.
    let mut visitor = TlsConnection::open_tls(platform.https_port, "shop.paas.test", &authority.client()).unwrap();
    assert_eq!(visitor.visit("shop.paas.test").unwrap(), 200);
}

impl TestPlatform {
    /// Gives the platform a certificate for all names of one label, and starts a server that has read it.
    fn bring_certificate(&self, authority: &Authority) {
        let issued = authority.issue(self.scratch(), "platform", &["*.paas.test"], 2024..2040);
        let chain = self.scratch().join("platform.pem");
        fs::write(&chain, format!("{}{}", issued.pem, authority.intermediate_pem)).unwrap();
        let settings = self.data().join("settings.toml");
        let with = format!("[api]\ncertificate_file = {chain:?}\nkey_file = {:?}\n", issued.key_path);
        let text = fs::read_to_string(&settings).unwrap().replacen("[api]\n", &with, 1);
        fs::write(&settings, text).unwrap();
        self.restart_server();
        let client = authority.client();
        wait_until("the certificate is shown", || TlsConnection::open_tls(self.https_port, HOST, &client).is_ok());
    }
}
