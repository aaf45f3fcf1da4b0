//! Add-ons: services that apps use, each made once and attached to apps under names.
//!
//! An add-on has values (`URL` and its like), and every attachment of it gives an app config vars made of the
//! attachment's name and theirs: attached as `DATABASE`, the value `URL` is `DATABASE_URL`.
//!
//! ```text
//! Provisioning ──Ready──► Provisioned ──DestroyRequested──► Deprovisioning ──Gone──► (forgotten)
//!      │ └──Failed──► Deprovisioned ──────DestroyRequested──────▲
//!      └──────────────────DestroyRequested──────────────────────┘
//! ```

pub mod attachment_name;
pub mod catalogue;
pub mod custom;

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::add_on::attachment_name::AttachmentName;
use crate::config::ConfigVars;
use crate::name::ConfigKey;
use crate::secret::Secret;

/// Longest values of one add-on, names and values together, in bytes. With [`ATTACHMENTS_MAX`] it keeps what add-ons
/// give a process as small as what its own config vars may be.
pub const VALUES_BYTES_MAX: usize = 16 * 1024;

/// Add-ons that are attached to one app.
pub const ATTACHMENTS_MAX: usize = 32;

/// What an add-on gives to the apps that it is attached to: `URL` and a value.
pub type Values = BTreeMap<ConfigKey, Secret<String>>;

/// What somebody who makes an add-on says about it: `--version=16`.
pub type Options = BTreeMap<String, Secret<String>>;

/// What somebody wants changed of an add-on's values; `None` takes one away.
pub type Changes = BTreeMap<String, Option<Secret<String>>>;

/// The config vars that an attachment gives an app.
pub fn config_vars(attachment: &AttachmentName, values: &Values) -> ConfigVars {
    let var = |(suffix, value): (&ConfigKey, &Secret<String>)| Some((attachment.config_var(suffix)?, value.clone()));
    values.iter().filter_map(var).collect()
}

/// How far an add-on is, in Heroku's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddOnState {
    /// Whoever provides it is at work.
    Provisioning,
    Provisioned,
    /// Whoever provides it takes it down.
    Deprovisioning,
    /// It could not be made.
    Deprovisioned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddOnEvent {
    Ready,
    Failed,
    DestroyRequested,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("an add-on that is {} cannot be {event:?}", state.as_str())]
pub struct InvalidTransition {
    pub state: AddOnState,
    pub event: AddOnEvent,
}

impl AddOnState {
    const ALL: [Self; 4] = [Self::Provisioning, Self::Provisioned, Self::Deprovisioning, Self::Deprovisioned];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Provisioned => "provisioned",
            Self::Deprovisioning => "deprovisioning",
            Self::Deprovisioned => "deprovisioned",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn next(self, event: AddOnEvent) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Provisioning, AddOnEvent::Ready) => Ok(Self::Provisioned),
            (Self::Provisioning, AddOnEvent::Failed) => Ok(Self::Deprovisioned),
            (Self::Provisioning | Self::Provisioned | Self::Deprovisioned, AddOnEvent::DestroyRequested) => {
                Ok(Self::Deprovisioning)
            }
            (Self::Provisioned | Self::Deprovisioned, AddOnEvent::Ready | AddOnEvent::Failed)
            | (Self::Deprovisioning, AddOnEvent::Ready | AddOnEvent::Failed | AddOnEvent::DestroyRequested) => {
                Err(InvalidTransition { state: self, event })
            }
        }
    }
}

/// The name of an add-on, the only one of its kind on the server: `custom-curved-40213`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddOnName(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "Add-on name {0:?} must start with a letter and can only contain letters, digits, dashes and underscores (2 to 63 characters)."
)]
pub struct AddOnNameError(pub String);

const SHAPES: [&str; 16] = [
    "angular",
    "circular",
    "conical",
    "cubic",
    "curved",
    "cylindrical",
    "flat",
    "hexagonal",
    "oval",
    "pointed",
    "rippled",
    "round",
    "sloped",
    "spherical",
    "spiral",
    "tapered",
];

impl AddOnName {
    pub fn parse(text: &str) -> Result<Self, AddOnNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if starts_well && (2..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(AddOnNameError(text.chars().take(80).collect()))
        }
    }

    /// A name for an add-on that nobody has named, of what it is, a shape and a number, from a random number.
    pub fn drawn(stem: &str, random: u64) -> Self {
        let shape = SHAPES[usize::try_from(random % 16).unwrap_or(0)];
        Self(format!("{stem}-{shape}-{:05}", random / 16 % 100_000))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddOnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_becomes_a_config_var_of_the_attachments_name() {
        let values: Values =
            ["URL", "KEY"].map(|suffix| (ConfigKey::parse(suffix).unwrap(), Secret::new("x".to_owned()))).into();
        let vars = config_vars(&AttachmentName::parse("storage").unwrap(), &values);
        assert_eq!(vars.keys().map(ConfigKey::as_str).collect::<Vec<_>>(), ["STORAGE_KEY", "STORAGE_URL"]);
    }

    #[test]
    fn an_add_on_is_made_once_and_destroyed_once() {
        use AddOnEvent::{DestroyRequested, Failed, Ready};
        let check =
            |state: AddOnState, event, expect| assert_eq!(state.next(event).ok(), expect, "{state:?} {event:?}");
        check(AddOnState::Provisioning, Ready, Some(AddOnState::Provisioned));
        check(AddOnState::Provisioning, Failed, Some(AddOnState::Deprovisioned));
        for state in [AddOnState::Provisioning, AddOnState::Provisioned, AddOnState::Deprovisioned] {
            check(state, DestroyRequested, Some(AddOnState::Deprovisioning));
        }
        for event in [Ready, Failed, DestroyRequested] {
            check(AddOnState::Deprovisioning, event, None);
        }
        check(AddOnState::Provisioned, Ready, None);
        check(AddOnState::Deprovisioned, Ready, None);
    }

    #[test]
    fn names_follow_heroku() {
        for name in ["pg", "acme-inc_DB2", &"a".repeat(63)] {
            assert!(AddOnName::parse(name).is_ok_and(|parsed| parsed.as_str() == name));
        }
        for name in ["", "a", "1a", "a b", "a/b", &"a".repeat(64)] {
            assert_eq!(AddOnName::parse(name), Err(AddOnNameError(name.to_owned())));
        }
        for random in [0, 7, u64::MAX] {
            let drawn = AddOnName::drawn("custom", random);
            assert_eq!(AddOnName::parse(drawn.as_str()), Ok(drawn.clone()));
        }
    }
}
