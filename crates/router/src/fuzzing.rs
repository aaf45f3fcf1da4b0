//! What the fuzz targets in `fuzz/` reach: compiled for them only.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf, join, sink};

use crate::config::Bounds;
use crate::head;
use crate::head_guard::{Guarded, HeadGuard};
use crate::proxy_protocol;
use crate::request_body::RequestBody;

/// The first fault in the bytes, if they come in pieces of `cut`: at which request, or that a body is broken.
pub fn first_fault(bytes: &[u8], cut: usize) -> Option<(u64, &'static str)> {
    let mut guard = HeadGuard::new();
    bytes.chunks(cut).find_map(|piece| match guard.push(piece) {
        Guarded::Sound => None,
        Guarded::Head(fault) => Some((fault.request, fault.cause)),
        Guarded::Body { sound_bytes } => {
            assert!(sound_bytes <= piece.len());
            Some((u64::MAX, "body"))
        }
    })
}

/// The requests in what an HTTP/2 client sends behind its preface and settings, and what is said to it.
pub fn http2(bytes: &[u8], cut: usize) -> (Vec<Understood>, Vec<u8>) {
    let (requests, answers) = crate::express::http2::played(bytes, cut);
    let understood = requests.into_iter().map(|(method, target, body)| Understood { method, target, body }).collect();
    (understood, answers)
}

/// What a dyno's bytes say in answer to a GET, as the express lane reads it: status, body, and whether that ended.
pub fn answer(bytes: &[u8], cut: usize) -> Option<(u16, Vec<u8>, bool)> {
    crate::express::answered(bytes, cut)
}

/// The same as the full path reads it; the body only if it ended.
pub fn answer_by_the_full_path(bytes: &[u8]) -> Option<(u16, Option<Vec<u8>>)> {
    // It says these bytes and closes, whatever it is told.
    let io = join(Cursor::new(bytes.to_vec()), sink());
    runtime().block_on(async move {
        let builder = hyper::client::conn::http1::Builder::new();
        let (mut sender, connection) = builder.handshake::<_, Empty<Bytes>>(TokioIo::new(io)).await.ok()?;
        let asked = async move {
            let request = Request::get("/").header("host", "shop.example").body(Empty::new()).ok()?;
            let mut response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let sound = crate::forward::settle_length(response.headers_mut());
            let body = response.into_body().collect().await.ok().map(|body| body.to_bytes().to_vec());
            sound.then_some((status, body))
        };
        let mut connection = std::pin::pin!(connection);
        let mut asked = std::pin::pin!(asked);
        std::future::poll_fn(|cx| {
            for _turn in 0..64 {
                if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                if connection.as_mut().poll(cx).is_ready() {
                    return asked.as_mut().poll(cx);
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    })
}

/// What the PROXY header says, and how many bytes are left behind it.
pub fn proxy_header(mut bytes: &[u8]) -> Option<(Option<proxy_protocol::Proxied>, usize)> {
    let proxied = runtime().block_on(proxy_protocol::read(&mut bytes)).ok()?;
    Some((proxied, bytes.len()))
}

/// Stands for every target with a scheme and a host.
pub const ABSOLUTE: &str = "absolute";

/// A request as the router would pass it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
}

/// The same for the express lane, up to the first request that it leaves to the full path.
pub fn taken_by_the_lane(bytes: &[u8]) -> Vec<Understood> {
    let taken = crate::express::taken(bytes).into_iter();
    taken.map(|(method, target, body)| Understood { method, target, body }).collect()
}

/// The requests that the router would pass on if a client sent these bytes, by the same parts in the same order.
pub fn understood(bytes: &[u8]) -> Vec<Understood> {
    let all = Rc::new(RefCell::new(Vec::new()));
    let faults = Rc::new(RefCell::new((0, None)));
    let sent = Sent { bytes: bytes.to_vec(), at: 0, guard: HeadGuard::new(), cut: false, faults: faults.clone() };
    let service = {
        let all = all.clone();
        service_fn(move |request: Request<Incoming>| {
            let (all, faults) = (all.clone(), faults.clone());
            async move {
                let (parts, body) = request.into_parts();
                let number = faults.borrow().0;
                faults.borrow_mut().0 += 1;
                let faulty = faults.borrow().1.is_some_and(|fault| fault <= number);
                let mut response = Response::new(Empty::<Bytes>::new());
                if faulty || head::check(&parts, Bounds::default().headers_max).is_err() {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                } else if let Ok(body) = RequestBody::http1(body).collect().await {
                    let target = match (parts.uri.scheme(), parts.uri.path_and_query()) {
                        // Written in another way than it came.
                        (Some(_scheme), _any) => ABSOLUTE.to_owned(),
                        (None, Some(path)) => path.as_str().to_owned(),
                        (None, None) => parts.uri.to_string(),
                    };
                    let method = parts.method.to_string();
                    all.borrow_mut().push(Understood { method, target, body: body.to_bytes().to_vec() });
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let bounds = Bounds::default();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_headers(bounds.headers_max).max_buf_size(bounds.buffer_bytes_max).half_close(false);
    drop(runtime().block_on(builder.serve_connection(TokioIo::new(join(sent, sink())), service)));
    let understood = all.borrow().clone();
    understood
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing that could be missing")
}

/// A client that sends these bytes and reads nothing.
struct Sent {
    bytes: Vec<u8>,
    at: usize,
    guard: HeadGuard,
    cut: bool,
    faults: Rc<RefCell<(u64, Option<u64>)>>,
}

impl AsyncRead for Sent {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        /// Small, so that lines are cut.
        const PIECE_BYTES: usize = 7;
        if self.cut {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let count = (self.bytes.len() - self.at).min(PIECE_BYTES).min(buf.remaining());
        let piece = self.bytes[self.at..self.at + count].to_vec();
        self.at += count;
        match self.guard.push(&piece) {
            Guarded::Sound => buf.put_slice(&piece),
            Guarded::Head(fault) => {
                self.faults.borrow_mut().1 = Some(fault.request);
                buf.put_slice(&piece);
            }
            Guarded::Body { sound_bytes } => {
                self.cut = true;
                if sound_bytes == 0 {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                buf.put_slice(&piece[..sound_bytes]);
            }
        }
        Poll::Ready(Ok(()))
    }
}
