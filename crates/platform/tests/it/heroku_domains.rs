//! The `heroku` client, custom domains and certificates.

use std::path::Path;
use std::process::Command;

use crate::heroku_cli::{answered, ran};
use crate::http::Connection;
use crate::platform::TestPlatform;
use crate::wait::wait_until;

impl TestPlatform {
    /// The status of a request for a host.
    fn visit_host(&self, host: &str) -> u16 {
        let mut connection = Connection::open(self.http_port).unwrap();
        connection.request("GET", "/", &[("Host", host), ("Connection", "close")], &[]).unwrap().status
    }
}

/// A certificate for these names and its key, as two files.
pub(crate) fn certificate(dir: &Path, name: &str, hosts: &[&str]) -> (String, String) {
    let (certificate, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90"])
        .args(["-subj", &format!("/CN={}", hosts[0]), "-addext", &format!("subjectAltName={}", names.join(","))])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key);
    let made = ran(&mut openssl);
    assert_eq!(made.code, Some(0), "{}", made.both());
    (certificate.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

#[test]
fn heroku_adds_domains_that_the_router_serves() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    platform.heroku("domains -a shop").shows("=== shop Heroku Domain").shows("shop.localhost");
    platform.heroku("domains:add WWW.Example.com -a shop --wait").shows("DNS Target shop.localhost");
    wait_until("the router serves the domain", || platform.visit_host("www.example.com") == 200);
    platform.heroku("domains -a shop").shows("www.example.com   CNAME");
    platform.heroku("domains:info www.example.com -a shop").shows("kind:       custom").shows("status:     succeeded");
    platform.heroku("domains:wait www.example.com -a shop");
    platform.create("other");
    platform.heroku_fails("domains:add www.example.com -a other").shows("already a domain of another app");
    platform.heroku_fails("domains:add www.example.com -a shop").shows("already a domain of this app");
    platform.heroku_fails("domains:add nodots -a shop").shows("not a host name");
    platform.heroku_fails("domains:add x.localhost -a shop").shows("platform's own domain");
    platform.heroku_fails("domains:remove shop.localhost -a shop").shows("keeps its name");
    platform.heroku("domains:remove www.example.com -a shop").shows("done");
    wait_until("the router has forgotten it", || platform.visit_host("www.example.com") != 200);
    platform.heroku("domains:add a.example.com -a shop");
    platform.heroku("domains:add b.example.com -a shop");
    platform.heroku("domains:clear -a shop").shows("done");
    assert_eq!(platform.get("/apps/shop/domains").as_array().unwrap().len(), 1);

    platform.heroku("domains:add c.example.com -a shop");
    platform.heroku("apps:destroy -a shop --confirm shop");
    platform.heroku("domains:add c.example.com -a other").shows("DNS Target other.localhost");
}

#[test]
fn heroku_brings_certificates_along() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku("certs -a shop").shows("no SSL certificates");
    platform.heroku("domains:add www.example.com -a shop");
    let (crt, key) = certificate(platform.scratch(), "one", &["www.example.com", "example.com"]);
    let (other_crt, other_key) = certificate(platform.scratch(), "two", &["www.example.com"]);
    platform
        .heroku_fails(&format!("certs:add {crt} {other_key} -a shop"))
        .says("the key belongs to none of the certificates");
    platform.heroku_fails(&format!("certs:add {key} {key} -a shop")).says("the chain holds a private key");
    let added =
        answered(&mut platform.heroku_command(&["certs:add", &crt, &key, "-a", "shop"]), &[("select domains", "")]);
    assert_eq!(added.code, Some(0), "{}", added.both());
    added.shows("www.example.com").shows("self signed");
    let endpoints = platform.get("/apps/shop/sni-endpoints");
    let name = endpoints[0]["name"].as_str().unwrap().to_owned();
    assert!(!endpoints.to_string().contains("PRIVATE KEY"));
    platform.heroku("certs -a shop").shows(&name).shows("SNI");
    platform.heroku("certs:info -a shop").shows("Common Name(s): www.example.com");
    platform.heroku(&format!("domains:update www.example.com --cert {name} -a shop")).shows("done");
    platform.heroku("domains -a shop").shows(&name);
    platform.heroku_run(&["certs:update", &other_crt, &other_key, "-a", "shop", "--confirm", "shop"]).shows("done");
    platform.heroku("certs:info -a shop");
    assert_ne!(platform.get("/apps/shop/sni-endpoints")[0]["ssl_cert"], endpoints[0]["ssl_cert"]);
    platform.heroku(&format!("certs:remove --name {name} -a shop --confirm shop")).shows("done");
    assert!(platform.get("/apps/shop/domains/www.example.com")["sni_endpoint"].is_null());

    platform.heroku("certs:auto -a shop").shows("disabled");
    platform.heroku_fails("certs:auto:refresh -a shop").says("certs:auto:enable");
}
