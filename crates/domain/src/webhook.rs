//! Webhooks: what they can be told of, and what follows from an attempt to tell it.

use std::time::Duration;

use crate::delivery::{Outcome, backoff};

/// Attempts at a delivery that must arrive: about six hours.
const ATTEMPTS_MAX: u32 = 16;

const BACKOFF_MIN: Duration = Duration::from_secs(2);
const BACKOFF_MAX: Duration = Duration::from_secs(60 * 60);

/// What an event is about, in Heroku's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    Addon,
    AddonAttachment,
    App,
    Build,
    Collaborator,
    Domain,
    Formation,
    Release,
    SniEndpoint,
    Dyno,
}

impl Entity {
    pub const ALL: [Self; 10] = [
        Self::Addon,
        Self::AddonAttachment,
        Self::App,
        Self::Build,
        Self::Collaborator,
        Self::Domain,
        Self::Formation,
        Self::Release,
        Self::SniEndpoint,
        Self::Dyno,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Addon => "api:addon",
            Self::AddonAttachment => "api:addon-attachment",
            Self::App => "api:app",
            Self::Build => "api:build",
            Self::Collaborator => "api:collaborator",
            Self::Domain => "api:domain",
            Self::Formation => "api:formation",
            Self::Release => "api:release",
            Self::SniEndpoint => "api:sni-endpoint",
            Self::Dyno => "dyno",
        }
    }

    /// The resource, without where it comes from: `release`.
    pub fn resource(self) -> &'static str {
        self.as_str().trim_start_matches("api:")
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.as_str() == text)
    }
}

/// How much a delivery matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One attempt.
    Notify,
    /// Until it has arrived.
    Sync,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Sync => "sync",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Notify, Self::Sync].into_iter().find(|level| level.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    Pending,
    Retrying,
    Failed,
    Succeeded,
}

impl DeliveryStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Retrying, Self::Failed, Self::Succeeded];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Decides about a delivery after its `attempts`-th attempt (1: the first): what it is now, and in how long it is tried
/// again.
pub fn after_attempt(outcome: Outcome, level: Level, attempts: u32, jitter: f64) -> (DeliveryStatus, Option<Duration>) {
    if matches!(outcome, Outcome::Answered(200..300)) {
        return (DeliveryStatus::Succeeded, None);
    }
    if level == Level::Notify || attempts >= ATTEMPTS_MAX {
        return (DeliveryStatus::Failed, None);
    }
    (DeliveryStatus::Retrying, Some(backoff(attempts, BACKOFF_MIN, BACKOFF_MAX, jitter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_sent_once() {
        assert_eq!(after_attempt(Outcome::Unreachable, Level::Notify, 1, 0.0), (DeliveryStatus::Failed, None));
        assert_eq!(after_attempt(Outcome::Answered(202), Level::Notify, 1, 0.0), (DeliveryStatus::Succeeded, None));
    }

    #[test]
    fn what_must_arrive_is_tried_for_hours_and_then_given_up() {
        let outcome = Outcome::Answered(500);
        let waits: Vec<Duration> =
            (1..).map_while(|attempts| after_attempt(outcome, Level::Sync, attempts, 0.0).1).collect();
        assert_eq!((waits.len(), waits[0], waits[1]), (15, Duration::from_secs(2), Duration::from_secs(4)));
        let total: Duration = waits.iter().sum();
        assert!((5..8).contains(&(total.as_secs() / 3600)), "{total:?}");
        assert_eq!(after_attempt(outcome, Level::Sync, 16, 0.0).0, DeliveryStatus::Failed);
        assert_eq!(after_attempt(Outcome::Answered(301), Level::Sync, 1, 0.0).0, DeliveryStatus::Retrying);
    }

    #[test]
    fn entities_are_named_as_on_heroku() {
        assert_eq!(Entity::parse("api:release").unwrap().resource(), "release");
        assert_eq!(Entity::parse("dyno").unwrap().resource(), "dyno");
        assert_eq!(Entity::parse("release"), None);
    }
}
