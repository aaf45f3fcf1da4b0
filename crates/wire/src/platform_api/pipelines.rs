//! Pipelines, the apps in them, and promotions.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Build, BuildpackRef, Generation, IdName, IdOnly, SourceBlob, UserRef};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    pub created_at: String,
    pub generation: Generation,
    pub id: Uuid,
    pub name: String,
    pub owner: Option<PipelineOwner>,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineOwner {
    pub id: Uuid,
    /// `user`, `team`.
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineCreate {
    pub name: String,
    #[serde(default)]
    pub owner: Option<PipelineOwner>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineUpdate {
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineTransferCreate {
    pub pipeline: Reference,
    pub new_owner: PipelineOwner,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineTransfer {
    pub pipeline: IdOnly,
    pub previous_owner: PipelineOwner,
    pub new_owner: PipelineOwner,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineCoupling {
    pub app: IdOnly,
    pub created_at: String,
    pub id: Uuid,
    /// Compat: the schema has the id alone; `apps:info` shows the name.
    pub pipeline: IdName,
    pub stage: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineCouplingCreate {
    pub app: Reference,
    pub pipeline: Reference,
    pub stage: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineCouplingUpdate {
    #[serde(default)]
    pub stage: Option<String>,
}

/// A name or an id, alone or in an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    Plain(String),
    Object {
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        name: Option<String>,
    },
}

impl Reference {
    /// Empty if nothing was named.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Object { id, name } => id.as_deref().or(name.as_deref()).unwrap_or(""),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionCreate {
    pub pipeline: Reference,
    pub source: AppHolder,
    pub targets: Vec<AppHolder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppHolder {
    pub app: Reference,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    pub created_at: String,
    pub id: Uuid,
    pub pipeline: IdOnly,
    pub source: PromotionSource,
    /// `pending`, `completed`.
    pub status: String,
    pub updated_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionSource {
    pub app: IdOnly,
    pub release: IdOnly,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionTarget {
    pub app: IdOnly,
    pub error_message: Option<String>,
    pub id: Uuid,
    pub pipeline_promotion: IdOnly,
    pub release: Option<IdOnly>,
    /// `pending`, `succeeded`, `failed`.
    pub status: String,
}

/// A build as a pipeline shows it: without its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineBuild {
    pub app: IdOnly,
    pub buildpacks: Option<Vec<BuildpackRef>>,
    pub created_at: String,
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

impl From<Build> for PipelineBuild {
    fn from(build: Build) -> Self {
        Self {
            app: build.app,
            buildpacks: build.buildpacks,
            created_at: build.created_at,
            id: build.id,
            output_stream_url: build.output_stream_url,
            release: build.release,
            slug: build.slug,
            source_blob: build.source_blob,
            stack: build.stack,
            status: build.status,
            updated_at: build.updated_at,
            user: build.user,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineStack {
    pub stack: Option<IdName>,
}
