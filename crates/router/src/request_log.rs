//! One line per request, in Heroku's format with `queue=` at the end.

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use domain::error_code::ErrorCode;
use http::{Method, Uri};
use tokio::time::Instant;
use uuid::Uuid;

use crate::places::{AppPlace, Hold};
use crate::worker_log::WorkerLog;

/// Longest path and longest `fwd` in a line, so that the fields behind them are never cut off.
const PATH_BYTES_MAX: usize = 4_096;
const FORWARDED_BYTES_MAX: usize = 512;
/// As long as that can become.
const ESCAPED_BYTES_MAX: usize = 8 * FORWARDED_BYTES_MAX;

/// Collects what is known about one request and writes its line when dropped.
#[derive(Debug)]
pub(crate) struct Record {
    log: Rc<WorkerLog>,
    app: Uuid,
    line: Line,
    service_started: Option<Instant>,
    /// The request's share of what its app may hold, in number and in memory.
    place: Option<AppPlace>,
    held: Option<Hold>,
    /// Of the request's body, which goes its own way.
    request_bytes: Rc<Cell<u64>>,
    is_logged: bool,
}

/// The fields of a line.
#[derive(Debug, Clone)]
struct Line {
    method: Method,
    path: Uri,
    host: String,
    request_id: String,
    forwarded: String,
    dyno: Option<Arc<str>>,
    connect: Duration,
    service: Duration,
    queue: Duration,
    status: u16,
    bytes: u64,
    request_bytes: u64,
    https: bool,
    /// `tls1.3`; `None` where a front ended the TLS, or there is none.
    tls_version: Option<&'static str>,
    failure: Option<Failure>,
}

/// Why a line says something else than `at=info`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) cause: Option<&'static str>,
}

/// The same, wherever the texts are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineView<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) forwarded: &'a str,
    pub(crate) dyno: &'a str,
    pub(crate) connect: Duration,
    pub(crate) service: Duration,
    pub(crate) queue: Duration,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// Counted, but not in the line: Heroku's has no field for it.
    pub(crate) request_bytes: u64,
    pub(crate) https: bool,
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) failure: Option<Failure>,
}

impl Line {
    fn view(&self) -> LineView<'_> {
        LineView {
            method: self.method.as_str(),
            path: self.path.path_and_query().map_or("/", |path| path.as_str()),
            host: &self.host,
            request_id: &self.request_id,
            forwarded: &self.forwarded,
            dyno: self.dyno.as_deref().unwrap_or_default(),
            connect: self.connect,
            service: self.service,
            queue: self.queue,
            status: self.status,
            bytes: self.bytes,
            request_bytes: self.request_bytes,
            https: self.https,
            tls_version: self.tls_version,
            failure: self.failure,
        }
    }
}

impl Record {
    /// Starts with the assumption that the client leaves: whoever answers it says otherwise.
    pub(crate) fn new(
        log: Rc<WorkerLog>,
        app: Uuid,
        method: Method,
        path: Uri,
        host: String,
        request_id: String,
        forwarded: String,
    ) -> Self {
        let zero = Duration::ZERO;
        let failure = Some(Failure { code: ErrorCode::H27, cause: None });
        let line = Line {
            method,
            path,
            host,
            request_id,
            forwarded,
            dyno: None,
            connect: zero,
            service: zero,
            queue: zero,
            status: 499,
            bytes: 0,
            request_bytes: 0,
            https: false,
            tls_version: None,
            failure,
        };
        Self {
            log,
            app,
            line,
            service_started: None,
            place: None,
            held: None,
            request_bytes: Rc::default(),
            is_logged: true,
        }
    }

    /// Counts the request, and writes no line: the paths of the platform's API hold secrets.
    pub(crate) const fn keep_out_of_the_log(&mut self) {
        self.is_logged = false;
    }

    pub(crate) fn count_body(&mut self, counter: Rc<Cell<u64>>) {
        self.request_bytes = counter;
    }

    pub(crate) fn hold(&mut self, place: AppPlace) {
        self.place = Some(place);
    }

    pub(crate) fn hold_bytes(&mut self, held: Option<Hold>) {
        self.held = held;
    }

    pub(crate) const fn over_https(&mut self, tls_version: Option<&'static str>) {
        self.line.https = true;
        self.line.tls_version = tls_version;
    }

    pub(crate) fn add_queue(&mut self, waited: Duration) {
        self.line.queue += waited;
    }

    pub(crate) fn connected(&mut self, dyno: Arc<str>, connect: Duration) {
        self.line.dyno = Some(dyno);
        self.line.connect += connect;
    }

    pub(crate) fn sending(&mut self) {
        self.service_started = Some(Instant::now());
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.line.status = status;
        self.line.failure = None;
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.line.bytes += bytes as u64;
    }

    pub(crate) fn set_bytes(&mut self, from_client: u64, to_client: u64) {
        self.request_bytes.set(from_client);
        self.line.bytes = to_client;
    }

    pub(crate) fn dyno_finished(&mut self) {
        if let Some(started) = self.service_started.take() {
            self.line.service = started.elapsed();
        }
    }

    /// The request ends with this code instead of a whole response.
    pub(crate) fn fail(&mut self, code: ErrorCode) {
        let status = if matches!(code, ErrorCode::H27 | ErrorCode::H28) { 499 } else { 503 };
        self.refuse(code, status, None);
    }

    pub(crate) fn refuse(&mut self, code: ErrorCode, status: u16, cause: Option<&'static str>) {
        self.line.failure = Some(Failure { code, cause });
        self.line.status = status;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.dyno_finished();
        self.line.request_bytes = self.request_bytes.get();
        if self.is_logged {
            self.log.request(self.app, &self.line.view());
        } else {
            self.log.unlogged_request(self.app, &self.line.view());
        }
    }
}

impl LineView<'_> {
    pub(crate) fn render(&self, text: &mut String) {
        match self.failure {
            None => text.push_str("at=info"),
            Some(failure) => failure.render(text),
        }
        text.extend([" method=", self.method, " path=\""]);
        push_escaped(text, self.path, PATH_BYTES_MAX);
        text.extend(["\" host=", self.host, " request_id=", self.request_id, " fwd=\""]);
        // What the router knows itself stands at the end: whoever writes much before it must not push it out.
        let begin = self.forwarded.len().saturating_sub(FORWARDED_BYTES_MAX);
        if begin > 0 {
            text.push('…');
        }
        push_escaped(text, &self.forwarded[self.forwarded.ceil_char_boundary(begin)..], ESCAPED_BYTES_MAX);
        text.extend(["\" dyno=", self.dyno, " connect="]);
        push_number(text, self.connect.as_millis());
        text.push_str("ms service=");
        push_number(text, self.service.as_millis());
        text.push_str("ms status=");
        push_number(text, u128::from(self.status));
        text.push_str(" bytes=");
        push_number(text, u128::from(self.bytes));
        text.push_str(if self.https { " protocol=https" } else { " protocol=http" });
        if let Some(version) = self.tls_version {
            text.extend([" tls_version=", version]);
        }
        text.push_str(" queue=");
        push_number(text, self.queue.as_millis());
        text.push_str("ms");
    }
}

impl Failure {
    fn render(&self, text: &mut String) {
        let Self { code, cause } = *self;
        text.push_str(match code {
            ErrorCode::H27 | ErrorCode::H28 => "sock=client ",
            ErrorCode::H13 | ErrorCode::H18 => "sock=backend ",
            _ => "",
        });
        let at = match code {
            ErrorCode::H27 | ErrorCode::H28 => "warning",
            ErrorCode::H80 | ErrorCode::H81 => "info",
            _ => "error",
        };
        push(text, format_args!("at={at} code={code} desc=\"{}\"", code.title()));
        if let Some(cause) = cause {
            text.extend([" cause=\"", cause, "\""]);
        }
    }
}

/// As `{number}` would, without the machinery for widths and signs: there are five in every line.
fn push_number(text: &mut String, number: u128) {
    let Ok(mut left) = u64::try_from(number) else { return push(text, format_args!("{number}")) };
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b"0123456789"[usize::try_from(left % 10).unwrap_or(0)];
        left /= 10;
        if left == 0 {
            break;
        }
    }
    text.push_str(std::str::from_utf8(&digits[begin..]).unwrap_or_default());
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

/// Writes a value that the client chose so that it cannot end its quotes or its line.
fn push_escaped(text: &mut String, value: &str, bytes_max: usize) {
    let harmless = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if value.len() <= bytes_max && value.bytes().all(harmless) {
        return text.push_str(value);
    }
    let end = text.len() + bytes_max;
    for character in value.chars() {
        if text.len() >= end {
            text.push('…');
            return;
        }
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            _ if character.is_control() => push(text, format_args!("\\u{{{:x}}}", u32::from(character))),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(line: &Line) -> String {
        let mut text = String::new();
        line.view().render(&mut text);
        text
    }

    #[test]
    fn numbers_are_written_as_usual() {
        for number in [0, 7, 10, 65_535, u128::from(u64::MAX), u128::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }

    fn line() -> Line {
        Line {
            method: Method::GET,
            path: Uri::from_static("/x?y=1"),
            host: "shop.example".to_owned(),
            request_id: "8601b555-6a83-4c12-8269-97c8e32cdb22".to_owned(),
            forwarded: "1.2.3.4".to_owned(),
            dyno: Some("web.1".into()),
            connect: Duration::from_millis(1),
            service: Duration::from_millis(18),
            queue: Duration::from_millis(4),
            status: 200,
            bytes: 13,
            request_bytes: 0,
            https: false,
            tls_version: None,
            failure: None,
        }
    }

    #[test]
    fn a_served_request_reads_as_on_heroku() {
        assert_eq!(
            render(&line()),
            "at=info method=GET path=\"/x?y=1\" host=shop.example \
             request_id=8601b555-6a83-4c12-8269-97c8e32cdb22 fwd=\"1.2.3.4\" dyno=web.1 connect=1ms service=18ms \
             status=200 bytes=13 protocol=http queue=4ms"
        );
    }

    #[test]
    fn the_address_that_the_router_knows_stands_in_every_line() {
        let shown = |before: &str| render(&Line { forwarded: format!("{before}192.0.2.7"), ..line() });
        assert!(shown("1.2.3.4, ").contains(" fwd=\"1.2.3.4, 192.0.2.7\" dyno="));
        for before in ["1.2.3.4, ", "\"", "\t", "é"] {
            let shown = shown(&before.repeat(600));
            assert!(shown.contains(" fwd=\"…") && shown.contains("192.0.2.7\" dyno=web.1 "), "{shown}");
            assert!(shown.len() < 3_000, "{shown}");
        }
    }

    #[test]
    fn a_request_over_tls_says_so() {
        let text = render(&Line { https: true, tls_version: Some("tls1.3"), ..line() });
        assert!(text.ends_with(" protocol=https tls_version=tls1.3 queue=4ms"), "{text}");
    }

    #[test]
    fn a_failed_request_says_whose_socket_it_was() {
        let failed = |code, status| render(&Line { status, failure: Some(Failure { code, cause: None }), ..line() });
        assert!(failed(ErrorCode::H12, 503).starts_with("at=error code=H12 desc=\"Request timeout\" method=GET"));
        assert!(failed(ErrorCode::H27, 499).starts_with("sock=client at=warning code=H27 desc=\"Client Request"));
        assert!(failed(ErrorCode::H18, 503).starts_with("sock=backend at=error code=H18 "));
        assert!(failed(ErrorCode::H80, 503).starts_with("at=info code=H80 desc=\"Maintenance mode\" method"));
    }

    proptest! {
        #[test]
        fn no_value_forges_a_field_or_a_line(value in ".*") {
            let mut text = String::new();
            push_escaped(&mut text, &value, PATH_BYTES_MAX);
            prop_assert!(!text.chars().any(char::is_control));
            let mut escaped = false;
            for character in text.chars() {
                prop_assert!(escaped || character != '"');
                escaped = character == '\\' && !escaped;
            }
            prop_assert!(!escaped);
        }
    }

    #[test]
    fn a_long_value_is_cut_where_it_stands() {
        let mut text = String::new();
        push_escaped(&mut text, &"a\"".repeat(10_000), 100);
        assert!(text.len() < 110 && text.ends_with('…'));
    }
}
