//! Stages and what stands between them, copies of apps, messages; under `/berth/…`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ConfigVars;

/// `GET /berth/pipelines/{pipeline}/protections`, and the answer to each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    pub pipeline: String,
    pub stage: String,
    /// E-mail addresses; empty for everybody.
    pub deployers: Vec<String>,
    /// As `MON-FRI 09:00-17:00`; empty for any time.
    pub windows: Vec<String>,
    pub zone: String,
    pub lock: Option<Lock>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    pub reason: String,
    pub by: String,
    pub at: Option<String>,
}

/// `PUT /berth/pipelines/{pipeline}/protections/{stage}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectionUpdate {
    #[serde(default)]
    pub deployers: Vec<String>,
    #[serde(default)]
    pub windows: Vec<String>,
    /// `UTC` if absent.
    #[serde(default)]
    pub zone: Option<String>,
}

/// `PUT /berth/pipelines/{pipeline}/protections/{stage}/lock`; `DELETE` takes it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCreate {
    pub reason: String,
}

/// `GET /berth/pipelines/{pipeline}/compare`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    pub pipeline: String,
    /// In the order in which code moves.
    pub apps: Vec<ComparedApp>,
    /// Whether all of them run the same code.
    pub same_code: bool,
    pub config: Vec<ComparedConfigVar>,
    pub formation: Vec<ComparedProcessType>,
    #[serde(default)]
    pub add_ons: Vec<ComparedAttachment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedApp {
    pub name: String,
    pub stage: String,
    /// What serves; `None` before the first deploy.
    pub release_version: Option<u64>,
    pub commit: Option<String>,
    /// SHA-256 of the slug that serves.
    pub slug: Option<String>,
    pub released_at: Option<String>,
}

/// A config var of one app at least. Values never leave the server: equal ones have the same letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedConfigVar {
    pub key: String,
    /// By app: a letter; an app without it is absent.
    pub values: BTreeMap<String, String>,
    pub differs: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedProcessType {
    #[serde(rename = "type")]
    pub process_type: String,
    /// By app: `2 × Standard-1X`.
    pub values: BTreeMap<String, String>,
    pub differs: bool,
}

/// An add-on's name in one app at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedAttachment {
    /// `DATABASE`
    pub attachment: String,
    /// By app: `berth-custom:external A`; the same letter is the same add-on.
    pub values: BTreeMap<String, String>,
    /// Whether an app lacks it, or has another plan.
    pub differs: bool,
}

/// `POST /berth/apps/{app}/clone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneCreate {
    pub name: String,
    /// Config vars that have the same value in the new app.
    #[serde(default)]
    pub copy: Vec<String>,
    /// Config vars with a value of the new app's own.
    #[serde(default)]
    pub set: ConfigVars,
    /// What becomes of the source's add-ons; one that is not named is left out.
    #[serde(default)]
    pub add_ons: Vec<CloneAddOn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneAddOn {
    /// What the source calls it; the new app calls it the same.
    pub attachment: String,
    pub how: CloneHow,
    /// For a new one that needs to be told something.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloneHow {
    /// The very same add-on, for both apps.
    Attach,
    /// Another one of the same plan.
    New,
}

/// `GET /berth/apps/{app}/notifications`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    pub id: Uuid,
    /// `slack` or `webhook`.
    pub format: String,
    /// Only its host: the rest may be a secret.
    pub host: String,
    pub events: Vec<String>,
    /// What messages are signed with; shown once, when the notification is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    pub delivered: u32,
    pub pending: u32,
    pub given_up: u32,
    pub last_error: Option<String>,
    pub created_at: String,
}

/// `POST /berth/apps/{app}/notifications`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationCreate {
    pub url: String,
    /// All kinds if empty.
    #[serde(default)]
    pub events: Vec<String>,
    /// By the URL if absent: `slack` for Slack's hosts.
    #[serde(default)]
    pub format: Option<String>,
    /// Made if absent.
    #[serde(default)]
    pub secret: Option<String>,
}

/// The body of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventMessage {
    /// Rises; the same event delivered twice has the same one.
    pub id: i64,
    pub at: String,
    pub app: String,
    pub event: String,
    pub subject: String,
    pub text: String,
}
