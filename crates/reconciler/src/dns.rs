//! Records in other people's DNS: the proof that a domain is ours where nothing else can be one.
//!
//! A provider puts one TXT record, waits until it can be seen, and removes it. Each is spoken to as its documents say,
//! with nothing but HTTP and what stands in the store.

mod cloudflare;
mod route53;
mod sigv4;

use std::path::Path;
use std::time::Duration;

use domain::dns::{DnsCredentials, DnsZone};
use thiserror::Error;

use self::cloudflare::Cloudflare;
use self::route53::Route53;
use crate::https::{self, TrustError};

#[derive(Debug, Error)]
pub(crate) enum DnsError {
    #[error("cannot reach {provider}")]
    Reach {
        provider: &'static str,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error(
        "{provider} refused ({status}): {message}; check the credentials with `berth certs:dns`, and what they allow"
    )]
    Refused { provider: &'static str, status: u16, message: String },
    #[error("{provider} has no zone {zone} that these credentials may change")]
    NoZone { provider: &'static str, zone: String },
    #[error("{provider} answered something that is not in its documents")]
    Answer { provider: &'static str },
    #[error("the record did not become visible in {} s", .0.as_secs())]
    NotVisible(Duration),
    #[error("the server is ending")]
    Ended,
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// A TXT record, by its whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TxtRecord {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Whoever holds the DNS of a zone. Its calls block.
pub(crate) trait DnsProvider: Send + Sync {
    /// Puts the record, in the place of others of that name that we put.
    fn put(&mut self, record: &TxtRecord) -> Result<(), DnsError>;

    /// Returns when everybody can see the record.
    fn wait(&mut self) -> Result<(), DnsError>;

    /// Removes what was put. To remove what is not there is no error.
    fn remove(&mut self, record: &TxtRecord) -> Result<(), DnsError>;
}

/// The provider of a zone, ready to use.
pub(crate) fn provider(zone: &DnsZone, ca_file: &Path) -> Result<Box<dyn DnsProvider>, DnsError> {
    let agent = https::agent(ca_file)?;
    let name = zone.name.to_string();
    Ok(match zone.credentials.clone() {
        DnsCredentials::Cloudflare { token } => Box::new(Cloudflare::new(agent, zone.endpoint.clone(), name, token)),
        DnsCredentials::Route53 { access_key_id, secret_access_key } => {
            Box::new(Route53::new(agent, zone.endpoint.clone(), name, access_key_id, secret_access_key))
        }
    })
}

#[cfg(test)]
mod tests;
