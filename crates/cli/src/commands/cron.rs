//! `cron`: jobs on a schedule, and what their runs did.

use std::io;
use std::process::ExitCode;

use anyhow::bail;
use wire::cron::JobText;
use wire::platform_api::cron::{Job, JobCreate, JobUpdate, Run};

use super::access::seconds;
use crate::api_client::{ApiClient, path};
use crate::context::Context;
use crate::follow;
use crate::output::{self, Colour};
use crate::shell_words;
use crate::time_text;

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let jobs = jobs(&client, &app)?;
    if context.out.json {
        return Ok(context.out.json(&jobs)?);
    }
    if jobs.is_empty() {
        context.out.note(format_args!("{app} has no jobs: `berth cron:add '30 5 * * *' COMMAND` adds one."));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|job| {
            let zone = if job.zone == wire::cron::DEFAULT_ZONE { String::new() } else { format!(" {}", job.zone) };
            let next = match &job.next_run_at {
                Some(at) => time_text::minute(at),
                None => "paused".to_owned(),
            };
            let last = job.last_run.as_ref().map_or_else(|| "never".to_owned(), |run| run.state.clone());
            vec![job.name.clone(), format!("{}{zone}", job.schedule), next, last, job.command.clone()]
        })
        .collect();
    Ok(context.out.text(output::table(&["JOB", "SCHEDULE", "NEXT", "LAST", "COMMAND"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth cron:add '30 5 * * *' python manage.py clearsessions\n  \
                  berth cron:add @hourly --name sync --overlap queue --retries 3 bin/sync\n  \
                  berth cron:add '0 9 * * MON-FRI' --zone Europe/Zurich 'bin/report | bin/mail'\n\n\
                  Five fields: minute, hour, day, month, weekday; six with seconds in front; or @hourly, @daily,\n\
                  @weekly, @monthly, @yearly. Options come before the command. One argument is a line for the shell;\n\
                  several are words that reach the program as they are.")]
pub struct Add {
    /// When it runs
    schedule: String,
    /// What it is called; made of the command if absent
    #[arg(long)]
    name: Option<String>,
    /// The time zone of the schedule [default: UTC]
    #[arg(long)]
    zone: Option<String>,
    /// The size of its dynos
    #[arg(short, long)]
    size: Option<String>,
    /// What to do when it is due while it runs: skip, queue, replace
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// What to make up for after the server was away: none, last, all
    #[arg(long, value_name = "POLICY")]
    catch_up: Option<String>,
    /// Longest time of a run: 90s, 10m, 24h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    deadline: Option<i64>,
    /// How often to try again after a failure
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
    /// The pause before the first retry; it doubles with each further one
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    retry_delay: Option<i64>,
    /// Add it, but start nothing until it is resumed
    #[arg(long)]
    paused: bool,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn add(context: &Context, args: &Add) -> anyhow::Result<()> {
    // The server says what the bounds are.
    let short = |seconds: i64| u32::try_from(seconds).unwrap_or(u32::MAX);
    let job = JobText {
        name: args.name.clone(),
        schedule: args.schedule.clone(),
        command: shell_words::command_line(&args.command),
        zone: args.zone.clone(),
        size: args.size.clone(),
        overlap: args.overlap.clone(),
        catch_up: args.catch_up.clone(),
        deadline_seconds: args.deadline.map(short),
        retries: args.retries,
        retry_delay_seconds: args.retry_delay.map(short),
    };
    let (client, app) = context.app()?;
    let made: Job = client.post(&path(&["berth", "apps", &app, "cron"]), &JobCreate { job, paused: args.paused })?;
    if context.out.json {
        return Ok(context.out.json(&made)?);
    }
    let next = match &made.next_run_at {
        Some(at) => format!("next run {}", time_text::minute(at)),
        None => format!("paused; `berth cron:resume {}` starts it", made.name),
    };
    Ok(context.out.line(format_args!("Added job {} to {app}: {next}.", made.name))?)
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth cron:remove nightly\n  berth cron:pause nightly\n  berth cron:resume nightly\n\n\
                  A run that goes on comes to its end. The job's history goes with it: `cron:pause` keeps both."
)]
pub struct Which {
    /// As `berth cron` shows it
    job: String,
}

pub(super) fn remove(context: &Context, args: &Which) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let removed: Job = client.delete(&path(&["berth", "apps", &app, "cron", &args.job]))?;
    if context.out.json {
        return Ok(context.out.json(&removed)?);
    }
    Ok(context.out.line(format_args!("Removed job {} from {app}.", removed.name))?)
}

pub(super) fn pause(context: &Context, args: &Which, paused: bool) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let job: Job = client.patch(&path(&["berth", "apps", &app, "cron", &args.job]), &JobUpdate { paused })?;
    if context.out.json {
        return Ok(context.out.json(&job)?);
    }
    let text = match &job.next_run_at {
        Some(at) => format!("Job {} goes on: next run {}.", job.name, time_text::minute(at)),
        None => format!("Job {} is paused; a run that goes on comes to its end.", job.name),
    };
    Ok(context.out.line(text)?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth cron:run nightly\n\n\
                  The output comes here and the exit code is the process's own. If the job runs already, this run\n\
                  waits for its end. Ctrl-C leaves the run to itself; `berth ps:stop` ends it.")]
pub struct Start {
    /// As `berth cron` shows it
    job: String,
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
}

pub(super) fn start(context: &Context, args: &Start) -> anyhow::Result<ExitCode> {
    let (client, app) = context.app()?;
    let run: Run = client.post(&path(&["berth", "apps", &app, "cron", &args.job, "runs"]), &serde_json::json!({}))?;
    if args.detach {
        if context.out.json {
            context.out.json(&run)?;
        } else {
            let hint = format!("`berth cron:logs {} {}` shows its output", run.job, run.number);
            context.out.line(format_args!("Run {} of {} was asked for; {hint}.", run.number, run.job))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let run = follow_run(context, &client, &app, &run)?;
    if context.out.json {
        context.out.json(&run)?;
    }
    if run.state == "succeeded" {
        return Ok(ExitCode::SUCCESS);
    }
    let reason = run.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    context.out.warn(format_args!("Run {} of {} {}{reason}.", run.number, run.job, run.state));
    let code = run.exit_status.and_then(|status| u8::try_from(status).ok()).filter(|code| *code != 0);
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Shows the output of a run until its end, and gives how it ended.
fn follow_run(context: &Context, client: &ApiClient, app: &str, run: &Run) -> anyhow::Result<Run> {
    let url = path(&["berth", "apps", app, "cron", &run.job, "runs", &run.number.to_string()]);
    let is_over = |run: &Run| !matches!(run.state.as_str(), "waiting" | "running");
    let mut told = false;
    let started = follow::until_some(|| {
        let run: Run = client.get(&url)?;
        if !told && run.state == "waiting" && run.trigger == "hand" {
            context.out.note(format_args!("Run {} of {} waits for its start.", run.number, run.job));
            told = true;
        }
        Ok((run.output_stream_url.is_some() || is_over(&run)).then_some(run))
    })?;
    if let Some(url) = &started.output_stream_url {
        if let Some(dyno) = &started.dyno {
            context.out.note(format_args!("Run {} of {} in {dyno}", started.number, started.job));
        }
        copy(context, client, url)?;
    }
    Ok(follow::until_some(|| {
        let run: Run = client.get(&url)?;
        Ok(is_over(&run).then_some(run))
    })?)
}

fn copy(context: &Context, client: &ApiClient, url: &str) -> anyhow::Result<()> {
    let copied = if context.out.json {
        follow::copy_output(client, url, &mut io::stderr())?
    } else {
        follow::copy_output(client, url, &mut io::stdout())?
    };
    match copied {
        Err(error) if !follow::is_only_output(&error) => Err(error.into()),
        Err(_lost) => {
            context.out.warn("The rest of the output could not be read; the run goes on.");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth cron:history            (all jobs)\n  berth cron:history nightly\n\n\
                  The last 100 runs of each job are kept.")]
pub struct History {
    /// One job; all if absent
    job: Option<String>,
    /// How many runs to show
    #[arg(short, long, value_name = "COUNT", default_value_t = 20)]
    num: usize,
}

pub(super) fn history(context: &Context, args: &History) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let names = match &args.job {
        Some(name) => vec![name.clone()],
        None => jobs(&client, &app)?.into_iter().map(|job| job.name).collect(),
    };
    let mut runs = Vec::new();
    for name in &names {
        runs.extend(client.list::<Run>(&path(&["berth", "apps", &app, "cron", name, "runs"]), None)?);
    }
    // All are RFC 3339 in UTC with whole seconds: their order is that of the texts.
    runs.sort_by(|a, b| (&b.due_at, b.number).cmp(&(&a.due_at, a.number)));
    runs.truncate(args.num);
    if context.out.json {
        return Ok(context.out.json(&runs)?);
    }
    if runs.is_empty() {
        context.out.note("There were no runs yet.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(context, run)).collect();
    Ok(context.out.text(output::table(&["JOB", "RUN", "DUE", "STATE", "TOOK", "RELEASE", "WHY"], &rows))?)
}

fn row(context: &Context, run: &Run) -> Vec<String> {
    let colour = match run.state.as_str() {
        "succeeded" => Colour::Green,
        "failed" | "missed" => Colour::Red,
        _other => Colour::Yellow,
    };
    let took = run.duration_seconds.map(|seconds| time_text::duration(seconds.cast_signed()));
    let mut why = run.reason.clone().unwrap_or_default();
    if run.attempt > 1 {
        why = format!("attempt {}{}{why}", run.attempt, if why.is_empty() { "" } else { ": " });
    }
    vec![
        run.job.clone(),
        run.number.to_string(),
        time_text::minute(&run.due_at),
        context.out.paint(colour, &run.state),
        took.unwrap_or_default(),
        run.release_version.map(|version| format!("v{version}")).unwrap_or_default(),
        why,
    ]
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth cron:logs nightly       (the newest run that started)\n  \
                  berth cron:logs nightly 12\n\nA run that goes on is followed to its end.")]
pub struct Logs {
    /// As `berth cron` shows it
    job: String,
    /// The number of the run, as `berth cron:history` shows it
    run: Option<u32>,
}

pub(super) fn logs(context: &Context, args: &Logs) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let runs = path(&["berth", "apps", &app, "cron", &args.job, "runs"]);
    let number = match args.run {
        Some(number) => number,
        None => {
            let all: Vec<Run> = client.list(&runs, None)?;
            let Some(newest) = all.iter().find(|run| run.dyno.is_some()) else {
                bail!("{} has not run yet; `berth cron:run {}` runs it now", args.job, args.job)
            };
            newest.number
        }
    };
    let run: Run = client.get(&format!("{runs}/{number}"))?;
    match &run.output_stream_url {
        Some(url) => copy(context, &client, url)?,
        None => context.out.note(format_args!(
            "Run {number} of {} was {} and has no output{}.",
            run.job,
            run.state,
            run.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"))
        )),
    }
    if context.out.json {
        context.out.json(&run)?;
    }
    Ok(())
}

pub(super) fn jobs(client: &ApiClient, app: &str) -> anyhow::Result<Vec<Job>> {
    Ok(client.list(&path(&["berth", "apps", app, "cron"]), None)?)
}
