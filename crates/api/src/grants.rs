//! Codes that programs exchange for tokens: made where somebody agreed, good once and for a short time.
//!
//! In memory: who agreed a moment ago agrees again after a restart of the server.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use domain::access::Scope;
use domain::id::{AccountId, OauthClientId, TokenId};
use domain::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use store::account::random_hex;

use crate::error::{ApiError, ApiResult};

/// How long a code is good for.
pub(crate) const VALID: SignedDuration = SignedDuration::from_mins(5);

/// Codes that wait at once.
const GRANTS_MAX: usize = 1000;

/// What a code is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) account: AccountId,
    pub(crate) client: OauthClientId,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) description: String,
    /// The token that comes of it.
    pub(crate) token: TokenId,
    pub(crate) until: Timestamp,
}

/// Grants by the hash of their code.
#[derive(Debug, Default)]
pub struct Grants(Mutex<HashMap<Vec<u8>, Grant>>);

impl Grants {
    /// Makes a code.
    pub(crate) fn add(&self, grant: Grant, now: Timestamp) -> ApiResult<Secret<String>> {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.retain(|_code, grant| grant.until > now);
        if grants.len() >= GRANTS_MAX {
            return Err(ApiError::rate_limited("Too many logins wait for their programs: try again in a few minutes."));
        }
        let code = Secret::new(random_hex()?);
        grants.insert(hash(&code), grant);
        Ok(code)
    }

    /// Takes a code, which is good once.
    pub(crate) fn take(&self, code: &Secret<String>, now: Timestamp) -> Option<Grant> {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        grants.remove(&hash(code)).filter(|grant| grant.until > now)
    }
}

/// Looking codes up by their hash tells nobody by time how near a guess was.
fn hash(code: &Secret<String>) -> Vec<u8> {
    digest(&SHA256, code.expose().as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_its_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let grants = Grants::default();
        let grant = || Grant {
            account: AccountId::random(),
            client: OauthClientId::random(),
            scopes: vec![Scope::Read],
            description: "x".to_owned(),
            token: TokenId::random(),
            until: at(300),
        };
        let (one, other) = (grants.add(grant(), at(0)).unwrap(), grants.add(grant(), at(0)).unwrap());
        assert!(grants.take(&one, at(10)).is_some());
        assert_eq!(grants.take(&one, at(10)), None);
        assert_eq!(grants.take(&other, at(300)), None);
        for _code in 0..GRANTS_MAX {
            grants.add(grant(), at(0)).unwrap();
        }
        assert_eq!(grants.add(grant(), at(0)).unwrap_err().id, "rate_limit");
        assert!(grants.add(grant(), at(300)).is_ok(), "what is over makes room");
    }
}
