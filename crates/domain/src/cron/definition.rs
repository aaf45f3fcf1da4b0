//! What a job is: its name, its command, when it runs, and what to do when that cannot be.

use std::fmt;

use thiserror::Error;

/// Longest time that a run may take, in seconds (Heroku's for one-offs).
pub const DEADLINE_S_MAX: u32 = 24 * 60 * 60;

/// Attempts after the first one.
pub const RETRIES_MAX: u32 = 10;

/// Longest first pause before another attempt, in seconds; it doubles with each attempt up to this.
pub const RETRY_DELAY_S_MAX: u32 = 60 * 60;

const NAME_BYTES_MAX: usize = 50;

/// The name of a job, unique in its app.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobName(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "job name {0:?} must consist of lowercase letters, digits and dashes and begin with a letter ({NAME_BYTES_MAX} characters at most)"
)]
pub struct JobNameError(pub String);

impl JobName {
    pub fn parse(text: &str) -> Result<Self, JobNameError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins_well && !text.ends_with('-') && text.len() <= NAME_BYTES_MAX && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(JobNameError(text.chars().take(80).collect()))
        }
    }

    /// A name made of a command, for a job that was given none: `python manage.py sync` is `python-manage-py-sync`.
    pub fn of_command(command: &str) -> Self {
        let mut name = String::new();
        for word in command.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            let separator = usize::from(!name.is_empty());
            // Room is left for the number that makes it unique.
            if name.len() + separator + word.len() > NAME_BYTES_MAX - 8 {
                break;
            }
            if separator == 1 {
                name.push('-');
            }
            name.push_str(&word.to_ascii_lowercase());
        }
        if name.starts_with(|c: char| c.is_ascii_lowercase()) { Self(name) } else { Self("job".to_owned()) }
    }

    /// This name, or this name with the first number that `is_taken` does not know.
    pub fn made_unique(self, is_taken: impl Fn(&Self) -> bool) -> Self {
        let mut number = 2_u32;
        let mut name = self.clone();
        while is_taken(&name) {
            name = Self(format!("{}-{number}", self.0));
            number += 1;
        }
        name
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

words! {
    /// What happens with a tick while the run before it has not ended.
    Overlap {
        /// There is no run for it.
        Skip = "skip",
        /// Its run waits for the end of the one before it.
        Queue = "queue",
        /// The one before it is stopped.
        Replace = "replace",
    }
}

words! {
    /// What happens with ticks that passed while nothing could start.
    CatchUp {
        None = "none",
        /// One run for all of them.
        Last = "last",
        /// A run for each, one after the other, up to [`super::WAITING_MAX`].
        All = "all",
    }
}

/// How a job deals with what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub overlap: Overlap,
    pub catch_up: CatchUp,
    /// Longest time of one run.
    pub deadline_s: u32,
    /// Attempts after one that failed.
    pub retries: u32,
    /// Pause before the second attempt; it doubles with each further one.
    pub retry_delay_s: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            overlap: Overlap::Skip,
            catch_up: CatchUp::None,
            deadline_s: DEADLINE_S_MAX,
            retries: 0,
            retry_delay_s: 30,
        }
    }
}

impl Policy {
    /// The pause after this attempt.
    pub fn pause_after(&self, attempt: u32) -> jiff::SignedDuration {
        let doublings = attempt.saturating_sub(1).min(16);
        let seconds = (u64::from(self.retry_delay_s) << doublings).min(u64::from(RETRY_DELAY_S_MAX));
        jiff::SignedDuration::from_secs(seconds.cast_signed())
    }
}

/// A job as it was written. Schedule and zone are known to be readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefinition {
    pub name: JobName,
    pub schedule: String,
    /// A name of the time zone database: `UTC`, `Europe/Zurich`.
    pub zone: String,
    pub command: String,
    pub size: String,
    pub policy: Policy,
}
