//! The check.

use domain::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::facts::Facts;
use crate::fault::{Fault, Issuance, Warning};
use crate::parsed::Parsed;

/// Certificates of one chain; real ones have two or three.
const CERTIFICATES_MAX: usize = 10;
/// Chain or key, in PEM.
const PEM_BYTES_MAX: usize = 128 * 1024;
/// Before its end a certificate should have been renewed.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A certificate that can be put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// PEM, sorted, without what is not part of the chain and without the root.
    pub chain: String,
    /// PEM, as it was given.
    pub key: Secret<String>,
    pub facts: Facts,
    pub warnings: Vec<Warning>,
}

impl Checked {
    /// What is wrong with using this certificate for these hosts.
    pub fn warnings_for<'a>(&self, hosts: impl IntoIterator<Item = &'a str>) -> Vec<Warning> {
        let uncovered = hosts.into_iter().filter(|host| !self.covers(host));
        uncovered.map(|host| Warning::HostNotCovered { host: host.to_owned() }).collect()
    }

    pub fn covers(&self, host: &str) -> bool {
        self.facts.covers(host)
    }
}

/// Looks at a certificate with its chain, in any order, and its key.
///
/// # Errors
/// Every [`Fault`] that was found, so that one round of repair is enough.
pub fn check(chain: &str, key: &str, now: Timestamp) -> Result<Checked, Vec<Fault>> {
    if chain.len().max(key.len()) > PEM_BYTES_MAX {
        return Err(vec![Fault::TooLong { limit: PEM_BYTES_MAX }]);
    }
    let (certificates, key_public) = match (read_chain(chain), read_key(key)) {
        (Ok(certificates), Ok(public)) => (certificates, public),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let mut parsed = Vec::with_capacity(certificates.len());
    for (number, der) in (1..).zip(&certificates) {
        parsed.push(Parsed::new(der).ok_or_else(|| vec![Fault::Unreadable { number }])?);
    }
    // A renewed one may stand beside the old one that has the same key.
    let fitting = (0..parsed.len()).filter(|&at| parsed[at].public_key() == key_public);
    let leaf = fitting.rev().max_by_key(|&at| parsed[at].not_after()).ok_or_else(|| vec![Fault::KeyMismatch])?;
    let order = chain_order(&parsed, leaf, now);
    let faults = faults(&parsed, &order, now);
    if !faults.is_empty() {
        return Err(faults);
    }
    let facts = Facts::of(&parsed[leaf]);
    Ok(Checked {
        chain: order.iter().filter(|&&at| is_sent(&parsed, at, leaf)).map(|&at| pem(parsed[at].der)).collect(),
        key: Secret::new(key.to_owned()),
        warnings: warnings(&parsed, &order, facts.issuance, now),
        facts,
    })
}

/// Reads what is written in the first certificate of a chain.
pub fn read(chain: &str) -> Result<Facts, Fault> {
    let certificates = read_chain(chain)?;
    let first = certificates.first().ok_or(Fault::NoCertificate)?;
    Parsed::new(first).map(|parsed| Facts::of(&parsed)).ok_or(Fault::Unreadable { number: 1 })
}

fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    if text.contains("PRIVATE KEY-----") {
        return Err(Fault::KeyInChain);
    }
    let mut certificates = Vec::new();
    for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(text.as_bytes())) {
        if number > CERTIFICATES_MAX {
            return Err(Fault::TooMany { limit: CERTIFICATES_MAX });
        }
        certificates.push(certificate.ok().ok_or(Fault::Unreadable { number })?);
    }
    if certificates.is_empty() { Err(Fault::NoCertificate) } else { Ok(certificates) }
}

/// Gives the public key that belongs to a private one, in DER.
fn read_key(text: &str) -> Result<Vec<u8>, Fault> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Fault::EncryptedKey);
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok().ok_or(Fault::NoKey)?;
    let key = any_supported_type(&key).ok().ok_or(Fault::UnusableKey)?;
    key.public_key().map(|public| public.as_ref().to_vec()).ok_or(Fault::UnusableKey)
}

/// The certificates from `leaf` to the one whose issuer is not there, by who signed whom. An issuer that was certified
/// anew may be there with its old certificate, too.
fn chain_order(parsed: &[Parsed<'_>], leaf: usize, now: Timestamp) -> Vec<usize> {
    let mut order = vec![leaf];
    while let Some(&last) = order.last() {
        let is_issuer = |at: &usize| !order.contains(at) && parsed[last].was_issued_by(&parsed[*at]);
        let issuers = || (0..parsed.len()).filter(is_issuer);
        match issuers().find(|&at| parsed[at].not_after() > now).or_else(|| issuers().next()) {
            Some(issuer) => order.push(issuer),
            None => break,
        }
    }
    order
}

/// Clients have the root themselves, or do not trust it.
fn is_sent(parsed: &[Parsed<'_>], at: usize, leaf: usize) -> bool {
    at == leaf || !parsed[at].is_self_signed()
}

fn faults(parsed: &[Parsed<'_>], order: &[usize], now: Timestamp) -> Vec<Fault> {
    let mut faults = Vec::new();
    let own = &parsed[order[0]];
    let hosts = own.hosts();
    if own.is_authority() && hosts.is_empty() {
        return vec![Fault::Authority { subject: own.subject() }];
    }
    if hosts.is_empty() {
        faults.push(Fault::NoHosts);
    }
    if own.not_after() <= now {
        faults.push(Fault::Expired { on: own.not_after() });
    }
    if own.not_before() > now {
        faults.push(Fault::NotYetValid { from: own.not_before() });
    }
    for certificate in order.iter().skip(1).map(|&at| &parsed[at]) {
        if certificate.not_after() <= now && !certificate.is_self_signed() {
            let (subject, on) = (certificate.subject(), certificate.not_after());
            faults.push(Fault::IntermediateExpired { subject, on });
        }
    }
    faults
}

fn warnings(parsed: &[Parsed<'_>], order: &[usize], issuance: Issuance, now: Timestamp) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let own = &parsed[order[0]];
    match issuance {
        Issuance::SelfSigned => warnings.push(Warning::SelfSigned),
        Issuance::CloudflareOrigin => warnings.push(Warning::CloudflareOrigin),
        // Public authorities never issue from a root, so a certificate alone is not a whole chain.
        Issuance::Authority if order.len() == 1 => {
            warnings.push(Warning::MissingIntermediate { issuer: own.issuer(), download: own.issuer_url() });
        }
        Issuance::Authority => {}
    }
    if now.saturating_add(EXPIRES_SOON).is_ok_and(|soon| own.not_after() <= soon) {
        warnings.push(Warning::ExpiresSoon { on: own.not_after() });
    }
    let unrelated = (0..parsed.len()).filter(|at| !order.contains(at));
    warnings.extend(unrelated.map(|at| Warning::Unrelated { subject: parsed[at].subject() }));
    if !order.is_sorted() {
        warnings.push(Warning::Sorted);
    }
    warnings
}

fn pem(der: &[u8]) -> String {
    const LINE_CHARACTERS: usize = 64;
    let text = base64(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(LINE_CHARACTERS) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

#[cfg(test)]
mod tests;
