//! What an account finds on every server: stacks, regions, features, keys, the people of an app, its buildpacks.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BuildpackRef, IdName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    pub created_at: String,
    pub default: bool,
    pub id: Uuid,
    pub name: String,
    /// `public`, `deprecated`.
    pub state: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    pub country: String,
    pub created_at: String,
    pub description: String,
    pub id: Uuid,
    pub locale: String,
    pub name: String,
    pub private_capable: bool,
    pub provider: RegionProvider,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionProvider {
    pub name: String,
    pub region: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub comment: String,
    pub created_at: String,
    pub email: String,
    pub fingerprint: String,
    pub id: Uuid,
    pub public_key: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreate {
    pub public_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collaborator {
    pub app: IdName,
    pub created_at: String,
    pub id: Uuid,
    pub permissions: Vec<Permission>,
    /// `owner`, `collaborator`.
    pub role: Option<String>,
    pub updated_at: String,
    pub user: CollaboratorUser,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    pub name: String,
    pub description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollaboratorUser {
    pub email: String,
    pub federated: bool,
    pub id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackInstallation {
    pub buildpack: BuildpackRef,
    pub ordinal: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackInstallationsUpdate {
    pub updates: Vec<BuildpackUpdate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackUpdate {
    pub buildpack: String,
}

/// `POST /filters/apps`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFilter {
    #[serde(rename = "in", default)]
    pub within: AppFilterIds,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFilterIds {
    #[serde(default)]
    pub id: Vec<String>,
}
