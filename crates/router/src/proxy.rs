//! One request: checked, matched with its app, exchanged with a dyno, answered.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::error_code::ErrorCode;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;

use crate::affinity::{self, AnsweredBy};
use crate::client_io::ClientLine;
use crate::compression;
use crate::edge;
use crate::exchange::{Exchange, Outgoing};
use crate::forward::{self, Forwarded};
use crate::front::{Came, NotThroughFront};
use crate::head;
use crate::log_thread::unix_us;
use crate::places::LITTLE_BYTES;
use crate::reply::{self, Problem, ReplyBody};
use crate::request_body::RequestBody;
use crate::request_log::Record;
use crate::tunnel;
use crate::worker::{Origin, Worker};

/// Answers for any host, for a load balancer in front.
pub(crate) const HEALTH_PATH: &str = "/.well-known/berth/health";

/// Below it are the paths that the router may answer itself.
pub(crate) const OWN_PATHS: &str = "/.well-known/";

/// Where requests come from, as they see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) origin: Origin,
    /// Of the connection in HTTP/1, of the stream in HTTP/2.
    pub(crate) line: Arc<ClientLine>,
    pub(crate) http2: bool,
}

pub(crate) async fn handle(
    client: Rc<Client>,
    request: Request<RequestBody>,
) -> Result<Response<ReplyBody>, Infallible> {
    let shared = client.worker.shared.clone();
    let mut response = answer(&client, request).await;
    if shared.ends_connections() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(client: &Rc<Client>, request: Request<RequestBody>) -> Response<ReplyBody> {
    let shared = &client.worker.shared;
    shared.requests_total.fetch_add(1, Ordering::Relaxed);
    let (mut parts, mut body) = request.into_parts();
    let request_id = forward::request_id(&parts.headers);
    let framing_fault = client.line.next_request_fault();
    if parts.uri.path() == HEALTH_PATH && framing_fault.is_none() {
        return reply::health(shared.draining.load(Ordering::Relaxed));
    }
    if client.http2 {
        forward::join_cookies(&mut parts.headers);
    }
    let target = match head::check(&parts, shared.bounds.headers_max) {
        Ok(target) => target,
        Err(fault) => {
            let problem = Problem {
                status: fault.status,
                code: Some(ErrorCode::H26),
                cause: Some(fault.cause),
                retry_after: None,
            };
            return reply::problem(problem, &request_id, &parts.headers);
        }
    };
    if let Some(text) = shared.table.challenges().http_answer(&target.host, parts.uri.path())
        && framing_fault.is_none()
    {
        return reply::challenge(text);
    }
    let Some(app) = shared.table.app(&target.host) else {
        if let Some(cause) = framing_fault {
            return reply::problem(Problem::bad_request(cause), &request_id, &parts.headers);
        }
        return reply::problem(Problem::NO_SUCH_APP, &request_id, &parts.headers);
    };
    client.line.answered_by(&app.places);
    let tls = client.origin.tls.as_ref();
    let misdirected = tls.is_some_and(|tls| tls.is_misdirected(&target.host, shared.table.certificates()));
    let Origin { peer, local, fronts, .. } = &client.origin;
    let came = fronts.judge(&client.origin, &parts.headers);
    let around_front = came.is_err();
    let came = came.unwrap_or_else(|NotThroughFront| Came {
        forwarded_for: peer.ip().to_canonical().to_string(),
        https: tls.is_some(),
        port: local.port(),
        through_front: false,
    });
    fronts.withhold(&mut parts.headers, came.through_front);
    let mut record = Record::new(
        client.worker.log.clone(),
        app.logged_for,
        parts.method.clone(),
        parts.uri.clone(),
        target.host,
        request_id.clone(),
        came.forwarded_for.clone(),
    );
    let view = app.view();
    if view.edge.to_server {
        record.keep_out_of_the_log();
    }
    record.count_body(body.counter());
    if came.https {
        record.over_https(tls.map(|tls| tls.version));
    }
    if let Some(cause) = framing_fault {
        let problem = Problem::bad_request(cause);
        record.refuse(ErrorCode::H26, problem.status.as_u16(), problem.cause);
        return reply::problem(problem, &request_id, &parts.headers);
    }
    if misdirected || around_front {
        let problem = if misdirected { Problem::MISDIRECTED } else { Problem::NOT_THROUGH_FRONT };
        record.refuse(ErrorCode::H31, problem.status.as_u16(), problem.cause);
        return reply::problem(problem, &request_id, &parts.headers);
    }
    if !came.https && view.edge.https_only {
        let response = edge::to_https(&parts, &target.authority, shared.https_port);
        record.answered(response.status().as_u16());
        return response;
    }
    if view.edge.upstream.is_some() && forward::goes_round(&parts.headers) {
        let problem = Problem::GOES_ROUND;
        record.refuse(ErrorCode::H21, problem.status.as_u16(), problem.cause);
        return reply::problem_of_app(problem, &request_id, &parts.headers, &view.edge);
    }
    let Some(place) = app.places.enter(shared.app_requests_max()) else {
        let problem = Problem::code(ErrorCode::H22);
        record.refuse(ErrorCode::H22, problem.status.as_u16(), problem.cause);
        return reply::problem_of_app(problem, &request_id, &parts.headers, &view.edge);
    };
    record.hold(place);
    if let Some(bytes_max) = view.edge.request_bytes_max
        && !body.limit(bytes_max)
    {
        let problem = Problem::BODY_TOO_LARGE;
        record.refuse(ErrorCode::H26, problem.status.as_u16(), problem.cause);
        return reply::problem(problem, &request_id, &parts.headers);
    }
    let has_body = !body.is_end_stream();
    let upgrade = if has_body { None } else { forward::upgrade_asked(&parts.headers) };
    let body_bytes = match (has_body, client.http2) {
        (false, _) => 0,
        (true, false) => shared.bounds.buffer_bytes_max,
        (true, true) => shared.bounds.http2_stream_window_bytes as usize,
    };
    let head_bytes = forward::bytes(&parts.headers);
    let head_bytes = if head_bytes > LITTLE_BYTES { head_bytes } else { 0 };
    let tunnel_bytes = if upgrade.is_some() { tunnel::HELD_BYTES } else { 0 };
    let (Ok(of_body), Ok(of_rest)) = (app.places.hold(body_bytes), app.places.hold(head_bytes + tunnel_bytes)) else {
        let problem = Problem { cause: Some("memory"), ..Problem::code(ErrorCode::H22) };
        record.refuse(ErrorCode::H22, problem.status.as_u16(), problem.cause);
        return reply::problem_of_app(problem, &request_id, &parts.headers, &view.edge);
    };
    body.hold(of_body);
    record.hold_bytes(of_rest);
    let asked_by = parts.headers.clone();
    let forwarded = Forwarded {
        authority: &target.authority,
        request_id: &request_id,
        came: &came,
        unix_ms: unix_us() / 1000,
        chunked: has_body && body.size_hint().exact().is_none(),
    };
    forward::prepare_request(&mut parts.headers, upgrade.as_ref(), &forwarded);
    let wanted = if view.edge.session_affinity { affinity::wanted(&parts.headers) } else { None };
    let outgoing = Outgoing {
        method: parts.method,
        uri: origin_form(&parts.uri),
        headers: parts.headers,
        body: has_body.then_some(body),
        wanted,
        expects_continue: target.expects_continue && parts.version == Version::HTTP_11,
        upgrade: upgrade.map(|protocol| (protocol, parts.extensions.remove::<hyper::upgrade::OnUpgrade>())),
    };
    let (method, places) = (outgoing.method.clone(), app.places.clone());
    let exchange = Exchange::new(client.clone(), app, outgoing, record);
    let mut response = match exchange.run().await {
        Ok(response) if view.edge.compression => compression::compress(response, &method, &asked_by, &places),
        Ok(response) => response,
        Err(problem) if view.edge.to_server => reply::problem_of_server(problem, &request_id, &asked_by),
        Err(problem) => reply::problem_of_app(problem, &request_id, &asked_by, &view.edge),
    };
    let answered_by = response.extensions().get::<AnsweredBy>().map(|AnsweredBy(dyno)| *dyno);
    if let Some(dyno) = answered_by.filter(|dyno| view.edge.session_affinity && wanted != Some(*dyno)) {
        affinity::tell(response.headers_mut(), dyno, came.https);
    }
    if came.https {
        edge::promise_https(&view.edge, response.headers_mut());
    }
    response
}

/// What stands in the request line for the dyno, whichever form the client used.
fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) if uri.authority().is_some() => Uri::from(path.clone()),
        Some(_path) => uri.clone(),
        None => Uri::from_static("/"),
    }
}
