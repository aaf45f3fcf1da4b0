//! `cron:import`: jobs of Heroku Scheduler, or of another app, taken over as paused ones.

use std::env;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;
use wire::cron::{DEFAULT_ZONE, JobText};
use wire::platform_api::cron::{Job, JobCreate};

use super::cron;
use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::output;
use crate::server_url::ServerUrl;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth cron:import jobs.json\n  \
                  HEROKU_API_KEY=$(heroku auth:token) berth cron:import --from-heroku old-shop -a shop\n\n\
                  Heroku's dashboard reads the jobs from an address that Heroku does not document, and so does\n\
                  `--from-heroku`; where that does not work any more, write them into a file.\n\n\
                  Reads what Heroku Scheduler's own API answers ({\"data\": [{\"attributes\": …}]}), a list of jobs as\n\
                  app.json has them, or what `berth cron --json` printed. Imported jobs are paused, so that nothing runs\n\
                  twice: stop the old scheduler, then `berth cron:resume JOB`. A second import adds only what is new.")]
pub struct Import {
    /// A JSON file; `-` reads the standard input
    #[arg(required_unless_present = "from_heroku")]
    file: Option<PathBuf>,
    /// Ask Heroku for the jobs of this app there, with a token of yours at Heroku
    #[arg(long, value_name = "APP", conflicts_with = "file")]
    from_heroku: Option<String>,
}

/// Where Heroku keeps apps and the jobs of their schedulers, and what names other places to its own clients.
const APPS: (&str, &str) = ("HEROKU_API_URL", "https://api.heroku.com");
const JOBS: (&str, &str) = ("HEROKU_PARTICLEBOARD_URL", "https://particleboard.heroku.com");

/// How the tokens of this platform begin, and those that stand for one on somebody's machine.
const OUR_TOKENS: [&str; 2] = ["berth-", "local-"];

pub(super) fn import(context: &Context, args: &Import) -> anyhow::Result<()> {
    let (place, text) = match (&args.from_heroku, &args.file) {
        (Some(app), _) => (format!("the jobs of {app} at Heroku"), ask_heroku(app)?),
        (None, Some(file)) if file.as_os_str() != "-" => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            (file.display().to_string(), text)
        }
        (None, _standard_input) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
            ("-".to_owned(), text)
        }
    };
    let wanted = parse(&text).with_context(|| format!("cannot import {place}"))?;
    // Everything is checked before anything is made.
    for (number, job) in (1..).zip(&wanted) {
        job.definition().with_context(|| format!("job {number} of {place} cannot be used"))?;
    }
    let (client, app) = context.app()?;
    let there = cron::jobs(&client, &app)?;
    let mut made: Vec<Job> = Vec::new();
    for job in wanted {
        if there.iter().any(|other| is_same(other, &job)) {
            context.out.note(format_args!("`{}` is there already.", job.command));
            continue;
        }
        made.push(client.post(&path(&["berth", "apps", &app, "cron"]), &JobCreate { job, paused: true })?);
    }
    if context.out.json {
        return Ok(context.out.json(&made)?);
    }
    if made.is_empty() {
        return Ok(context.out.line("Nothing was new.")?);
    }
    let rows: Vec<Vec<String>> =
        made.iter().map(|job| vec![job.name.clone(), job.schedule.clone(), job.command.clone()]).collect();
    context.out.text(output::table(&["JOB", "SCHEDULE", "COMMAND"], &rows))?;
    context.out.note("They are paused. Stop the old scheduler first, then `berth cron:resume JOB`.");
    Ok(())
}

/// Reads the jobs where Heroku's own dashboard does.
fn ask_heroku(app: &str) -> anyhow::Result<String> {
    let token = env::var("HEROKU_API_KEY").ok().filter(|token| !token.is_empty());
    let missing = || UsageError("set HEROKU_API_KEY to a token of yours at Heroku: `heroku auth:token`".to_owned());
    let token = token.ok_or_else(missing)?;
    if OUR_TOKENS.iter().any(|ours| token.starts_with(ours)) {
        let ours = "HEROKU_API_KEY holds a token of this platform, which is not for Heroku: use another shell";
        return Err(UsageError(ours.to_owned()).into());
    }
    let get = |(variable, usual): (&str, &str), target: &str, accept: &str| {
        let place = env::var(variable).unwrap_or_else(|_unset| usual.to_owned());
        let client = ApiClient::new(ServerUrl::parse(&place)?, None, None)?;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [header("authorization", &format!("Bearer {token}")), header("accept", accept)];
        let mut answer = client.relay("GET", target, &headers, None)?;
        match answer.status().as_u16() {
            200 => answer.body_mut().read_to_string().with_context(|| format!("cannot read the answer of {place}")),
            401 | 403 => bail!("Heroku does not accept the token in HEROKU_API_KEY: `heroku auth:token` prints yours"),
            404 => bail!("Heroku has no app {app} with jobs that this token may see"),
            status => bail!("{place} answered {status}: write the jobs into a file instead, as `--help` says"),
        }
    };
    let id = if Uuid::try_parse(app).is_ok() {
        app.to_owned()
    } else {
        let shown = get(APPS, &path(&["apps", app]), "application/vnd.heroku+json; version=3")?;
        let shown: Value = serde_json::from_str(&shown).context("Heroku's answer about the app is not JSON")?;
        shown["id"].as_str().context("Heroku's answer about the app holds no id")?.to_owned()
    };
    get(JOBS, &path(&["apps", &id, "jobs"]), "application/vnd.api+json")
}

fn is_same(job: &Job, text: &JobText) -> bool {
    let zone = text.zone.as_deref().unwrap_or(DEFAULT_ZONE);
    job.command == text.command.trim() && job.schedule == text.schedule.trim() && job.zone == zone
}

/// One entry of what Heroku Scheduler's API answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct HerokuJob {
    command: String,
    #[serde(default, alias = "dyno_size")]
    dyno_size: Option<String>,
    /// Minutes: 10, 60 or 1440.
    every: u32,
    /// Minutes after the full hour, or after midnight UTC.
    #[serde(default)]
    at: Option<u32>,
}

fn parse(text: &str) -> anyhow::Result<Vec<JobText>> {
    let json: Value = serde_json::from_str(text).context("it is not JSON")?;
    let list = json.get("data").or_else(|| json.get("cron")).unwrap_or(&json);
    let Value::Array(list) = list else { bail!("it holds no list of jobs") };
    if list.is_empty() {
        bail!("it holds no jobs; nothing was changed");
    }
    let one = |(number, item): (usize, &Value)| {
        let item = item.get("attributes").unwrap_or(item);
        let job = if item.get("every").is_some() {
            let job = HerokuJob::deserialize(item).map_err(anyhow::Error::from);
            job.and_then(|job| from_heroku(&job))
        } else {
            of_list(item)
        };
        job.with_context(|| format!("job {number} cannot be read"))
    };
    (1..).zip(list).map(one).collect()
}

/// A job as it is written, or as `berth cron --json` shows it, which has more fields.
fn of_list(item: &Value) -> anyhow::Result<JobText> {
    let Value::Object(fields) = item else { bail!("it is no object") };
    let shown = ["id", "origin", "paused", "next_run_at", "last_run", "created_at", "updated_at"];
    let kept = fields.iter().filter(|(key, _value)| !shown.contains(&key.as_str()));
    Ok(JobText::deserialize(Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect()))?)
}

fn from_heroku(job: &HerokuJob) -> anyhow::Result<JobText> {
    let at = job.at.unwrap_or(0);
    let schedule = match job.every {
        10 => "*/10 * * * *".to_owned(),
        60 if at < 60 => format!("{at} * * * *"),
        1440 if at < 1440 => format!("{} {} * * *", at % 60, at / 60),
        every => bail!("every {every} minutes at {at} is none of Heroku Scheduler's frequencies (10, 60, 1440)"),
    };
    // Heroku's hobby sizes have other names today.
    let size = job.dyno_size.as_deref().map(|size| match size.to_ascii_lowercase().as_str() {
        "free" | "hobby" | "hobby-dev" => "Basic".to_owned(),
        _current => size.to_owned(),
    });
    Ok(JobText { schedule, command: job.command.clone(), size, ..JobText::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_heroku_scheduler_become_patterns_in_utc() {
        let text = r#"{"data": [
            {"id": "1", "type": "jobs", "attributes": {"command": "rake a", "dyno-size": "Hobby", "every": 10, "at": 0, "ran-at": null}},
            {"id": "2", "type": "jobs", "attributes": {"command": "rake b", "every": 60, "at": 30}},
            {"id": "3", "type": "jobs", "attributes": {"command": "rake c", "dyno-size": "Standard-2X", "every": 1440, "at": 510}}
        ]}"#;
        let jobs = parse(text).unwrap();
        let schedules: Vec<&str> = jobs.iter().map(|job| job.schedule.as_str()).collect();
        assert_eq!(schedules, ["*/10 * * * *", "30 * * * *", "30 8 * * *"]);
        let sizes: Vec<Option<&str>> = jobs.iter().map(|job| job.size.as_deref()).collect();
        assert_eq!(sizes, [Some("Basic"), None, Some("Standard-2X")]);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_place() {
        let message = |text| crate::output::chain(parse(text).unwrap_err().as_ref());
        assert!(message("x").contains("not JSON"));
        assert!(message("{}").contains("no list"));
        assert!(message("[]").contains("no jobs"));
        assert!(message(r#"[{"every": 7, "command": "x"}]"#).contains("job 1 cannot be read: every 7 minutes"));
        assert!(message(r#"[{"schedule": "@daily"}]"#).contains("missing field `command`"));
    }

    #[test]
    fn what_another_app_shows_can_be_imported() {
        let text = r#"[{"id": "x", "origin": "hand", "paused": true, "next_run_at": null, "last_run": null,
            "created_at": "x", "updated_at": "x", "name": "a", "schedule": "@daily", "zone": "UTC", "command": "x",
            "size": "Basic", "overlap": "skip", "catch_up": "none", "deadline_seconds": 60, "retries": 0,
            "retry_delay_seconds": 30}]"#;
        assert_eq!(parse(text).unwrap()[0].name.as_deref(), Some("a"));
    }
}
