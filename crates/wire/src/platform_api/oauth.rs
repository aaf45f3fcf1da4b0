//! Programs of others, what they get, and logins by browser.

use std::fmt;

use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccessToken, AuthorizationUser, IdOnly};
use crate::secret_text;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub created_at: String,
    pub id: Uuid,
    pub ignores_delinquent: Option<bool>,
    pub name: String,
    pub redirect_uri: String,
    pub secret: String,
    pub updated_at: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRef {
    pub id: Uuid,
    pub name: String,
    pub redirect_uri: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCreate {
    pub name: String,
    pub redirect_uri: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUpdate {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub redirect_uri: Option<String>,
}

/// What a program exchanges for a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub code: String,
    /// Seconds.
    pub expires_in: i64,
    pub id: Uuid,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("id", &self.id).finish_non_exhaustive()
    }
}

/// `POST /oauth/tokens`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TokenCreate {
    pub client: ClientSecret,
    pub grant: GrantCode,
    pub refresh_token: RefreshToken,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ClientSecret {
    #[serde(deserialize_with = "secret_text::deserialize_optional")]
    pub secret: Option<Secret<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct GrantCode {
    #[serde(deserialize_with = "secret_text::deserialize_optional")]
    pub code: Option<Secret<String>>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RefreshToken {
    #[serde(deserialize_with = "secret_text::deserialize_optional")]
    pub token: Option<Secret<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OauthToken {
    pub access_token: AccessToken,
    pub authorization: IdOnly,
    pub client: ClientRef,
    pub created_at: String,
    pub id: Uuid,
    pub refresh_token: AccessToken,
    pub updated_at: String,
    pub user: AuthorizationUser,
}

/// A login by browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub created_at: String,
    pub description: String,
    /// Seconds.
    pub expires_in: Option<i64>,
    pub id: Uuid,
    pub updated_at: String,
}

/// `POST /auth`: what a client says of itself that wants to log in by browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrowserLoginCreate {
    pub description: Option<String>,
}

/// Paths on the host that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserLogin {
    pub browser_url: String,
    pub cli_url: String,
    #[serde(with = "secret_text")]
    pub token: Secret<String>,
}
