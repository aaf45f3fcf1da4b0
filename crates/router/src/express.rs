//! The express lane: plain HTTP/1 requests without a detour through a general HTTP library.
//!
//! Nearly all requests are alike: one host, a length or no body, and all of it there when the head is. The lane reads
//! such a request, gives it to a dyno and passes the answer on with four system calls and without a task, a channel or
//! a buffer per connection. Whatever it is not sure about it hands over, with every byte that came, to the full path
//! (`proxy`, `exchange`) before anything was done about it; the connection stays there. Framing is decided once, in
//! `request_head` and `response_head`, and more strictly than anywhere else.
//!
//! HTTP/2 has a lane of its own (`http2`), which gives single requests to the full path.
//!
//! What holds on the full path holds here: a slot is kept until the dyno has answered or closed, a client that leaves is
//! noticed, time limits and codes are the same, and one line per request is logged.

mod carry;
mod chunks;
mod client_side;
mod dyno_stream;
pub(crate) mod http2;
mod outgoing;
mod recipient;
mod request_head;
mod response_head;
mod trailers;
mod transfer;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::error_code::ErrorCode;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;
use wire::routes::EdgeSettings;

use crate::client_io::{ClientStream, see_off};
use crate::head_clock::HeadClock;
use crate::log_thread::unix_us;
use crate::places::LITTLE_BYTES;
use crate::proxy::OWN_PATHS;
use crate::reach::Journey;
use crate::reply::{self, Problem, ReplyBody};
use crate::request_log::{Failure, LineView};
use crate::seat::Seat;
use crate::worker::{Origin, Stage, Worker};

use self::carry::{Fault, carry};
use self::client_side::ClientSide;
pub(crate) use self::dyno_stream::StreamPool;
use self::outgoing::{Outgoing, Source};
use self::request_head::{HEADERS_MAX, Parsed, RequestHead};
pub(crate) use self::trailers::may_follow;

/// The requests at the beginning of the bytes that the lane would take: method, target, body.
#[cfg(fuzzing)]
pub(crate) fn taken(mut bytes: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let Parsed::Whole(head) = request_head::parse(bytes, &mut space) else { return all };
        let end = head.head_bytes.saturating_add(head.body_bytes);
        let Some(body) = bytes.get(head.head_bytes..end) else { return all };
        all.push((head.method.to_owned(), head.target.to_owned(), body.to_vec()));
        bytes = &bytes[end..];
    }
}

/// What a dyno says in answer to a GET, if its bytes come in pieces of `cut`: the status, the body, and whether it ended.
/// `None` if there is no answer in it.
#[cfg(fuzzing)]
pub(crate) fn answered(bytes: &[u8], cut: usize) -> Option<(u16, Vec<u8>, bool)> {
    use self::chunks::Chunks;
    use self::response_head::Framing;

    let mut pieces = bytes.chunks(cut);
    let mut read = Vec::new();
    let (status, framing, mut rest) = 'head: loop {
        read.extend_from_slice(pieces.next()?);
        loop {
            let mut space = response_head::header_space();
            let Some(head) = response_head::parse(&read, &mut space, false).ok()? else { break };
            if !head.is_interim() {
                break 'head (head.status, head.framing, read.get(head.head_bytes..).unwrap_or_default().to_vec());
            }
            let behind = head.head_bytes;
            read.drain(..behind);
        }
    };
    if status < 200 {
        return None;
    }
    let (mut body, mut chunks) = (Vec::new(), Chunks::new());
    let ended = loop {
        match framing {
            Framing::None => break true,
            Framing::UntilClose => body.append(&mut rest),
            Framing::Length(length) => {
                let left = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(body.len());
                body.extend_from_slice(rest.get(..left).unwrap_or(&rest));
                if rest.len() >= left {
                    break true;
                }
            }
            Framing::Chunked => {
                if chunks.decode(&rest, &mut body).is_err() {
                    return Some((status, body, false));
                }
                if chunks.is_done() {
                    break trailers::sound(chunks.trailers()).is_ok();
                }
            }
        }
        match pieces.next() {
            Some(piece) => rest = piece.to_vec(),
            None => break framing == Framing::UntilClose,
        }
    };
    Some((status, body, ended))
}

/// A head that is not complete by then is for the full path, which has its own bounds.
const PARTIAL_BYTES_MAX: usize = 16 * 1024;

/// What the full path has to go on with: the connection, and what came over it.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) stream: ClientStream,
    pub(crate) bytes: Vec<u8>,
}

/// Serves a connection as long as its requests are for the lane; `None` when it is over.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    stream: ClientStream,
    seat: &Arc<Seat>,
    origin: &Origin,
) -> Option<HandOver> {
    let mut lane = Lane { worker, origin, client: ClientSide::new(stream, worker.clone()), head_clock: None };
    loop {
        match lane.next_request().await {
            Next::Request(outgoing) => {
                let keep = lane.exchange(&outgoing).await;
                worker.buffers.put(outgoing.bytes);
                if !keep {
                    see_off(lane.client.stream, seat.clone());
                    return None;
                }
            }
            Next::Other => return Some(HandOver { stream: lane.client.stream, bytes: lane.client.ahead }),
            Next::Over => {
                see_off(lane.client.stream, seat.clone());
                return None;
            }
            Next::Gone => return None,
        }
    }
}

struct Lane<'a> {
    worker: &'a Rc<Worker>,
    origin: &'a Origin,
    client: ClientSide,
    /// While a head is on its way in pieces.
    head_clock: Option<Box<HeadClock>>,
}

enum Next {
    Request(Box<Outgoing>),
    /// Not for this lane; its bytes are in `client.ahead`.
    Other,
    /// The client said nothing for too long, or connections run out, or the router is ending.
    Over,
    /// The client closed.
    Gone,
}

enum Considered {
    /// The request, and how many bytes it had.
    Request(Box<Outgoing>, usize),
    Partial,
    Other,
}

impl Lane<'_> {
    async fn next_request(&mut self) -> Next {
        if !self.client.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.client.ahead);
            if let Some(next) = self.take_from(&ahead) {
                return next;
            }
        }
        let worker = self.worker;
        let shared = &worker.shared;
        let (since, idle) = (Instant::now(), self.origin.idle(&shared.bounds));
        let deadline = since + idle;
        let mut stage = worker.stage.clone();
        let ends = |stage: &Stage| *stage >= Stage::Draining || shared.is_idle_for_too_long(since, idle);
        let mut ending = pin!(stage.wait_for(ends));
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll_next(cx, deadline) {
                return Poll::Ready(next);
            }
            ending.as_mut().poll(cx).map(|_ends| Next::Over)
        })
        .await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<Next> {
        let worker = self.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        loop {
            match self.client.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok([]) | Err(_)) => return Poll::Ready(Next::Gone),
                Poll::Ready(Ok(bytes)) => {
                    let next = if self.client.ahead.is_empty() {
                        self.take_from(bytes)
                    } else {
                        let mut ahead = std::mem::take(&mut self.client.ahead);
                        ahead.extend_from_slice(bytes);
                        self.take_from(&ahead)
                    };
                    if let Some(next) = next {
                        return Poll::Ready(next);
                    }
                }
                Poll::Pending => {
                    if let Some(clock) = &mut self.head_clock {
                        return clock.poll(cx).map(|()| Next::Over);
                    }
                    return self.client.timer.poll(cx, deadline).map(|()| Next::Over);
                }
            }
        }
    }

    /// Looks at what has come. What is left of it afterwards is in `client.ahead`; `None` if more must come.
    fn take_from(&mut self, bytes: &[u8]) -> Option<Next> {
        match self.consider(bytes) {
            Considered::Request(outgoing, taken) => {
                self.head_clock = None;
                self.client.ahead.extend_from_slice(bytes.get(taken..).unwrap_or_default());
                Some(Next::Request(outgoing))
            }
            Considered::Partial if bytes.len() < PARTIAL_BYTES_MAX => {
                let new_clock = || Box::new(self.origin.head_clock(&self.worker.shared));
                self.head_clock.get_or_insert_with(new_clock).begin();
                self.client.ahead.extend_from_slice(bytes);
                None
            }
            Considered::Partial | Considered::Other => {
                self.client.ahead.extend_from_slice(bytes);
                Some(Next::Other)
            }
        }
    }

    fn consider(&self, bytes: &[u8]) -> Considered {
        let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let head = match request_head::parse(bytes, &mut space) {
            Parsed::Whole(head) => head,
            Parsed::Partial => return Considered::Partial,
            Parsed::Other => return Considered::Other,
        };
        let end = head.head_bytes.saturating_add(head.body_bytes);
        // A body that is still on its way is streamed by the full path.
        let Some(body) = bytes.get(head.head_bytes..end) else { return Considered::Other };
        let outgoing = for_a_dyno(self.worker, self.origin, &head, body);
        outgoing.map_or(Considered::Other, |outgoing| Considered::Request(outgoing, end))
    }

    /// Carries one request to its end, and says whether the connection may carry another one.
    async fn exchange(&mut self, outgoing: &Outgoing) -> bool {
        self.worker.shared.requests_total.fetch_add(1, Ordering::Relaxed);
        self.client.close = outgoing.close;
        let mut record = Record::new(self.worker, self.origin, outgoing);
        match carry(self.worker, &mut self.client, outgoing, &mut record).await {
            Ok(()) => {
                record.failure = None;
                !self.client.close
            }
            Err(Fault::Problem(problem)) => {
                record.status = problem.status.as_u16();
                record.failure = problem.code.map(|code| Failure { code, cause: problem.cause });
                self.answer(outgoing, problem).await
            }
            Err(Fault::BrokenOff(code)) => {
                record.fail(code);
                false
            }
            Err(Fault::Left | Fault::Stale) => {
                record.fail(ErrorCode::H27);
                false
            }
        }
    }

    /// Tells the client about a problem, and says whether the connection may carry another request. In the log its bytes are
    /// none, as on Heroku and on the full path.
    async fn answer(&mut self, outgoing: &Outgoing, problem: Problem) -> bool {
        let close = outgoing.close || self.worker.shared.ends_connections();
        let mut headers = HeaderMap::new();
        if let Some(accept) = outgoing.accept().and_then(|accept| HeaderValue::from_bytes(accept).ok()) {
            headers.insert(ACCEPT, accept);
        }
        let mut response = reply::problem(problem, outgoing.request_id(), &headers);
        if close {
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        let bytes = own_response(response, outgoing.head_only, &self.worker.date.now());
        let stall = Duration::from_millis(outgoing.app.view().limits.idle_ms);
        let written = tokio::time::timeout(stall, async {
            self.client.stream.write_all(&bytes).await?;
            self.client.stream.flush().await
        });
        matches!(written.await, Ok(Ok(()))) && !close
    }
}

/// The request as a dyno gets it; `None` if something about its app needs the full path.
fn for_a_dyno(worker: &Worker, origin: &Origin, head: &RequestHead<'_, '_>, body: &[u8]) -> Option<Box<Outgoing>> {
    let shared = &worker.shared;
    let tls = origin.tls.as_ref();
    let app = shared.table.app(head.host())?;
    let misdirected = tls.is_some_and(|tls| tls.is_misdirected(head.host(), shared.table.certificates()));
    if misdirected || head.target.starts_with(OWN_PATHS) || app.view().edge != EdgeSettings::default() {
        return None;
    }
    // By the time that it is let through, its host may lead elsewhere.
    if app.is_held() {
        return None;
    }
    let fronts = &origin.fronts;
    // The full path says what follows from that.
    let came = fronts.judge(origin, head.headers).ok()?;
    let place = app.places.enter(shared.app_requests_max())?;
    let source = Source { came: &came, fronts, unix_ms: unix_us() / 1000 };
    let mut outgoing = Outgoing::new(app, head, body, source, place, worker.buffers.take());
    if outgoing.bytes.len() > LITTLE_BYTES {
        outgoing.held = outgoing.app.places.hold(outgoing.bytes.len()).ok()?;
    }
    Some(Box::new(outgoing))
}

/// Collects what is known about one request and writes its line when dropped, also where the router ends in its middle.
struct Record<'a> {
    worker: &'a Worker,
    origin: &'a Origin,
    outgoing: &'a Outgoing,
    journey: Journey,
    service: Duration,
    status: u16,
    bytes: u64,
    failure: Option<Failure>,
}

impl<'a> Record<'a> {
    /// Starts with the assumption that the client leaves: whoever answers it says otherwise.
    fn new(worker: &'a Worker, origin: &'a Origin, outgoing: &'a Outgoing) -> Self {
        let failure = Some(Failure { code: ErrorCode::H27, cause: None });
        let (service, journey) = (Duration::ZERO, Journey::default());
        Self { worker, origin, outgoing, journey, service, status: 499, bytes: 0, failure }
    }

    fn fail(&mut self, code: ErrorCode) {
        self.status = if matches!(code, ErrorCode::H27 | ErrorCode::H28) { 499 } else { 503 };
        self.failure = Some(Failure { code, cause: None });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // Where a front ended the TLS, its version is not known.
        let tls = self.origin.tls.as_ref().filter(|_tls| self.outgoing.https);
        let line = LineView {
            method: self.outgoing.method(),
            path: self.outgoing.target(),
            host: self.outgoing.host(),
            request_id: self.outgoing.request_id(),
            forwarded: self.outgoing.forwarded_for(),
            dyno: self.journey.dyno.as_ref().map_or("", |dyno| &dyno.name),
            connect: self.journey.connect,
            service: self.service,
            queue: self.journey.queue,
            status: self.status,
            bytes: self.bytes,
            request_bytes: self.outgoing.body_bytes,
            https: self.outgoing.https,
            tls_version: tls.map(|tls| tls.version),
            failure: self.failure,
        };
        self.worker.log.request(self.outgoing.app.logged_for, &line);
    }
}

/// The bytes of a response of the router's own.
fn own_response(response: Response<ReplyBody>, head_only: bool, date: &str) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let length = body.size_hint().exact().unwrap_or(0);
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    for (name, value) in &parts.headers {
        response_head::line(&mut bytes, name.as_str().as_bytes(), value.as_bytes());
    }
    bytes.extend_from_slice(format!("content-length: {length}\r\ndate: {date}\r\n\r\n").as_bytes());
    if !head_only && let ReplyBody::Own(Some(own)) = body {
        bytes.extend_from_slice(&own);
    }
    bytes
}
