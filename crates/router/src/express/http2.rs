//! HTTP/2 with clients: one task for a connection and all its requests.
//!
//! ```text
//!   socket ── bytes ──► session ── opened ──► exchange ──► express lane (ordinary, and all there)
//!      ◄──── bytes ────    ◄──── frames ────     └───────► full path (everything else)
//! ```
//!
//! `session` knows the protocol and no socket, `exchange` one request and no frames. Everything that became ready at
//! once is worked on before the socket is written to, so the answers to many requests leave together.

mod allowance;
mod exchange;
mod frame;
mod header_list;
mod hpack;
mod huffman;
mod outbound;
mod request;
mod request_body;
mod session;
mod static_table;
mod stream;
mod stream_side;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream as _};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;
use tracing::debug;

use self::allowance::Flood;
pub(crate) use self::request_body::StreamBody;
use self::session::{End, Rules, Session};
use crate::client_io::{ClientStream, see_off};
use crate::config::{Bounds, ClientPace};
use crate::head_clock::HeadClock;
use crate::pace::Pace;
use crate::seat::Seat;
use crate::timer::Timer;
use crate::worker::{Origin, Stage, Worker};

/// How long the socket may take no bytes while there are some.
const STALL: Duration = Duration::from_secs(55);

/// The requests in what a client sends behind its preface and settings, if it comes in pieces of `cut`: method, target
/// and the part of the body that came. And what is said to it.
#[cfg(fuzzing)]
pub(crate) fn played(bytes: &[u8], cut: usize) -> (Vec<(String, String, Vec<u8>)>, Vec<u8>) {
    let bounds = Bounds::default();
    let now = Instant::now();
    let mut session = Session::new(rules(&bounds), now);
    session.receive(&[&frame::PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat(), now).expect("a sound beginning");
    for piece in bytes.chunks(cut) {
        if session.receive(piece, now).is_err() {
            break;
        }
    }
    let said = session.unsent().to_vec();
    let mut requests = Vec::new();
    while let Some(id) = session.next_opened() {
        let list = session.take_head(id);
        let body = session.whole_body(id, usize::MAX);
        let length = body.as_ref().map_or(0, Vec::len);
        let extra = request::Extra::of(&list, length);
        let mut space = [httparse::EMPTY_HEADER; super::request_head::HEADERS_MAX];
        let in_lane = request::for_the_lane(&list, &extra, length, &mut space);
        let full = request::for_the_full_path(&list);
        // The lane takes some characters in a target that the full path does not.
        if let (Some(head), Some(_whole), Ok(request)) = (in_lane, &body, &full) {
            let (parts, ()) = request.clone().into_parts();
            let target = crate::head::check(&parts, bounds.headers_max).expect("what the lane takes is sound");
            assert_eq!((head.method, head.authority), (parts.method.as_str(), target.authority.as_str()));
            assert_eq!(Some(head.target), parts.uri.path_and_query().map(|path| path.as_str()));
            assert_eq!(head.host(), target.host);
        }
        if let Ok(request) = full
            && request::is_sound_target(&list)
        {
            let target = request.uri().path_and_query().map_or("", |path| path.as_str());
            let sent = list.iter().find(|(name, _value)| *name == b":path").map_or(&b""[..], |(_name, path)| path);
            assert_eq!(target.as_bytes(), sent, "nothing of a target is dropped or changed");
            requests.push((request.method().to_string(), target.to_owned(), body.unwrap_or_default()));
        }
    }
    (requests, said)
}

/// Serves one HTTP/2 connection to its end.
pub(crate) async fn serve(worker: &Rc<Worker>, stream: ClientStream, seat: Arc<Seat>, origin: Origin) {
    let bounds = &worker.shared.bounds;
    let (now, idle) = (Instant::now(), origin.idle(bounds));
    let session = Rc::new(RefCell::new(Session::new(rules(bounds), now)));
    let pace = Pace::default();
    let mut socket = Socket { stream, flushed: true, stalled_since: None, pace, least: bounds.client_pace };
    let mut clock = Clock { heard_at: now, busy_at: now, pinged: false, last_at: None, timer: Timer::default() };
    let mut head_clock: Option<Box<HeadClock>> = None;
    let mut exchanges = FuturesUnordered::new();
    let mut stage = worker.stage.clone();
    let mut ending = pin!(stage.wait_for(|stage| *stage > Stage::Serving));
    let mut is_first = true;
    let ended = poll_fn(|cx| {
        session.borrow_mut().set_waker(cx);
        loop {
            let now = Instant::now();
            let mut has_answered = false;
            while let Poll::Ready(Some(())) = Pin::new(&mut exchanges).poll_next(cx) {
                clock.busy_at = now;
                has_answered = true;
            }
            // Asked once, it wakes this task, and idle ones also when connections run out; later the flag is cheaper.
            let is_idle = session.borrow().is_empty();
            let looks = std::mem::take(&mut is_first) || is_idle || worker.shared.draining.load(Ordering::Relaxed);
            if session.borrow().end() == End::Open
                && ((looks && ending.as_mut().poll(cx).is_ready())
                    || (has_answered && worker.shared.ends_connections()))
            {
                // The client is told at once: later requests are for another connection, those under way finish.
                session.borrow_mut().announce_end();
                clock.last_at = Some(now + bounds.close_wait);
            }
            if let Err(error) = socket.write(cx, &mut session.borrow_mut(), now) {
                return Poll::Ready(Err(error));
            }
            if session.borrow().is_done() && socket.flushed {
                return Poll::Ready(Ok(()));
            }
            match socket.poll_read(cx, worker, &session, origin.peer.ip(), now) {
                Poll::Ready(Ok(())) => {
                    (clock.heard_at, clock.pinged) = (now, false);
                    if session.borrow().is_mid_head() {
                        let new = || Box::new(origin.head_clock(&worker.shared));
                        head_clock.get_or_insert_with(new).begin();
                    } else {
                        head_clock = None;
                    }
                    while let Some(id) = session.borrow_mut().next_opened() {
                        clock.busy_at = now;
                        exchanges.push(exchange::exchange(worker, &origin, &session, id));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if head_clock.as_mut().is_some_and(|clock| clock.poll(cx).is_ready()) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => match clock.poll(
                    cx,
                    &mut session.borrow_mut(),
                    &socket,
                    worker.shared.idle(idle),
                    bounds.client_idle,
                ) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    })
    .await;
    // What is still under way finds its client gone, and says so in its line.
    session.borrow_mut().break_off();
    poll_fn(|cx| {
        while let Some(()) = ready!(Pin::new(&mut exchanges).poll_next(cx)) {}
        Poll::Ready(())
    })
    .await;
    match ended {
        Ok(()) => see_off(socket.stream, seat),
        Err(error) => debug!(%error, client = %origin.peer, "Client connection ended early"),
    }
}

const fn rules(bounds: &Bounds) -> Rules {
    Rules {
        streams_max: bounds.http2_streams_max,
        stream_window_bytes: bounds.http2_stream_window_bytes,
        connection_window_bytes: bounds.http2_connection_window_bytes,
        header_bytes_max: bounds.buffer_bytes_max,
    }
}

struct Socket {
    stream: ClientStream,
    /// Under TLS, what was written may still wait in records.
    flushed: bool,
    /// Since when the client takes nothing of what there is.
    stalled_since: Option<Instant>,
    pace: Pace,
    least: ClientPace,
}

impl Socket {
    /// Writes what the client takes now.
    fn write(&mut self, cx: &mut Context<'_>, session: &mut Session, now: Instant) -> io::Result<()> {
        let mut stream = Pin::new(&mut self.stream);
        while session.has_unsent() {
            match stream.as_mut().poll_write(cx, session.unsent())? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    session.note_sent(count);
                    (self.flushed, self.stalled_since) = (false, None);
                    if self.pace.moved(count as u64, now, self.least).is_err() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    self.pace.wait(now);
                    return Ok(());
                }
            }
        }
        if !self.flushed {
            self.flushed = stream.poll_flush(cx)?.is_ready();
            self.stalled_since = if self.flushed { None } else { self.stalled_since.or(Some(now)) };
        }
        Ok(())
    }

    /// Lets the session have what the client has sent.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        session: &RefCell<Session>,
        client: IpAddr,
        now: Instant,
    ) -> Poll<io::Result<()>> {
        if session.borrow().is_congested() {
            return Poll::Pending;
        }
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Err(Flood(what)) = session.borrow_mut().receive(bytes, now) {
            debug!(%client, "A client sent too many {what}");
            worker.shared.floods.note(client);
        }
        Poll::Ready(Ok(()))
    }
}

/// When something is due although nothing comes.
struct Clock {
    /// When the client sent something last.
    heard_at: Instant,
    /// When there was a request last.
    busy_at: Instant,
    /// It was asked since whether it is still there.
    pinged: bool,
    /// When no more requests are taken.
    last_at: Option<Instant>,
    timer: Timer,
}

impl Clock {
    /// Ready once something was done.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        socket: &Socket,
        idle: Duration,
        patience: Duration,
    ) -> Poll<io::Result<()>> {
        let is_idle = session.is_empty();
        if !is_idle {
            self.busy_at = Instant::now();
        }
        let silent_at = match (is_idle, self.pinged) {
            (true, _) => self.busy_at + idle,
            (false, false) => self.heard_at + patience / 2,
            (false, true) => self.heard_at + patience,
        };
        let stalled_at = socket.stalled_since.map(|since| since + STALL);
        let dues = [Some(silent_at), stalled_at, self.last_at, session.deadline];
        ready!(self.timer.poll(cx, dues.into_iter().flatten().min().unwrap_or(silent_at)));
        let now = Instant::now();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        session.wake_due(now);
        if is_due(self.last_at) {
            self.last_at = None;
            session.end_with_last();
        }
        if is_due(stalled_at) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if silent_at <= now {
            // An idle client that takes not even its farewell is left without one.
            if self.pinged || (is_idle && session.end() >= End::Last) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if is_idle {
                session.end_with_last();
            } else {
                self.pinged = true;
                session.ping();
            }
        }
        Poll::Ready(Ok(()))
    }
}
