//! A client that speaks TLS, and certificates for what it asks for.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use domain::secret::Secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use uuid::Uuid;
use wire::routes::CertificateRoute;

use crate::harness::{Client, PATIENCE};

pub(crate) type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// An authority that the clients made by it trust.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Its own certificate.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    pub(crate) fn certify(&self, id: u128, hosts: &[&str]) -> CertificateRoute {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(hosts.clone()).unwrap().signed_by(&key, &self.issuer).unwrap();
        let (chain, key) = (certificate.pem(), Secret::new(key.serialize_pem()));
        CertificateRoute { certificate: Uuid::from_u128(id), hosts, chain, key, fallback: false }
    }

    /// A client that shows a certificate of `signer`'s.
    pub(crate) fn certified_client(
        &self,
        signer: &Self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let shown = signer.certify(9, &["front.example"]);
        let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(shown.key.expose().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.client_with(rustls::crypto::aws_lc_rs::default_provider(), versions)
    }

    pub(crate) fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider.into()).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}

/// Opens a connection and finishes the handshake.
pub(crate) fn open(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> Result<TlsClient, std::io::Error> {
    open_over(TcpStream::connect(address).unwrap(), host, config)
}

/// The same over a socket that has carried something else before.
pub(crate) fn open_over(
    mut socket: TcpStream,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<TlsClient, std::io::Error> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Client { stream: StreamOwned::new(connection, socket) })
}

impl TlsClient {
    /// The certificate that the router showed.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub(crate) fn key_exchange(&self) -> NamedGroup {
        self.stream.conn.negotiated_key_exchange_group().unwrap().name()
    }

    pub(crate) fn was_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}
