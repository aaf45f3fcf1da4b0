//! One request's exchange with a dyno: a slot, a connection, the request, the beginning of the response.
//!
//! Dropping an [`Exchange`] (the client left) drops it from the queue, or, once the request is on its way, leaves a
//! task behind that keeps the slot until the dyno has answered or closed: a worker that is still busy with a request
//! that nobody waits for is busy all the same.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use domain::error_code::ErrorCode;
use domain::upstream::Upstream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::affinity::AnsweredBy;
use crate::app::App;
use crate::download::Download;
use crate::dyno::Slot;
use crate::dyno_io::{ConnectFailure, DynoConnection, ResponseFuture, connect};
use crate::forward;
use crate::places::AppPlaces;
use crate::proxy::Client;
use crate::reach::{Connector, Journey, reach, reach_again};
use crate::reply::{Problem, ReplyBody};
use crate::request_body::{Left, RequestBody};
use crate::request_log::Record;
use crate::server_side;
use crate::tunnel::{self, Tunnel};
use crate::upload::{Gate, Keeper, Phase, Progress, Upload};
use crate::upstream;
use crate::worker::{Open, Worker};

/// New connections to the server that are closed under a request before that is an error: it is exchanged, not broken.
const SERVER_ATTEMPTS_MAX: u32 = 3;

/// A request as it goes to the dyno.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<RequestBody>,
    pub(crate) expects_continue: bool,
    /// The dyno that the client's session is on.
    pub(crate) wanted: Option<Uuid>,
    /// The protocol asked for, and the client's side of it.
    pub(crate) upgrade: Option<(HeaderValue, Option<OnUpgrade>)>,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    client: Rc<Client>,
    app: Arc<App>,
    outgoing: Outgoing,
    record: Record,
}

/// Why an attempt brought no response.
enum Failed {
    /// The connection was closed under the request, a reused one or one to a server that ends; it may be sent again on a
    /// new one.
    Stale,
    Code(ErrorCode),
    Problem(Problem),
}

/// A response that is being waited for, with everything that must not end before it has come.
struct Pending {
    response: Option<ResponseFuture>,
    connection: Option<DynoConnection>,
    slot: Arc<Slot>,
    places: Arc<AppPlaces>,
    method: Method,
    uri: Uri,
    sent_at: Instant,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(response) = self.response.take()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let (connection, slot) = (self.connection.take(), self.slot.clone());
            let orphaned = slot.dyno.orphans.add(self.method.as_str(), self.uri.path(), self.sent_at);
            let place = self.places.leave();
            spawn_local(async move {
                drop(response.await);
                drop(connection);
                drop(slot);
                drop(orphaned);
                drop(place);
            });
        }
    }
}

impl Exchange {
    pub(crate) fn new(client: Rc<Client>, app: Arc<App>, outgoing: Outgoing, record: Record) -> Self {
        Self { client, app, outgoing, record }
    }

    pub(crate) async fn run(mut self) -> Result<Response<ReplyBody>, Problem> {
        match self.run_inner().await.and_then(|answer| self.sound(answer)) {
            Ok(answer) => self.deliver(answer).await,
            Err(problem) => {
                if let Some(code) = problem.code {
                    // Heroku logs 499 for a client that stalls or has left; no client could be told that.
                    let is_clients = matches!(code, ErrorCode::H27 | ErrorCode::H28);
                    let status = if is_clients { 499 } else { problem.status.as_u16() };
                    self.record.refuse(code, status, problem.cause);
                } else {
                    self.record.answered(problem.status.as_u16());
                }
                Err(problem)
            }
        }
    }

    async fn run_inner(&mut self) -> Result<Answer, Problem> {
        let (mut slot, mut connection) = self.reach_dyno().await?;
        let mut new_ones_left = if self.app.view().edge.to_server { SERVER_ATTEMPTS_MAX } else { 0 };
        loop {
            let reused = connection.reused;
            match self.attempt(connection, &slot).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Stale) if !reused && new_ones_left > 0 => {
                    new_ones_left -= 1;
                    (slot, connection) = self.reach_again(slot).await?;
                }
                Err(Failed::Stale) if reused => (slot, connection) = self.reach_again(slot).await?,
                Err(Failed::Stale) => return Err(Problem::code(ErrorCode::H13)),
                Err(Failed::Code(code)) => return Err(Problem::code(code)),
                Err(Failed::Problem(problem)) => return Err(problem),
            }
        }
    }

    /// Finds a dyno that has a free slot and takes a connection.
    ///
    /// While a request waits, its host may be led elsewhere: from an old host to the dynos, or back. It goes along.
    async fn reach_dyno(&mut self) -> Result<(Arc<Slot>, DynoConnection), Problem> {
        let client = self.client.clone();
        let shared = &client.worker.shared;
        let host = forward::host(&self.outgoing.headers);
        loop {
            let (host, replayable) = (host.clone(), self.replayable());
            let connector = Connections { worker: &client.worker, app: &self.app, host, replayable };
            let mut journey = Journey::to(self.outgoing.wanted);
            // To read of a body is to ask for it.
            let body = self.outgoing.body.as_mut().filter(|_body| !self.outgoing.expects_continue);
            let reached = unless_left(pin!(reach(&self.app, &shared.bounds, &mut journey, &connector)), body).await?;
            self.record.add_queue(journey.queue);
            if let Some(dyno) = &journey.dyno {
                self.record.connected(dyno.name.clone(), journey.connect);
            }
            match shared.table.app(&connector.host) {
                Some(app) if !Arc::ptr_eq(&app, &self.app) => self.app = app,
                Some(_) | None => return reached.map(|(slot, connection)| (Arc::new(slot), connection)),
            }
        }
    }

    /// The same after a kept connection was closed under the request.
    async fn reach_again(&mut self, slot: Arc<Slot>) -> Result<(Arc<Slot>, DynoConnection), Problem> {
        let client = self.client.clone();
        let (worker, app) = (&client.worker, &self.app);
        let (host, replayable) = (forward::host(&self.outgoing.headers), self.replayable());
        let connector = Connections { worker, app, host, replayable };
        let mut journey = Journey::to(self.outgoing.wanted);
        let reached = reach_again(app, &worker.shared.bounds, &mut journey, &connector, &slot).await;
        self.record.add_queue(journey.queue);
        if let Some(dyno) = &journey.dyno {
            self.record.connected(dyno.name.clone(), journey.connect);
        }
        let (elsewhere, connection) = reached?;
        Ok((elsewhere.map_or(slot, Arc::new), connection))
    }

    /// Sends the request and waits for the beginning of the response.
    async fn attempt(&mut self, mut connection: DynoConnection, slot: &Arc<Slot>) -> Result<Answer, Failed> {
        let progress = Rc::new(Progress::new(self.outgoing.body.is_none()));
        let (request, upgrade_to_dyno) = self.request(&connection, slot, &progress);
        let read_before = connection.line.bytes_read();
        self.record.sending();
        let line = connection.line.clone();
        // Over HTTP/2 the library has a bound of its own for all heads of a connection.
        if !connection.is_http2() {
            let bytes_max = self.client.worker.shared.bounds.buffer_bytes_max;
            line.head_room.begin(&self.app.places, read_before, bytes_max);
        }
        let http2 = connection.is_http2();
        let response = connection.send(request);
        // The server may take a connection in the moment in which it ends.
        let may_be_closed = connection.reused || self.app.view().edge.to_server;
        let mut pending = Pending {
            response: Some(response),
            connection: Some(connection),
            slot: slot.clone(),
            places: self.app.places.clone(),
            method: self.outgoing.method.clone(),
            uri: self.outgoing.uri.clone(),
            sent_at: Instant::now(),
        };
        let outcome = self.wait(&mut pending, &progress).await?;
        pending.response = None;
        let connection = pending.connection.take();
        match (outcome, connection) {
            (Ok(response), Some(connection)) => {
                progress.answered.set(true);
                Ok(Answer { response, connection, slot: slot.clone(), progress, upgrade_to_dyno })
            }
            (Ok(_response), None) => Err(Failed::Code(ErrorCode::H99)),
            (Err(mut error), _connection) => {
                if line.head_room.end() {
                    return Err(Failed::Problem(Problem::NO_ROOM_FOR_HEAD));
                }
                let answered = line.bytes_read() > read_before;
                if let Some(unsent) = error.take_message() {
                    self.take_back(unsent);
                    return Err(Failed::Stale);
                }
                if forward::is_refused_stream(error.error()) && !self.had_body() {
                    return Err(Failed::Stale);
                }
                let lost_body = progress.phase() != Phase::Done || self.had_body();
                if may_be_closed && !answered && self.outgoing.method.is_idempotent() && !lost_body {
                    return Err(Failed::Stale);
                }
                // Over HTTP/2 the bytes may have been of other answers.
                Err(self.classify(error.error(), &progress, answered && !http2))
            }
        }
    }

    fn request(
        &mut self,
        connection: &DynoConnection,
        slot: &Arc<Slot>,
        progress: &Rc<Progress>,
    ) -> (Request<Upload>, bool) {
        let outgoing = &mut self.outgoing;
        let body = outgoing.body.take();
        let (open, opened) = oneshot::channel();
        let gate = (outgoing.expects_continue && body.is_some() && !connection.is_http2())
            .then(|| Gate::new(opened, self.client.worker.shared.bounds.continue_wait));
        let gated = gate.is_some();
        let mut least = self.client.worker.shared.bounds.client_pace;
        if forward::is_grpc(&outgoing.headers) {
            // A client that streams may have next to nothing to say for hours.
            least.bytes = 0;
        }
        let keeper = (body.is_some() && !connection.is_http2()).then(|| Keeper {
            line: connection.line.clone(),
            slot: slot.clone(),
            method: outgoing.method.clone(),
            uri: outgoing.uri.clone(),
        });
        let upload = Upload::new(body, gate, progress.clone(), keeper, least);
        let mut request = Request::new(upload);
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = outgoing.headers.clone();
        if connection.is_http2() {
            forward::turn_to_http2(&mut request);
        }
        if gated {
            let open = Mutex::new(Some(open));
            hyper::ext::on_informational(&mut request, move |response| {
                let open = open.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let (StatusCode::CONTINUE, Some(open)) = (response.status(), open) {
                    // A request that is gone needs no body.
                    open.send(()).unwrap_or_default();
                }
            });
        }
        (request, outgoing.upgrade.is_some() && !connection.is_http2())
    }

    fn take_back(&mut self, unsent: Request<Upload>) {
        self.outgoing.body = unsent.into_body().into_body();
    }

    fn had_body(&self) -> bool {
        self.outgoing.headers.contains_key(http::header::TRANSFER_ENCODING)
            || self.outgoing.headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0")
    }

    /// Whether the request can be sent a second time whatever happened to the first.
    fn replayable(&self) -> bool {
        self.outgoing.body.is_none() && self.outgoing.method.is_idempotent()
    }

    /// Waits for the response, as long as the app's time limits allow.
    async fn wait(
        &self,
        pending: &mut Pending,
        progress: &Progress,
    ) -> Result<Result<Response<Incoming>, TrySendError<Request<Upload>>>, Failed> {
        let limits = self.app.view().limits;
        let Some(response) = &mut pending.response else { return Err(Failed::Code(ErrorCode::H99)) };
        loop {
            let limit_ms = match progress.phase() {
                Phase::Done => limits.first_byte_ms,
                Phase::WaitingForClient | Phase::WaitingForDyno => limits.idle_ms,
                Phase::Left | Phase::Unwanted => return Err(Failed::Code(ErrorCode::H27)),
                Phase::BadChunk => return Err(Failed::Problem(Problem::bad_request("bad chunk"))),
                Phase::TooLarge => return Err(Failed::Problem(Problem::BODY_TOO_LARGE)),
                Phase::TooSlow => return Err(Failed::Code(ErrorCode::H28)),
            };
            let deadline = progress.moved_at() + Duration::from_millis(limit_ms);
            tokio::select! {
                biased;
                outcome = &mut *response => return Ok(outcome),
                () = progress.changed.notified() => {}
                () = sleep_until(deadline) => match progress.phase() {
                    // Bytes have moved since the deadline was set.
                    _ if progress.moved_at() + Duration::from_millis(limit_ms) > Instant::now() => {}
                    Phase::WaitingForClient => return Err(Failed::Code(ErrorCode::H28)),
                    _ => return Err(Failed::Code(ErrorCode::H12)),
                },
            }
        }
    }

    fn classify(&self, error: &hyper::Error, progress: &Progress, answered: bool) -> Failed {
        match progress.phase() {
            Phase::Left => Failed::Code(ErrorCode::H27),
            Phase::BadChunk => Failed::Problem(Problem::bad_request("bad chunk")),
            Phase::TooLarge => Failed::Problem(Problem::BODY_TOO_LARGE),
            Phase::TooSlow => Failed::Code(ErrorCode::H28),
            _ if error.is_parse_too_large() => {
                Failed::Problem(Problem { cause: Some("oversized header"), ..Problem::code(ErrorCode::H25) })
            }
            _ if error.is_parse() || forward::is_no_http2(error) => Failed::Code(ErrorCode::H17),
            _ if answered => Failed::Code(ErrorCode::H18),
            _ => Failed::Code(ErrorCode::H13),
        }
    }

    /// What could be read in two ways, or agrees to what nobody asked for, is not passed on.
    fn sound(&self, mut answer: Answer) -> Result<Answer, Problem> {
        let is_asked = answer.upgrade_to_dyno && matches!(self.outgoing.upgrade, Some((_, Some(_))));
        let is_sound = match answer.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => is_asked,
            _ => forward::settle_length(answer.response.headers_mut()),
        };
        if is_sound { Ok(answer) } else { Err(Problem::code(ErrorCode::H17)) }
    }

    /// Hands the response to the client, with everything that ends when its body does.
    async fn deliver(mut self, answer: Answer) -> Result<Response<ReplyBody>, Problem> {
        let Answer { mut response, connection, slot, progress, upgrade_to_dyno: _ } = answer;
        response.extensions_mut().insert(AnsweredBy(slot.dyno.id));
        // hyper writes the version that the client understands; a dyno's HTTP/1.0 says nothing about our own hop.
        *response.version_mut() = Version::HTTP_11;
        let limits = self.app.view().limits;
        let idle = limits.silence();
        self.client.line.set_idle_ms(limits.idle_ms);
        self.client.line.answered_by(&self.app.places);
        self.record.answered(response.status().as_u16());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client_side) = self.outgoing.upgrade.take().and_then(|(_protocol, client_side)| client_side)
        {
            let protocol = response.headers().get(http::header::UPGRADE).cloned();
            let websocket =
                protocol.as_ref().is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
            let dyno_side = hyper::upgrade::on(&mut response);
            forward::prepare_response(response.headers_mut(), protocol.as_ref());
            let bounds = &self.client.worker.shared.bounds;
            let open = Open::new(self.client.worker.clone());
            let tunnel =
                Tunnel { _open: open, slot, record: self.record, idle, websocket, close_wait: bounds.close_wait };
            self.client.line.set_upgraded();
            connection.line.head_room.end();
            spawn_local(tunnel::run(tunnel, client_side, dyno_side));
            drop(connection);
            return Ok(response.map(|_no_body| ReplyBody::Own(None)));
        }
        if forward::is_event_stream(response.headers()) {
            slot.begin_conversation();
        }
        forward::prepare_response(response.headers_mut(), None);
        if response.status() == StatusCode::NO_CONTENT {
            // RFC 9110, 8.6: it has no body, so it says no length. A client might wait for it.
            response.headers_mut().remove(http::header::CONTENT_LENGTH);
        }
        let (worker, line) = (self.client.worker.clone(), self.client.line.clone());
        let (parts, body) = response.into_parts();
        let mut download = Box::new(Download::new(body, idle, progress, line, worker, connection, slot, self.record));
        download.begin().await?;
        Ok(Response::from_parts(parts, ReplyBody::Dyno(download)))
    }
}

/// Waits for `what`, unless the client leaves first in the middle of its upload.
async fn unless_left<T>(
    mut what: Pin<&mut impl Future<Output = T>>,
    mut body: Option<&mut RequestBody>,
) -> Result<T, Problem> {
    poll_fn(|cx| match (what.as_mut().poll(cx), &mut body) {
        (Poll::Ready(done), _) => Poll::Ready(Ok(done)),
        (Poll::Pending, Some(body)) => body.poll_left(cx).map(|Left| Err(Problem::code(ErrorCode::H27))),
        (Poll::Pending, None) => Poll::Pending,
    })
    .await
}

/// The beginning of a response, with what it came through.
struct Answer {
    response: Response<Incoming>,
    connection: DynoConnection,
    slot: Arc<Slot>,
    progress: Rc<Progress>,
    upgrade_to_dyno: bool,
}

/// Gives connections of HTTP libraries to dynos.
struct Connections<'a> {
    worker: &'a Worker,
    app: &'a App,
    /// Lower case, without port.
    host: String,
    replayable: bool,
}

impl Connector for Connections<'_> {
    type Connection = DynoConnection;

    async fn pooled(&self, slot: &Slot) -> Option<DynoConnection> {
        let view = self.app.view();
        let outside = view.edge.upstream.as_ref().map(|url| upstream::pool_key(url, &self.host));
        let key = outside.unwrap_or(slot.dyno.serial);
        let connection = self.worker.pool.take(key, &self.worker.shared.bounds).await?;
        if !self.replayable {
            // Lets the runtime look at the sockets once: a connection that the dyno has closed by now is found out
            // before a request goes down with it that could not be sent twice.
            tokio::task::yield_now().await;
        }
        (!connection.is_closed()).then_some(connection)
    }

    async fn connect(&self, slot: &Slot, limit: Duration) -> Result<DynoConnection, ConnectFailure> {
        let shared = &self.worker.shared;
        let view = self.app.view();
        if view.edge.to_server {
            return server_side::connect(&shared.data_dir, limit, &shared.bounds).await;
        }
        if let Some(url) = &view.edge.upstream {
            // Checked before it was put into the table.
            let Ok(upstream) = Upstream::parse(url) else { return Err(ConnectFailure::Refused) };
            let tls = || shared.upstream_tls();
            let allowed = &shared.upstream_networks;
            let mut connection = upstream::connect(&upstream, &self.host, allowed, tls, limit, &shared.bounds).await?;
            connection.pool_key = Some(upstream::pool_key(url, &self.host));
            return Ok(connection);
        }
        let connection = connect(slot.dyno.address, slot.dyno.protocol(), limit, &shared.bounds).await?;
        self.worker.pool.open(slot.dyno.serial, &connection);
        Ok(connection)
    }
}
