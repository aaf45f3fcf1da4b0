//! Jobs on a schedule: decides with [`domain::cron::decide`], writes what was decided, and says so in the app's log.
//!
//! The write makes the rows of runs and dynos together; from there on a run is a one-off dyno like any other, which
//! survives the server and is not touched by a deploy.

use std::collections::HashMap;
use std::path::Path;

use builder::dirs::DataDirs;
use domain::cron::{Action, JobName, JobView, Progress, RunEnd, RunKey, RunState, RunView, decide};
use domain::display_chain::display_chain;
use domain::dyno::{DynoKind, DynoName, DynoState};
use domain::dyno_size;
use domain::id::AppId;
use domain::name::ProcessType;
use jiff::Timestamp;
use store::StoreError;
use store::cron::{Adopted, CronJob, CronRun, CronStep, NewJob, RunChange};
use store::dyno::{Dyno, NewDyno};
use store::event::NewEvent;
use store::release::Release;
use tracing::warn;
use uuid::Uuid;

use crate::main_loop::MainLoop;
use crate::world::AppWorld;

/// What the dynos of scheduled runs are called, as Heroku's are: `scheduler.4821`.
const PROCESS_TYPE: &str = "scheduler";

/// Largest `app.json` in bytes.
const APP_JSON_BYTES_MAX: u64 = 1024 * 1024;

impl MainLoop {
    /// Brings every job up to date: what its app's release says, what is due, what has ended.
    pub(crate) async fn run_cron(&mut self, worlds: &[AppWorld], now: Timestamp) -> Result<(), StoreError> {
        self.adopt_jobs(worlds, now).await?;
        for job in self.store.current_cron_jobs(now)? {
            if let Some(world) = worlds.iter().find(|world| world.app.id == job.app) {
                self.advance_job(world, &job, now).await?;
            }
        }
        Ok(())
    }

    async fn advance_job(&mut self, world: &AppWorld, job: &CronJob, now: Timestamp) -> Result<(), StoreError> {
        let definition = &job.definition;
        let schedule = match wire::cron::schedule(&definition.schedule, &definition.zone) {
            Ok(schedule) => schedule,
            Err(error) => {
                // It was readable when it was stored: the machine's time zones are others now.
                warn!(app.name = %world.app.name, job = %definition.name, error = display_chain(&error), "cannot read a schedule");
                return Ok(());
            }
        };
        let runs = self.store.open_cron_runs(job.id)?;
        let mut dynos = HashMap::new();
        for run in &runs {
            if let Some(dyno) = run.dyno.map(|id| self.store.dyno(id)).transpose()?.flatten() {
                dynos.insert(run.key, dyno);
            }
        }
        let release = world.serving().filter(|release| release.slug.is_some());
        let view = JobView {
            schedule,
            policy: definition.policy,
            paused: job.paused,
            next: job.next_at,
            can_start: release.is_some(),
        };
        let open: Vec<RunView> = runs.iter().map(|run| run_view(run, dynos.get(&run.key))).collect();
        let plan = decide(&view, &open, now);
        if plan.actions.is_empty() && plan.next == job.next_at {
            return Ok(());
        }
        let told = Told { job, runs: &runs, dynos: &dynos, release, now };
        let step = CronStep {
            job: job.id,
            decided_with: job.next_at,
            next_at: plan.next,
            changes: plan.actions.iter().filter_map(|action| told.change(action)).collect(),
            events: plan.actions.iter().filter_map(|action| told.event(action)).collect(),
        };
        if self.store.apply_cron_step(step, now).await? {
            for action in &plan.actions {
                if let Some(line) = told.line(action) {
                    self.log.dyno(job.app, PROCESS_TYPE, &line);
                }
            }
        }
        Ok(())
    }

    /// Takes the jobs of `app.json` over from each release that has come to serve.
    async fn adopt_jobs(&mut self, worlds: &[AppWorld], now: Timestamp) -> Result<(), StoreError> {
        let sources = self.store.cron_sources()?;
        for world in worlds.iter().filter(|world| world.app.destroyed_at.is_none()) {
            let Some(release) = world.serving().filter(|release| sources.get(&world.app.id) != Some(&release.id))
            else {
                continue;
            };
            let jobs = match self.jobs_of(release, now) {
                Ok(jobs) => jobs,
                Err(JobsError::Store(error)) => return Err(error),
                Err(JobsError::Content(reason)) => {
                    // The build refuses such a file; an uploaded slug was not built here.
                    let text = format!("The jobs of v{} stay as they were: {reason}", release.version);
                    self.log.dyno(world.app.id, PROCESS_TYPE, &text);
                    self.keep_jobs(world.app.id, now)?
                }
            };
            let adopted = self.store.adopt_cron_jobs(world.app.id, release.id, jobs, now).await?;
            self.tell_adopted(world.app.id, release.version, &adopted);
        }
        Ok(())
    }

    fn jobs_of(&mut self, release: &Release, now: Timestamp) -> Result<Vec<NewJob>, JobsError> {
        let slug = release.slug.map(|id| self.observer.slug(id)).transpose().map_err(JobsError::Store)?.flatten();
        let Some(sha256) = slug.and_then(|slug| slug.sha256.clone()) else { return Ok(Vec::new()) };
        let tree = DataDirs::new(&self.config.data_dir).slugs().join(sha256).join(builder::slug::TREE);
        let read = builder::beneath::read(&tree, Path::new("app.json"), APP_JSON_BYTES_MAX);
        let Some(bytes) = read.map_err(|error| JobsError::Content(format!("app.json cannot be read: {error}")))? else {
            return Ok(Vec::new());
        };
        let jobs = wire::cron::jobs_of_app_json(&String::from_utf8_lossy(&bytes));
        let jobs = jobs.map_err(|error| JobsError::Content(display_chain(&error)))?;
        jobs.into_iter()
            .map(|mut definition| {
                let size = dyno_size::find(&self.config.sizes, &definition.size).ok_or_else(|| {
                    JobsError::Content(format!("job {} has the unknown size {}", definition.name, definition.size))
                })?;
                definition.size.clone_from(&size.name);
                let schedule = wire::cron::schedule(&definition.schedule, &definition.zone);
                let schedule = schedule.map_err(|error| JobsError::Content(display_chain(&error)))?;
                Ok(NewJob { next_at: schedule.next_after(now), definition })
            })
            .collect()
    }

    /// The jobs of `app.json` as they are.
    fn keep_jobs(&self, app: AppId, now: Timestamp) -> Result<Vec<NewJob>, StoreError> {
        let jobs = self.store.cron_jobs(app)?.into_iter().filter(|job| job.from_app_json);
        Ok(jobs.map(|job| NewJob { definition: job.definition, next_at: job.next_at.or(Some(now)) }).collect())
    }

    fn tell_adopted(&self, app: AppId, version: u64, adopted: &Adopted) {
        let list = |names: &[JobName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let parts = [("added", &adopted.added), ("changed", &adopted.changed), ("removed", &adopted.removed)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_verb, names)| !names.is_empty())
            .map(|(verb, names)| format!("{verb} {}", list(names)))
            .collect();
        if !parts.is_empty() {
            self.log.dyno(app, PROCESS_TYPE, &format!("app.json of v{version}: {}", parts.join("; ")));
        }
        if !adopted.refused.is_empty() {
            let text = format!(
                "app.json of v{version} names {}, which somebody added by hand: remove the job with `berth cron:remove` and deploy again, or rename it",
                list(&adopted.refused)
            );
            self.log.dyno(app, PROCESS_TYPE, &text);
        }
    }
}

enum JobsError {
    Store(StoreError),
    /// What the release brings cannot be used.
    Content(String),
}

fn run_view(run: &CronRun, dyno: Option<&Dyno>) -> RunView {
    let progress = match (run.state, dyno) {
        (RunState::Running, Some(dyno)) if dyno.state != DynoState::Exited => Progress::Running,
        (RunState::Running, dyno) => Progress::Ended(dyno.map_or(RunEnd::Failed, end_of)),
        (_waiting, _dyno) => Progress::Waiting(run.not_before),
    };
    RunView { key: run.key, trigger: run.trigger, progress }
}

fn end_of(dyno: &Dyno) -> RunEnd {
    match (dyno.exit_reason.as_deref(), dyno.exit_status) {
        (Some("exited"), Some(0)) => RunEnd::Succeeded,
        (Some("stopped" | "stop_timed_out" | "killed"), _status) => RunEnd::Stopped,
        _failed => RunEnd::Failed,
    }
}

/// Why a run did not succeed, for people.
fn reason_of(dyno: Option<&Dyno>, deadline_s: u32) -> Option<String> {
    let Some(dyno) = dyno else { return Some("nobody saw how it ended".to_owned()) };
    Some(match (dyno.exit_reason.as_deref(), dyno.exit_status) {
        (Some("exited"), Some(0)) => return None,
        (Some("exited"), Some(status)) => format!("exit status {status}"),
        (Some("stopped" | "stop_timed_out" | "killed"), _status) => "it was stopped".to_owned(),
        (Some("out_of_memory"), _status) => "it used more memory than its size has".to_owned(),
        (Some("deadline_passed"), _status) => format!("it ran longer than its {deadline_s} seconds"),
        (Some("disk_full"), _status) => "it filled its disk".to_owned(),
        (Some("not_started"), _status) => "it could not be started".to_owned(),
        (Some("signalled"), Some(status)) => format!("it was ended by a signal (status {status})"),
        (_unknown, _status) => "nobody saw how it ended".to_owned(),
    })
}

/// Everything that turns an action into rows and words.
struct Told<'a> {
    job: &'a CronJob,
    runs: &'a [CronRun],
    dynos: &'a HashMap<RunKey, Dyno>,
    release: Option<&'a Release>,
    now: Timestamp,
}

impl Told<'_> {
    fn change(&self, action: &Action) -> Option<RunChange> {
        Some(match action {
            Action::Add { key, not_before } => RunChange::Add { key: *key, not_before: *not_before },
            Action::Skip { key } => {
                let reason = if key.attempt > 1 { GAVE_UP } else { "the run before it had not ended" };
                RunChange::Record { key: *key, state: RunState::Skipped, reason: reason.to_owned() }
            }
            Action::Miss { key, first, count } => {
                RunChange::Record { key: *key, state: RunState::Missed, reason: missed(*first, *count) }
            }
            Action::Start { key } => RunChange::Start { key: *key, dyno: Box::new(self.dyno()?) },
            Action::Stop { key } => RunChange::Stop { key: *key },
            Action::Finish { key, state, .. } => {
                let dyno = self.dynos.get(key);
                RunChange::Finish {
                    key: *key,
                    state: *state,
                    ended_at: dyno.filter(|_dyno| self.ran(key)).map_or(self.now, |dyno| dyno.since),
                    exit_status: dyno.and_then(|dyno| dyno.exit_status),
                    reason: self.reason(key, *state),
                }
            }
        })
    }

    /// What somebody should be told of, even if nobody looks.
    fn event(&self, action: &Action) -> Option<NewEvent> {
        let kind = match action {
            Action::Miss { .. } | Action::Finish { state: RunState::Missed, .. } => "cron.missed",
            Action::Finish { state: RunState::Failed, is_final: true, .. } => "cron.failed",
            // The attempts end because the next run is due: the failure was the last word.
            Action::Finish { key, state: RunState::Skipped, .. } | Action::Skip { key } if key.attempt > 1 => {
                "cron.failed"
            }
            Action::Add { .. }
            | Action::Skip { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Finish { .. } => return None,
        };
        let (app, subject) = (self.job.app, self.job.definition.name.to_string());
        Some(NewEvent { app, kind, subject, text: self.line(action)? })
    }

    /// What the app's log says.
    fn line(&self, action: &Action) -> Option<String> {
        let name = &self.job.definition.name;
        let number = |key: &RunKey| {
            let number = self.runs.iter().find(|run| run.key == *key).map(|run| run.number);
            number.map_or_else(String::new, |number| format!(" run {number}"))
        };
        Some(match action {
            Action::Add { .. } | Action::Stop { .. } => return None,
            Action::Start { .. } => {
                format!("Job {name}: starting process with command `{}`", self.job.definition.command)
            }
            Action::Skip { key } if key.attempt > 1 => format!("Job {name}: {GAVE_UP}"),
            Action::Skip { key } => format!("Job {name}: skipped the run of {}, the one before it goes on", key.tick),
            Action::Miss { first, count, .. } => format!("Job {name} missed: {}", missed(*first, *count)),
            Action::Finish { key, state, is_final } => {
                let reason = self.reason(key, *state).map_or_else(String::new, |reason| format!(": {reason}"));
                let again = if *is_final { "" } else { "; it is tried again" };
                format!("Job {name}{} {state}{reason}{again}", number(key))
            }
        })
    }

    fn reason(&self, key: &RunKey, state: RunState) -> Option<String> {
        match state {
            RunState::Missed => Some("the app has no release with code that serves".to_owned()),
            RunState::Skipped if key.attempt > 1 => Some(GAVE_UP.to_owned()),
            RunState::Skipped => Some("a newer run took its place".to_owned()),
            RunState::Waiting | RunState::Running | RunState::Succeeded | RunState::Failed | RunState::Stopped => {
                reason_of(self.dynos.get(key), self.job.definition.policy.deadline_s)
            }
        }
    }

    fn ran(&self, key: &RunKey) -> bool {
        self.runs.iter().any(|run| run.key == *key && run.state == RunState::Running)
    }

    fn dyno(&self) -> Option<NewDyno> {
        let definition = &self.job.definition;
        let process_type = ProcessType::parse(PROCESS_TYPE).ok()?;
        let index = u32::from(Uuid::new_v4().as_fields().1) % 9000 + 1000;
        Some(NewDyno {
            app: self.job.app,
            kind: DynoKind::OneOff,
            name: DynoName { process_type, index },
            release: Some(self.release?.id),
            build: None,
            size: definition.size.clone(),
            command: definition.command.clone(),
            env: std::collections::BTreeMap::new(),
            crashes: 0,
            attach: None,
            time_to_live_s: Some(definition.policy.deadline_s),
        })
    }
}

const GAVE_UP: &str = "it failed, and is not tried again because the next run is due";

fn missed(first: Timestamp, count: usize) -> String {
    if count == 1 {
        format!("nothing could start at {first}, because the server was away")
    } else {
        format!("nothing could start at {count} times from {first} on, because the server was away")
    }
}
