//! The installation's own certificate authority and the certificate of the API port.
//!
//! Made at the first start, kept in `ca/`. Clients of this machine trust `ca/ca.pem`: git through `http.sslCAInfo`,
//! the `heroku` CLI through `NODE_EXTRA_CA_CERTS`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::platform_host::platform_hosts;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use wire::state_file::{self, StateFileError};

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("cannot read {path}; delete the directory `ca` to have new certificates made")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not a PEM file of the expected kind; delete the directory `ca` to have new certificates made")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error(transparent)]
    Write(#[from] StateFileError),
    #[error("cannot use the API's certificate")]
    Use(#[from] rustls::Error),
}

/// Opens the certificates in `dir`, making them at the first call.
pub fn acceptor(dir: &Path, domain: &str) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = (dir.join("server.pem"), dir.join("server.key"));
    if !certificate.exists() || !key.exists() {
        make(dir, domain)?;
    }
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(&certificate))?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(pem(&key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The file that clients must trust.
pub fn ca_file(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn make(dir: &Path, domain: &str) -> Result<(), TlsError> {
    fs::create_dir_all(dir).map_err(|source| TlsError::Read { path: dir.to_owned(), source })?;
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.distinguished_name = name("Berth local authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_certificate = authority.self_signed(&authority_key)?;

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(platform_hosts(domain));
    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(names.collect::<Vec<_>>())?;
    server.distinguished_name = name("Berth API");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(authority, authority_key);
    let server_certificate = server.signed_by(&server_key, &issuer)?;

    let chain = format!("{}{}", server_certificate.pem(), authority_certificate.pem());
    state_file::write_bytes(&dir.join("server.key"), server_key.serialize_pem().as_bytes())?;
    state_file::write_bytes(&dir.join("server.pem"), chain.as_bytes())?;
    state_file::write_bytes(&dir.join("ca.key"), issuer.key().serialize_pem().as_bytes())?;
    let ca = ca_file(dir);
    state_file::write_bytes(&ca, authority_certificate.pem().as_bytes())?;
    // The certificate is public: every user's git must be able to read it.
    let world_readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&ca, world_readable).map_err(|source| TlsError::Read { path: ca, source })
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_their_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        acceptor(&ca, "paas.example").map(|_acceptor| ()).unwrap();
        let first = fs::read(ca_file(&ca)).unwrap();
        acceptor(&ca, "paas.example").map(|_acceptor| ()).unwrap();
        assert_eq!(fs::read(ca_file(&ca)).unwrap(), first);
        for key in ["server.key", "ca.key"] {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(ca.join(key)).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }
}
