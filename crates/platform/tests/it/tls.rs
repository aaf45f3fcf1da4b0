//! Authorities, certificates, and clients over TLS that check them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::Connection;

/// A root, and the intermediate that issues.
#[derive(Debug)]
pub(crate) struct Authority {
    root: CertificateDer<'static>,
    pub(crate) root_pem: String,
    intermediate: Issuer<'static, KeyPair>,
    pub(crate) intermediate_pem: String,
}

/// A certificate and its key, in files as people have them.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key_path: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let named = |name: &str, is_ca: bool| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
            params
        };
        let root_key = KeyPair::generate().unwrap();
        let root = named("Test Root", true);
        let root_certificate = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let intermediate = named("Test CA 1", true);
        let intermediate_pem = intermediate.signed_by(&key, &root).unwrap().pem();
        Self {
            root: root_certificate.der().clone(),
            root_pem: root_certificate.pem(),
            intermediate: Issuer::new(intermediate, key),
            intermediate_pem,
        }
    }

    /// A certificate until the end of this year; its key is in `dir`.
    pub(crate) fn issue(&self, dir: &Path, name: &str, hosts: &[&str], years: std::ops::Range<i32>) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let certificate = params.signed_by(&key, &self.intermediate).unwrap();
        let key_path = dir.join(format!("{name}.key"));
        fs::write(&key_path, key.serialize_pem()).unwrap();
        Issued { pem: certificate.pem(), der: certificate.der().clone(), key_path }
    }

    /// A client that trusts this authority's root and nothing else.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        trusting(self.root.clone())
    }
}

/// A client that trusts one root.
pub(crate) fn trusting(root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // A session that goes on shows no certificate.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

pub(crate) type TlsConnection = Connection<StreamOwned<ClientConnection, TcpStream>>;

impl TlsConnection {
    /// Finishes the handshake, or says what is wrong with what the other side showed.
    pub(crate) fn open_tls(port: u16, host: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut socket = Connection::over(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)?.stream.into_inner();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self { stream: io::BufReader::new(StreamOwned::new(connection, socket)) })
    }

    /// The certificate that the other side showed.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.stream.get_ref().conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub(crate) fn visit(&mut self, host: &str) -> io::Result<u16> {
        Ok(self.request("GET", "/", &[("Host", host)], &[])?.status)
    }
}
