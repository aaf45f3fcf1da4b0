//! How an error is shown where it is handled: its message and those of its causes, which do not repeat each other.

use std::error::Error;

/// Joins a message and its causes by colons.
pub fn display_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;
    use crate::name::ConfigKeyError;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot set config vars")]
    struct Outer(#[source] ConfigError);

    #[test]
    fn causes_follow_their_effects() {
        let cause = ConfigError::Key(ConfigKeyError("1A".to_owned()));
        let text = display_chain(&Outer(cause));
        assert!(text.starts_with("cannot set config vars: config var name \"1A\" must"), "{text}");
    }
}
