//! HTTP for the ACME client.

use std::pin::Pin;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

#[derive(Debug, Clone)]
pub(crate) struct AcmeHttpClient(pub(crate) ureq::Agent);

impl HttpClient for AcmeHttpClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let agent = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_or_else(|never| match never {}, |body| body.to_bytes());
            let exchange = move || exchange(&agent, Request::from_parts(parts, body));
            let response = tokio::task::spawn_blocking(exchange).await.map_err(other)?;
            Ok(BytesResponse::from(response.map_err(other)?))
        })
    }
}

fn exchange(agent: &ureq::Agent, request: Request<Bytes>) -> Result<Response<Full<Bytes>>, ureq::Error> {
    let response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        agent.run(request.map(|_empty| ()))?
    } else {
        agent.run(request.map(Vec::from))?
    };
    let (parts, mut body) = response.into_parts();
    Ok(Response::from_parts(parts, Full::from(body.read_to_vec()?)))
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(Box::new(error))
}
