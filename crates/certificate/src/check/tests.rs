use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519,
};

use super::*;
use crate::covers;

const DAY: i64 = 24 * 60 * 60;

fn now() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str, hosts: &[&str], days: std::ops::Range<i64>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |day: i64| {
        let date = (now() + SignedDuration::from_secs(day * DAY)).to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (at(days.start), at(days.end));
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &[], -100..3_000);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn intermediate(&self, name: &str, days: std::ops::Range<i64>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &[], days);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, hosts: &[&str], days: std::ops::Range<i64>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params("shop", hosts, days).signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn public() -> (Authority, Authority) {
    let root = Authority::root("Example Root");
    let intermediate = root.intermediate("Example CA 1", -50..1_000);
    (root, intermediate)
}

fn fault(chain: &str, key: &str) -> Fault {
    let mut faults = check(chain, key, now()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

fn warnings(chain: &str, key: &str) -> Vec<Warning> {
    check(chain, key, now()).unwrap().warnings
}

#[test]
fn a_whole_chain_is_told_what_it_is() {
    let (_root, intermediate) = public();
    let (own, key) = intermediate.issue(&["Shop.example", "*.shop.example", "10.0.0.1"], -1..60);
    let chain = format!("{own}{}", intermediate.pem);
    let checked = check(&chain, &key, now()).unwrap();
    assert_eq!(checked.facts.hosts, ["shop.example", "*.shop.example", "10.0.0.1"]);
    assert_eq!((checked.facts.subject.as_str(), checked.facts.issuer.as_str()), ("shop", "Example CA 1"));
    assert_eq!(checked.facts.issuance, Issuance::Authority);
    assert_eq!(checked.facts.not_after, "2026-12-31T00:00:00Z".parse().unwrap());
    assert_eq!(checked.facts.fingerprint.len(), 64);
    assert_eq!(checked.warnings, []);
    assert_eq!(check(&checked.chain, &key, now()).unwrap(), checked, "what comes out is in order");
}

#[test]
fn certificates_are_sorted_and_what_is_not_needed_is_left_out() {
    let (root, intermediate) = public();
    let (own, key) = intermediate.issue(&["shop.example"], -1..60);
    let stranger = Authority::root("Stranger");
    let expect = check(&format!("{own}{}", intermediate.pem), &key, now()).unwrap().chain;
    let checked = check(&format!("{}{}{}{own}", root.pem, stranger.pem, intermediate.pem), &key, now()).unwrap();
    assert_eq!(checked.chain, expect);
    assert_eq!(checked.warnings, [Warning::Unrelated { subject: "Stranger".to_owned() }, Warning::Sorted]);
}

#[test]
fn of_two_certificates_with_one_key_the_renewed_one_is_taken() {
    let (_root, intermediate) = public();
    let key = KeyPair::generate().unwrap();
    let issue = |days| params("shop", &["shop.example"], days).signed_by(&key, &intermediate.issuer).unwrap().pem();
    let (old, new) = (issue(-90..-1), issue(-10..60));
    let expect = check(&format!("{new}{}", intermediate.pem), &key.serialize_pem(), now()).unwrap().chain;
    for own in [format!("{old}{new}"), format!("{new}{old}")] {
        let checked = check(&format!("{own}{}", intermediate.pem), &key.serialize_pem(), now()).unwrap();
        assert_eq!(checked.chain, expect);
    }
    assert!(matches!(fault(&format!("{old}{}", intermediate.pem), &key.serialize_pem()), Fault::Expired { .. }));
}

#[test]
fn an_issuer_of_the_same_name_with_another_key_is_not_the_issuer() {
    let (root, intermediate) = public();
    let impostor = root.intermediate("Example CA 1", -50..1_000);
    let (own, key) = intermediate.issue(&["shop.example"], -1..60);
    let found = warnings(&format!("{own}{}", impostor.pem), &key);
    assert!(matches!(&found[..], [Warning::MissingIntermediate { .. }, Warning::Unrelated { .. }]), "{found:?}");
}

#[test]
fn of_two_certificates_of_an_issuer_the_one_that_has_not_expired_is_taken() {
    let root = Authority::root("Example Root");
    let key = KeyPair::generate().unwrap();
    let [mut old, mut new] = [-90..-1, -2..1_000].map(|days| params("Example CA 1", &[], days));
    (old.is_ca, new.is_ca) = (IsCa::Ca(BasicConstraints::Unconstrained), IsCa::Ca(BasicConstraints::Unconstrained));
    let [old_pem, new_pem] = [&old, &new].map(|params| params.clone().signed_by(&key, &root.issuer).unwrap().pem());
    let own_key = KeyPair::generate().unwrap();
    let own = params("shop", &["shop.example"], -1..60).signed_by(&own_key, &Issuer::new(new, key)).unwrap().pem();
    let checked = check(&format!("{own}{old_pem}{new_pem}"), &own_key.serialize_pem(), now()).unwrap();
    assert_eq!(checked.chain, format!("{own}{new_pem}").replace("\r\n", "\n"));
}

#[test]
fn a_missing_intermediate_is_named() {
    let (_root, intermediate) = public();
    let (own, key) = intermediate.issue(&["shop.example"], -1..60);
    let found = warnings(&own, &key);
    assert_eq!(
        found[0].to_string(),
        "the intermediate certificate of Example CA 1 is missing: some clients will refuse the site; append it"
    );
}

#[test]
fn special_issuers_are_recognised() {
    let key = KeyPair::generate().unwrap();
    let own = params("shop", &["shop.example"], -1..60).self_signed(&key).unwrap().pem();
    let checked = check(&own, &key.serialize_pem(), now()).unwrap();
    assert_eq!((checked.facts.issuance, checked.warnings), (Issuance::SelfSigned, vec![Warning::SelfSigned]));

    let root_key = KeyPair::generate().unwrap();
    let mut root = params("", &[], -100..5_000);
    root.distinguished_name = DistinguishedName::new();
    root.distinguished_name.push(DnType::OrganizationName, "CloudFlare, Inc.");
    root.distinguished_name.push(DnType::OrganizationalUnitName, "CloudFlare Origin SSL Certificate Authority");
    let issuer = Issuer::new(root, root_key);
    let own = params("CloudFlare Origin Certificate", &["*.shop.example"], -1..5_000).signed_by(&key, &issuer).unwrap();
    let checked = check(&own.pem(), &key.serialize_pem(), now()).unwrap();
    assert_eq!(checked.facts.issuance, Issuance::CloudflareOrigin);
    assert_eq!(checked.warnings, [Warning::CloudflareOrigin]);
}

#[test]
fn dates_are_compared_with_now() {
    let (root, intermediate) = public();
    let check = |days: std::ops::Range<i64>| {
        let (own, key) = intermediate.issue(&["shop.example"], days);
        super::check(&format!("{own}{}", intermediate.pem), &key, now())
    };
    assert!(matches!(check(-90..-1).unwrap_err()[..], [Fault::Expired { .. }]));
    assert!(matches!(check(2..90).unwrap_err()[..], [Fault::NotYetValid { .. }]));
    assert!(matches!(check(-80..10).unwrap().warnings[..], [Warning::ExpiresSoon { .. }]));
    let old = root.intermediate("Old CA", -90..-1);
    let (own, key) = old.issue(&["shop.example"], -1..60);
    assert!(matches!(fault(&format!("{own}{}", old.pem), &key), Fault::IntermediateExpired { .. }));
}

#[test]
fn wrong_keys_and_files_are_told_apart() {
    let (_root, intermediate) = public();
    let (own, key) = intermediate.issue(&["shop.example"], -1..60);
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(fault(&own, &other_key), Fault::KeyMismatch);
    assert_eq!(fault(&own, "nonsense"), Fault::NoKey);
    assert_eq!(fault(&own, &own), Fault::NoKey);
    assert_eq!(fault(&format!("{own}{key}"), &key), Fault::KeyInChain);
    assert_eq!(fault("nonsense", &key), Fault::NoCertificate);
    assert_eq!(fault(&own.repeat(11), &key), Fault::TooMany { limit: 10 });
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(fault(&own, encrypted), Fault::EncryptedKey);
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(fault(&format!("{own}{empty}"), &key), Fault::Unreadable { number: 2 });
    let authority_key = intermediate.issuer.key().serialize_pem();
    assert_eq!(fault(&intermediate.pem, &authority_key), Fault::Authority { subject: "Example CA 1".to_owned() });
    let both = super::check("nonsense", "nonsense", now()).unwrap_err();
    assert_eq!(both, [Fault::NoCertificate, Fault::NoKey]);
}

#[test]
fn every_usual_kind_of_key_is_understood() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let own = params("shop", &["shop.example"], -1..60).self_signed(&key).unwrap().pem();
        assert!(check(&own, &key.serialize_pem(), now()).unwrap().covers("shop.example"));
    }
}

#[test]
fn hosts_are_covered_label_by_label() {
    let check = |name: &str, host: &str, expect: bool| assert_eq!(covers(name, host), expect, "{name} {host}");
    check("shop.example", "Shop.Example", true);
    check("shop.example", "www.shop.example", false);
    check("*.shop.example", "www.shop.example", true);
    check("*.shop.example", "*.shop.example", true);
    check("*.shop.example", "a.b.shop.example", false);
    check("*.shop.example", "shop.example", false);
    check("*.shop.example", ".shop.example", false);
}

#[test]
fn uncovered_hosts_are_named() {
    let (_root, intermediate) = public();
    let (own, key) = intermediate.issue(&["shop.example"], -1..60);
    let checked = check(&own, &key, now()).unwrap();
    let expect = [Warning::HostNotCovered { host: "www.shop.example".to_owned() }];
    assert_eq!(checked.warnings_for(["shop.example", "www.shop.example"]), expect);
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(chain in ".{0,200}", key in ".{0,200}", der in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&chain, &key, now()).unwrap_err();
        let (_root, intermediate) = public();
        let (own, key) = intermediate.issue(&["shop.example"], -1..60);
        drop(check(&format!("{own}{}", pem(&der)), &key, now()));
    }

    #[test]
    fn damaged_certificates_are_refused_or_read(at in 0_usize..400, bit in 0_u8..8) {
        let (_root, intermediate) = public();
        let (own, key) = intermediate.issue(&["shop.example"], -1..60);
        let mut der = CertificateDer::from_pem_slice(own.as_bytes()).unwrap().to_vec();
        let at = at % der.len();
        der[at] ^= 1 << bit;
        drop(check(&pem(&der), &key, now()));
    }
}
