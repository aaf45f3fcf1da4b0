//! A connection to a dyno: one socket under hyper's HTTP/1 client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::config::Bounds;
use crate::dyno::Slot;
use crate::upload::Upload;

/// After this much silence the kernel asks whether the dyno's host is still there, so that a slot is not held for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct DynoConnection {
    pub(crate) sender: SendRequest<Upload>,
    pub(crate) line: Arc<Line>,
    /// It has carried a request before, so the dyno may be closing it at this very moment.
    pub(crate) reused: bool,
}

/// What a request must know about the socket, which hyper owns.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes_read: AtomicU64,
    linger: Mutex<Option<Arc<Slot>>>,
}

impl Line {
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Makes the socket keep this slot when hyper drops it, until the dyno has closed its side too.
    pub(crate) fn linger(&self, slot: Arc<Slot>) {
        *self.linger.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
    }
}

#[derive(Debug)]
pub(crate) enum ConnectFailure {
    Refused,
    TimedOut,
    /// Not the dyno's fault: no descriptors, no ports.
    Local(io::Error),
}

pub(crate) async fn connect(
    address: SocketAddr,
    limit: Duration,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Err(_elapsed) => return Err(ConnectFailure::TimedOut),
        Ok(Err(error)) => return Err(classify(error)),
        Ok(Ok(stream)) => stream,
    };
    stream.set_nodelay(true).map_err(ConnectFailure::Local)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(ConnectFailure::Local)?;
    let line = Arc::new(Line::default());
    let io = TokioIo::new(DynoIo { stream: Some(stream), line: line.clone() });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(bounds.buffer_bytes_max).max_headers(bounds.headers_max);
    let (sender, connection) =
        builder.handshake(io).await.map_err(|error| ConnectFailure::Local(io::Error::other(error)))?;
    // Ends when the sender is dropped or the dyno closes. Its errors reach whoever sent the request.
    spawn_local(async move { drop(connection.with_upgrades().await) });
    Ok(DynoConnection { sender, line, reused: false })
}

fn classify(error: io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => ConnectFailure::Refused,
        io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        _ => ConnectFailure::Local(error),
    }
}

#[derive(Debug)]
struct DynoIo {
    /// `None` only while being dropped.
    stream: Option<TcpStream>,
    line: Arc<Line>,
}

impl DynoIo {
    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("the stream is taken on drop only"))
    }
}

impl Drop for DynoIo {
    fn drop(&mut self) {
        let slot = self.line.linger.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(slot), Some(stream)) = (slot, self.stream.take())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            spawn_local(linger(stream, slot));
        }
    }
}

/// Tells the dyno that no more comes and waits until it has closed, because until then its worker is not free.
async fn linger(mut stream: TcpStream, slot: Arc<Slot>) {
    let mut scrap = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {}
    }
    drop(slot);
}

impl AsyncRead for DynoIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.stream().poll_read(cx, buf);
        self.line.bytes_read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for DynoIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
