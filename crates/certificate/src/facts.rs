//! What is written in a certificate, as far as people ask for it.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::fault::Issuance;
use crate::parsed::{Parsed, covers};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// DNS names in lower case, perhaps with a wildcard, and addresses.
    pub hosts: Vec<String>,
    /// The one part of the name that people know it by.
    pub subject: String,
    pub issuer: String,
    /// The whole name: `C=US, O=Example, CN=Example CA 1`.
    pub subject_name: String,
    pub issuer_name: String,
    pub issuance: Issuance,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, in hex: what browsers show.
    pub fingerprint: String,
}

impl Facts {
    pub fn covers(&self, host: &str) -> bool {
        self.hosts.iter().any(|name| covers(name, host))
    }

    pub(crate) fn of(parsed: &Parsed<'_>) -> Self {
        let issuance = match () {
            () if parsed.is_cloudflare_origin() => Issuance::CloudflareOrigin,
            () if parsed.is_self_signed() => Issuance::SelfSigned,
            () => Issuance::Authority,
        };
        Self {
            hosts: parsed.hosts(),
            subject: parsed.subject(),
            issuer: parsed.issuer(),
            subject_name: parsed.subject_name(),
            issuer_name: parsed.issuer_name(),
            issuance,
            not_before: parsed.not_before(),
            not_after: parsed.not_after(),
            fingerprint: Sha256::digest(parsed.der).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}
