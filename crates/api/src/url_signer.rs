//! URLs that need no login: they carry an expiry and a 256-bit signature over what they allow.
//!
//! Stateless, so that a restart of the server invalidates nothing.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::error::{ApiError, ApiResult};

#[derive(Debug)]
pub struct UrlSigner(hmac::Key);

impl UrlSigner {
    /// `secret` must be used for nothing else.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Gives `expires=…&sig=…` for something named `what`, for example `source/<id>/put`.
    pub fn query(&self, what: &str, valid_for: Duration, now: Timestamp) -> String {
        let valid_s = i64::try_from(valid_for.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(valid_s);
        format!("expires={expires}&sig={}", self.signature(what, expires))
    }

    /// Checks what [`Self::query`] gave.
    pub fn check(&self, what: &str, expires: i64, signature: &str, now: Timestamp) -> ApiResult<()> {
        let refused = || ApiError::forbidden("This URL is not valid or no longer so; ask for a new one.");
        let given = URL_SAFE_NO_PAD.decode(signature).map_err(|_not_base64| refused())?;
        hmac::verify(&self.0, message(what, expires).as_bytes(), &given).map_err(|_forged| refused())?;
        if now.as_second() > expires { Err(refused()) } else { Ok(()) }
    }

    /// A token for one purpose: `<expiry>.<signature>`.
    pub fn token(&self, what: &str, valid_for: Duration, now: Timestamp) -> String {
        let valid_s = i64::try_from(valid_for.as_secs()).unwrap_or(i64::MAX);
        let expires = now.as_second().saturating_add(valid_s);
        format!("{expires}.{}", self.signature(what, expires))
    }

    pub fn check_token(&self, what: &str, token: &str, now: Timestamp) -> bool {
        let Some((expires, signature)) = token.split_once('.') else { return false };
        expires.parse().is_ok_and(|expires| self.check(what, expires, signature, now).is_ok())
    }

    fn signature(&self, what: &str, expires: i64) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, message(what, expires).as_bytes()))
    }
}

fn message(what: &str, expires: i64) -> String {
    format!("{expires}\n{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn parts(query: &str) -> (i64, String) {
        let (expires, signature) = query.split_once('&').unwrap();
        (expires.strip_prefix("expires=").unwrap().parse().unwrap(), signature.strip_prefix("sig=").unwrap().to_owned())
    }

    #[test]
    fn a_signed_url_holds_for_its_purpose_and_its_time_only() {
        let signer = UrlSigner::new(b"k");
        let (expires, signature) = parts(&signer.query("source/1/put", Duration::from_secs(60), at(100)));
        assert_eq!(signer.check("source/1/put", expires, &signature, at(160)), Ok(()));
        for (what, expires, now) in [("source/1/put", expires, 161), ("source/2/put", expires, 100)] {
            assert!(signer.check(what, expires, &signature, at(now)).is_err(), "{what} at {now}");
        }
        assert!(signer.check("source/1/put", expires + 60, &signature, at(100)).is_err(), "a longer life");
        assert!(UrlSigner::new(b"other").check("source/1/put", expires, &signature, at(100)).is_err());
        assert!(signer.check("source/1/put", expires, "", at(100)).is_err());
    }

    #[test]
    fn a_token_is_checked_the_same_way() {
        let signer = UrlSigner::new(b"k");
        let token = signer.token("push/shop", Duration::from_secs(60), at(100));
        assert!(signer.check_token("push/shop", &token, at(100)));
        assert!(!signer.check_token("push/shop", &token, at(161)));
        assert!(!signer.check_token("push/other", &token, at(100)));
        assert!(!signer.check_token("push/shop", "x", at(100)));
    }
}
