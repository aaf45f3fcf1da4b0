//! The client's socket under hyper's HTTP/1 server: notices a client that stops reading, and guards the framing.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::config::{Bounds, ClientPace};
use crate::head_clock::HeadClock;
use crate::head_guard::{GuardFault, Guarded, HeadGuard};
use crate::joined_writes::JoinedWrites;
use crate::pace::Pace;
use crate::places::{AppPlaces, Hold, TooMuchHeld};
use crate::seat::Seat;

/// How long, and how much, is still read of a client whose connection was ended.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 << 20;

/// An answer that waits for its client fills so many buffers: the client's, what is to go there, and the dyno's.
pub(crate) const HELD_BUFFERS: usize = 3;

/// What somebody took of whom it is not known how much it was.
const ENOUGH: usize = 1 << 30;

/// What requests and the socket, which hyper owns, tell each other.
#[derive(Debug)]
pub(crate) struct ClientLine {
    idle_ms: AtomicU64,
    stalled: AtomicBool,
    fault: OnceLock<GuardFault>,
    requests: AtomicU64,
    opened_at: Instant,
    /// Of the last request, in milliseconds since then.
    asked_ms: AtomicU64,
    /// What comes now is no HTTP any more.
    upgraded: AtomicBool,
    /// Of the app that answers.
    places: Mutex<Option<Arc<AppPlaces>>>,
}

impl ClientLine {
    pub(crate) fn new() -> Self {
        Self {
            idle_ms: AtomicU64::new(55_000),
            stalled: AtomicBool::new(false),
            fault: OnceLock::new(),
            requests: AtomicU64::new(0),
            opened_at: Instant::now(),
            asked_ms: AtomicU64::new(0),
            upgraded: AtomicBool::new(false),
            places: Mutex::default(),
        }
    }

    /// An app's answer begins.
    pub(crate) fn answered_by(&self, places: &Arc<AppPlaces>) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = Some(places.clone());
    }

    /// Room in memory for an answer that the client does not take at the moment.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Option<Hold>, TooMuchHeld> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.as_ref().map_or(Ok(None), |places| places.hold(bytes))
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn set_stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
    }

    /// When the last request came, or the connection.
    pub(crate) fn asked_at(&self) -> Instant {
        self.opened_at + Duration::from_millis(self.asked_ms.load(Ordering::Relaxed))
    }

    /// The connection has changed its protocol: its bytes have neither heads nor framing.
    pub(crate) fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Sets how long the client may take no bytes; it is a limit of the app that is being asked.
    pub(crate) fn set_idle_ms(&self, idle_ms: u64) {
        self.idle_ms.store(idle_ms, Ordering::Relaxed);
    }

    /// To be called once per request, in order: what is wrong with its framing, if anything is.
    pub(crate) fn next_request_fault(&self) -> Option<&'static str> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let since = u64::try_from(self.opened_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked_ms.store(since, Ordering::Relaxed);
        self.fault.get().filter(|fault| fault.request <= request).map(|fault| fault.cause)
    }

    /// Over HTTP/2, where a line has one request: it is to be refused.
    pub(crate) fn set_fault(&self, cause: &'static str) {
        self.fault.set(GuardFault { request: 0, cause }).unwrap_or_default();
    }

    /// Whether the connection was ended because the client took no bytes for too long.
    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }
}

/// What the client's bytes come over.
#[derive(Debug)]
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<JoinedWrites>>),
}

#[derive(Debug)]
pub(crate) struct ClientIo {
    /// `None` only while being dropped.
    stream: Option<ClientStream>,
    seat: Arc<Seat>,
    /// Comes before what the stream has.
    before: Bytes,
    /// The client has said that nothing more comes.
    ended: bool,
    line: Arc<ClientLine>,
    guard: HeadGuard,
    /// After a fault in a body nothing more is read.
    cut: bool,
    /// Runs while a write waits for the client, and room in memory for as long.
    stall: Option<Pin<Box<Sleep>>>,
    held: Option<Hold>,
    held_bytes: usize,
    pace: Pace,
    least: ClientPace,
    head_clock: Box<HeadClock>,
}

impl ClientIo {
    /// `bytes` were read from the stream already.
    pub(crate) fn http1(
        stream: ClientStream,
        seat: Arc<Seat>,
        bytes: Vec<u8>,
        head_clock: HeadClock,
        bounds: &Bounds,
    ) -> Self {
        Self {
            stream: Some(stream),
            seat,
            before: bytes.into(),
            ended: false,
            line: Arc::new(ClientLine::new()),
            guard: HeadGuard::new(),
            cut: false,
            stall: None,
            held: None,
            held_bytes: HELD_BUFFERS * bounds.buffer_bytes_max,
            pace: Pace::default(),
            least: bounds.client_pace,
            head_clock: Box::new(head_clock),
        }
    }

    fn stream(&mut self) -> Pin<&mut ClientStream> {
        Pin::new(self.stream.as_mut().expect("the stream is taken on drop only"))
    }

    pub(crate) fn line(&self) -> Arc<ClientLine> {
        self.line.clone()
    }

    /// Watches a write of which `bytes` are the part that the client took.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = polled {
            // Only who was waited for has a pace.
            self.held = None;
            if self.stall.take().is_some() {
                let moved = done.as_ref().map_or(0, |done| bytes(done) as u64);
                if self.pace.moved(moved, Instant::now(), self.least).is_err() {
                    return self.stalled();
                }
            }
            return Poll::Ready(done);
        }
        self.pace.wait(Instant::now());
        if self.stall.is_none() {
            match self.line.hold(self.held_bytes) {
                Ok(held) => self.held = held,
                Err(TooMuchHeld) => return self.stalled(),
            }
        }
        let idle = self.line.idle();
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        if stall.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.stalled()
    }

    fn stalled<T>(&self) -> Poll<io::Result<T>> {
        self.line.set_stalled();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Gives up a client whose request head does not come to its end.
    fn watch_head(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if !self.guard.is_within_head() {
            self.head_clock.end();
            return polled;
        }
        self.head_clock.begin();
        if polled.is_pending() && self.head_clock.poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if let (Some(stream), false) = (self.stream.take(), self.ended)
            && tokio::runtime::Handle::try_current().is_ok()
        {
            see_off(stream, self.seat.clone());
        }
    }
}

/// Closes a connection so that its client reads everything that was written to it.
pub(crate) fn see_off(stream: ClientStream, seat: Arc<Seat>) {
    drop(spawn_local(async move {
        drop(timeout(LINGER, linger(stream)).await);
        // It counts until its socket is closed.
        drop(seat);
    }));
}

/// Reads what the client was still sending when its connection was ended. Closing a socket with unread bytes in it is
/// a reset, which can overtake the answer: whoever sent too much, or nonsense, would never learn why.
async fn linger(stream: ClientStream) -> io::Result<()> {
    let mut stream = match stream {
        ClientStream::Plain(mut stream) => {
            stream.shutdown().await?;
            stream
        }
        // Says so in TLS first: else the client must take the end for an attack.
        ClientStream::Tls(mut stream) => {
            stream.shutdown().await?;
            stream.into_inner().0.into_socket()
        }
    };
    let mut scrap = [0; 4096];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match stream.read(&mut scrap).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let polled = if self.before.is_empty() {
            self.stream().poll_read(cx, buf)
        } else {
            let count = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before.split_to(count));
            Poll::Ready(Ok(()))
        };
        let this = &mut *self;
        this.ended |= matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if this.line.upgraded.load(Ordering::Relaxed) {
            this.head_clock.end();
            return polled;
        }
        match this.guard.push(&buf.filled()[before..]) {
            Guarded::Sound => {}
            // There is only ever one: the guard stops at it.
            Guarded::Head(fault) => this.line.fault.set(fault).unwrap_or_default(),
            Guarded::Body { sound_bytes } => {
                buf.set_filled(before + sound_bytes);
                this.cut = true;
                // An empty read would be the client's end.
                if sound_bytes == 0 {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
            }
        }
        this.watch_head(cx, polled)
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write(cx, bytes);
        self.watch(cx, polled, |&taken| taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream().poll_write_vectored(cx, slices);
        self.watch(cx, polled, |&taken| taken)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream().poll_flush(cx);
        // Under TLS, records that were taken may still wait for the client; how much they are is not known.
        self.watch(cx, polled, |&()| ENOUGH)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
