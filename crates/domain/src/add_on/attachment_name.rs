//! Names of attachments, and which one an attachment gets that nobody has named.

use std::fmt;

use thiserror::Error;

use crate::name::ConfigKey;

/// What an add-on is called by the app that it is attached to: `DATABASE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentName(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "Attachment name {0:?} must start with a letter and can only contain letters, digits and underscores (63 characters at most); it becomes the beginning of a config var."
)]
pub struct AttachmentNameError(pub String);

impl AttachmentName {
    /// Heroku's clients write it in any case; config vars are in capitals.
    pub fn parse(text: &str) -> Result<Self, AttachmentNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if starts_well && text.len() <= 63 && text.chars().all(allowed) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(AttachmentNameError(text.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The config var of a value. `None` if the two together are too long for one.
    pub fn config_var(&self, suffix: &ConfigKey) -> Option<ConfigKey> {
        ConfigKey::parse(&format!("{}_{suffix}", self.0)).ok()
    }
}

impl fmt::Display for AttachmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Add-ons whose attachments are named alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Of an app's first one: `DATABASE`.
    pub first: &'static str,
    /// What stands before the colour of others: `HEROKU_POSTGRESQL`.
    pub prefix: &'static str,
}

impl Family {
    pub const POSTGRES: Self = Self { first: "DATABASE", prefix: "HEROKU_POSTGRESQL" };
    pub const REDIS: Self = Self { first: "REDIS", prefix: "HEROKU_REDIS" };
    pub const CUSTOM: Self = Self { first: "CUSTOM", prefix: "BERTH_CUSTOM" };
}

const COLOURS: [&str; 24] = [
    "AMBER", "AQUA", "BLACK", "BLUE", "BRONZE", "BROWN", "CHARCOAL", "COBALT", "COPPER", "CRIMSON", "CYAN", "GRAY",
    "GREEN", "IVORY", "JADE", "NAVY", "OLIVE", "ONYX", "ORANGE", "PINK", "PURPLE", "RED", "ROSE", "SILVER",
];

/// The name for an attachment that nobody has named, from a random number: the family's first name, or a colour. `None`
/// if all of them are taken.
pub fn unnamed(family: Family, random: u64, is_taken: impl Fn(&AttachmentName) -> bool) -> Option<AttachmentName> {
    let start = usize::try_from(random % 24).unwrap_or(0);
    let colours = (0..COLOURS.len()).map(|step| COLOURS[(start + step) % COLOURS.len()]);
    let names = colours.map(|colour| AttachmentName(format!("{}_{colour}", family.prefix)));
    std::iter::once(AttachmentName(family.first.to_owned())).chain(names).find(|name| !is_taken(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_in_capitals_and_begin_config_vars() {
        let url = ConfigKey::parse("URL").unwrap();
        let name = AttachmentName::parse("primary_db").unwrap();
        assert_eq!(name.config_var(&url).unwrap().as_str(), "PRIMARY_DB_URL");
        for bad in ["", "1A", "_A", "A-B", "A B", "Ä", &"A".repeat(64)] {
            assert_eq!(AttachmentName::parse(bad), Err(AttachmentNameError(bad.to_owned())));
        }
    }

    #[test]
    fn the_first_one_is_the_database_and_others_have_colours() {
        let mut taken = BTreeSet::new();
        for expect in ["DATABASE", "HEROKU_POSTGRESQL_COBALT", "HEROKU_POSTGRESQL_COPPER"] {
            let name = unnamed(Family::POSTGRES, 7, |name| taken.contains(name)).unwrap();
            assert_eq!(name.as_str(), expect);
            taken.insert(name);
        }
        assert_eq!(unnamed(Family::POSTGRES, 0, |_name| true), None);
    }

    proptest! {
        #[test]
        fn whatever_number_is_drawn_names_are_found_until_none_is_left(random: u64) {
            let mut taken = BTreeSet::new();
            while let Some(name) = unnamed(Family::CUSTOM, random, |name| taken.contains(name)) {
                prop_assert_eq!(AttachmentName::parse(name.as_str()), Ok(name.clone()));
                prop_assert!(taken.insert(name));
            }
            prop_assert_eq!(taken.len(), COLOURS.len() + 1);
        }
    }
}
