//! Pipelines: apps with the same code, in stages from development to production.

use thiserror::Error;

/// Where an app stands in its pipeline, in the order in which code moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Test,
    Review,
    Development,
    Staging,
    Production,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Test, Self::Review, Self::Development, Self::Staging, Self::Production];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Review => "review",
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a pipeline's name: 3 to 30 lowercase letters, digits and dashes, a letter first")]
pub struct PipelineNameError(String);

/// Checks the name of a pipeline by Heroku's rule (`pipeline.name` in its schema).
pub fn parse_name(text: &str) -> Result<String, PipelineNameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let well_formed = (3..=30).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(allowed);
    if well_formed { Ok(text.to_owned()) } else { Err(PipelineNameError(text.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_the_order_of_promotion_and_survive_printing() {
        assert!(Stage::Development < Stage::Staging && Stage::Staging < Stage::Production);
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
        }
        assert_eq!(Stage::parse("Production"), None);
    }

    #[test]
    fn names_follow_herokus_rule() {
        assert_eq!(parse_name("shop-2"), Ok("shop-2".to_owned()));
        for bad in ["", "ab", "2shop", "Shop", "shop_x", &"x".repeat(31)] {
            assert_eq!(parse_name(bad), Err(PipelineNameError(bad.to_owned())), "{bad}");
        }
    }
}
