//! One request over HTTP/2: by the express lane if it is ordinary and all there, else by the full path.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use domain::error_code::ErrorCode;
use http::header::{ACCEPT, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use httparse::EMPTY_HEADER;

use super::frame::Reason;
use super::header_list::HeaderList;
use super::request::{self, Extra};
use super::request_body::StreamBody;
use super::session::Session;
use super::stream_side::StreamSide;
use crate::client_io::{ClientLine, HELD_BUFFERS};
use crate::express::carry::{Fault, carry};
use crate::express::outgoing::Outgoing;
use crate::express::recipient::{Left, Recipient as _};
use crate::express::request_head::HEADERS_MAX;
use crate::express::{Record, for_a_dyno};
use crate::forward;
use crate::places::TooMuchHeld;
use crate::proxy::{self, Client};
use crate::reply::{self, Problem, ReplyBody};
use crate::request_body::RequestBody;
use crate::request_log::Failure;
use crate::worker::{Origin, Worker};

/// Longer bodies go piece by piece.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Works on the request that has begun on this stream, to its end.
pub(super) async fn exchange(worker: &Rc<Worker>, origin: &Origin, session: &Rc<RefCell<Session>>, id: u32) {
    let head = session.borrow_mut().take_head(id);
    let mut side = StreamSide::new(session, worker, id);
    match ordinary(worker, origin, session, id, &head) {
        Some(outgoing) => {
            drop(head);
            by_the_lane(worker, origin, &mut side, &outgoing).await;
            worker.buffers.put(outgoing.bytes);
        }
        // On the heap: it is large, and rare.
        None => Box::pin(by_the_full_path(worker, origin, &mut side, head)).await,
    }
    session.borrow_mut().finish(id);
}

fn ordinary(
    worker: &Rc<Worker>,
    origin: &Origin,
    session: &Rc<RefCell<Session>>,
    id: u32,
    list: &HeaderList,
) -> Option<Box<Outgoing>> {
    let body = session.borrow_mut().whole_body(id, BODY_BYTES_MAX)?;
    let extra = Extra::of(list, body.len());
    let mut space = [EMPTY_HEADER; HEADERS_MAX];
    let head = request::for_the_lane(list, &extra, body.len(), &mut space)?;
    let outgoing = for_a_dyno(worker, origin, &head, &body)?;
    session.borrow_mut().discard_body(id);
    Some(outgoing)
}

async fn by_the_lane(worker: &Rc<Worker>, origin: &Origin, side: &mut StreamSide<'_>, outgoing: &Outgoing) {
    worker.shared.requests_total.fetch_add(1, Ordering::Relaxed);
    let mut record = Record::new(worker, origin, outgoing);
    match carry(worker, side, outgoing, &mut record).await {
        Ok(()) => record.failure = None,
        Err(Fault::Problem(problem)) => {
            record.status = problem.status.as_u16();
            record.failure = problem.code.map(|code| Failure { code, cause: problem.cause });
            let mut headers = HeaderMap::new();
            if let Some(accept) = outgoing.accept().and_then(|accept| HeaderValue::from_bytes(accept).ok()) {
                headers.insert(ACCEPT, accept);
            }
            let response = reply::problem(problem, outgoing.request_id(), &headers);
            let line = ClientLine::new();
            line.set_idle_ms(outgoing.app.view().limits.idle_ms);
            line.answered_by(&outgoing.app.places);
            let method = if outgoing.head_only { Method::HEAD } else { Method::GET };
            answer(side, response, &method, &line).await;
        }
        Err(Fault::BrokenOff(code)) => {
            record.fail(code);
            side.reset(if code == ErrorCode::H28 { Reason::Cancel } else { Reason::InternalError });
        }
        Err(Fault::Left | Fault::Stale) => record.fail(ErrorCode::H27),
    }
}

async fn by_the_full_path(worker: &Rc<Worker>, origin: &Origin, side: &mut StreamSide<'_>, list: HeaderList) {
    let line = Arc::new(ClientLine::new());
    if list.is_cut {
        let problem =
            Problem { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ..Problem::bad_request("oversized header") };
        let headers = HeaderMap::new();
        let response = reply::problem(problem, &forward::request_id(&headers), &headers);
        return answer(side, response, &Method::GET, &line).await;
    }
    let Ok(request) = request::for_the_full_path(&list) else { return side.reset(Reason::ProtocolError) };
    if !request::is_sound_target(&list) {
        line.set_fault("bad target");
    }
    drop(list);
    let body = StreamBody::new(side.session.clone(), side.id);
    let request = request.map(|()| RequestBody::http2(body));
    let method = request.method().clone();
    let client = Client { worker: worker.clone(), origin: origin.clone(), line: line.clone(), http2: true };
    let mut handling = pin!(proxy::handle(Rc::new(client), request));
    let handled = poll_fn(|cx| {
        if let Poll::Ready(Ok(response)) = handling.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        side.poll_left(cx, &mut []).map(|Left| None)
    });
    let Some(response) = handled.await else { return };
    answer(side, response, &method, &line).await;
}

/// Gives an answer to the client, as long as that takes it.
async fn answer(side: &mut StreamSide<'_>, response: Response<ReplyBody>, method: &Method, line: &ClientLine) {
    let (mut parts, mut body) = response.into_parts();
    let is_head = method == Method::HEAD;
    let bodyless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_own = matches!(body, ReplyBody::Own(_));
    if let Some(length) = body.size_hint().exact()
        && !bodyless
        && (is_own || !is_head)
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut ends = is_head || bodyless || body.is_end_stream();
    side.head_of(&parts, ends);
    drop(parts);
    if side.send(&[], ends).is_err() {
        return;
    }
    while is_taken(side, line).await && !ends {
        let next = poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
                return Poll::Ready(Some(frame));
            }
            side.poll_left(cx, &mut []).map(|Left| None)
        });
        match next.await.map(Option::transpose) {
            None => return,
            Some(Err(_broken)) => return side.reset(Reason::InternalError),
            Some(Ok(None)) => {
                side.end_with(&HeaderMap::new());
                ends = true;
            }
            Some(Ok(Some(frame))) => match frame.into_data() {
                Ok(data) => {
                    ends = body.is_end_stream();
                    if side.send(&data, ends).is_err() {
                        return;
                    }
                }
                Err(other) => {
                    side.end_with(&other.into_trailers().unwrap_or_default());
                    ends = true;
                }
            },
        }
    }
}

/// Waits until the client has taken what there is, as long as the app has room in memory for that. Whether it has.
async fn is_taken(side: &mut StreamSide<'_>, line: &ClientLine) -> bool {
    let held_bytes = HELD_BUFFERS * side.worker.shared.bounds.buffer_bytes_max;
    let mut held = None;
    let taken = poll_fn(|cx| {
        let taken = side.poll_taken(cx, line.idle());
        if taken.is_pending() && held.is_none() {
            match line.hold(held_bytes) {
                Ok(room) => held = room,
                Err(TooMuchHeld) => return Poll::Ready(Err(ErrorCode::H28)),
            }
        }
        taken
    });
    let taken = taken.await;
    if taken == Err(ErrorCode::H28) {
        // Before the body is dropped, which then says why.
        line.set_stalled();
        side.reset(Reason::Cancel);
    }
    taken.is_ok()
}
