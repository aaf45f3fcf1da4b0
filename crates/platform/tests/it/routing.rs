//! What an app's owner may say about its requests, from the command line to the router's port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::heroku_drains::LOCAL_RECEIVERS;
use crate::http::{Connection, Response};
use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

impl TestPlatform {
    /// A request for a host, on a connection of its own.
    pub(crate) fn request(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let all = [&[("Host", host), ("Connection", "close")], headers].concat();
        Connection::open(self.http_port).unwrap().request(method, path, &all, body).unwrap()
    }

    /// What a command says that must fail.
    fn refuses(&self, arguments: &[&str]) -> String {
        let ended = self.berth(arguments);
        assert!(ended.code.is_some_and(|code| code != 0), "{arguments:?}: {ended:?}");
        ended.stderr
    }
}

const SHOP: &str = "shop.localhost";

#[test]
fn limits_and_compression_are_set_by_the_app_and_survive_restarts() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let shown = platform.must(&["routing", "-a", "shop"]);
    assert!(
        shown.contains("timeout:          30s\n") && shown.contains("error page:       the platform's\n"),
        "{shown}"
    );

    let set = ["routing:set", "timeout=1s", "request-size=1kB", "compression=on", "-a", "shop"];
    let shown = platform.must(&set);
    assert!(shown.contains("timeout:          1s\n") && shown.contains("request-size:     1kB\n"), "{shown}");
    let too_long = || platform.request("POST", SHOP, "/", &[], &[b'x'; 1001]);
    wait_until("a long body is refused", || too_long().status == 413);
    assert_eq!(platform.request("POST", SHOP, "/", &[], &[b'x'; 1000]).status, 200);
    let slow = platform.request("GET", SHOP, "/slow?seconds=10", &[("Accept", "application/json")], &[]);
    assert_eq!((slow.status, slow.text().contains("\"H12\"")), (503, true), "{}", slow.text());
    let packed = platform.request("GET", SHOP, "/long?bytes=5000", &[("Accept-Encoding", "gzip")], &[]);
    assert_eq!((packed.header("content-encoding"), packed.body.len() < 500), (Some("gzip"), true));
    platform.logged("shop", "app[api]: Set routing compression=on request-size=1kB timeout=1s by user ");

    // It is desired state: the next server and the next router have it, too.
    platform.kill_role("router");
    wait_until("the next router refuses", || platform.is_connected() && too_long().status == 413);
    platform.kill_role("server");
    wait_until("the next server knows", || platform.is_connected());
    assert_eq!(platform.get("/berth/apps/shop/routing")["timeout_ms"], 1000);
    assert_eq!(too_long().status, 413);

    platform.must(&["routing:unset", "request-size", "timeout", "-a", "shop"]);
    wait_until("a long body is taken again", || too_long().status == 200);
    let routing: serde_json::Value =
        serde_json::from_str(&platform.must(&["routing", "-a", "shop", "--json"])).unwrap();
    assert_eq!((&routing["compression"], &routing["timeout_ms"]), (&json!(true), &json!(30_000)));
    let audit = platform.get("/berth/audit");
    let entries = audit.as_array().unwrap().iter().filter(|entry| entry["target"] == "/berth/apps/shop/routing");
    assert_eq!(entries.count(), 2, "{audit}");

    assert!(platform.refuses(&["routing:set", "timeout=2h", "-a", "shop"]).contains("from 100ms to 1h"));
    assert!(platform.refuses(&["routing:set", "timeout=soon", "-a", "shop"]).contains("500ms, 30s"));
    assert!(platform.refuses(&["routing:set", "color=red", "-a", "shop"]).contains("there is no setting"));
    assert!(platform.refuses(&["routing:set", "hsts=1y,preload", "-a", "shop"]).contains("includeSubDomains"));
    let (status, answer) = platform.api("PATCH", "/berth/apps/shop/routing", &json!({"timeout": 5})).unwrap();
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn dynos_of_a_larger_size_are_heavier_in_the_route_table() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let table = || {
        let files = ["table.json", "table.log"].map(|name| platform.data().join("router").join(name));
        files.map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()).concat()
    };
    assert!(!table().contains("\"weight\""), "the usual size needs no word");
    platform.must(&["ps:type", "web=standard-2x", "-a", "shop"]);
    wait_until("a dyno of the new size serves", || table().contains("\"weight\":200"));
    assert_eq!(platform.request("GET", SHOP, "/", &[], &[]).status, 200);
}

#[test]
fn an_app_shows_pages_of_its_own() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let page = platform.scratch().join("soon.html");
    std::fs::write(&page, "<h1>Back soon</h1>").unwrap();
    platform.must(&["routing:page", "maintenance", page.to_str().unwrap(), "-a", "shop"]);
    platform.must(&["maintenance:on", "-a", "shop"]);
    let shown = |accept: &str| platform.request("GET", SHOP, "/", &[("Accept", accept)], &[]);
    wait_until("the page is shown", || shown("text/html").text() == "<h1>Back soon</h1>");
    assert_eq!(shown("text/html").status, 503);
    assert!(shown("application/json").text().contains("\"H80\""), "whoever asks for JSON gets JSON");
    assert_eq!(platform.must(&["routing:page", "maintenance", "-a", "shop"]), "<h1>Back soon</h1>");

    // As on Heroku: an address in a config var, shown in a frame. A page set by hand counts more.
    platform.configure("shop", &json!({"MAINTENANCE_PAGE_URL": "https://pages.example/soon", "ERROR_PAGE_URL": "no"}));
    assert_eq!(shown("text/html").text(), "<h1>Back soon</h1>");
    platform.must(&["routing:page", "maintenance", "--clear", "-a", "shop"]);
    wait_until("the frame is shown", || {
        shown("text/html").text().contains("<iframe src=\"https://pages.example/soon\">")
    });
    assert!(platform.must(&["routing", "-a", "shop"]).contains("maintenance page: https://pages.example/soon\n"));
    platform.configure("shop", &json!({"MAINTENANCE_PAGE_URL": null, "ERROR_PAGE_URL": "https://pages.example/sorry"}));
    wait_until("the platform's own is shown", || shown("text/html").text().contains("H80"));

    platform.must(&["maintenance:off", "-a", "shop"]);
    platform.scale_and_wait("shop", 0);
    wait_until("the error page is shown", || shown("text/html").text().contains("https://pages.example/sorry"));
    std::fs::write(&page, "x".repeat(70_000)).unwrap();
    let long = platform.refuses(&["routing:page", "error", page.to_str().unwrap(), "-a", "shop"]);
    assert!(long.contains("68.3 KiB") && long.contains("64.0 KiB"), "{long}");
}

/// Speaks HTTP/2 without TLS and nothing else.
const H2C_SERVER: &str = r#"
const http2 = require("node:http2");
const server = http2.createServer((request, response) => response.end(`spoken over ${request.httpVersion}\n`));
server.listen(process.env.PORT, "0.0.0.0");
"#;

#[test]
fn a_dyno_that_speaks_only_http2_serves_once_the_app_says_so() {
    let Some(platform) = TestPlatform::with_limits("boot_seconds = 6") else { return };
    platform.create("shop");
    let source = Source::procfile("web: node server.js\n").file("server.js", H2C_SERVER);
    assert_eq!(platform.deploy("shop", &source).state, "failed");
    platform.must(&["routing:set", "dyno-protocol=h2c", "-a", "shop"]);
    platform.serve("shop", &source);
    assert_eq!(platform.text("shop", "/"), "spoken over 2.0\n");
}

#[test]
fn dynos_that_run_are_spoken_to_as_before_when_their_app_changes_its_protocol() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.scale_and_wait("shop", 2);
    platform.must(&["health:set", "-a", "shop", "path=/health", "interval=1s", "timeout=1s", "failures=1"]);
    let load = Load::quick(&platform, "shop");
    platform.must(&["routing:set", "dyno-protocol=h2c", "-a", "shop"]);
    // The check goes on to ask what only a dyno that is understood can answer.
    wait_until("web.1 is sick", || platform.text("shop", "/sicken?dyno=web.1").contains("dyno=web.1 "));
    let line = platform.logged("shop", "heroku[web.1]: Unhealthy after 1 failed check");
    assert!(line.contains("GET /health with Host: shop.localhost was answered with 500, not 200-399"), "{line}");
    platform.kill_role("server");
    wait_until("the next server is there", || platform.is_connected());
    assert!(platform.text("shop", "/").starts_with("version=1 "));

    let answer = "version=2 over ${request.httpVersion}";
    let server = H2C_SERVER.replace("spoken over ${request.httpVersion}", answer);
    platform.serve("shop", &Source::procfile("web: node server.js\n").file("server.js", &server));
    wait_until("the new dynos serve alone", || platform.text("shop", "/") == "version=2 over 2.0\n");
    let answered = load.requests_so_far();
    wait_until("visitors have seen them", || load.requests_so_far() > answered + 100);
    assert_eq!(load.finish().failures, Vec::<String>::new());
}

/// The head of what curl gets from the app over TLS.
fn head_over_tls(platform: &TestPlatform) -> String {
    let port = platform.https_port;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--include", "--max-time", "20"]).args([
        "--resolve",
        &format!("{SHOP}:{port}:127.0.0.1"),
        &format!("https://{SHOP}:{port}/"),
    ]);
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().to_ascii_lowercase()
}

#[test]
fn visitors_are_led_to_https_and_told_to_stay_there() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let head = head_over_tls(&platform);
    assert!(head.contains(" 200") && head.contains("version=1") && !head.contains("strict-transport"), "{head}");
    platform.must(&["routing:set", "https-only=on", "hsts=1y,includeSubDomains", "-a", "shop"]);
    let plain = |method: &str| platform.request(method, SHOP, "/a?b=c", &[], &[]);
    wait_until("plain HTTP is led away", || plain("GET").status == 301);
    let expect = format!("https://{SHOP}:{}/a?b=c", platform.https_port);
    assert_eq!(plain("GET").header("location"), Some(expect.as_str()));
    assert_eq!(plain("POST").status, 308, "a form stays a form");
    let head = head_over_tls(&platform);
    assert!(head.contains("strict-transport-security: max-age=31536000; includesubdomains\r\n"), "{head}");
    assert!(head.contains(" 200"), "{head}");
    platform.must(&["routing:set", "https-only=off", "hsts=off", "-a", "shop"]);
    wait_until("plain HTTP is served again", || platform.visit("shop", "/").unwrap().status == 200);
    assert!(!head_over_tls(&platform).contains("strict-transport"));
}

/// An old host: says which host it was asked for.
pub(crate) fn old_host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let host = head.iter().find(|line| line.to_ascii_lowercase().starts_with("host:")).cloned();
                let body = format!("old {}\n", host.unwrap_or_default());
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).ok();
            });
        }
    });
    port
}

#[test]
fn a_domain_is_passed_on_to_the_old_host_until_the_app_moves_in() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    platform.must(&["domains:add", "www.example.com", "-a", "shop"]);
    let shown = |host: &str| platform.request("GET", host, "/", &[], &[]);
    wait_until("the domain is served", || shown("www.example.com").text().starts_with("version=1"));

    let url = format!("http://127.0.0.1:{}", old_host());
    let said = platform.must(&["domains:front", "www.example.com", &url, "-a", "shop"]);
    assert_eq!(said, format!("www.example.com leads to {url}.\n"));
    wait_until("the old host is asked", || shown("www.example.com").text() == "old host: www.example.com\n");
    // The app can be looked at meanwhile.
    assert!(platform.text("shop", "/").starts_with("version=1"));
    let line = platform.logged("shop", "host=www.example.com ");
    assert!(platform.logged("shop", " dyno=upstream ").contains("status=200"), "{line}");
    let listed = platform.must(&["domains", "-a", "shop"]);
    assert!(
        listed.contains(&format!("www.example.com  {url}")) && listed.contains("shop.localhost   dynos"),
        "{listed}"
    );
    platform.heroku_like_domains();

    platform.must(&["maintenance:on", "-a", "shop"]);
    wait_until("maintenance is for the whole app", || shown("www.example.com").text().contains("H80"));
    platform.must(&["maintenance:off", "-a", "shop"]);

    let own = platform.refuses(&["domains:front", "shop.localhost", &url, "-a", "shop"]);
    assert!(own.contains("always leads to the app's dynos"), "{own}");
    let circle = platform.refuses(&["domains:front", "www.example.com", "https://www.example.com", "-a", "shop"]);
    assert!(circle.contains("would come back"), "{circle}");
    let inside = platform.refuses(&["domains:front", "www.example.com", "http://169.254.169.254", "-a", "shop"]);
    assert!(inside.contains("169.254.169.254 is not on the internet"), "{inside}");
    let path = platform.refuses(&["domains:front", "www.example.com", "https://old.example/shop", "-a", "shop"]);
    assert!(path.contains("without a path"), "{path}");
    assert!(platform.refuses(&["domains:front", "www.example.com", "-a", "shop"]).contains("--clear"));

    platform.must(&["domains:front", "www.example.com", "--clear", "-a", "shop"]);
    wait_until("the app has moved in", || shown("www.example.com").text().starts_with("version=1"));
}

impl TestPlatform {
    /// Heroku's resource stays Heroku's.
    fn heroku_like_domains(&self) {
        let domains = self.get("/apps/shop/domains");
        assert!(domains.as_array().unwrap().iter().all(|domain| domain.get("upstream").is_none()), "{domains}");
    }
}

#[test]
fn an_old_host_whose_certificate_is_not_the_domains_is_not_trusted_and_the_log_says_so() {
    let Some(platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    let dir = platform.scratch();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=other.example",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "key.pem",
            "-out",
            "crt.pem",
        ])
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let [port] = platform.more_ports();
    let mut old = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-cert", "crt.pem", "-key", "key.pem", "-accept", &port.to_string()])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the old host listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    platform.must(&["domains:add", "www.example.com", "-a", "shop"]);
    platform.must(&["domains:front", "www.example.com", &format!("https://127.0.0.1:{port}"), "-a", "shop"]);
    let shown = || platform.request("GET", "www.example.com", "/", &[], &[]);
    wait_until("the old host is refused", || shown().status == 503);
    let line = platform.logged("shop", "code=H21 ");
    assert!(line.contains("cause=\"upstream's certificate is of no authority that this machine trusts\""), "{line}");
    old.kill().unwrap();
    old.wait().unwrap();
}
