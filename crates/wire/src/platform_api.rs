//! Heroku's Platform API, version 3: the resources as they go over HTTP.
//!
//! Field for field as in the official schema; no resource of Heroku's gets a field of ours. What only Berth has lives
//! under `/berth/…`, in [`berth`]. Times are RFC 3339 in UTC. A long file because it is one vocabulary.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub mod add_ons;
pub mod app_transfers;
pub mod berth;
pub mod catalogue;
pub mod cron;
pub mod dns;
pub mod domains;
pub mod environments;
pub mod exec;
pub mod health;
pub mod log_drains;
pub mod monitors;
pub mod oauth;
pub mod pipelines;
pub mod routing;
pub mod webhooks;

/// The only media type of version 3; variants such as `3.sdk` are accepted and answered alike.
pub const MEDIA_TYPE: &str = "application/vnd.heroku+json; version=3";

/// An error body: `{"id": "not_found", "message": "Couldn't find that app."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiErrorBody {
    pub id: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The app that a code of a second factor is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<NameOnly>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameOnly {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdName {
    pub id: Uuid,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdOnly {
    pub id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRef {
    pub id: Uuid,
    pub email: String,
}

/// `generation`: an object in version 3, a string in `3.sdk`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Generation {
    Named { id: Uuid, name: String },
    Plain(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub allow_tracking: bool,
    pub beta: bool,
    pub country_of_residence: Option<String>,
    pub created_at: String,
    pub default_organization: Option<IdName>,
    pub default_team: Option<IdName>,
    pub delinquent_at: Option<String>,
    pub email: String,
    pub federated: bool,
    pub id: Uuid,
    pub identity_provider: Option<serde_json::Value>,
    pub last_login: Option<String>,
    pub name: Option<String>,
    pub sms_number: Option<String>,
    pub suspended_at: Option<String>,
    pub two_factor_authentication: bool,
    pub updated_at: String,
    pub verified: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    pub acm: bool,
    pub archived_at: Option<String>,
    pub build_stack: IdName,
    pub buildpack_provided_description: Option<String>,
    pub created_at: String,
    pub generation: Generation,
    pub git_url: String,
    pub id: Uuid,
    pub internal_routing: Option<bool>,
    pub maintenance: bool,
    pub name: String,
    pub organization: Option<IdName>,
    pub owner: UserRef,
    pub region: IdName,
    pub released_at: Option<String>,
    pub repo_size: Option<u64>,
    pub slug_size: Option<u64>,
    pub space: Option<IdName>,
    pub stack: IdName,
    pub team: Option<IdName>,
    pub updated_at: String,
    pub web_url: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppCreate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppUpdate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_stack: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Switch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Config vars as a flat map. In a `PATCH` a null unsets.
pub type ConfigVars = BTreeMap<String, String>;
pub type ConfigVarsUpdate = BTreeMap<String, Option<String>>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    pub app: IdName,
    pub command: String,
    pub created_at: String,
    pub dyno_size: IdName,
    pub id: Uuid,
    pub quantity: u32,
    pub size: String,
    #[serde(rename = "type")]
    pub process_type: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormationBatchUpdate {
    pub updates: Vec<FormationUpdate>,
}

/// Quantities come as numbers and, from the `heroku` CLI, as text: `"2"`, `"+1"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormationUpdate {
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub process_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Quantity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno_size: Option<SizeRef>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    Number(u32),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SizeRef {
    Name(String),
    Object { name: Option<String>, id: Option<Uuid> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dyno {
    pub app: IdName,
    pub attach_url: Option<String>,
    pub command: String,
    pub created_at: String,
    pub id: Uuid,
    pub name: String,
    pub release: ReleaseRef,
    pub size: String,
    pub state: String,
    #[serde(rename = "type")]
    pub process_type: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    pub id: Uuid,
    pub version: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DynoCreate {
    #[serde(default)]
    pub attach: Option<bool>,
    pub command: String,
    /// Values may be numbers (`COLUMNS`).
    #[serde(default)]
    pub env: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub force_no_tty: Option<bool>,
    #[serde(default)]
    pub size: Option<String>,
    #[serde(rename = "type", default)]
    pub process_type: Option<String>,
    /// Seconds.
    #[serde(default)]
    pub time_to_live: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub source_blob: SourceUrls,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceUrls {
    pub get_url: String,
    pub put_url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub app: IdOnly,
    pub buildpacks: Option<Vec<BuildpackRef>>,
    pub created_at: String,
    pub generation: String,
    pub id: Uuid,
    pub output_stream_url: String,
    pub release: Option<IdOnly>,
    pub slug: Option<IdOnly>,
    pub source_blob: SourceBlob,
    pub stack: String,
    pub status: String,
    pub updated_at: String,
    pub user: UserRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackRef {
    pub name: Option<String>,
    pub url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBlob {
    #[serde(default)]
    pub checksum: Option<String>,
    pub url: String,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub version_description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildCreate {
    pub source_blob: SourceBlob,
    #[serde(default)]
    pub buildpacks: Option<Vec<BuildpackRef>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slug {
    pub blob: Blob,
    pub buildpack_provided_description: Option<String>,
    pub checksum: Option<String>,
    pub commit: Option<String>,
    pub commit_description: Option<String>,
    pub created_at: String,
    #[serde(default)]
    pub deleted_at: Option<String>,
    pub id: Uuid,
    pub process_types: BTreeMap<String, String>,
    pub size: Option<u64>,
    pub stack: IdName,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub method: String,
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlugCreate {
    #[serde(default)]
    pub buildpack_provided_description: Option<String>,
    #[serde(default)]
    pub checksum: Option<String>,
    #[serde(default)]
    pub commit: Option<String>,
    #[serde(default)]
    pub commit_description: Option<String>,
    pub process_types: BTreeMap<String, String>,
    #[serde(default)]
    pub stack: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub addon_plan_names: Vec<String>,
    pub app: IdName,
    pub artifacts: Vec<serde_json::Value>,
    pub created_at: String,
    pub current: bool,
    pub description: String,
    pub eligible_for_rollback: bool,
    pub id: Uuid,
    pub output_stream_url: Option<String>,
    pub slug: Option<IdOnly>,
    pub status: String,
    pub updated_at: String,
    pub user: UserRef,
    pub version: u64,
}

/// `POST …/releases` deploys a slug or goes back to a release, depending on the field that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCreate {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSessionCreate {
    /// The `heroku` CLI says `dyno`, the schema `dyno_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<bool>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub process_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSession {
    pub created_at: String,
    pub id: Uuid,
    pub logplex_url: String,
    pub updated_at: String,
}

/// An OAuth authorization: how Heroku presents what we call a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Authorization {
    pub access_token: Option<AccessToken>,
    pub client: Option<oauth::ClientRef>,
    pub created_at: String,
    pub description: String,
    pub grant: Option<oauth::Grant>,
    pub id: Uuid,
    pub refresh_token: Option<AccessToken>,
    pub scope: Vec<String>,
    pub session: Option<serde_json::Value>,
    pub updated_at: String,
    pub user: Option<AuthorizationUser>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// Seconds; `None` never.
    pub expires_in: Option<i64>,
    pub id: Uuid,
    /// Whole when it was just made, redacted later.
    pub token: String,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationUser {
    pub email: String,
    pub full_name: Option<String>,
    pub id: Uuid,
}

/// Yes or no; the library `heroku3` sends 0 for no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Switch {
    Word(bool),
    Number(u8),
}

impl Switch {
    pub const fn is_on(self) -> bool {
        match self {
            Self::Word(on) => on,
            Self::Number(number) => number != 0,
        }
    }
}

/// A number of seconds; the `heroku` CLI sends it as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Seconds {
    Number(i64),
    Text(String),
}

impl Seconds {
    /// `None` for text that is no number.
    pub fn get(&self) -> Option<i64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationCreate {
    #[serde(default)]
    pub description: Option<String>,
    /// Seconds.
    #[serde(default)]
    pub expires_in: Option<Seconds>,
    #[serde(default)]
    pub scope: Option<Vec<String>>,
    /// Name or id of the one app that it is for; with the scopes `deploy` and `promote`. Not Heroku's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Id of a program that may fetch the token with a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationUpdate {
    #[serde(default)]
    pub client: Option<serde_json::Value>,
    #[serde(default)]
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DynoSize {
    pub architecture: String,
    pub compute: u32,
    pub cost: Option<serde_json::Value>,
    pub dedicated: bool,
    pub generation: Generation,
    pub id: Uuid,
    /// In GB, as Heroku counts.
    pub memory: f64,
    pub name: String,
    pub precise_dyno_units: f64,
    pub private_space_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub remaining: u32,
}
