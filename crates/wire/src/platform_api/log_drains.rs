//! Log drains.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::IdName;

/// Without its URL where it is printed for debugging: that may hold a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDrain {
    /// The add-on that made it: none here.
    pub addon: Option<IdName>,
    pub app: IdName,
    pub created_at: String,
    pub id: Uuid,
    pub token: String,
    pub updated_at: String,
    pub url: String,
}

impl std::fmt::Debug for LogDrain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogDrain").field("id", &self.id).field("app", &self.app).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDrainCreate {
    pub url: String,
}

impl std::fmt::Debug for LogDrainCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogDrainCreate")
    }
}
