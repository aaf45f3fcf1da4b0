//! The authorities that receivers' certificates may come from: the machine's, and an operator's own.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

/// Where distributions keep the bundle, unless the environment names one.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[derive(Debug, Error)]
#[error("cannot read the certificate authorities in {path}")]
pub struct RootsError {
    path: PathBuf,
    #[source]
    source: rustls_pki_types::pem::Error,
}

/// Reads the bundles. A machine without one trusts nobody, until it has one.
pub(crate) fn roots(own: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    let machines = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let machines = machines.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    for path in machines.iter().map(PathBuf::as_path).chain(own) {
        let failed = |source| RootsError { path: path.to_owned(), source };
        let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(failed)?;
        store.add_parsable_certificates(certificates);
    }
    Ok(store)
}
