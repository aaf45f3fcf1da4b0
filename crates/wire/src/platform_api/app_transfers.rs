//! Apps that are handed over.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::pipelines::Reference;
use super::{IdName, UserRef};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTransferCreate {
    pub app: Reference,
    /// An e-mail address or the id of an account.
    pub recipient: Reference,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTransferUpdate {
    /// `accepted` or `declined`.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppTransfer {
    pub app: IdName,
    pub created_at: String,
    pub id: Uuid,
    /// Who gives it away.
    pub owner: UserRef,
    pub recipient: UserRef,
    /// `pending`, `accepted`, `declined`.
    pub state: String,
    pub updated_at: String,
}
