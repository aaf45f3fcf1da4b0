//! Certificates from the client that uploads them to the one that is shown them.

use std::fs;

use crate::heroku_cli::answered;
use crate::platform::TestPlatform;
use crate::tls::{Authority, TlsConnection};
use crate::wait::wait_until;

impl TestPlatform {
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.scratch().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_certificate_reaches_visitors_and_is_changed_under_them() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    platform.heroku("domains:add www.example.com -a shop");
    let authority = Authority::new();
    let client = authority.client();
    let open = |host: &str| TlsConnection::open_tls(platform.https_port, host, &client);
    assert!(open("www.example.com").is_err(), "nobody gave a certificate yet");

    // In the wrong order and with the root, as people have them.
    let first = authority.issue(platform.scratch(), "first", &["www.example.com"], 2024..2035);
    let chain = format!("{}{}{}", authority.root_pem, authority.intermediate_pem, first.pem);
    let (chain, key) = (platform.file("first.crt", &chain), first.key_path.to_str().unwrap());
    let mut add = platform.heroku_command(&["certs:add", &chain, key, "-a", "shop"]);
    let added = answered(&mut add, &[("select domains", " ")]);
    assert_eq!(added.code, Some(0), "{}", added.both());
    added.says("they are sent sorted").shows("Test CA 1");
    let domain = platform.get("/apps/shop/domains/www.example.com");
    let name = domain["sni_endpoint"]["name"].as_str().unwrap().to_owned();
    wait_until("visitors are shown the certificate", || open("www.example.com").is_ok());
    let mut kept = open("www.example.com").unwrap();
    assert_eq!(kept.shown(), first.der);
    assert_eq!(kept.visit("www.example.com").unwrap(), 200);

    let second = authority.issue(platform.scratch(), "second", &["www.example.com"], 2025..2035);
    let chain = platform.file("second.crt", &format!("{}{}", second.pem, authority.intermediate_pem));
    let key = second.key_path.to_str().unwrap();
    platform.heroku_run(&["certs:update", &chain, key, "-a", "shop", "--confirm", "shop"]).shows("done");
    wait_until("visitors are shown the new one", || open("www.example.com").unwrap().shown() == second.der);
    assert_eq!(kept.visit("www.example.com").unwrap(), 200, "a connection outlives its certificate");
    platform.heroku("certs:info -a shop").shows("www.example.com").shows("2035-01-01");

    // The router has it from its disk, whoever else is there.
    platform.kill_role("router");
    wait_until("the next router shows it", || {
        open("www.example.com").is_ok_and(|connection| connection.shown() == second.der)
    });

    platform.heroku(&format!("certs:remove --name {name} -a shop --confirm shop")).shows("done");
    wait_until("visitors are shown it no longer", || open("www.example.com").is_err());
    platform.heroku("logs -a shop -n 50").says("www.example.com has no certificate any more");
}

#[test]
fn a_wildcard_domain_is_one_label_with_one_certificate() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    platform.create("other");
    let authority = Authority::new();
    let client = authority.client();
    let issued = authority.issue(platform.scratch(), "wild", &["*.shop.example", "shop.example"], 2024..2035);
    let chain = platform.file("wild.crt", &format!("{}{}", issued.pem, authority.intermediate_pem));
    platform.heroku_run(&["certs:add", &chain, issued.key_path.to_str().unwrap(), "-a", "shop"]).shows("done");
    let name = platform.get("/apps/shop/sni-endpoints")[0]["name"].as_str().unwrap().to_owned();
    platform.heroku(&format!("domains:add *.shop.example -a shop --cert {name}")).shows("done");
    let visit = |host: &str| {
        let mut connection = TlsConnection::open_tls(platform.https_port, host, &client).ok()?;
        Some((connection.visit(host).unwrap(), connection.shown() == issued.der))
    };
    wait_until("any name is served", || visit("a.shop.example") == Some((200, true)));
    assert_eq!(visit("b.shop.example"), Some((200, true)));
    assert_eq!(visit("a.b.shop.example"), None, "a wildcard is one label");
    assert_eq!(visit("shop.example"), None, "no domain of any app");

    // A name of its own is another app's, and has the certificate that was chosen for it, or none.
    platform.heroku("domains:add a.shop.example -a other").shows("done");
    wait_until("the name is the other app's", || visit("a.shop.example").is_some_and(|(status, _shown)| status != 200));
    let warned = platform.heroku(&format!("domains:add shop.test -a shop --cert {name}"));
    warned.says("the certificate does not name shop.test");
}

#[test]
fn what_cannot_serve_is_refused_in_words_that_help() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    let authority = Authority::new();
    let dir = platform.scratch();
    let issued = authority.issue(dir, "good", &["www.example.com"], 2024..2035);
    let old = authority.issue(dir, "old", &["www.example.com"], 2024..2025);
    let path = |issued: &crate::tls::Issued| issued.key_path.to_str().unwrap().to_owned();
    let good = platform.file("good.crt", &issued.pem);
    let expired = platform.file("old.crt", &old.pem);
    let add = |chain: &str, key: &str| {
        let ran = platform.heroku_run(&["certs:add", chain, key, "-a", "shop"]);
        assert_ne!(ran.code, Some(0), "{}", ran.both());
        ran
    };
    add(&good, &path(&old)).says("give the key that the certificate was requested with");
    add(&expired, &path(&old)).says("the certificate expired on 2025-01-01").says("renew it");
    add(&path(&issued), &path(&issued)).says("the chain holds a private key");
    add(&platform.file("nothing.crt", "hello"), &path(&issued)).says("the chain holds no certificate");
    add(&platform.file("ca.crt", &authority.intermediate_pem), &path(&issued)).says("belongs to none");

    let ran = platform.heroku_run(&["certs:add", &good, &path(&issued), "-a", "shop"]);
    assert_eq!(ran.code, Some(0), "{}", ran.both());
    ran.says("the intermediate certificate of Test CA 1 is missing");
    let name = platform.get("/apps/shop/sni-endpoints")[0]["name"].as_str().unwrap().to_owned();
    platform.heroku_fails(&format!("certs:update {expired} {} -a shop --confirm shop", path(&old))).says("renew it");
    assert_eq!(platform.get("/apps/shop/sni-endpoints")[0]["ssl_cert"]["expires_at"], "2035-01-01T00:00:00Z");
    platform.heroku(&format!("certs:remove --name {name} -a shop --confirm shop")).shows("done");
    platform.heroku_fails(&format!("certs:remove --name {name} -a shop --confirm shop")).says("no SSL certificates");
}
