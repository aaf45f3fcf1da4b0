//! HTTPS to the outside, trusting whom this machine trusts, or whom a setting names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// One exchange, from the connection to the last byte.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Error)]
pub(crate) enum TrustError {
    #[error("cannot read {path}, which says whose certificates are trusted")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} holds no certificate in PEM, so that nobody would be trusted")]
    Empty { path: PathBuf },
}

/// How connections are encrypted whose servers have certificates of these authorities.
pub(crate) fn tls(roots: RootCerts) -> TlsConfig {
    let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    TlsConfig::builder().unversioned_rustls_crypto_provider(crypto).root_certs(roots).build()
}

/// A client that gives every answer to its caller, whatever its status. Its calls block.
pub(crate) fn agent(ca_file: &Path) -> Result<ureq::Agent, TrustError> {
    let pem = fs::read(ca_file).map_err(|source| TrustError::Read { path: ca_file.to_owned(), source })?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        // Bundles hold whatever somebody put there; what cannot be read trusts nobody.
        if let Ok(PemItem::Certificate(certificate)) = item {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Empty { path: ca_file.to_owned() });
    }
    let config = ureq::Agent::config_builder()
        .tls_config(tls(RootCerts::new_with_certs(&roots)))
        .http_status_as_error(false)
        .timeout_global(Some(EXCHANGE_TIMEOUT))
        .build();
    Ok(config.into())
}
