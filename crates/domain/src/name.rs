//! Names that people choose: parsed once at the edge, after which the type is the proof.

use std::fmt;

use thiserror::Error;

/// App names that would collide with a host name of the platform itself.
pub const RESERVED_APP_NAMES: [&str; 7] = ["api", "berth", "git", "registry", "dashboard", "exec", "www"];

/// Longest value of one config var, in bytes. Heroku bounds the whole set to 64 kB; one large certificate bundle must fit.
pub const CONFIG_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Longest set of config vars of one app, keys and values together, in bytes.
/// `execve` gives a process 2 MiB for environment and arguments with the usual stack limit; a quarter of it leaves room.
pub const CONFIG_TOTAL_BYTES_MAX: usize = 512 * 1024;

/// The name of an app: also the first label of its host name, so the rules are Heroku's and DNS's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(String);

#[derive(Debug, Error, PartialEq, Eq)]
pub enum AppNameError {
    #[error(
        "Name must start with a letter, end with a letter or digit and can only contain lowercase letters, digits, and dashes."
    )]
    Characters,
    #[error("Name is too short (minimum is 3 characters).")]
    TooShort,
    #[error("Name is too long (maximum is 30 characters).")]
    TooLong,
    #[error("Name {0} is reserved by the platform; choose another.")]
    Reserved(String),
}

impl AppName {
    /// Heroku's rule: `^[a-z][a-z0-9-]{1,28}[a-z0-9]$` (`app.name` in its schema).
    pub fn parse(text: &str) -> Result<Self, AppNameError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts_well || text.ends_with('-') || !text.chars().all(allowed) {
            return Err(AppNameError::Characters);
        }
        match text.len() {
            0..3 => Err(AppNameError::TooShort),
            31.. => Err(AppNameError::TooLong),
            _ if RESERVED_APP_NAMES.contains(&text) => Err(AppNameError::Reserved(text.to_owned())),
            _ => Ok(Self(text.to_owned())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a process type, as written before the colon in a Procfile.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessType(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("process type {0:?} must consist of letters, digits, dashes and underscores (63 at most)")]
pub struct ProcessTypeError(pub String);

impl ProcessType {
    pub fn parse(text: &str) -> Result<Self, ProcessTypeError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ProcessTypeError(text.chars().take(80).collect()))
        }
    }

    /// The only type that gets traffic.
    pub fn web() -> Self {
        Self("web".to_owned())
    }

    pub fn is_web(&self) -> bool {
        self.0 == "web"
    }

    /// The `release` type runs once per release of new code and is never scaled.
    pub fn is_release(&self) -> bool {
        self.0 == "release"
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a config var. Heroku accepts nearly anything; we accept what every shell can read back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "config var name {0:?} must consist of letters, digits and underscores and must not start with a digit (256 characters at most)"
)]
pub struct ConfigKeyError(pub String);

impl ConfigKey {
    pub fn parse(text: &str) -> Result<Self, ConfigKeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts_well && text.len() <= 256 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ConfigKeyError(text.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! print_as_text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    )*};
}

print_as_text! { AppName ProcessType ConfigKey }

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expect: Result<(), AppNameError>) {
        assert_eq!(AppName::parse(text).map(|_name| ()), expect, "{text:?}");
    }

    #[test]
    fn app_names_follow_heroku_and_dns() {
        check("shop", Ok(()));
        check("shop-2", Ok(()));
        check("a1b", Ok(()));
        check("", Err(AppNameError::Characters));
        check("ab", Err(AppNameError::TooShort));
        check(&"a".repeat(31), Err(AppNameError::TooLong));
        check("2shop", Err(AppNameError::Characters));
        check("Shop", Err(AppNameError::Characters));
        check("shop-", Err(AppNameError::Characters));
        check("größe", Err(AppNameError::Characters));
        check("shop.x", Err(AppNameError::Characters));
        check("shop/../x", Err(AppNameError::Characters));
        check("git", Err(AppNameError::Reserved("git".to_owned())));
    }

    #[test]
    fn process_types_keep_dashes_and_underscores() {
        assert!(ProcessType::parse("celery-beat_2").is_ok_and(|name| name.as_str() == "celery-beat_2"));
        assert_eq!(ProcessType::parse("a b"), Err(ProcessTypeError("a b".to_owned())));
        assert_eq!(ProcessType::parse(""), Err(ProcessTypeError(String::new())));
    }

    #[test]
    fn config_keys_are_shell_names() {
        assert!(ConfigKey::parse("DATABASE_URL").is_ok_and(|key| key.as_str() == "DATABASE_URL"));
        for bad in ["", "1A", "A-B", "A=B", "Ä"] {
            assert_eq!(ConfigKey::parse(bad), Err(ConfigKeyError(bad.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_name_parser_panic(text in ".*") {
            let _app = AppName::parse(&text);
            let _process_type = ProcessType::parse(&text);
            let _key = ConfigKey::parse(&text);
        }
    }
}
