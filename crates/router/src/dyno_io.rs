//! A connection to a dyno: one socket under hyper's HTTP/1 client.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout, timeout_at};
use wire::routes::DynoProtocol;

use crate::config::Bounds;
use crate::dyno::Slot;
use crate::head_room::HeadRoom;
use crate::local_executor::LocalExecutor;
use crate::orphans::Orphaned;
use crate::places::TooMuchHeld;
use crate::upload::Upload;

/// After this much silence the kernel asks whether the dyno's host is still there, so that a slot is not held for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct DynoConnection {
    sender: Sender,
    pub(crate) line: Arc<Line>,
    /// It has carried a request before, so the dyno may be closing it at this very moment.
    pub(crate) reused: bool,
    /// Where it is kept between requests, if that is not under its dyno's serial number.
    pub(crate) pool_key: Option<u64>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Upload>),
    /// One of several on the same connection.
    Http2(http2::SendRequest<Upload>, Rc<()>),
}

pub(crate) type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>>>>;

impl DynoConnection {
    pub(crate) const fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender, _streams) => sender.is_closed(),
        }
    }

    /// Waits until a request can be sent. `false` if that will never be.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender, _streams) => sender.ready().await.is_ok(),
        }
    }

    pub(crate) fn send(&mut self, request: Request<Upload>) -> ResponseFuture {
        match &mut self.sender {
            Sender::Http1(sender) => Box::pin(sender.try_send_request(request)),
            Sender::Http2(sender, _streams) => Box::pin(sender.try_send_request(request)),
        }
    }

    /// The same HTTP/2 connection for one more request, unless it carries `streams_max` of them. `None` for HTTP/1.
    pub(crate) fn share(&self, streams_max: usize) -> Option<Self> {
        let Sender::Http2(sender, streams) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone(), streams.clone());
        // The pool's own handle is one of them.
        (Rc::strong_count(streams) <= streams_max + 1).then(|| Self {
            sender,
            line: self.line.clone(),
            reused: true,
            pool_key: None,
        })
    }

    /// Whether an HTTP/2 connection carries no request.
    pub(crate) fn is_only_handle(&self) -> bool {
        matches!(&self.sender, Sender::Http2(_sender, streams) if Rc::strong_count(streams) == 1)
    }
}

/// What a request must know about the socket, which hyper owns.
#[derive(Debug, Default)]
pub(crate) struct Line {
    bytes_read: AtomicU64,
    pub(crate) head_room: HeadRoom,
    linger: Mutex<Option<Linger>>,
}

/// What still happens on a socket that hyper has dropped.
#[derive(Debug)]
enum Linger {
    UntilClosed(Arc<Slot>, Orphaned),
    Unwanted(Arc<Slot>, Unwanted),
}

/// An answer that has begun, and that nobody wants the rest of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwanted {
    pub(crate) began: Instant,
    /// When its dyno would have been silent for too long.
    pub(crate) ends: Instant,
}

impl Line {
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Makes the socket keep this slot when hyper drops it, until the dyno has closed its side too.
    pub(crate) fn linger(&self, slot: Arc<Slot>, orphaned: Orphaned) {
        self.set(Linger::UntilClosed(slot, orphaned));
    }

    /// The same for a slot whose answer is unwanted: see [`hear_out`].
    pub(crate) fn hear_out(&self, slot: Arc<Slot>, unwanted: Unwanted) {
        self.set(Linger::Unwanted(slot, unwanted));
    }

    fn set(&self, linger: Linger) {
        *self.linger.lock().unwrap_or_else(PoisonError::into_inner) = Some(linger);
    }
}

#[derive(Debug)]
pub(crate) enum ConnectFailure {
    Refused,
    /// As good as refused, and this is why.
    Unusable(&'static str),
    TimedOut,
    /// Not the dyno's fault: no descriptors, no ports.
    Local(io::Error),
}

/// A socket to a dyno, ready for requests.
pub(crate) async fn open_stream(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectFailure> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Err(_elapsed) => return Err(ConnectFailure::TimedOut),
        Ok(Err(error)) => return Err(classify(error)),
        Ok(Ok(stream)) => stream,
    };
    stream.set_nodelay(true).map_err(ConnectFailure::Local)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(ConnectFailure::Local)?;
    Ok(stream)
}

pub(crate) async fn connect(
    address: SocketAddr,
    protocol: DynoProtocol,
    limit: Duration,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    over(open_stream(address, limit).await?, protocol, bounds).await
}

/// HTTP over a connection that is open.
pub(crate) async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    protocol: DynoProtocol,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    let line = Arc::new(Line::default());
    let io = TokioIo::new(DynoIo { stream: Some(stream), line: line.clone(), is_refused: false });
    let failed = |error| ConnectFailure::Local(io::Error::other(error));
    // The tasks end when the sender is dropped or the dyno closes. Their errors reach whoever sent the request.
    let sender = match protocol {
        DynoProtocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(bounds.buffer_bytes_max).max_headers(bounds.headers_max);
            let (sender, connection) = builder.handshake(io).await.map_err(failed)?;
            spawn_local(async move { drop(connection.with_upgrades().await) });
            Sender::Http1(sender)
        }
        DynoProtocol::H2c => {
            let (sender, connection) = http2_builder(bounds).handshake(io).await.map_err(failed)?;
            spawn_local(async move { drop(connection.await) });
            Sender::Http2(sender, Rc::new(()))
        }
    };
    Ok(DynoConnection { sender, line, reused: false, pool_key: None })
}

fn http2_builder(bounds: &Bounds) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(bounds.http2_stream_window_bytes)
        .initial_connection_window_size(bounds.http2_connection_window_bytes)
        .max_send_buf_size(bounds.buffer_bytes_max)
        .max_header_list_size(u32::try_from(bounds.buffer_bytes_max).unwrap_or(u32::MAX));
    builder
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
struct DynoIo<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    /// `None` only while being dropped.
    stream: Option<S>,
    line: Arc<Line>,
    /// The dyno takes no more bytes.
    is_refused: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> DynoIo<S> {
    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("the stream is taken on drop only"))
    }

    /// A dyno may answer and close before it has read everything: what it refuses to take is dropped, and whether there is
    /// an answer is found out by reading. An error of the write would be the end of both.
    fn unless_refused(&mut self, polled: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                self.is_refused = true;
                Poll::Ready(Ok(bytes))
            }
            polled => polled,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Drop for DynoIo<S> {
    fn drop(&mut self) {
        let linger = self.line.linger.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(linger), Some(stream)) = (linger, self.stream.take())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            match linger {
                Linger::UntilClosed(slot, orphaned) => drop(spawn_local(until_closed(stream, slot, orphaned))),
                Linger::Unwanted(slot, unwanted) => drop(spawn_local(hear_out(stream, slot, unwanted))),
            }
        }
    }
}

/// Tells the dyno that no more comes and waits until it has closed, because until then its worker is not free.
async fn until_closed(mut stream: impl AsyncRead + AsyncWrite + Unpin, slot: Arc<Slot>, orphaned: Orphaned) {
    let place = slot.leave();
    let mut scrap = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {}
    }
    drop(slot);
    drop(orphaned);
    drop(place);
}

/// Keeps the slot until the dyno closes, or writes on: then it finds out that nobody reads, and is done soon. While it is
/// silent it is at work, whoever waits for that.
///
/// The router's side is shut down meanwhile, so that a dyno that listens knows at once.
pub(crate) async fn hear_out(mut stream: impl AsyncRead + AsyncWrite + Unpin, slot: Arc<Slot>, unwanted: Unwanted) {
    let place = slot.leave();
    let mut scrap = [0];
    if stream.shutdown().await.is_ok() {
        let mut heard = std::pin::pin!(stream.read(&mut scrap));
        let long_at = unwanted.began + Slot::CONVERSATION;
        let silent = timeout_at(long_at.min(unwanted.ends), &mut heard).await.is_err();
        if silent && long_at < unwanted.ends {
            // As if the client were still there.
            slot.begin_conversation();
            timeout_at(unwanted.ends, heard).await.map(drop).unwrap_or_default();
        }
    }
    drop(slot);
    drop(place);
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncRead for DynoIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Err(TooMuchHeld) = self.line.head_room.make(self.line.bytes_read()) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let before = buf.filled().len();
        let polled = self.stream().poll_read(cx, buf);
        self.line.bytes_read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> AsyncWrite for DynoIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_refused {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = self.stream().poll_write(cx, bytes);
        self.unless_refused(polled, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if self.is_refused {
            return Poll::Ready(Ok(bytes));
        }
        let polled = self.stream().poll_write_vectored(cx, slices);
        self.unless_refused(polled, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_refused {
            return Poll::Ready(Ok(()));
        }
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
