//! What a certificate and its key must be before they are kept, and what can be read from one.

use std::sync::Arc;

use domain::secret::Secret;
use jiff::Timestamp;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates of one chain, and bytes of the whole in PEM.
const CHAIN_MAX: usize = 10;
const PEM_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Error)]
pub(crate) enum CertificateError {
    #[error("certificate_chain must be certificates in PEM, the app's own one first")]
    Chain,
    #[error("private_key must be a private key in PEM, without a passphrase")]
    Key,
    #[error("the private key is not the one of the certificate")]
    Mismatch,
    #[error("the certificate names no host")]
    NoNames,
    #[error("the certificate expired at {0}")]
    Expired(Timestamp),
    #[error("a certificate chain has {CHAIN_MAX} certificates and {PEM_BYTES_MAX} bytes at most")]
    TooLarge,
}

/// What people want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// In the order of the certificate.
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) starts_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) self_signed: bool,
}

/// Reads the first certificate of a chain.
pub(crate) fn read(chain: &str) -> Result<Certificate, CertificateError> {
    let certificates = certificates(chain)?;
    let first = certificates.first().ok_or(CertificateError::Chain)?;
    let (_rest, parsed) = X509Certificate::from_der(first).map_err(|_not_one| CertificateError::Chain)?;
    let time = |seconds: i64| Timestamp::from_second(seconds).map_err(|_range| CertificateError::Chain);
    Ok(Certificate {
        names: names(&parsed),
        issuer: parsed.issuer().to_string(),
        subject: parsed.subject().to_string(),
        starts_at: time(parsed.validity().not_before.timestamp())?,
        expires_at: time(parsed.validity().not_after.timestamp())?,
        self_signed: parsed.issuer() == parsed.subject(),
    })
}

/// Checks that a chain can serve with a key: that both can be read, belong together, and are still good.
pub(crate) fn check(chain: &str, key: &Secret<String>, now: Timestamp) -> Result<Certificate, CertificateError> {
    if chain.len() > PEM_BYTES_MAX || key.expose().len() > PEM_BYTES_MAX {
        return Err(CertificateError::TooLarge);
    }
    let certificate = read(chain)?;
    let certificates = certificates(chain)?;
    if certificates.len() > CHAIN_MAX {
        return Err(CertificateError::TooLarge);
    }
    // The parser's error could quote the key.
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_secret| CertificateError::Key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signing = provider.key_provider.load_private_key(key).map_err(|_secret| CertificateError::Key)?;
    CertifiedKey::new(certificates, signing).keys_match().map_err(|_other| CertificateError::Mismatch)?;
    if certificate.names.is_empty() {
        return Err(CertificateError::NoNames);
    }
    if certificate.expires_at <= now {
        return Err(CertificateError::Expired(certificate.expires_at));
    }
    Ok(certificate)
}

fn certificates(chain: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    certificates.ok().filter(|found| !found.is_empty()).ok_or(CertificateError::Chain)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let listed: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _other => None,
        })
        .collect();
    if !listed.is_empty() {
        return listed;
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.filter(|name| name.contains('.')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, Secret<String>) {
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), Secret::new(made.signing_key.serialize_pem()))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_790_000_000).unwrap()
    }

    #[test]
    fn a_certificate_is_read_with_its_names() {
        let (chain, key) = made(&["www.example.com", "example.com"]);
        let certificate = check(&chain, &key, now()).unwrap();
        assert_eq!(certificate.names, ["www.example.com", "example.com"]);
        assert!(certificate.self_signed && certificate.expires_at > certificate.starts_at);
    }

    #[test]
    fn what_cannot_serve_is_refused_with_the_reason() {
        let (chain, key) = made(&["www.example.com"]);
        let (_other, other_key) = made(&["www.example.com"]);
        let refused = |chain: &str, key: &Secret<String>, now: Timestamp| check(chain, key, now).unwrap_err();
        assert!(matches!(refused(&chain, &other_key, now()), CertificateError::Mismatch));
        assert!(matches!(refused("x", &key, now()), CertificateError::Chain));
        let secret = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n".to_owned();
        let error = refused(&chain, &Secret::new(secret), now());
        assert!(matches!(error, CertificateError::Key) && !format!("{error:?} {error}").contains("hunter2"));
        let late = Timestamp::from_second(100_000_000_000).unwrap();
        assert!(matches!(refused(&chain, &key, late), CertificateError::Expired(_)));
        let (chain, key) = made(&[]);
        assert!(matches!(refused(&chain, &key, now()), CertificateError::NoNames));
    }
}
