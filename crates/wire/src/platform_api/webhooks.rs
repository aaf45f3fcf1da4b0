//! Webhooks, their events and deliveries.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::IdName;

/// Without its URL where it is printed for debugging: that may hold a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub app: IdName,
    pub created_at: String,
    pub id: Uuid,
    pub include: Vec<String>,
    pub level: String,
    pub updated_at: String,
    pub url: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).field("include", &self.include).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookCreate {
    #[serde(default)]
    pub authorization: Option<String>,
    pub include: Vec<String>,
    pub level: String,
    #[serde(default)]
    pub secret: Option<String>,
    pub url: String,
}

impl std::fmt::Debug for WebhookCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookCreate").field("include", &self.include).finish_non_exhaustive()
    }
}

/// What is left out stays; a secret that is null is replaced by a new one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookUpdate {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Option<String>>,
    #[serde(default)]
    pub include: Option<Vec<String>>,
    #[serde(default)]
    pub level: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub secret: Option<Option<String>>,
    #[serde(default)]
    pub url: Option<String>,
}

impl std::fmt::Debug for WebhookUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookUpdate").field("include", &self.include).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub created_at: String,
    pub event: EventRef,
    pub id: Uuid,
    pub last_attempt: Option<Attempt>,
    pub next_attempt_at: Option<String>,
    pub num_attempts: u32,
    /// `pending`, `retrying`, `failed`, `succeeded`.
    pub status: String,
    pub updated_at: String,
    pub webhook: WebhookRef,
    /// What lists are ranged by.
    #[serde(skip)]
    pub sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRef {
    pub id: Uuid,
    pub include: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookRef {
    pub id: Uuid,
    pub level: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Status of the answer; null where there was none.
    pub code: Option<u16>,
    pub created_at: String,
    pub error_class: Option<String>,
    pub id: Uuid,
    pub status: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub created_at: String,
    pub id: Uuid,
    pub include: String,
    pub payload: Value,
    pub updated_at: String,
    /// What lists are ranged by.
    #[serde(skip)]
    pub sequence: u64,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub action: String,
    pub actor: super::UserRef,
    pub data: Value,
    /// Of what was updated: the values before.
    pub previous_data: Value,
    pub resource: String,
    pub version: String,
}

/// The body of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    #[serde(flatten)]
    pub payload: Value,
    pub created_at: String,
    pub id: Uuid,
    pub published_at: String,
    pub sequence: Option<u64>,
    pub updated_at: String,
    pub webhook_metadata: Metadata,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub attempt: super::IdOnly,
    pub delivery: super::IdOnly,
    pub event: EventRef,
    pub webhook: super::IdOnly,
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
