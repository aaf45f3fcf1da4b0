//! Jobs as people write them: in the `cron` list of `app.json`, and in requests of the API.

use domain::cron::{
    CatchUp, DEADLINE_S_MAX, JobDefinition, JobName, Overlap, Policy, RETRIES_MAX, RETRY_DELAY_S_MAX, Schedule,
};
use domain::dyno_size::DEFAULT_SIZE_NAME;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Longest command in bytes: `execve` takes 128 KiB per argument.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Jobs in one `app.json`.
const JOBS_MAX: usize = 100;

/// The zone of a job that names none.
pub const DEFAULT_ZONE: &str = "UTC";

/// A job as it is written. A field that is not known is a mistake: it would otherwise silently do nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobText {
    /// Made of the command if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Five fields, six with seconds in front, or `@daily` and the like.
    pub schedule: String,
    pub command: String,
    /// A name of the time zone database; `UTC` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// `skip` (the default), `queue`, `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// `none` (the default), `last`, `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_delay_seconds: Option<u32>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum JobTextError {
    #[error(transparent)]
    Name(#[from] domain::cron::JobNameError),
    #[error(transparent)]
    Schedule(#[from] domain::cron::ScheduleError),
    #[error("time zone {0:?} is not known; write a name such as UTC or Europe/Zurich")]
    Zone(String),
    #[error("the command is missing, for example \"bin/nightly\"")]
    NoCommand,
    #[error("the command is longer than {COMMAND_BYTES_MAX} bytes")]
    LongCommand,
    #[error("{field} must be {words}, not {found:?}")]
    Word { field: &'static str, words: String, found: String },
    #[error("{field} must be from {min} to {max}, not {found}")]
    Number { field: &'static str, min: u32, max: u32, found: u32 },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum AppJsonError {
    #[error("app.json is not valid JSON: {0}")]
    Json(String),
    #[error("job {number} of cron in app.json cannot be read: {reason}")]
    Format { number: usize, reason: String },
    #[error("job {number} of cron in app.json: {source}")]
    Job {
        number: usize,
        #[source]
        source: JobTextError,
    },
    #[error("app.json names two jobs {0}; give one of them another name")]
    Twice(JobName),
    #[error("app.json has more than {JOBS_MAX} jobs in cron")]
    TooMany,
    #[error("cron in app.json must be a list of jobs, each with a schedule and a command")]
    NoList,
}

impl JobText {
    /// Checks everything but the dyno size, which only the platform knows.
    pub fn definition(&self) -> Result<JobDefinition, JobTextError> {
        let command = self.command.trim();
        if command.is_empty() {
            return Err(JobTextError::NoCommand);
        }
        if command.len() > COMMAND_BYTES_MAX {
            return Err(JobTextError::LongCommand);
        }
        let zone = self.zone.clone().unwrap_or_else(|| DEFAULT_ZONE.to_owned());
        schedule(&self.schedule, &zone)?;
        let name = match &self.name {
            Some(name) => JobName::parse(name)?,
            None => JobName::of_command(command),
        };
        let usual = Policy::default();
        let policy = Policy {
            overlap: word("overlap", self.overlap.as_deref(), Overlap::ALL, Overlap::as_str, usual.overlap)?,
            catch_up: word("catch_up", self.catch_up.as_deref(), CatchUp::ALL, CatchUp::as_str, usual.catch_up)?,
            deadline_s: number("deadline_seconds", self.deadline_seconds, 1, DEADLINE_S_MAX, usual.deadline_s)?,
            retries: number("retries", self.retries, 0, RETRIES_MAX, usual.retries)?,
            retry_delay_s: number(
                "retry_delay_seconds",
                self.retry_delay_seconds,
                1,
                RETRY_DELAY_S_MAX,
                usual.retry_delay_s,
            )?,
        };
        Ok(JobDefinition {
            name,
            schedule: self.schedule.trim().to_owned(),
            zone,
            command: command.to_owned(),
            size: self.size.clone().unwrap_or_else(|| DEFAULT_SIZE_NAME.to_owned()),
            policy,
        })
    }
}

/// A schedule in a zone of the machine's time zone database, or of the one in this executable.
pub fn schedule(pattern: &str, zone: &str) -> Result<Schedule, JobTextError> {
    let rules = TimeZone::get(zone).map_err(|_unknown| JobTextError::Zone(zone.chars().take(80).collect()))?;
    Ok(Schedule::parse(pattern, rules)?)
}

/// The jobs that an `app.json` names, each with a name of its own.
pub fn jobs_of_app_json(text: &str) -> Result<Vec<JobDefinition>, AppJsonError> {
    let json: Value = serde_json::from_str(text).map_err(|error| AppJsonError::Json(error.to_string()))?;
    let list = match json.get("cron") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_other) => return Err(AppJsonError::NoList),
    };
    if list.len() > JOBS_MAX {
        return Err(AppJsonError::TooMany);
    }
    let mut jobs: Vec<JobDefinition> = Vec::new();
    for (number, item) in (1..).zip(list) {
        let text =
            JobText::deserialize(item).map_err(|error| AppJsonError::Format { number, reason: error.to_string() })?;
        let mut job = text.definition().map_err(|source| AppJsonError::Job { number, source })?;
        let is_taken = |name: &JobName| jobs.iter().any(|other| other.name == *name);
        if text.name.is_none() {
            job.name = job.name.made_unique(is_taken);
        } else if is_taken(&job.name) {
            return Err(AppJsonError::Twice(job.name));
        }
        jobs.push(job);
    }
    Ok(jobs)
}

fn word<T: Copy>(
    field: &'static str,
    found: Option<&str>,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
    usual: T,
) -> Result<T, JobTextError> {
    let Some(found) = found else { return Ok(usual) };
    all.iter().copied().find(|value| as_str(*value) == found).ok_or_else(|| JobTextError::Word {
        field,
        words: all.iter().map(|value| as_str(*value)).collect::<Vec<_>>().join(", "),
        found: found.chars().take(80).collect(),
    })
}

fn number(field: &'static str, found: Option<u32>, min: u32, max: u32, usual: u32) -> Result<u32, JobTextError> {
    match found {
        None => Ok(usual),
        Some(found) if (min..=max).contains(&found) => Ok(found),
        Some(found) => Err(JobTextError::Number { field, min, max, found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_an_app_json_are_read_with_their_defaults() {
        let text = r#"{"name": "shop", "cron": [
            {"schedule": "@daily", "command": "bin/clean"},
            {"schedule": "*/5 * * * *", "command": "bin/clean"},
            {"name": "report", "schedule": "0 7 * * MON", "zone": "Europe/Zurich", "command": "bin/report",
             "size": "Standard-2X", "overlap": "queue", "catch_up": "last", "deadline_seconds": 600, "retries": 3}
        ]}"#;
        let jobs = jobs_of_app_json(text).unwrap();
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["bin-clean", "bin-clean-2", "report"]);
        assert_eq!((jobs[0].zone.as_str(), jobs[0].size.as_str()), ("UTC", "Standard-1X"));
        assert_eq!((jobs[2].policy.overlap, jobs[2].policy.retries), (Overlap::Queue, 3));
        assert_eq!(jobs_of_app_json("{}"), Ok(Vec::new()));
    }

    #[test]
    fn mistakes_are_named_with_their_job() {
        let check = |cron: &str, expect: &str| {
            let error = jobs_of_app_json(&format!(r#"{{"cron": {cron}}}"#)).unwrap_err().to_string();
            assert!(error.contains(expect), "{cron}: {error}");
        };
        check("{}", "must be a list");
        check(r#"[{"schedule": "@daily"}]"#, "job 1 of cron in app.json cannot be read: missing field `command`");
        check(r#"[{"schedule": "@daily", "command": "x", "overlapp": "skip"}]"#, "unknown field `overlapp`");
        check(r#"[{"schedule": "* *", "command": "x"}]"#, "it has 2 fields");
        check(r#"[{"schedule": "@daily", "command": " "}]"#, "the command is missing");
        check(r#"[{"schedule": "@daily", "command": "x", "zone": "Mars/Olympus"}]"#, "\"Mars/Olympus\" is not known");
        check(r#"[{"schedule": "@daily", "command": "x", "overlap": "allow"}]"#, "must be skip, queue, replace");
        check(r#"[{"schedule": "@daily", "command": "x", "retries": 11}]"#, "retries must be from 0 to 10, not 11");
        check(r#"[{"name": "Big", "schedule": "@daily", "command": "x"}]"#, "job name \"Big\"");
        let twice = r#"[{"name": "a", "schedule": "@daily", "command": "x"}, {"name": "a", "schedule": "@daily", "command": "y"}]"#;
        check(twice, "two jobs a");
    }
}
