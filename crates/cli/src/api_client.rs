//! HTTP to a Berth server: the one place for authentication, errors, pages and streams.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::secret::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};
use wire::platform_api::{ApiErrorBody, MEDIA_TYPE};

use crate::forwarder::is_hop_by_hop;
use crate::server_url::ServerUrl;

/// How long a connection may take to be made. Reads have no limit: a build may be silent for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an ordinary answer may take to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer that is read into memory, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Error)]
pub(crate) enum ApiClientError {
    #[error("cannot reach the Berth server at {server}")]
    Unreachable {
        server: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("{message}")]
    Refused { status: StatusCode, id: String, message: String, resource: Option<String> },
    #[error("the server does not accept this token")]
    Unauthorized,
    #[error("the answer of {server} is not one of Berth's API")]
    Format {
        server: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the certificate authority in {} cannot be read", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the upload to {server} broke off after {sent_bytes} of {size_bytes} bytes; nothing was built")]
    Upload {
        server: String,
        sent_bytes: u64,
        size_bytes: u64,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("the connection to {server} broke")]
    Broken {
        server: String,
        #[source]
        source: io::Error,
    },
}

impl ApiClientError {
    /// What the user can do about it, where there is something.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } if is_about_certificates(source) => Some(
                "If the server has a certificate of its own, trust its authority: `berth login URL --ca FILE`."
                    .to_owned(),
            ),
            Self::Unreachable { .. } => Some(
                "Is the server running (`berth up`), and is BERTH_HOST or `berth login` right about its address?"
                    .to_owned(),
            ),
            Self::Unauthorized => Some(
                "Log in again with `berth login`. On the server's machine, root gets a new token with \
                 `berth tokens:reset`."
                    .to_owned(),
            ),
            Self::Refused { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                Some("Wait a minute and try again.".to_owned())
            }
            Self::Refused { resource, .. } if resource.as_deref() == Some("app") => {
                Some("`berth apps` lists the apps; `berth create NAME` makes one.".to_owned())
            }
            Self::Format { .. } => Some("Check the address: BERTH_HOST, or `berth login URL`.".to_owned()),
            Self::Authority { .. } => Some("Log in again with `berth login URL --ca FILE`.".to_owned()),
            Self::Upload { .. } => {
                Some("Try again; if it breaks off each time, the server's log says why (`berth status`).".to_owned())
            }
            Self::Refused { .. } | Self::Broken { .. } => None,
        }
    }

    /// A word for scripts: the server's own where it gave one.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Refused { id, .. } if !id.is_empty() => id,
            Self::Refused { .. } | Self::Format { .. } => "unexpected_answer",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable { .. } => "unreachable",
            Self::Upload { .. } | Self::Broken { .. } => "connection_broken",
            Self::Authority { .. } => "failed",
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Whether trying the same again may succeed: nothing was said by the server.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. })
    }
}

pub(crate) type ApiResult<T> = Result<T, ApiClientError>;

/// One server and one account on it.
#[derive(Debug)]
pub(crate) struct ApiClient {
    agent: Agent,
    /// For streams: the same, but an answer may take as long as it likes to begin.
    patient: Agent,
    pub(crate) server: ServerUrl,
    token: Option<Secret<String>>,
    /// Of an authenticator app.
    code: Option<Secret<String>>,
    /// Each warning of the server's is shown once.
    warned: Mutex<BTreeSet<String>>,
}

/// A body whose end the server decides.
pub(crate) type Stream = Box<dyn Read + Send + Sync>;

impl ApiClient {
    pub(crate) fn new(server: ServerUrl, token: Option<Secret<String>>, authority: Option<&Path>) -> ApiResult<Self> {
        let roots = match authority {
            Some(path) => read_authority(path)?,
            None => RootCerts::WebPki,
        };
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(crypto).root_certs(roots).build();
        let config = |answer: Option<Duration>| {
            let mut builder = Agent::config_builder()
                .http_status_as_error(false)
                .tls_config(tls.clone())
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(answer)
                .user_agent(concat!("berth-cli/", env!("CARGO_PKG_VERSION")));
            if server.is_loopback() {
                // A proxy could not reach this machine's loopback; it would only see the token.
                builder = builder.proxy(None);
            }
            Agent::new_with_config(builder.build())
        };
        let (agent, patient) = (config(Some(ANSWER_TIMEOUT)), config(None));
        Ok(Self { agent, patient, server, token, code: None, warned: Mutex::default() })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> ApiResult<T> {
        let request = self.agent.get(self.url(path));
        let answer = self.authorized(request).call();
        self.json(self.checked(answer)?)
    }

    /// Reads a whole list, page after page, or only its first page if `range` has a `max`.
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &str, range: Option<&str>) -> ApiResult<Vec<T>> {
        let mut items = Vec::new();
        let mut next = range.map(str::to_owned);
        loop {
            let mut request = self.authorized(self.agent.get(self.url(path)));
            if let Some(range) = &next {
                request = request.header(header::RANGE, range);
            }
            let response = self.checked(request.call())?;
            let following = response.headers().get("next-range").and_then(|value| value.to_str().ok());
            let following = following.map(str::to_owned).filter(|_more| range.is_none());
            items.extend(self.json::<Vec<T>>(response)?);
            match following {
                None => return Ok(items),
                Some(range) => next = Some(range),
            }
        }
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> ApiResult<T> {
        let answer = self.authorized(self.agent.post(self.url(path))).send(self.body(body)?);
        self.json(self.checked(answer)?)
    }

    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> ApiResult<T> {
        let answer = self.authorized(self.agent.patch(self.url(path))).send(self.body(body)?);
        self.json(self.checked(answer)?)
    }

    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> ApiResult<T> {
        let answer = self.authorized(self.agent.put(self.url(path))).send(self.body(body)?);
        self.json(self.checked(answer)?)
    }

    /// The same client, with a code of an authenticator app on each request.
    pub(crate) fn with_code(mut self, code: Secret<String>) -> Self {
        self.code = Some(code);
        self
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> ApiResult<T> {
        let answer = self.authorized(self.agent.delete(self.url(path))).call();
        self.json(self.checked(answer)?)
    }

    pub(crate) fn delete_with<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> ApiResult<T> {
        let request = self.authorized(self.agent.delete(self.url(path)));
        let answer = request.force_send_body().send(self.body(body)?);
        self.json(self.checked(answer)?)
    }

    /// Passes on a request of somebody else's, with the headers that it came with, and gives the answer as it is.
    pub(crate) fn relay(
        &self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: Option<&mut dyn Read>,
    ) -> ApiResult<Response<Body>> {
        let unreachable = |source| ApiClientError::Unreachable { server: self.server.to_string(), source };
        let mut request = ureq::http::Request::builder().method(method).uri(self.url(target));
        for (name, value) in headers.iter().filter(|(name, _value)| !is_hop_by_hop(name)) {
            request = request.header(name, value);
        }
        let malformed = |error: ureq::http::Error| unreachable(Box::new(error.into()));
        let answer = match body {
            None => self.patient.run(request.body(()).map_err(malformed)?),
            Some(reader) => self.patient.run(request.body(SendBody::from_reader(reader)).map_err(malformed)?),
        };
        answer.map_err(|source| unreachable(Box::new(source)))
    }

    /// Sends a file to a URL that carries its own authority; the token is not sent along.
    ///
    /// The server is asked first whether it takes so much: what it would refuse is not sent.
    pub(crate) fn upload(&self, url: &str, content: impl Read, size_bytes: u64) -> ApiResult<()> {
        let request = self.patient.put(url).header(header::CONTENT_LENGTH, size_bytes);
        let request = request.header(header::EXPECT, "100-continue");
        let mut content = Counted { content, read_bytes: 0 };
        let answer = request.send(SendBody::from_reader(&mut content));
        match answer {
            Err(source) if content.read_bytes > 0 => Err(ApiClientError::Upload {
                server: self.server.to_string(),
                sent_bytes: content.read_bytes,
                size_bytes,
                source: Box::new(source),
            }),
            answer => self.checked(answer).map(drop),
        }
    }

    /// Opens a stream whose URL carries its own authority.
    pub(crate) fn open(&self, url: &str, last_event_id: Option<&str>) -> ApiResult<Stream> {
        let mut request = self.patient.get(url);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = self.checked(request.call())?;
        Ok(Box::new(response.into_body().into_reader()))
    }

    pub(crate) fn broken(&self, source: io::Error) -> ApiClientError {
        ApiClientError::Broken { server: self.server.to_string(), source }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        // An attachment without its config vars would be of no use here.
        let request = request.header(header::ACCEPT, MEDIA_TYPE).header("accept-inclusion", "addon:plan,config_vars");
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose())),
            None => request,
        }
        .header(header::CONTENT_TYPE, "application/json");
        match &self.code {
            Some(code) => request.header("heroku-two-factor-code", code.expose()),
            None => request,
        }
    }

    fn body(&self, value: &impl Serialize) -> ApiResult<Vec<u8>> {
        serde_json::to_vec(value).map_err(|source| self.format(source))
    }

    /// Turns anything but a success into an error, in the server's words where it has some.
    fn checked(&self, answer: Result<Response<Body>, ureq::Error>) -> ApiResult<Response<Body>> {
        let unreachable = |source| ApiClientError::Unreachable { server: self.server.to_string(), source };
        let mut response = answer.map_err(|source| unreachable(Box::new(source)))?;
        self.show_warnings(&response);
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(ApiClientError::Unauthorized);
        }
        let bytes = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        Err(match serde_json::from_slice::<ApiErrorBody>(&bytes) {
            Ok(body) => ApiClientError::Refused { status, id: body.id, message: body.message, resource: body.resource },
            Err(_not_ours) => ApiClientError::Refused {
                status,
                id: String::new(),
                message: format!("the server at {} answered {status}", self.server),
                resource: None,
            },
        })
    }

    fn json<T: DeserializeOwned>(&self, response: Response<Body>) -> ApiResult<T> {
        let bytes = response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| self.broken(error.into_io()))?;
        serde_json::from_slice(&bytes).map_err(|source| self.format(source))
    }

    fn format(&self, source: serde_json::Error) -> ApiClientError {
        ApiClientError::Format { server: self.server.to_string(), source }
    }

    fn show_warnings(&self, response: &Response<Body>) {
        for name in ["x-heroku-warning", "warning-message"] {
            let Some(text) = response.headers().get(name).and_then(|value| value.to_str().ok()) else { continue };
            let is_new = self.warned.lock().is_ok_and(|mut warned| warned.insert(text.to_owned()));
            if is_new {
                // A closed stderr must not fail a command that works.
                drop(writeln!(io::stderr(), " !    {text}"));
            }
        }
    }
}

/// Counts what was read, to tell a server that cannot be reached from one that left in the middle.
struct Counted<R> {
    content: R,
    read_bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.content.read(buffer)?;
        self.read_bytes += size as u64;
        Ok(size)
    }
}

/// Whether TLS failed rather than the network. The library hides its TLS error inside an I/O error; its words stay.
fn is_about_certificates(error: &ureq::Error) -> bool {
    crate::output::chain(error).contains("certificate")
}

/// The certificates in a PEM file, as the only ones to trust: a private authority replaces the public ones.
fn read_authority(path: &Path) -> ApiResult<RootCerts> {
    let failed = |source| ApiClientError::Authority { path: path.to_owned(), source };
    let pem = fs::read(path).map_err(failed)?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(io::Error::other(error)))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

/// A path of segments, each escaped: what a user typed cannot change where a request goes.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_~:".contains(&byte) || (byte == b'.' && !is_dots(segment)) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

/// `.` and `..` would be taken for steps in the path.
fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_asks_for_its_authority() {
        let remedy = |message: &str| {
            let source = Box::new(ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, message.to_owned())));
            ApiClientError::Unreachable { server: "https://localhost:5000".to_owned(), source }.remedy().unwrap()
        };
        assert!(remedy("invalid peer certificate: UnknownIssuer").contains("--ca FILE"));
        assert!(remedy("Connection refused").contains("berth up"));
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(path(&["apps", "shop", "dynos", "web.1"]), "/apps/shop/dynos/web.1");
        assert_eq!(path(&["apps", "../x?y#z w", ".."]), "/apps/..%2Fx%3Fy%23z%20w/%2E%2E");
    }
}
