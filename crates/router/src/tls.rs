//! TLS on the client's side: one configuration for all threads, and the handshake.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::Certificates;
use crate::challenges::Challenges;
use crate::config::Bounds;
use crate::head_clock::HeadClock;
use crate::joined_writes::JoinedWrites;
use crate::refused::{Reason, Refused};
use crate::ticket_keys::TicketKeys;

/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 0x16;

/// HTTP/2's name in ALPN.
const HTTP2: &[u8] = b"h2";

/// The name under which a certificate authority asks for a challenge's certificate, and speaks nothing else (RFC 8737).
const ACME_CHALLENGE: &[u8] = b"acme-tls/1";

/// For a client that speaks plain HTTP to the port for HTTPS.
const PLAIN_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 53\r\nconnection: close\r\n\r\nThis port speaks HTTPS: use https:// in the address.\n";

/// What requests must know about the TLS that they came over.
#[derive(Debug, Clone)]
pub(crate) struct Secured {
    /// The host that the client named, in lower case.
    pub(crate) host: Option<String>,
    /// As in the request log: `tls1.3`.
    pub(crate) version: &'static str,
    /// What both sides agreed to speak.
    pub(crate) http2: bool,
    /// The client has shown a certificate, which was checked.
    pub(crate) certified: bool,
}

impl Secured {
    /// Whether a request for this host came over a connection that was opened for another one, with another
    /// certificate. Clients that name no host at all (load balancers, mostly) are shown the fallback for everything.
    pub(crate) fn is_misdirected(&self, host: &str, certificates: &Certificates) -> bool {
        self.host.as_ref().is_some_and(|named| named != host && !certificates.serve_together(named, host))
    }
}

#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("too many handshakes are under way")]
    TooMany,
    #[error("client has too many slow handshakes under way")]
    OneOfTooMany,
    #[error("handshake took too long")]
    TimedOut,
    #[error("client spoke plain text")]
    Plain,
    #[error("a certificate authority has seen the answer to its challenge")]
    Challenge,
    #[error("handshake failed")]
    Failed(#[source] io::Error),
}

/// What a client is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) challenges: Arc<Challenges>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|names| names.eq([ACME_CHALLENGE]));
        if is_challenge { self.challenges.certificate(hello.server_name()?) } else { self.certificates.resolve(hello) }
    }
}

/// One for the whole router, because its ticket keys must be: a session that began on one thread goes on on another.
///
/// There is no early data: a request in it could be replayed by anybody.
pub(crate) fn configuration(shown: Shown, tickets: TicketKeys) -> Result<ServerConfig, rustls::Error> {
    let mut config = without_tickets(Arc::new(shown), Arc::new(NoClientAuth))?;
    config.ticketer = Arc::new(tickets);
    Ok(config)
}

/// For a front that shows who it is by a certificate. It resumes nothing: a session from before it had to would have no
/// certificate, and fronts keep their connections anyway.
pub(crate) fn with_client_certificate(
    certificates: Arc<Certificates>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = without_tickets(certificates, verifier)?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn without_tickets(
    shown: Arc<dyn ResolvesServerCert>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(shown);
    // One for the next connection, which brings one again. Every ticket more would cost each new connection its making.
    config.send_tls13_tickets = 1;
    // Tickets hold the sessions; nothing is kept here for clients that may never come back.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec(), ACME_CHALLENGE.to_vec()];
    Ok(config)
}

/// Counts handshakes under way, of all threads.
#[derive(Debug)]
pub(crate) struct Handshakes {
    under_way: AtomicUsize,
    pub(crate) refused: Refused,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { under_way: AtomicUsize::new(0), refused: Refused::new(Reason::Handshakes) }
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    pub(crate) async fn accept(
        &self,
        config: Arc<ServerConfig>,
        mut stream: TcpStream,
        first_byte: u8,
        clock: Option<HeadClock>,
        bounds: &Bounds,
    ) -> Result<(TlsStream<JoinedWrites>, Secured), HandshakeError> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let _counted = Counted(&self.under_way);
        if before >= bounds.handshakes_max {
            return Err(HandshakeError::TooMany);
        }
        if first_byte != HANDSHAKE_RECORD {
            // Whoever does not read this is told nothing.
            drop(timeout(bounds.handshake, refuse_plain(&mut stream)).await);
            return Err(HandshakeError::Plain);
        }
        let accepting = TlsAcceptor::from(config).accept(JoinedWrites::new(stream)).into_fallible();
        let accepting = timeout(bounds.handshake, accepting);
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = one_of_too_many(clock) => return Err(HandshakeError::OneOfTooMany),
        };
        let mut stream = match accepted {
            Err(_elapsed) => return Err(HandshakeError::TimedOut),
            Ok(Ok(accepted)) => accepted,
            Ok(Err((error, socket))) => {
                say_why(socket).await;
                return Err(HandshakeError::Failed(error));
            }
        };
        stream.get_mut().0.end_handshake();
        if stream.get_ref().1.alpn_protocol() == Some(ACME_CHALLENGE) {
            // The handshake was all; whoever has left already does not mind.
            drop(timeout(bounds.handshake, stream.shutdown()).await);
            return Err(HandshakeError::Challenge);
        }
        let connection = stream.get_ref().1;
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "tls1.2",
            _ => "tls1.3",
        };
        let waits_for_us = connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        let http2 = connection.alpn_protocol() == Some(HTTP2);
        let certified = connection.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let host = connection.server_name().map(str::to_ascii_lowercase);
        let secured = Secured { host, version, http2, certified };
        if waits_for_us {
            // Before TLS 1.3 a handshake may end with the server's word.
            stream.flush().await.map_err(HandshakeError::Failed)?;
        }
        Ok((stream, secured))
    }
}

/// Whoever begins handshakes and does not go on would take the places of all others: each address has only so many
/// that are slow, as of heads.
async fn one_of_too_many(clock: Option<HeadClock>) {
    let Some(mut clock) = clock else { return pending().await };
    clock.begin();
    poll_fn(|cx| clock.poll(cx)).await;
}

/// Sends the alert that a failed handshake ends with, as far as the client takes it at once.
async fn say_why(mut socket: JoinedWrites) {
    socket.end_handshake();
    poll_fn(|cx| {
        drop(Pin::new(&mut socket).poll_flush(cx));
        Poll::Ready(())
    })
    .await;
}

/// Closing before everything was read would be a reset, which can overtake the answer.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_REFUSAL).await?;
    stream.shutdown().await?;
    let mut scrap = [0; 1024];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}
