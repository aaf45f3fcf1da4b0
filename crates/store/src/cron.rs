//! Jobs on a schedule and their runs. See the migration for who writes what.

use std::collections::HashMap;

use domain::cron::{CatchUp, JobDefinition, JobName, Overlap, Policy, RunKey, RunState, Trigger};
use domain::id::{AppId, CronJobId, DynoId, ReleaseId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use crate::dyno::{self, NewDyno};
use crate::event::{self, NewEvent};
use crate::row::{Micros, collect, first, optional_time, parsed, parsed_optional, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError};

/// Jobs that one app may have.
pub const JOBS_MAX: usize = 200;

/// Runs of one job that are remembered.
pub const RUNS_KEPT: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronJob {
    pub id: CronJobId,
    pub app: AppId,
    pub definition: JobDefinition,
    /// It belongs to the code: it comes, changes and goes with the release that serves.
    pub from_app_json: bool,
    pub paused: bool,
    /// The first tick that was not decided about yet.
    pub next_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronRun {
    pub job: CronJobId,
    pub key: RunKey,
    /// Counted per job, from 1.
    pub number: u32,
    pub trigger: Trigger,
    pub state: RunState,
    pub not_before: Timestamp,
    pub dyno: Option<DynoId>,
    pub dyno_name: Option<String>,
    pub release: Option<ReleaseId>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub exit_status: Option<i32>,
    pub reason: Option<String>,
}

/// One change of a job's runs, as it is written.
#[derive(Debug, Clone)]
pub enum RunChange {
    Add {
        key: RunKey,
        not_before: Timestamp,
    },
    /// A tick that is over without a run.
    Record {
        key: RunKey,
        state: RunState,
        reason: String,
    },
    /// The dyno's row is made in the same transaction.
    Start {
        key: RunKey,
        dyno: Box<NewDyno>,
    },
    /// Asks the run's dyno to stop.
    Stop {
        key: RunKey,
    },
    Finish {
        key: RunKey,
        state: RunState,
        ended_at: Timestamp,
        exit_status: Option<i32>,
        reason: Option<String>,
    },
}

/// What was decided about one job.
#[derive(Debug, Clone)]
pub struct CronStep {
    pub job: CronJobId,
    /// What the decision was made with. If it is another by now, nothing is written.
    pub decided_with: Option<Timestamp>,
    pub next_at: Option<Timestamp>,
    pub changes: Vec<RunChange>,
    pub events: Vec<NewEvent>,
}

/// What a release's `app.json` changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    pub added: Vec<JobName>,
    pub changed: Vec<JobName>,
    pub removed: Vec<JobName>,
    /// Somebody's own job has the name.
    pub refused: Vec<JobName>,
}

/// A job as a release brings it, with its first tick.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub definition: JobDefinition,
    pub next_at: Option<Timestamp>,
}

impl Store {
    /// The jobs of an app, by name.
    pub fn cron_jobs(&self, app: AppId) -> Result<Vec<CronJob>, StoreError> {
        self.read(|db| list(db, app))
    }

    /// Jobs of living apps that have something to be decided: a tick that is due, or a run that is not over.
    pub fn current_cron_jobs(&self, now: Timestamp) -> Result<Vec<CronJob>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT cron_job.* FROM cron_job JOIN app ON app.id = cron_job.app_id
                 WHERE app.destroyed_at IS NULL
                   AND (next_at <= ?1 AND NOT paused
                        OR EXISTS (SELECT 1 FROM cron_run
                                   WHERE job_id = cron_job.id AND state IN ('waiting', 'running')))",
            )?;
            collect(statement.query([Micros(now)])?, job)
        })
    }

    /// A job's runs that wait or run, in the order in which they came.
    pub fn open_cron_runs(&self, job: CronJobId) -> Result<Vec<CronRun>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM cron_run WHERE job_id = ?1 AND state IN ('waiting', 'running') ORDER BY number",
            )?;
            collect(statement.query([job.to_string()])?, run)
        })
    }

    /// The newest runs of a job, newest first.
    pub fn cron_runs(&self, job: CronJobId, runs_max: u32) -> Result<Vec<CronRun>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM cron_run WHERE job_id = ?1 ORDER BY number DESC LIMIT ?2")?;
            collect(statement.query(params![job.to_string(), runs_max])?, run)
        })
    }

    pub fn cron_run(&self, job: CronJobId, number: u32) -> Result<Option<CronRun>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM cron_run WHERE job_id = ?1 AND number = ?2")?;
            first(statement.query(params![job.to_string(), number])?, run)
        })
    }

    /// Adds somebody's own job. A name that was not chosen is made unique.
    pub async fn create_cron_job(
        &self,
        app: AppId,
        new: NewJob,
        name_is_chosen: bool,
        paused: bool,
        now: Timestamp,
    ) -> Result<CronJob, StoreError> {
        self.write(move |db| {
            let mut new = new;
            let jobs = list(db, app)?;
            if jobs.len() >= JOBS_MAX {
                return Err(StoreError::Refused(format!("An app can have {JOBS_MAX} jobs at most.")));
            }
            let is_taken = |name: &JobName| jobs.iter().any(|job| job.definition.name == *name);
            if !name_is_chosen {
                new.definition.name = new.definition.name.made_unique(is_taken);
            } else if is_taken(&new.definition.name) {
                return Err(StoreError::Refused(format!(
                    "There is a job {} already; remove it first, or choose another name.",
                    new.definition.name
                )));
            }
            insert(db, app, &new, false, paused, now)
        })
        .await
    }

    pub async fn remove_cron_job(&self, id: CronJobId) -> Result<(), StoreError> {
        self.write(move |db| remove(db, id)).await
    }

    /// Pauses a job, or lets it go on with the tick that `next_at` says: those that passed are not made up for.
    pub async fn pause_cron_job(
        &self,
        id: CronJobId,
        paused: bool,
        next_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE cron_job SET next_at = ?3, updated_at = ?4, paused = ?2 WHERE id = ?1 AND paused <> ?2",
                params![id.to_string(), paused, next_at.map(Micros), Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// Adds a run that somebody asks for.
    pub async fn request_cron_run(&self, id: CronJobId, now: Timestamp) -> Result<CronRun, StoreError> {
        self.write(move |db| {
            let key = RunKey { tick: now, attempt: 1 };
            let number = add(db, id, key, Trigger::Hand, RunState::Waiting, now, None)?;
            let mut statement = db.prepare_cached("SELECT * FROM cron_run WHERE job_id = ?1 AND number = ?2")?;
            first(statement.query(params![id.to_string(), number])?, run)?.ok_or(StoreError::NotFound("run"))
        })
        .await
    }

    /// Writes what was decided about a job, dynos and events included, in one transaction. Gives `false`, and writes
    /// nothing, if the job has changed since.
    pub async fn apply_cron_step(&self, step: CronStep, now: Timestamp) -> Result<bool, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let moved = db.execute(
                "UPDATE cron_job SET next_at = ?3 WHERE id = ?1 AND next_at IS ?2",
                params![step.job.to_string(), step.decided_with.map(Micros), step.next_at.map(Micros)],
            )?;
            if moved == 0 {
                return Ok(false);
            }
            for change in &step.changes {
                apply(db, &key, step.job, change, now)?;
            }
            for event in &step.events {
                event::insert(db, event, now)?;
            }
            db.execute(
                "DELETE FROM cron_run WHERE job_id = ?1 AND state NOT IN ('waiting', 'running')
                 AND number <= (SELECT runs FROM cron_job WHERE id = ?1) - ?2",
                params![step.job.to_string(), RUNS_KEPT],
            )?;
            Ok(true)
        })
        .await
    }

    /// The releases whose `app.json` was read last, by app.
    pub fn cron_sources(&self) -> Result<HashMap<AppId, ReleaseId>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM cron_source")?;
            let pair = |row: &Row<'_>| {
                Ok((parsed(row, "app_id", AppId::parse)?, parsed(row, "release_id", ReleaseId::parse)?))
            };
            Ok(collect(statement.query([])?, pair)?.into_iter().collect())
        })
    }

    /// Makes an app's jobs those that the release's `app.json` names; somebody's own ones stay.
    pub async fn adopt_cron_jobs(
        &self,
        app: AppId,
        release: ReleaseId,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Result<Adopted, StoreError> {
        self.write(move |db| {
            let mut adopted = Adopted::default();
            let before = list(db, app)?;
            let is_wanted = |name: &JobName| jobs.iter().any(|new| new.definition.name == *name);
            for gone in before.iter().filter(|job| job.from_app_json && !is_wanted(&job.definition.name)) {
                remove(db, gone.id)?;
                adopted.removed.push(gone.definition.name.clone());
            }
            for new in &jobs {
                let name = new.definition.name.clone();
                match before.iter().find(|job| job.definition.name == name) {
                    None => {
                        insert(db, app, new, true, false, now)?;
                        adopted.added.push(name);
                    }
                    Some(job) if !job.from_app_json => adopted.refused.push(name),
                    Some(job) if job.definition == new.definition => {}
                    Some(job) => {
                        update(db, job, new, now)?;
                        adopted.changed.push(name);
                    }
                }
            }
            db.execute(
                "INSERT INTO cron_source (app_id, release_id) VALUES (?1, ?2)
                 ON CONFLICT (app_id) DO UPDATE SET release_id = excluded.release_id",
                params![app.to_string(), release.to_string()],
            )?;
            Ok(adopted)
        })
        .await
    }
}

fn list(db: &Connection, app: AppId) -> Result<Vec<CronJob>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM cron_job WHERE app_id = ?1 ORDER BY name")?;
    collect(statement.query([app.to_string()])?, job)
}

fn insert(
    db: &Transaction<'_>,
    app: AppId,
    new: &NewJob,
    from_app_json: bool,
    paused: bool,
    now: Timestamp,
) -> Result<CronJob, StoreError> {
    let job = CronJob {
        id: CronJobId::random(),
        app,
        definition: new.definition.clone(),
        from_app_json,
        paused,
        next_at: new.next_at,
        created_at: now,
        updated_at: now,
    };
    let policy = job.definition.policy;
    db.execute(
        "INSERT INTO cron_job (id, app_id, name, from_app_json, schedule, zone, command, size, overlap, catch_up,
                               deadline_s, retries, retry_delay_s, paused, next_at, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?16)",
        params![
            job.id.to_string(),
            app.to_string(),
            job.definition.name.as_str(),
            from_app_json,
            job.definition.schedule,
            job.definition.zone,
            job.definition.command,
            job.definition.size,
            policy.overlap.as_str(),
            policy.catch_up.as_str(),
            policy.deadline_s,
            policy.retries,
            policy.retry_delay_s,
            paused,
            job.next_at.map(Micros),
            Micros(now)
        ],
    )?;
    Ok(job)
}

/// Changes all but the name. Only another schedule has another next tick: a deploy must not skip one that is due.
fn update(db: &Transaction<'_>, job: &CronJob, new: &NewJob, now: Timestamp) -> Result<(), StoreError> {
    let (before, after) = (&job.definition, &new.definition);
    let same_times = before.schedule == after.schedule && before.zone == after.zone;
    let next_at = if same_times { job.next_at } else { new.next_at };
    db.execute(
        "UPDATE cron_job SET schedule = ?2, zone = ?3, command = ?4, size = ?5, overlap = ?6, catch_up = ?7,
                deadline_s = ?8, retries = ?9, retry_delay_s = ?10, next_at = ?11, updated_at = ?12 WHERE id = ?1",
        params![
            job.id.to_string(),
            after.schedule,
            after.zone,
            after.command,
            after.size,
            after.policy.overlap.as_str(),
            after.policy.catch_up.as_str(),
            after.policy.deadline_s,
            after.policy.retries,
            after.policy.retry_delay_s,
            next_at.map(Micros),
            Micros(now)
        ],
    )?;
    Ok(())
}

/// Removes a job with its history. A run that goes on comes to its end as the one-off that it is.
fn remove(db: &Transaction<'_>, id: CronJobId) -> Result<(), StoreError> {
    db.execute("DELETE FROM cron_job WHERE id = ?1", [id.to_string()])?;
    Ok(())
}

fn apply(
    db: &Transaction<'_>,
    key: &MasterKey,
    job: CronJobId,
    change: &RunChange,
    now: Timestamp,
) -> Result<(), StoreError> {
    match change {
        RunChange::Add { key, not_before } => {
            add(db, job, *key, Trigger::Schedule, RunState::Waiting, *not_before, None)?;
        }
        RunChange::Record { key, state, reason } => {
            add(db, job, *key, Trigger::Schedule, *state, key.tick, Some(reason))?;
        }
        RunChange::Start { key: run, dyno } => {
            let made = dyno::insert(db, key, dyno, now)?;
            update_run(
                db,
                "UPDATE cron_run SET state = 'running', dyno_id = ?4, dyno_name = ?5, release_id = ?6, started_at = ?7
                 WHERE job_id = ?1 AND tick = ?2 AND attempt = ?3 AND state = 'waiting'",
                params![
                    job.to_string(),
                    Micros(run.tick),
                    run.attempt,
                    made.id.to_string(),
                    made.name.to_string(),
                    made.release.map(|release| release.to_string()),
                    Micros(now)
                ],
            )?;
        }
        RunChange::Stop { key } => {
            db.execute(
                "UPDATE dyno SET request = 'stop' WHERE state <> 'exited' AND id =
                     (SELECT dyno_id FROM cron_run WHERE job_id = ?1 AND tick = ?2 AND attempt = ?3)",
                params![job.to_string(), Micros(key.tick), key.attempt],
            )?;
        }
        RunChange::Finish { key, state, ended_at, exit_status, reason } => update_run(
            db,
            "UPDATE cron_run SET state = ?4, ended_at = ?5, exit_status = ?6, reason = ?7
             WHERE job_id = ?1 AND tick = ?2 AND attempt = ?3 AND state IN ('waiting', 'running')",
            params![
                job.to_string(),
                Micros(key.tick),
                key.attempt,
                state.as_str(),
                Micros(*ended_at),
                exit_status,
                reason
            ],
        )?,
    }
    Ok(())
}

/// A decision about a run that is not as it was when it was made undoes the whole step.
fn update_run(db: &Transaction<'_>, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
    if db.execute(sql, values)? == 1 { Ok(()) } else { Err(StoreError::NotFound("run")) }
}

fn add(
    db: &Transaction<'_>,
    job: CronJobId,
    key: RunKey,
    trigger: Trigger,
    state: RunState,
    not_before: Timestamp,
    reason: Option<&String>,
) -> Result<u32, StoreError> {
    let mut count = db.prepare_cached("UPDATE cron_job SET runs = runs + 1 WHERE id = ?1 RETURNING runs")?;
    let number: Option<u32> = first(count.query([job.to_string()])?, |row| Ok(row.get(0)?))?;
    let number = number.ok_or(StoreError::NotFound("job"))?;
    let ended_at = (!state.is_open()).then_some(not_before);
    db.execute(
        "INSERT INTO cron_run (job_id, tick, attempt, number, trigger, state, not_before, ended_at, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            job.to_string(),
            Micros(key.tick),
            key.attempt,
            number,
            trigger.as_str(),
            state.as_str(),
            Micros(not_before),
            ended_at.map(Micros),
            reason
        ],
    )?;
    Ok(number)
}

fn job(row: &Row<'_>) -> Result<CronJob, StoreError> {
    Ok(CronJob {
        id: parsed(row, "id", CronJobId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        definition: JobDefinition {
            name: parsed(row, "name", |text| JobName::parse(text).ok())?,
            schedule: row.get("schedule")?,
            zone: row.get("zone")?,
            command: row.get("command")?,
            size: row.get("size")?,
            policy: Policy {
                overlap: parsed(row, "overlap", Overlap::parse)?,
                catch_up: parsed(row, "catch_up", CatchUp::parse)?,
                deadline_s: row.get("deadline_s")?,
                retries: row.get("retries")?,
                retry_delay_s: row.get("retry_delay_s")?,
            },
        },
        from_app_json: row.get("from_app_json")?,
        paused: row.get("paused")?,
        next_at: optional_time(row, "next_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn run(row: &Row<'_>) -> Result<CronRun, StoreError> {
    Ok(CronRun {
        job: parsed(row, "job_id", CronJobId::parse)?,
        key: RunKey { tick: time(row, "tick")?, attempt: row.get("attempt")? },
        number: row.get("number")?,
        trigger: parsed(row, "trigger", Trigger::parse)?,
        state: parsed(row, "state", RunState::parse)?,
        not_before: time(row, "not_before")?,
        dyno: parsed_optional(row, "dyno_id", DynoId::parse)?,
        dyno_name: row.get("dyno_name")?,
        release: parsed_optional(row, "release_id", ReleaseId::parse)?,
        started_at: optional_time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        exit_status: row.get("exit_status")?,
        reason: row.get("reason")?,
    })
}

#[cfg(test)]
mod tests;
