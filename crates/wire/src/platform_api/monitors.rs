//! Autoscaling, as Heroku's metrics host has it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// `scale`.
    pub action_type: String,
    pub app_id: Uuid,
    pub created_at: String,
    pub id: Uuid,
    pub is_active: bool,
    pub max_quantity: u32,
    pub metric_uuid: Uuid,
    pub min_quantity: u32,
    pub name: String,
    pub notification_channels: Vec<String>,
    /// Minutes.
    pub notification_period: u32,
    pub op: String,
    /// Minutes.
    pub period: u32,
    pub process_type: String,
    pub state: String,
    pub updated_at: String,
    /// Milliseconds that 95 of 100 requests should take at most.
    pub value: u64,
}

/// What a client sends to switch it on, to change it, or to switch it off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorUpdate {
    pub action_type: Option<String>,
    pub is_active: Option<bool>,
    pub max_quantity: Option<u32>,
    pub min_quantity: Option<u32>,
    /// `app`: its people want to be told when the maximum is reached.
    pub notification_channels: Option<Vec<String>>,
    pub value: Option<u64>,
}
