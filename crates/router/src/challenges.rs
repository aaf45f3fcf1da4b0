//! Answers to certificate authorities that ask whether a host leads here, shared by all threads.
//!
//! Two ways: a file that is asked for over plain HTTP (`http-01`, RFC 8555, 8.3), and a certificate that is shown to
//! whoever speaks `acme-tls/1` (`tls-alpn-01`, RFC 8737). Both come before anything that an app wants of its requests:
//! the authority follows no front and has no certificate to ask for yet.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::sign::CertifiedKey;
use tracing::error;
use wire::routes::{ChallengeAnswer, ChallengeRoute};

use crate::certificates::read;

/// Where `http-01` asks.
const HTTP_PATH: &str = "/.well-known/acme-challenge/";

#[derive(Debug, Default)]
pub(crate) struct Challenges(ArcSwap<Answers>);

#[derive(Debug, Default)]
struct Answers {
    routes: Vec<ChallengeRoute>,
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    pub(crate) fn replace(&self, routes: Vec<ChallengeRoute>) {
        let mut certificates = HashMap::new();
        for route in &routes {
            let ChallengeAnswer::TlsAlpn { chain, key } = &route.answer else { continue };
            // Not checked: the proof is a critical extension, which the check does not know and would refuse. The server
            // made both.
            match read(chain, key) {
                Ok(key) => drop(certificates.insert(route.host.clone(), Arc::new(key))),
                Err(error) => error!(host = route.host, %error, "Cannot use the certificate of a challenge"),
            }
        }
        self.0.store(Arc::new(Answers { routes, certificates }));
    }

    pub(crate) fn snapshot(&self) -> Vec<ChallengeRoute> {
        self.0.load().routes.clone()
    }

    /// What to say to a request for this path of a host; `None` if it is for the app.
    pub(crate) fn http_answer(&self, host: &str, path: &str) -> Option<Bytes> {
        let asked = path.strip_prefix(HTTP_PATH)?;
        self.0.load().routes.iter().find_map(|route| match &route.answer {
            ChallengeAnswer::Http { token, key_authorization } if route.host == host && token == asked => {
                Some(Bytes::from(key_authorization.clone()))
            }
            _ => None,
        })
    }

    pub(crate) fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.0.load().certificates.get(host).cloned()
    }
}
