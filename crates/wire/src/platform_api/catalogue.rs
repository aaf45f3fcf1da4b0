//! What an account finds on every server: stacks, regions, features, keys, the people of an app, its buildpacks.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{App, BuildpackRef, IdName, UserRef};

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
pub struct Feature {
    pub created_at: String,
    pub description: String,
    pub display_name: String,
    pub doc_url: String,
    pub enabled: bool,
    pub feedback_email: String,
    pub id: Uuid,
    pub name: String,
    /// `general`, `beta`.
    pub state: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    pub enabled: super::Switch,
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
pub struct CollaboratorCreate {
    /// Address or id.
    pub user: UserName,
    #[serde(default)]
    pub permissions: Option<Vec<String>>,
    #[serde(default)]
    pub silent: Option<bool>,
}

/// Compat: clients name a user by a word, or by an object with an address or an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UserName {
    Word(String),
    Email { email: String },
    Id { id: String },
}

impl UserName {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Word(name) | Self::Email { email: name } | Self::Id { id: name } => name,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollaboratorUpdate {
    pub permissions: Vec<String>,
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
    /// Compat: the `heroku` client sends none where its registry does not know the name.
    #[serde(default)]
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

/// An app as Heroku's filters and teams show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TeamApp {
    pub archived_at: Option<String>,
    pub build_stack: IdName,
    pub buildpack_provided_description: Option<String>,
    pub created_at: String,
    pub git_url: String,
    pub id: Uuid,
    pub internal_routing: Option<bool>,
    /// Whether the account that asks works on it.
    pub joined: bool,
    pub locked: bool,
    pub maintenance: bool,
    pub name: String,
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

impl From<App> for TeamApp {
    fn from(app: App) -> Self {
        Self {
            archived_at: app.archived_at,
            build_stack: app.build_stack,
            buildpack_provided_description: app.buildpack_provided_description,
            created_at: app.created_at,
            git_url: app.git_url,
            id: app.id,
            internal_routing: app.internal_routing,
            joined: true,
            locked: false,
            maintenance: app.maintenance,
            name: app.name,
            owner: app.owner,
            region: app.region,
            released_at: app.released_at,
            repo_size: app.repo_size,
            slug_size: app.slug_size,
            space: app.space,
            stack: app.stack,
            team: app.team,
            updated_at: app.updated_at,
            web_url: app.web_url,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    pub created_at: String,
    pub id: Uuid,
    pub name: String,
    pub updated_at: String,
}
