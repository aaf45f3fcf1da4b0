//! What the router answers by itself: error pages, refusals, its own health.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domain::error_code::ErrorCode;
use domain::routing::{PAGE_BYTES_MAX, is_plain_url};
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use wire::routes::{EdgeSettings, Page};

use crate::compression::Compressed;
use crate::download::{Download, DownloadError};

/// The body of a response: the router's own, or a dyno's.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    Own(Option<Bytes>),
    Dyno(Box<Download>),
    Compressed(Box<Compressed>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = DownloadError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadError>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Dyno(download) => Pin::new(&mut **download).poll_frame(cx),
            Self::Compressed(compressed) => Pin::new(&mut **compressed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Dyno(download) => download.is_end_stream(),
            Self::Compressed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Dyno(download) => download.size_hint(),
            Self::Compressed(_) => SizeHint::default(),
        }
    }
}

/// Why a request gets an answer of the router's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) cause: Option<&'static str>,
    /// When the client may try again, in seconds.
    pub(crate) retry_after: Option<u32>,
}

impl Problem {
    pub(crate) const NO_SUCH_APP: Self =
        Self { status: StatusCode::NOT_FOUND, code: None, cause: None, retry_after: None };

    /// The connection was opened for a host with another certificate: a client that knows HTTP opens a new one.
    pub(crate) const MISDIRECTED: Self =
        Self { status: StatusCode::MISDIRECTED_REQUEST, code: Some(ErrorCode::H31), cause: None, retry_after: None };

    /// The request came to the router directly, or through somebody else's account at the same provider.
    pub(crate) const NOT_THROUGH_FRONT: Self =
        Self { cause: Some("not through the front"), status: StatusCode::FORBIDDEN, ..Self::MISDIRECTED };

    /// The app's requests are passed on to an address that leads back here.
    pub(crate) const GOES_ROUND: Self = Self {
        cause: Some("upstream leads back here"),
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: Some(ErrorCode::H21),
        retry_after: None,
    };

    /// The platform's own server does not answer.
    pub(crate) const SERVER_AWAY: Self =
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: None, cause: None, retry_after: Some(5) };

    pub(crate) const BODY_TOO_LARGE: Self = Self {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        code: Some(ErrorCode::H26),
        cause: Some("body too large"),
        retry_after: None,
    };

    /// The app holds as much memory as it may, and its answer's head is large.
    pub(crate) const NO_ROOM_FOR_HEAD: Self =
        Self { status: StatusCode::BAD_GATEWAY, code: Some(ErrorCode::H25), cause: Some("memory"), retry_after: None };

    pub(crate) const fn bad_request(cause: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: Some(ErrorCode::H26), cause: Some(cause), retry_after: None }
    }

    pub(crate) const fn code(code: ErrorCode) -> Self {
        let status = match code {
            ErrorCode::H25 => StatusCode::BAD_GATEWAY,
            ErrorCode::H28 => StatusCode::REQUEST_TIMEOUT,
            ErrorCode::H26 => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, code: Some(code), cause: None, retry_after: None }
    }

    /// There are more requests than the app can serve.
    pub(crate) fn shed(retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        let retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        Self { retry_after, ..Self::code(ErrorCode::H11) }
    }

    /// The word that stands for it: Heroku's code, or as in answers of the API.
    fn word(&self) -> &'static str {
        match self.code {
            Some(code) => code.code(),
            None if *self == Self::SERVER_AWAY => "service_unavailable",
            None => "not_found",
        }
    }

    fn title(&self) -> &'static str {
        if *self == Self::SERVER_AWAY {
            return "The platform's server does not answer";
        }
        self.code.map_or("No such app", ErrorCode::title)
    }

    /// What a visitor, or the person whose app it is, should know.
    fn explanation(&self) -> &'static str {
        if *self == Self::BODY_TOO_LARGE {
            return "The request's body is longer than the app takes.";
        }
        if *self == Self::SERVER_AWAY {
            return "It is being restarted, or it is down. Apps are served meanwhile. Try again in a moment.";
        }
        let Some(code) = self.code else { return "There is no app at this address." };
        match code {
            ErrorCode::H10 => "The app has crashed. Its logs say why.",
            ErrorCode::H11 => "The app has more requests than it can serve. Try again in a moment.",
            ErrorCode::H12 => "The app took too long to answer.",
            ErrorCode::H13 => "The app closed the connection without an answer.",
            ErrorCode::H14 => "The app has no web process running: scale web to at least 1.",
            ErrorCode::H15 | ErrorCode::H28 => "The connection was idle for too long.",
            ErrorCode::H17 => "The app's answer was not valid HTTP.",
            ErrorCode::H18 => "The app closed the connection in the middle of its answer.",
            ErrorCode::H19 => "The app did not take the connection in time.",
            ErrorCode::H20 => "The app is still starting and took too long.",
            ErrorCode::H21 => "The app refused the connection.",
            ErrorCode::H22 => "The app has as many connections as it may have. Try again in a moment.",
            ErrorCode::H25 => "The app's answer was blocked because its head is too large.",
            ErrorCode::H26 => "The request is not valid HTTP as this server understands it.",
            ErrorCode::H31 => {
                "The request came to the wrong place, or over a connection that was opened for another host."
            }
            ErrorCode::H34 => "None of the app's processes takes connections at the moment.",
            ErrorCode::H80 => "The app is in maintenance. Try again later.",
            ErrorCode::H81 => "The app exists, but nothing was deployed to it yet.",
            _ => "The platform could not serve this request.",
        }
    }
}

/// The router's answer to a request that failed: HTML, or plain text or JSON where the client asks for that.
///
/// Every text in it is the router's own or a checked request id, so nothing needs escaping.
pub(crate) fn problem(problem: Problem, request_id: &str, headers: &HeaderMap) -> Response<ReplyBody> {
    let (title, explanation) = (problem.title(), problem.explanation());
    let code = problem.word();
    let (content_type, text) = match preferred(headers) {
        Format::Html => {
            let page = format!(
                "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
                 <title>{title}</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;\
                 padding:0 1rem;color:#222;background:#fff}}h1{{font-size:1.4rem}}code{{color:#666}}\
                 @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#111}}code{{color:#999}}}}</style>\
                 <h1>{title}</h1><p>{explanation}<p><code>{code} · {request_id}</code></html>\n"
            );
            ("text/html; charset=utf-8", page)
        }
        Format::Json => {
            let json = format!(
                "{{\"id\":\"{code}\",\"message\":\"{title}: {explanation}\",\"request_id\":\"{request_id}\"}}\n"
            );
            ("application/json", json)
        }
        Format::Text => ("text/plain; charset=utf-8", format!("{title}\n{explanation}\n{code} {request_id}\n")),
    };
    let mut response = Response::new(ReplyBody::Own(Some(Bytes::from(text))));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", value);
    }
    if let Some(seconds) = problem.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(problem.code, Some(ErrorCode::H22 | ErrorCode::H26 | ErrorCode::H28)) {
        // What follows on this connection cannot be trusted, will never come, or is one of too many.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same for an app that may have pages of its own.
pub(crate) fn problem_of_app(
    failed: Problem,
    request_id: &str,
    headers: &HeaderMap,
    edge: &EdgeSettings,
) -> Response<ReplyBody> {
    let mut response = problem(failed, request_id, headers);
    let page = match failed.code {
        Some(ErrorCode::H80) => edge.maintenance_page.as_ref(),
        // What the client did wrong is between it and the router.
        _ if failed.status.is_server_error() => edge.error_page.as_ref(),
        _ => None,
    };
    if let Some(text) = page.and_then(page_text)
        && preferred(headers) == Format::Html
    {
        *response.body_mut() = ReplyBody::Own(Some(text));
    }
    response
}

/// The same for the platform's own hosts, in the form that clients of its API read.
pub(crate) fn problem_of_server(failed: Problem, request_id: &str, headers: &HeaderMap) -> Response<ReplyBody> {
    let mut asked = HeaderMap::new();
    let named = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Git and most libraries say nothing, or that they take anything; only browsers want pages.
    let wanted = if named.contains("text/html") { "text/html" } else { "application/json" };
    asked.insert(ACCEPT, HeaderValue::from_static(wanted));
    if !failed.status.is_server_error() {
        return problem(failed, request_id, &asked);
    }
    problem(Problem::SERVER_AWAY, request_id, &asked)
}

fn page_text(page: &Page) -> Option<Bytes> {
    let frame = |url: &str| {
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
             <title>Application error</title><style>html,body,iframe{{margin:0;border:0;width:100%;height:100%;\
             overflow:hidden;display:block}}</style><iframe src=\"{url}\"></iframe></html>\n"
        )
    };
    match page {
        Page::Html(text) if text.len() <= PAGE_BYTES_MAX => Some(Bytes::from(text.clone())),
        Page::Url(url) if is_plain_url(url) => Some(Bytes::from(frame(url))),
        Page::Html(_) | Page::Url(_) => None,
    }
}

pub(crate) fn health(draining: bool) -> Response<ReplyBody> {
    let (status, text) =
        if draining { (StatusCode::SERVICE_UNAVAILABLE, "draining\n") } else { (StatusCode::OK, "ok\n") };
    let mut response = Response::new(ReplyBody::Own(Some(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a certificate authority asked for.
pub(crate) fn challenge(text: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Own(Some(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Html,
    Json,
    Text,
}

/// The first of the known formats that the client names; a browser names HTML first, a script often nothing.
fn preferred(headers: &HeaderMap) -> Format {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = |range: &str| match range.split(';').next().unwrap_or_default().trim() {
        "text/html" => Some(Format::Html),
        "text/plain" => Some(Format::Text),
        range if range == "application/json" || range.ends_with("+json") => Some(Format::Json),
        _ => None,
    };
    accept.split(',').find_map(known).unwrap_or(Format::Html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_apps_own_stands_in_for_ours_where_html_is_wanted() {
        let shown = |edge: &EdgeSettings, code, accept: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            let ReplyBody::Own(body) = problem_of_app(Problem::code(code), "id", &headers, edge).into_body() else {
                panic!("not the router's own")
            };
            String::from_utf8(body.unwrap().to_vec()).unwrap()
        };
        let html = |text: &str| Some(Page::Html(text.to_owned()));
        let edge =
            EdgeSettings { maintenance_page: html("back soon"), error_page: html("oops"), ..EdgeSettings::default() };
        assert_eq!(shown(&edge, ErrorCode::H80, "text/html"), "back soon");
        assert_eq!(shown(&edge, ErrorCode::H12, "*/*"), "oops");
        assert!(shown(&edge, ErrorCode::H12, "application/json").starts_with("{\"id\":\"H12\""));
        assert!(shown(&edge, ErrorCode::H26, "text/html").contains("H26"));
        let url = |url: &str| EdgeSettings { error_page: Some(Page::Url(url.to_owned())), ..EdgeSettings::default() };
        assert!(
            shown(&url("https://a.example/x"), ErrorCode::H12, "*/*").contains("<iframe src=\"https://a.example/x\">")
        );
        for bad in ["javascript:alert(1)", "https://a\"onload=x", "https://a b"] {
            assert!(shown(&url(bad), ErrorCode::H12, "*/*").contains("H12"), "{bad}");
        }
        let long = "x".repeat(PAGE_BYTES_MAX + 1);
        let edge = EdgeSettings { error_page: html(&long), ..EdgeSettings::default() };
        assert!(shown(&edge, ErrorCode::H12, "*/*").contains("H12"));
    }

    #[test]
    fn clients_of_the_api_read_why_it_does_not_answer() {
        let shown = |accept: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            let response = problem_of_server(Problem::code(ErrorCode::H21), "id", &headers);
            assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &HeaderValue::from(5)));
            let ReplyBody::Own(body) = response.into_body() else { panic!("not the router's own") };
            String::from_utf8(body.unwrap().to_vec()).unwrap()
        };
        for api in ["*/*", "application/vnd.heroku+json; version=3", ""] {
            assert!(shown(api).starts_with("{\"id\":\"service_unavailable\",\"message\":\"The platform's"), "{api}");
        }
        assert!(shown("text/html,*/*;q=0.8").starts_with("<!doctype html>"));
    }

    #[test]
    fn the_format_follows_accept() {
        let check = |accept: &'static str, expect| {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(preferred(&headers), expect, "{accept}");
        };
        check("*/*", Format::Html);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Format::Html);
        check("application/json", Format::Json);
        check("application/vnd.heroku+json; version=3", Format::Json);
        check("text/plain;q=0.9, text/html", Format::Text);
        assert_eq!(preferred(&HeaderMap::new()), Format::Html);
    }
}
