//! Add-ons: services, plans, the add-ons themselves and their attachments.

use std::collections::BTreeMap;

use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::catalogue::Region;
use super::pipelines::Reference;
use super::{IdName, ReleaseRef};
use crate::secret_text;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnService {
    pub cli_plugin_name: Option<String>,
    pub created_at: String,
    pub human_name: String,
    pub id: Uuid,
    pub name: String,
    pub state: String,
    pub supported_generations: Vec<IdName>,
    pub supports_multiple_installations: bool,
    pub supports_sharing: bool,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub cents: u32,
    pub contract: bool,
    pub unit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub addon_service: IdName,
    pub compliance: Option<Vec<String>>,
    pub created_at: String,
    pub default: bool,
    pub description: String,
    pub human_name: String,
    pub id: Uuid,
    pub installable_inside_private_network: bool,
    pub installable_outside_private_network: bool,
    pub name: String,
    pub price: Price,
    pub space_default: bool,
    pub state: String,
    pub updated_at: String,
    pub visible: bool,
}

/// A reference, or the whole for those who ask for that (`Accept-Expansion`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expandable<T> {
    Whole(Box<T>),
    Reference(IdName),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOn {
    pub actions: Vec<Value>,
    pub addon_service: Expandable<AddOnService>,
    pub app: IdName,
    pub billed_price: Option<Price>,
    pub billing_entity: BillingEntity,
    pub config_vars: Vec<String>,
    pub created_at: String,
    pub id: Uuid,
    pub name: String,
    pub plan: Expandable<Plan>,
    pub provider_id: String,
    pub provision_message: String,
    pub state: String,
    pub updated_at: String,
    pub web_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingEntity {
    pub id: Uuid,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnAttachment {
    pub addon: AttachedAddOn,
    pub app: IdName,
    /// For those who ask for it (`Accept-Inclusion: config_vars`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_vars: Option<Vec<String>>,
    pub created_at: String,
    pub id: Uuid,
    pub log_input_url: Option<String>,
    pub name: String,
    pub namespace: Option<String>,
    pub updated_at: String,
    pub web_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedAddOn {
    pub app: IdName,
    pub id: Uuid,
    pub name: String,
    /// For those who ask for it (`Accept-Inclusion: addon:plan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<IdName>,
}

/// `POST /apps/{app}/addons`. `heroku apps:create` names the plan by a string, `heroku addons:create` by an object.
#[derive(Debug, Clone, Deserialize)]
pub struct AddOnCreate {
    #[serde(default)]
    pub attachment: Option<AttachmentNaming>,
    /// What follows `--` on the command line. A word without a value is `true`.
    #[serde(default)]
    pub config: Option<BTreeMap<String, OptionValue>>,
    #[serde(default)]
    pub confirm: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    pub plan: Reference,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AttachmentNaming {
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OptionValue {
    Text(#[serde(with = "secret_text")] Secret<String>),
    Switch(bool),
    Number(i64),
}

impl OptionValue {
    pub fn into_secret(self) -> Secret<String> {
        match self {
            Self::Text(text) => text,
            Self::Switch(on) => Secret::new(on.to_string()),
            Self::Number(number) => Secret::new(number.to_string()),
        }
    }
}

/// `PATCH /apps/{app}/addons/{addon}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AddOnUpdate {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub plan: Option<Reference>,
}

/// `DELETE /apps/{app}/addons/{addon}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AddOnDestroy {
    #[serde(default)]
    pub force: bool,
}

/// `POST /addon-attachments`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AttachmentCreate {
    pub addon: Reference,
    pub app: Reference,
    #[serde(default)]
    pub confirm: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub namespace: Option<String>,
}

/// `POST /actions/addons/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AddOnWanted {
    pub addon: Reference,
    #[serde(default)]
    pub addon_service: Option<Reference>,
    #[serde(default)]
    pub app: Option<Reference>,
}

/// `POST /actions/addon-attachments/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AttachmentWanted {
    pub addon_attachment: Reference,
    #[serde(default)]
    pub addon_service: Option<Reference>,
    #[serde(default)]
    pub app: Option<Reference>,
}

/// One value of an add-on: `GET /addons/{addon}/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnConfig {
    pub name: String,
    pub value: Option<String>,
}

/// `PATCH /addons/{addon}/config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnConfigUpdate {
    #[serde(default)]
    pub config: Vec<AddOnConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnRegionCapability {
    pub addon_service: AddOnService,
    pub id: Uuid,
    pub region: Region,
    pub supports_private_networking: bool,
}

/// `PATCH /berth/addons/{addon}/config`: which apps got which release by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOnChanged {
    pub addon: AddOn,
    pub releases: Vec<ChangedApp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedApp {
    pub app: IdName,
    pub release: ReleaseRef,
}
