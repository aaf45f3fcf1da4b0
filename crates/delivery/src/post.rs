//! `POST` over a connection that is kept while the receiver keeps it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::outgoing_url::OutgoingUrl;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connector::Connector;
use crate::send_error::SendError;

/// From the first byte of the request to the last of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Answers are not read beyond this; their connection is closed instead.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts to one URL.
#[derive(Debug)]
pub(crate) struct Poster {
    connector: Connector,
    connection: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Poster {
    pub(crate) const fn new(connector: Connector) -> Self {
        Self { connector, connection: None }
    }

    /// Sends a body and gives the status of the answer. Redirects are not followed: where they lead was not asked for.
    pub(crate) async fn post(
        &mut self,
        url: &OutgoingUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<StatusCode, SendError> {
        let mut kept = match self.connection.take().filter(|kept| !kept.sender.is_closed()) {
            Some(kept) => kept,
            None => self.open(url).await?,
        };
        let exchange = exchange(&mut kept, request(url, headers, body)?);
        let answered = timeout(ANSWER_TIMEOUT, exchange).await;
        let (status, reusable) = answered.map_err(|_elapsed| SendError::Timeout(ANSWER_TIMEOUT))??;
        self.connection = reusable.then_some(kept);
        Ok(status)
    }

    async fn open(&self, url: &OutgoingUrl) -> Result<Kept, SendError> {
        let stream = self.connector.connect(url).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Kept { sender, driver: tokio::spawn(connection) })
    }
}

fn request(url: &OutgoingUrl, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, SendError> {
    let mut request = Request::post(url.target.expose()).header(header::HOST, url.authority()).body(Full::new(body))?;
    request.headers_mut().extend(headers);
    if let Some(credentials) = &url.credentials {
        let encoded = format!("Basic {}", STANDARD.encode(credentials.expose()));
        let mut value = HeaderValue::try_from(encoded).map_err(http::Error::from)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

/// Gives the status, and whether the connection may be used again.
async fn exchange(kept: &mut Kept, request: Request<Full<Bytes>>) -> Result<(StatusCode, bool), SendError> {
    kept.sender.ready().await?;
    let answer = kept.sender.send_request(request).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, Bytes::len);
        if read > ANSWER_BYTES_MAX {
            return Ok((status, false));
        }
    }
    Ok((status, true))
}
