//! Certificates that nobody uploads: ordered from a real authority, shown, renewed.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::cloudflare::{Cloudflare, TOKEN};
use crate::pebble::{BLOCKED, Pebble};
use crate::platform::TestPlatform;
use crate::tls::TlsConnection;
use crate::wait::{wait_for, wait_until};

/// Longer than a test, as certificates usually are.
pub(crate) const QUARTER_SECONDS: u32 = 90 * 24 * 60 * 60;

impl TestPlatform {
    /// Adds to the settings, and starts a server that has read them.
    pub(crate) fn reconfigure(&self, section: &str) {
        let path = self.data().join("settings.toml");
        let settings = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{settings}\n{section}")).unwrap();
        self.restart_server();
    }

    pub(crate) fn restart_server(&self) {
        let before = self.kill_role("server");
        wait_until("another server", || self.role("server").is_some_and(|pid| pid != before));
        wait_until("the API answers", || self.is_connected());
    }

    fn acm(&self, host: &str) -> (String, String) {
        let domain = self.get(&format!("/apps/shop/domains/{host}"));
        let text = |field: &str| domain[field].as_str().unwrap_or_default().to_owned();
        (text("acm_status"), text("acm_status_reason"))
    }

    fn waits_for_acm(&self, host: &str, status: &str) {
        wait_until(&format!("{host} is {status}"), || self.acm(host).0 == status);
    }
}

#[test]
fn certificates_are_ordered_for_domains_and_failures_say_what_to_do() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let Some(pebble) = Pebble::start(&platform, QUARTER_SECONDS) else { return };
    platform.python_web("shop");
    platform.heroku("domains:add www.example.com -a shop");
    platform.heroku_fails("certs:auto:enable -a shop").says("terms_agreed = true").says("api.letsencrypt.org");
    platform.reconfigure(&pebble.settings(&platform, "challenges = [\"http-01\"]"));
    platform.heroku("certs:auto:enable -a shop").shows("starting");
    platform.waits_for_acm("www.example.com", "cert issued");
    let client = pebble.client();
    let visit = |host: &str| {
        let mut connection = TlsConnection::open_tls(platform.https_port, host, &client).ok()?;
        connection.visit(host).ok()
    };
    wait_until("visitors are shown the certificate", || visit("www.example.com") == Some(200));
    platform.heroku("certs:auto -a shop").shows("enabled").shows("Cert issued").shows("Renewal scheduled");
    platform.heroku("certs -a shop").shows("ACM").shows("www.example.com");
    platform.heroku("logs -a shop -n 100").shows("Certificate for www.example.com issued");

    // Nobody answers where DNS leads; then somebody does.
    pebble.dns("add-a", &json!({ "host": "api.example.com.", "addresses": ["127.0.0.9"] }));
    platform.heroku("domains:add api.example.com -a shop");
    platform.waits_for_acm("api.example.com", "failing");
    let (_status, reason) = platform.acm("api.example.com");
    assert!(reason.contains("lead its DNS record to shop.localhost"), "{reason}");
    platform.heroku("certs:auto -a shop").shows("Failing");
    platform.heroku("logs -a shop -n 100").shows("No certificate for api.example.com yet: ");
    pebble.dns("clear-a", &json!({ "host": "api.example.com." }));
    platform.heroku("certs:auto:refresh -a shop").shows("done");
    platform.waits_for_acm("api.example.com", "cert issued");
    assert!(platform.acm("api.example.com").1.is_empty());

    let blocked = format!("www.{BLOCKED}");
    platform.heroku(&format!("domains:add {blocked} -a shop"));
    platform.waits_for_acm(&blocked, "failing");
    let (_status, reason) = platform.acm(&blocked);
    assert!(reason.contains("issues no certificates for") && reason.contains("heroku certs:add"), "{reason}");

    // A server that ends in the middle of an order leaves it to the next one.
    platform.heroku("domains:add new.example.com -a shop");
    platform.restart_server();
    platform.waits_for_acm("new.example.com", "cert issued");
    wait_until("visitors are shown that one, too", || visit("new.example.com") == Some(200));

    // What is managed is not done by hand.
    assert_eq!(platform.get("/apps/shop/domains/api.example.com")["sni_endpoint"]["name"], "managed");
    platform.heroku_fails("domains:update api.example.com --cert x -a shop").says("certs:auto:disable");
    platform.heroku_fails("certs:remove -a shop --confirm shop").says("certs:auto:disable");
    platform.heroku("certs:info -a shop").shows("new.example.com");

    platform.heroku("certs:auto:disable -a shop --confirm shop").shows("done");
    wait_until("nothing is shown any more", || visit("www.example.com").is_none());
    // A domain that comes back has its certificate back: another order would count against the authority's limits.
    platform.heroku("domains:remove www.example.com -a shop").shows("done");
    platform.heroku("certs:auto:enable -a shop").shows("starting");
    platform.heroku("domains:add www.example.com -a shop");
    platform.waits_for_acm("www.example.com", "cert issued");
    let issued = platform.heroku("logs -a shop -n 200").both();
    assert_eq!(issued.matches("Certificate for www.example.com issued").count(), 1, "{issued}");
}

#[test]
fn certificates_are_issued_over_tls_alone_and_renewed_in_time() {
    let Some(platform) = TestPlatform::start() else { return };
    // Long enough for a busy machine to notice it in time, short enough to wait for two thirds of it.
    let Some(pebble) = Pebble::start(&platform, 45) else { return };
    platform.python_web("shop");
    platform.reconfigure(&pebble.settings(&platform, "challenges = [\"tls-alpn-01\"]"));
    platform.ask("POST", "/apps/shop/domains", &json!({ "hostname": "www.example.com", "sni_endpoint": null }));
    platform.ask("POST", "/apps/shop/acm", &json!({}));
    platform.waits_for_acm("www.example.com", "cert issued");
    let client = pebble.client();
    let open = || TlsConnection::open_tls(platform.https_port, "www.example.com", &client).ok();
    let mut kept = wait_for("visitors are shown the certificate", open);
    let first = kept.shown();
    assert_eq!(kept.visit("www.example.com").unwrap(), 200);
    wait_until("a new certificate before the old one ends", || {
        open().expect("a certificate that is good").shown() != first
    });
    assert_eq!(kept.visit("www.example.com").unwrap(), 200, "a connection outlives its certificate");
}

#[test]
fn a_wildcard_is_proved_by_a_record_that_goes_away_again() {
    let Some(platform) = TestPlatform::start() else { return };
    let Some(pebble) = Pebble::start(&platform, QUARTER_SECONDS) else { return };
    let cloudflare = Cloudflare::start(pebble.dns_manager());
    platform.python_web("shop");
    platform.reconfigure(&pebble.settings(&platform, ""));
    platform.ask("POST", "/apps/shop/acm", &json!({}));
    platform.ask("POST", "/apps/shop/domains", &json!({ "hostname": "*.example.com", "sni_endpoint": null }));
    platform.waits_for_acm("*.example.com", "failing");
    assert!(platform.acm("*.example.com").1.contains("`berth certs:dns:add`"), "{:?}", platform.acm("*.example.com"));

    let add = ["certs:dns:add", "example.com", "--provider", "cloudflare", "--endpoint", &cloudflare.endpoint];
    let mut client =
        platform.client(platform.scratch(), &add).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    client.stdin.take().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).unwrap();
    assert!(client.wait_with_output().unwrap().status.success());
    let zones = platform.must(&["certs:dns", "--json"]);
    assert!(zones.contains("cloudflare") && !zones.contains(TOKEN), "{zones}");
    platform.ask("PATCH", "/apps/shop/acm", &json!({ "acm_refresh": true }));
    platform.waits_for_acm("*.example.com", "cert issued");
    assert_eq!(cloudflare.seen(), ["_acme-challenge.example.com"]);
    wait_until("the record is gone", || cloudflare.standing().is_empty());
    let client = pebble.client();
    let visit = |host: &str| {
        let mut connection = TlsConnection::open_tls(platform.https_port, host, &client).ok()?;
        connection.visit(host).ok()
    };
    wait_until("any name is shown it", || visit("anything.example.com") == Some(200));

    // Credentials that are wrong are said to be, and shown nowhere.
    let (wrong_token, database) = ("wrong-token-of-the-test", platform.data().join("berth.db"));
    let wrong = platform.client(platform.scratch(), &add).env("CLOUDFLARE_API_TOKEN", wrong_token).output().unwrap();
    assert!(wrong.status.success());
    platform.ask("POST", "/apps/shop/domains", &json!({ "hostname": "www.example.com", "sni_endpoint": null }));
    platform.waits_for_acm("www.example.com", "failing");
    assert!(platform.acm("www.example.com").1.contains("Cloudflare refused (403): no such thing for you"));
    let bytes = fs::read(database).unwrap();
    for secret in [TOKEN, wrong_token] {
        assert!(!platform.log().contains(secret) && !bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
    let elsewhere = ["certs:dns:add", "example.com", "--provider", "route53", "--endpoint", "http://example.net"];
    let mut refused = platform.client(platform.scratch(), &elsewhere);
    let refused = refused.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("begins with https://"), "{refused:?}");
    platform.must(&["certs:dns:remove", "example.com"]);
    assert_eq!(platform.berth(&["certs:dns:remove", "example.com"]).code, Some(1));
    assert_eq!(platform.must(&["certs:dns", "--json"]).trim(), "[]");
}
