//! HTTP/2 on both sides of the router: a client, and a dyno that speaks it without TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{HOST, PATIENCE, TestDyno, TestRouter};

pub(crate) async fn plain(address: SocketAddr) -> SendRequest<Bytes> {
    handshake(TcpStream::connect(address).await.unwrap(), h2::client::Builder::new()).await
}

pub(crate) async fn with(address: SocketAddr, builder: h2::client::Builder) -> SendRequest<Bytes> {
    handshake(TcpStream::connect(address).await.unwrap(), builder).await
}

pub(crate) async fn secure(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> SendRequest<Bytes> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    handshake(stream, h2::client::Builder::new()).await
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut builder: h2::client::Builder,
) -> SendRequest<Bytes> {
    // Until the router's settings have come, as every client that keeps to what all servers allow (RFC 9113, 6.5.2).
    builder.initial_max_send_streams(100);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://{HOST}{path}")).body(()).unwrap()
}

/// Sends a request and reads the whole answer.
pub(crate) async fn ask(client: &SendRequest<Bytes>, request: Request<()>, body: Option<Bytes>) -> Whole {
    let (response, mut stream) = send(client, request, body.is_none()).await;
    if let Some(body) = body {
        stream.send_data(body, true).unwrap();
    }
    whole(response.await.unwrap()).await
}

pub(crate) async fn send(
    client: &SendRequest<Bytes>,
    request: Request<()>,
    end: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut client = client.clone().ready().await.unwrap();
    client.send_request(request, end).unwrap()
}

#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Whole {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) async fn whole(response: Response<RecvStream>) -> Whole {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = next(&mut stream).await {
        body.extend_from_slice(&data);
    }
    Whole { status: parts.status.as_u16(), body }
}

pub(crate) async fn next(stream: &mut RecvStream) -> Option<Bytes> {
    let data = timeout(PATIENCE, stream.data()).await.unwrap()?.unwrap();
    stream.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

/// A dyno that answers every HTTP/2 request with `answer`, on the router's test runtime.
pub(crate) fn dyno<F>(
    router: &TestRouter,
    answer: impl Fn(Request<RecvStream>, h2::server::SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> TestDyno
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = router.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let dyno = TestDyno::elsewhere(listener.local_addr().unwrap());
    let connections = dyno.connections.clone();
    router.runtime.spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, response))) = connection.accept().await {
                    tokio::spawn(answer(request, response));
                }
            });
        }
    });
    dyno
}
