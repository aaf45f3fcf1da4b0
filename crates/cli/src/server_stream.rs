//! The bytes of a connection to the server, in the clear on this machine and over TLS to any other.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::context::Login;

/// How long the connection may take to be made, and each step of its beginning.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) enum ServerStream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl ServerStream {
    /// Connects; each step of the beginning has a time limit.
    pub(crate) fn connect(login: &Login) -> anyhow::Result<Self> {
        let server = &login.server;
        let address = server.socket_address();
        let mut failure = None;
        for candidate in address.to_socket_addrs().with_context(|| format!("cannot find {server}"))? {
            match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
                    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                    return if server.is_tls() { Self::secure(login, stream) } else { Ok(Self::Plain(stream)) };
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error).with_context(|| format!("cannot reach {server}")),
            None => bail!("{server} has no address"),
        }
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether there is something that the socket has not taken yet.
    pub(crate) fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.conn.wants_write(),
        }
    }

    fn secure(login: &Login, stream: TcpStream) -> anyhow::Result<Self> {
        let name = ServerName::try_from(login.server.host().to_owned()).context("the server has no name to check")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot speak TLS")?
            .with_root_certificates(roots(login.authority.as_deref())?)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), name).context("cannot speak TLS")?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }
}

/// A private authority replaces the public ones.
fn roots(authority: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let Some(path) = authority else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let pem = fs::read(path).with_context(|| format!("cannot read the certificate authority in {}", path.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.context("the certificate authority cannot be read")?)?;
    }
    Ok(roots)
}

impl Read for ServerStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for ServerStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
