//! Pebble, the certificate authority for tests, with a DNS that says what a test wants.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::http::Connection;
use crate::platform::{TestPlatform, skipped};
use crate::tls::{Authority, TlsConnection, trusting};
use crate::wait::{wait_for, wait_until};

/// Hosts below it are not issued for.
pub(crate) const BLOCKED: &str = "blocked.example";

#[derive(Debug)]
pub(crate) struct Pebble {
    authority: Authority,
    programs: Vec<Child>,
    port: u16,
    management_port: u16,
    dns_management_port: u16,
}

impl Pebble {
    /// An authority that reaches the platform's router at its ports, whatever the host. `None` skips the test.
    pub(crate) fn start(platform: &TestPlatform, validity_seconds: u32) -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("-h").output().is_ok();
        if skipped((!has("pebble") || !has("pebble-challtestsrv")).then_some("needs pebble")) {
            return None;
        }
        let [port, management_port, dns_port, dns_management_port] = platform.more_ports();
        let dir = platform.scratch().join("pebble");
        fs::create_dir(&dir).unwrap();
        let authority = Authority::new();
        let own = authority.issue(&dir, "pebble", &["localhost"], 2024..2040);
        let certificate = dir.join("pebble.crt");
        fs::write(&certificate, format!("{}{}", own.pem, authority.intermediate_pem)).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management_port}"),
            "certificate": certificate,
            "privateKey": own.key_path,
            "httpPort": platform.http_port,
            "tlsPort": platform.https_port,
            "certificateValidityPeriod": validity_seconds,
            "domainBlocklist": [BLOCKED],
        }});
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let log = |name: &str| Stdio::from(File::create(dir.join(name)).unwrap());
        let dns = Command::new("pebble-challtestsrv")
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns_port}")])
            .args(["-management", &format!("127.0.0.1:{dns_management_port}")])
            .stdout(log("dns.log"))
            .stderr(log("dns.errors"))
            .spawn();
        let pebble = Command::new("pebble")
            .args(["-dnsserver", &format!("127.0.0.1:{dns_port}"), "-config"])
            .arg(dir.join("config.json"))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log("pebble.log"))
            .stderr(log("pebble.errors"))
            .spawn();
        let programs = vec![dns.unwrap(), pebble.unwrap()];
        let pebble = Self { authority, programs, port, management_port, dns_management_port };
        wait_until("the authority answers", || pebble.root().is_some());
        wait_until("its DNS answers", || Connection::open(dns_management_port).is_ok());
        Some(pebble)
    }

    /// The section of the settings that leads a platform here.
    pub(crate) fn settings(&self, platform: &TestPlatform, more: &str) -> String {
        let ca_file = platform.scratch().join("pebble/ca.pem");
        fs::write(&ca_file, &self.authority.root_pem).unwrap();
        format!(
            "[acme]\nterms_agreed = true\ncontact = \"ops@example.com\"\ndirectory = \"https://localhost:{}/dir\"\n\
             ca_file = {ca_file:?}\n{more}\n",
            self.port
        )
    }

    /// Clients that trust what it issues.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        trusting(wait_for("the authority's root", || self.root()))
    }

    /// The same for other programs.
    pub(crate) fn root_pem(&self) -> String {
        wait_for("the authority's root", || self.root_text())
    }

    fn root(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.root_text()?.as_bytes()).ok()
    }

    fn root_text(&self) -> Option<String> {
        let mut connection =
            TlsConnection::open_tls(self.management_port, "localhost", &self.authority.client()).ok()?;
        let host = format!("localhost:{}", self.management_port);
        connection.request("GET", "/roots/0", &[("Host", &host)], &[]).ok().map(|response| response.text())
    }

    /// Tells its DNS something.
    pub(crate) fn dns(&self, command: &str, body: &serde_json::Value) {
        self.dns_manager().tell(command, body);
    }

    pub(crate) const fn dns_manager(&self) -> DnsManager {
        DnsManager { port: self.dns_management_port }
    }
}

/// Says what the DNS of an authority says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DnsManager {
    port: u16,
}

impl DnsManager {
    pub(crate) fn tell(self, command: &str, body: &serde_json::Value) {
        let mut connection = Connection::open(self.port).unwrap();
        let path = format!("/{command}");
        let response = connection.request("POST", &path, &[("Host", "localhost")], body.to_string().as_bytes());
        assert_eq!(response.unwrap().status, 200, "{command} {body}");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for program in &mut self.programs {
            program.kill().and_then(|()| program.wait()).ok();
        }
    }
}
