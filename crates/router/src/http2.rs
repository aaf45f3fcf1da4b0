//! HTTP/2 with clients: hyper's server, and what it leaves to its user: limits of time per stream and per connection.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::debug;

use crate::client_io::{ClientIo, ClientLine};
use crate::download::DownloadError;
use crate::proxy::{self, Client};
use crate::reply::ReplyBody;
use crate::request_body::RequestBody;
use crate::worker::{Origin, Stage, Worker};

/// Serves one HTTP/2 connection to its end.
pub(crate) async fn serve(worker: &Rc<Worker>, io: ClientIo, origin: Origin) {
    let bounds = &worker.shared.bounds;
    let streams = Rc::new(Streams::default());
    let mut builder = http2::Builder::new(StreamExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.http2_streams_max)
        .initial_stream_window_size(bounds.http2_stream_window_bytes)
        .initial_connection_window_size(bounds.http2_connection_window_bytes)
        .max_send_buf_size(bounds.buffer_bytes_max)
        .max_header_list_size(u32::try_from(bounds.buffer_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(bounds.client_idle / 2)
        .keep_alive_timeout(bounds.client_idle / 2);
    let (peer, idle) = (origin.peer, origin.idle(bounds));
    let service = {
        let (worker, streams) = (worker.clone(), streams.clone());
        service_fn(move |request| answer(worker.clone(), origin.clone(), streams.clone(), request))
    };
    let connection = builder.serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let mut stage = worker.stage.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        // The client is told at once: later requests are for another connection, those under way finish.
        _ending = stage.wait_for(|stage| *stage > Stage::Serving) => {
            connection.as_mut().graceful_shutdown();
            Some(connection.await)
        }
        () = streams.idle_for(idle) => {
            connection.as_mut().graceful_shutdown();
            timeout(bounds.close_wait, connection).await.ok()
        }
    };
    if let Some(Err(error)) = ended {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        debug!(%error, cause, client = %peer, "Client connection ended early");
    }
}

async fn answer(
    worker: Rc<Worker>,
    origin: Origin,
    streams: Rc<Streams>,
    request: Request<Incoming>,
) -> Result<Response<Http2Body>, Infallible> {
    let open = OpenStream::new(streams);
    let line = CURRENT_STREAM.with_borrow(Clone::clone).unwrap_or_else(|| Arc::new(ClientLine::new()));
    let client = Client { worker, origin, line: line.clone(), http2: true };
    let is_head = request.method() == Method::HEAD;
    let mut response = proxy::handle(Rc::new(client), request.map(RequestBody::http2)).await?;
    // What closes a connection in HTTP/1 has no place here.
    response.headers_mut().remove(CONNECTION);
    if is_head && let ReplyBody::Own(bytes) = response.body_mut() {
        // hyper leaves it to us that an answer to HEAD has no body.
        let length = HeaderValue::from(bytes.take().map_or(0, |bytes| bytes.len()));
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    Ok(response.map(|body| Http2Body { body, line, _open: open }))
}

/// The requests under way on one connection.
#[derive(Debug)]
struct Streams {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    changed: Notify,
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: Cell::new(0), idle_since: Cell::new(Instant::now()), changed: Notify::new() }
    }
}

impl Streams {
    /// Waits until there was no request for this long.
    async fn idle_for(&self, limit: std::time::Duration) {
        loop {
            let deadline = self.idle_since.get() + limit;
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(deadline), if self.open.get() == 0 => {
                    if self.open.get() == 0 && self.idle_since.get() + limit <= Instant::now() {
                        return;
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct OpenStream(Rc<Streams>);

impl OpenStream {
    fn new(streams: Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(streams)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
        self.0.changed.notify_one();
    }
}

/// An answer on its way, which remembers whether a piece of it waits for the client.
#[derive(Debug)]
struct Http2Body {
    body: ReplyBody,
    line: Arc<ClientLine>,
    _open: OpenStream,
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.line.set_offered(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

thread_local! {
    /// Of the stream whose task is being polled on this thread.
    static CURRENT_STREAM: RefCell<Option<Arc<ClientLine>>> = const { RefCell::new(None) };
}

/// Runs hyper's task of each stream inside one of ours, which ends it when the client takes nothing for too long: a
/// client may stop one stream and keep the connection alive, and hyper would wait for ever.
#[derive(Debug, Clone, Copy)]
struct StreamExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        let task = StreamTask { future: Box::pin(future), line: Arc::new(ClientLine::new()), stall: None };
        // Ends with its stream.
        drop(spawn_local(task));
    }
}

struct StreamTask<F> {
    future: Pin<Box<F>>,
    line: Arc<ClientLine>,
    /// Runs while a piece of the answer waits for the client.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let before = CURRENT_STREAM.replace(Some(this.line.clone()));
        let polled = this.future.as_mut().poll(cx);
        CURRENT_STREAM.set(before);
        if polled.is_ready() {
            return polled;
        }
        if !this.line.is_offered() {
            this.stall = None;
            return Poll::Pending;
        }
        let stall = this.stall.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + this.line.idle())));
        if stall.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.line.set_stalled();
        // Dropping hyper's task resets the stream.
        Poll::Ready(())
    }
}
