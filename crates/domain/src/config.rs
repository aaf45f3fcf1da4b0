//! Config vars: the app's environment, and how a change applies to it.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::name::{CONFIG_TOTAL_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, ConfigKey, ConfigKeyError};
use crate::secret::Secret;

/// All config vars of an app or of a release.
pub type ConfigVars = BTreeMap<ConfigKey, Secret<String>>;

/// What a `PATCH` of config vars means: a value sets, `None` unsets.
pub type ConfigChanges = BTreeMap<ConfigKey, Option<Secret<String>>>;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error(transparent)]
    Key(#[from] ConfigKeyError),
    #[error(
        "the value of {key} is {size_bytes} bytes long; the limit is {CONFIG_VALUE_BYTES_MAX}. Keep large data in a file or a database"
    )]
    ValueTooLarge { key: ConfigKey, size_bytes: usize },
    #[error("the value of {key} contains a NUL byte, which no environment can hold")]
    Nul { key: ConfigKey },
    #[error("all config vars together would be {size_bytes} bytes; the limit is {CONFIG_TOTAL_BYTES_MAX}")]
    TotalTooLarge { size_bytes: usize },
    #[error("{key} is set by the platform; unset it here and use the value that the process finds in its environment")]
    Reserved { key: ConfigKey },
}

/// Set for every dyno by the platform; a config var of that name would be ignored, so it is refused.
const RESERVED: [&str; 3] = ["DYNO", "PORT", "PS"];

/// Applies `changes` to `current` and checks the bounds of the result.
///
/// Returns the new set and the description that the release gets, in Heroku's words: `Set A, B config vars`.
pub fn apply(current: &ConfigVars, changes: ConfigChanges) -> Result<(ConfigVars, String), ConfigError> {
    let mut vars = current.clone();
    let (mut set, mut unset) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        let Some(value) = value else {
            if vars.remove(&key).is_some() {
                unset.push(key.to_string());
            }
            continue;
        };
        let size_bytes = value.expose().len();
        if size_bytes > CONFIG_VALUE_BYTES_MAX {
            return Err(ConfigError::ValueTooLarge { key, size_bytes });
        }
        if value.expose().contains('\0') {
            return Err(ConfigError::Nul { key });
        }
        if RESERVED.contains(&key.as_str()) {
            return Err(ConfigError::Reserved { key });
        }
        if vars.get(&key) != Some(&value) {
            set.push(key.to_string());
            vars.insert(key, value);
        }
    }
    let size_bytes = vars.iter().map(|(key, value)| key.as_str().len() + value.expose().len() + 2).sum();
    if size_bytes > CONFIG_TOTAL_BYTES_MAX {
        return Err(ConfigError::TotalTooLarge { size_bytes });
    }
    let part = |verb: &str, keys: &[String]| match keys.len() {
        0 => None,
        1 => Some(format!("{verb} {} config var", keys[0])),
        _ => Some(format!("{verb} {} config vars", keys.join(", "))),
    };
    let description: Vec<String> = part("Set", &set).into_iter().chain(part("Remove", &unset)).collect();
    Ok((vars, description.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
        pairs.iter().map(|(key, value)| (ConfigKey::parse(key).unwrap(), Secret::new((*value).to_owned()))).collect()
    }

    fn changes(pairs: &[(&str, Option<&str>)]) -> ConfigChanges {
        pairs
            .iter()
            .map(|(key, value)| (ConfigKey::parse(key).unwrap(), value.map(|value| Secret::new(value.to_owned()))))
            .collect()
    }

    #[test]
    fn changes_set_and_unset_and_say_so_as_heroku_does() {
        let (after, description) =
            apply(&vars(&[("A", "1"), ("B", "2")]), changes(&[("A", None), ("C", Some("3")), ("D", Some(""))]))
                .unwrap();
        assert_eq!(after, vars(&[("B", "2"), ("C", "3"), ("D", "")]));
        assert_eq!(description, "Set C, D config vars, Remove A config var");
    }

    #[test]
    fn setting_what_is_there_changes_nothing() {
        let before = vars(&[("A", "1")]);
        let (after, description) = apply(&before, changes(&[("A", Some("1")), ("X", None)])).unwrap();
        assert_eq!((after, description.as_str()), (before, ""));
    }

    #[test]
    fn bounds_are_named() {
        let large = "x".repeat(CONFIG_VALUE_BYTES_MAX + 1);
        let key = || ConfigKey::parse("A").unwrap();
        assert_eq!(
            apply(&vars(&[]), changes(&[("A", Some(&large))])).unwrap_err(),
            ConfigError::ValueTooLarge { key: key(), size_bytes: CONFIG_VALUE_BYTES_MAX + 1 }
        );
        assert_eq!(apply(&vars(&[]), changes(&[("A", Some("a\0b"))])).unwrap_err(), ConfigError::Nul { key: key() });
        let port = ConfigKey::parse("PORT").unwrap();
        assert_eq!(
            apply(&vars(&[]), changes(&[("PORT", Some("1"))])).unwrap_err(),
            ConfigError::Reserved { key: port }
        );
    }

    #[test]
    fn an_error_does_not_show_the_value() {
        let error = apply(&vars(&[]), changes(&[("A", Some("hunter2\0"))])).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
