//! AWS's Signature Version 4, as far as Route 53 needs it. Pure.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use domain::secret::Secret;
use jiff::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Whose requests, and to what.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret<String>,
    pub(super) region: &'static str,
    pub(super) service: &'static str,
}

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signable<'a> {
    pub(super) method: &'a str,
    /// Encoded, as it is sent.
    pub(super) path: &'a str,
    /// Encoded, as it is sent.
    pub(super) query: &'a str,
    /// By lower-case name; `host` must be among them. The time is added.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) payload: &'a [u8],
}

/// The headers that a signed request has besides its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) amz_date: String,
    pub(super) authorization: String,
}

impl Signer {
    pub(super) fn sign(&self, request: Signable<'_>, at: Timestamp) -> Signed {
        let amz_date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &amz_date[.."20260101".len()];
        let mut headers: Vec<(&str, &str)> = request.headers.to_vec();
        headers.push(("x-amz-date", &amz_date));
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _value)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let mut query: Vec<&str> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let (method, path, query, payload) = (request.method, request.path, query.join("&"), sha256(request.payload));
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}");
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{amz_date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let secret = format!("AWS4{}", self.secret_access_key.expose());
        let key = [day, self.region, self.service, "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()));
        let signature = hex(&mac(&key, to_sign.as_bytes()));
        let credential = format!("{}/{scope}", self.access_key_id);
        let authorization =
            format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}");
        Signed { amz_date, authorization }
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's published test suite: these keys, this time, these signatures.
    fn signature(method: &str, query: &str, headers: &[(&str, &str)], payload: &str) -> String {
        let signer = Signer {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            region: "us-east-1",
            service: "service",
        };
        let headers = [&[("host", "example.amazonaws.com")], headers].concat();
        let request = Signable { method, path: "/", query, headers: &headers, payload: payload.as_bytes() };
        let signed = signer.sign(request, "2015-08-30T12:36:00Z".parse().unwrap());
        assert_eq!(signed.amz_date, "20150830T123600Z");
        let (front, signature) = signed.authorization.split_once("Signature=").unwrap();
        assert!(front.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
        ));
        signature.to_owned()
    }

    #[test]
    fn the_published_vectors_are_signed_as_published() {
        assert_eq!(
            signature("GET", "", &[], ""),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            "get-vanilla"
        );
        assert_eq!(
            signature("GET", "Param2=value2&Param1=value1", &[], ""),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            "get-vanilla-query-order-key-case"
        );
        assert_eq!(
            signature("POST", "", &[], ""),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            "post-vanilla"
        );
        assert_eq!(
            signature("POST", "", &[("content-type", "application/x-www-form-urlencoded")], "Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            "post-x-www-form-urlencoded"
        );
    }
}
