//! Dynos of every kind: formation, one-off, release phase, build.
//!
//! The API inserts one-offs and sets `request`, which stops a scheduled run that is replaced, too; every other column
//! belongs to the reconciler.

use std::collections::BTreeSet;

use domain::attach::Attach;
use domain::config::ConfigVars;
use domain::dyno::{DynoEvent, DynoKind, DynoName, DynoState};
use domain::id::{AppId, BuildId, DynoId, ReleaseId};
use domain::name::ProcessType;
use domain::restart_policy::crashes_in_a_row;
use domain::rollout::DynoRequest;
use domain::routing::DynoProtocol;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::event::{self, NewEvent};
use crate::row::{Micros, collect, first, optional_time, parsed, parsed_optional, time};
use crate::sealed::MasterKey;
use crate::setting::next_number;
use crate::{Store, StoreError, routing};

/// Slots are numbered 1 to this, so that the dyno network's /16 has an address for each.
pub const SLOT_MAX: u32 = 65_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dyno {
    pub id: DynoId,
    pub app: AppId,
    pub kind: DynoKind,
    pub name: DynoName,
    pub release: Option<ReleaseId>,
    pub build: Option<BuildId>,
    pub size: String,
    /// The shell command line, for people; what is really run may source profile scripts first.
    pub command: String,
    pub state: DynoState,
    pub since: Timestamp,
    pub crashes: u32,
    pub request: DynoRequest,
    /// Decides its address; `None` once it is over.
    pub slot: Option<u32>,
    pub exit_status: Option<i32>,
    pub exit_reason: Option<String>,
    pub created_at: Timestamp,
    /// Of a one-off whose standard streams are for a client.
    pub attach: Option<Attach>,
    pub time_to_live_s: Option<u32>,
    /// What its app's dynos were to speak when it was made.
    pub protocol: DynoProtocol,
    pub health: DynoHealth,
}

/// What the checks of a dyno say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DynoHealth {
    /// It has passed one at some time.
    pub passed: bool,
    pub unhealthy_since: Option<Timestamp>,
    pub failure: Option<String>,
}

#[derive(Debug, Clone)]
pub struct NewDyno {
    pub app: AppId,
    pub kind: DynoKind,
    pub name: DynoName,
    pub release: Option<ReleaseId>,
    pub build: Option<BuildId>,
    pub size: String,
    pub command: String,
    /// Added to the release's config vars.
    pub env: ConfigVars,
    pub crashes: u32,
    pub attach: Option<Attach>,
    /// Seconds that it may run.
    pub time_to_live_s: Option<u32>,
}

/// How a dyno ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoExit {
    pub status: Option<i32>,
    pub reason: String,
}

impl Store {
    pub fn dyno(&self, id: DynoId) -> Result<Option<Dyno>, StoreError> {
        self.read(|db| find(db, id))
    }

    /// Dynos of one app that are alive or have crashed, in the order of their names.
    pub fn dynos(&self, app: AppId) -> Result<Vec<Dyno>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM dyno WHERE app_id = ?1 AND state <> 'exited'
                 ORDER BY process_type <> 'web', process_type, number, created_at",
            )?;
            collect(statement.query([app.to_string()])?, dyno)
        })
    }

    /// Every dyno that is alive or has crashed.
    pub fn all_dynos(&self) -> Result<Vec<Dyno>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM dyno WHERE state <> 'exited' ORDER BY created_at")?;
            collect(statement.query([])?, dyno)
        })
    }

    /// The dyno that runs, or ran, a build or a release phase.
    pub fn build_dyno(&self, build: BuildId) -> Result<Option<Dyno>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM dyno WHERE build_id = ?1 ORDER BY created_at DESC LIMIT 1")?;
            first(statement.query([build.to_string()])?, dyno)
        })
    }

    pub fn release_phase_dyno(&self, release: ReleaseId) -> Result<Option<Dyno>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM dyno WHERE release_id = ?1 AND kind = 'release-phase' ORDER BY created_at DESC LIMIT 1",
            )?;
            first(statement.query([release.to_string()])?, dyno)
        })
    }

    pub fn dyno_env(&self, id: DynoId) -> Result<ConfigVars, StoreError> {
        self.read(|db| {
            let sealed: Option<Vec<u8>> = db
                .query_row("SELECT env_sealed FROM dyno WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            self.key.open_config(&sealed.ok_or(StoreError::NotFound("dyno"))?)
        })
    }

    pub async fn create_dyno(&self, new: NewDyno, now: Timestamp) -> Result<Dyno, StoreError> {
        let key = self.key.clone();
        self.write(move |db| insert(db, &key, &new, now)).await
    }

    /// Moves a dyno to its next state; `None` if the event does not apply (any more).
    pub async fn advance_dyno(&self, id: DynoId, event: DynoEvent, now: Timestamp) -> Result<Option<Dyno>, StoreError> {
        self.write(move |db| advance(db, id, event, None, now)).await
    }

    /// Records the end of a dyno. Idempotent: the first record stands.
    pub async fn dyno_exited(&self, id: DynoId, exit: DynoExit, now: Timestamp) -> Result<Option<Dyno>, StoreError> {
        self.write(move |db| advance(db, id, DynoEvent::Exited, Some(&exit), now)).await
    }

    /// Records that a dyno is gone without anybody's fault (the machine restarted): its place is filled at once.
    pub async fn dyno_lost(&self, id: DynoId, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE dyno SET state = 'exited', since = ?2, slot = NULL, exit_reason = 'unknown' WHERE id = ?1",
                params![id.to_string(), Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes the row of a dyno that crashed and was replaced.
    pub async fn forget_dyno(&self, id: DynoId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM dyno WHERE id = ?1 AND state IN ('crashed', 'exited')", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Asks for the restart or the stop of an app's dynos: all, one process type, or one by name or id.
    /// Returns how many there were.
    pub async fn request_dynos(
        &self,
        app: AppId,
        which: DynoSelection,
        request: DynoRequest,
    ) -> Result<usize, StoreError> {
        self.write(move |db| {
            let (process_type, name) = match which {
                DynoSelection::Formation => (None, None),
                DynoSelection::ProcessType(process_type) => (Some(process_type.to_string()), None),
                DynoSelection::One(name) => (None, Some(name)),
            };
            // Only a stop reaches one-offs, and only by name.
            let kinds = match (request, &name) {
                (DynoRequest::Stop, Some(_)) => "('formation', 'one-off')",
                _formation => "('formation')",
            };
            let count = db.execute(
                &format!(
                    "UPDATE dyno SET request = ?2 WHERE app_id = ?1 AND state <> 'exited' AND kind IN {kinds}
                     AND (?3 IS NULL OR process_type = ?3)
                     AND (?4 IS NULL OR id = ?4 OR process_type || '.' || number = ?4)"
                ),
                params![app.to_string(), request_text(request), process_type, name],
            )?;
            Ok(count)
        })
        .await
    }

    /// Drops rows of one-offs and the like that ended before `before`.
    pub async fn forget_ended_dynos(&self, before: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM dyno WHERE state = 'exited' AND since < ?1", params![Micros(before)])?;
            Ok(())
        })
        .await
    }
}

/// Which dynos of an app a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DynoSelection {
    /// Every dyno of the formation.
    Formation,
    ProcessType(ProcessType),
    /// By name (`web.1`) or id.
    One(String),
}

/// Makes the row of a dyno that is to be started.
pub(crate) fn insert(db: &Transaction<'_>, key: &MasterKey, new: &NewDyno, now: Timestamp) -> Result<Dyno, StoreError> {
    let dyno = Dyno {
        id: DynoId::random(),
        app: new.app,
        kind: new.kind,
        name: if new.kind == DynoKind::OneOff { free_name(db, new)? } else { new.name.clone() },
        release: new.release,
        build: new.build,
        size: new.size.clone(),
        command: new.command.clone(),
        state: DynoState::Requested,
        since: now,
        crashes: new.crashes,
        request: DynoRequest::None,
        slot: Some(free_slot(db)?),
        exit_status: None,
        exit_reason: None,
        created_at: now,
        attach: new.attach,
        time_to_live_s: new.time_to_live_s,
        protocol: routing::find(db, new.app)?.dyno_protocol,
        health: DynoHealth::default(),
    };
    db.execute(
        "INSERT INTO dyno (id, app_id, kind, process_type, number, release_id, build_id, size, command,
                           env_sealed, state, since, crashes, slot, created_at, attach, time_to_live_s, protocol)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?12, ?15, ?16, ?17)",
        params![
            dyno.id.to_string(),
            dyno.app.to_string(),
            dyno.kind.as_str(),
            dyno.name.process_type.as_str(),
            dyno.name.index,
            dyno.release.map(|id| id.to_string()),
            dyno.build.map(|id| id.to_string()),
            dyno.size,
            dyno.command,
            key.seal_config(&new.env)?,
            dyno.state.as_str(),
            Micros(now),
            dyno.crashes,
            dyno.slot,
            dyno.attach.map(Attach::to_text).unwrap_or_default(),
            dyno.time_to_live_s,
            dyno.protocol.as_str()
        ],
    )?;
    Ok(dyno)
}

fn advance(
    db: &Transaction<'_>,
    id: DynoId,
    event: DynoEvent,
    exit: Option<&DynoExit>,
    now: Timestamp,
) -> Result<Option<Dyno>, StoreError> {
    let Some(mut dyno) = find(db, id)? else { return Ok(None) };
    let Ok(next) = dyno.state.next(dyno.kind, event) else { return Ok(None) };
    if next == DynoState::Crashed {
        if dyno.state == DynoState::Up {
            event::insert(db, &crash(&dyno, exit), now)?;
        }
        let was_up_for = std::time::Duration::try_from(now.duration_since(dyno.since)).unwrap_or_default();
        dyno.crashes = crashes_in_a_row(dyno.crashes, was_up_for);
    }
    if !next.is_alive() {
        dyno.slot = None;
    }
    dyno.state = next;
    dyno.since = now;
    dyno.exit_status = exit.and_then(|exit| exit.status);
    dyno.exit_reason = exit.map(|exit| exit.reason.clone());
    db.execute(
        "UPDATE dyno SET state = ?2, since = ?3, crashes = ?4, slot = ?5, exit_status = ?6, exit_reason = ?7
         WHERE id = ?1",
        params![
            id.to_string(),
            next.as_str(),
            Micros(now),
            dyno.crashes,
            dyno.slot,
            dyno.exit_status,
            dyno.exit_reason
        ],
    )?;
    Ok(Some(dyno))
}

/// One that never came up is told of by its release.
fn crash(dyno: &Dyno, exit: Option<&DynoExit>) -> NewEvent {
    let how = match exit {
        Some(DynoExit { reason, .. }) if reason == "out_of_memory" => "it ran out of memory".to_owned(),
        Some(DynoExit { status: Some(status), .. }) => format!("status {status}"),
        Some(_) | None => "nobody saw how".to_owned(),
    };
    let subject = dyno.name.to_string();
    let text = format!("{subject} has ended by itself ({how}); another one is started");
    NewEvent { app: dyno.app, kind: "crash", subject, text }
}

/// The name that a one-off was given, or the next one that no other has: whoever stops `run.1234` means one of them.
fn free_name(db: &Transaction<'_>, new: &NewDyno) -> Result<DynoName, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT number FROM dyno WHERE app_id = ?1 AND process_type = ?2 AND state <> 'exited'")?;
    let named = statement.query(params![new.app.to_string(), new.name.process_type.as_str()])?;
    let taken: BTreeSet<u32> = collect(named, |row| Ok(row.get(0)?))?.into_iter().collect();
    let index = (new.name.index..).find(|index| !taken.contains(index)).unwrap_or(new.name.index);
    Ok(DynoName { index, ..new.name.clone() })
}

/// The next slot in turn that is free: an address is not used again while connections to its last owner may linger.
fn free_slot(db: &Transaction<'_>) -> Result<u32, StoreError> {
    let mut statement = db.prepare_cached("SELECT slot FROM dyno WHERE slot IS NOT NULL")?;
    let taken: BTreeSet<u32> = collect(statement.query([])?, |row| Ok(row.get(0)?))?.into_iter().collect();
    let start = next_number(db, "dyno_slots_given", 0)?;
    (0..SLOT_MAX)
        .map(|step| (start.wrapping_add(step)) % SLOT_MAX + 1)
        .find(|slot| !taken.contains(slot))
        .ok_or_else(|| StoreError::Refused(format!("all {SLOT_MAX} dyno addresses are in use")))
}

const fn request_text(request: DynoRequest) -> &'static str {
    match request {
        DynoRequest::None => "",
        DynoRequest::Restart => "restart",
        DynoRequest::Stop => "stop",
    }
}

fn find(db: &Connection, id: DynoId) -> Result<Option<Dyno>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM dyno WHERE id = ?1")?;
    first(statement.query([id.to_string()])?, dyno)
}

pub(crate) fn dyno(row: &Row<'_>) -> Result<Dyno, StoreError> {
    Ok(Dyno {
        id: parsed(row, "id", DynoId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        kind: parsed(row, "kind", DynoKind::parse)?,
        name: DynoName {
            process_type: parsed(row, "process_type", |text| ProcessType::parse(text).ok())?,
            index: row.get("number")?,
        },
        release: parsed_optional(row, "release_id", ReleaseId::parse)?,
        build: parsed_optional(row, "build_id", BuildId::parse)?,
        size: row.get("size")?,
        command: row.get("command")?,
        state: parsed(row, "state", DynoState::parse)?,
        since: time(row, "since")?,
        crashes: row.get("crashes")?,
        request: parsed(row, "request", |text| {
            [DynoRequest::None, DynoRequest::Restart, DynoRequest::Stop]
                .into_iter()
                .find(|request| request_text(*request) == text)
        })?,
        slot: row.get("slot")?,
        exit_status: row.get("exit_status")?,
        exit_reason: row.get("exit_reason")?,
        created_at: time(row, "created_at")?,
        attach: Attach::parse(&row.get::<_, String>("attach")?),
        time_to_live_s: row.get("time_to_live_s")?,
        protocol: parsed(row, "protocol", DynoProtocol::parse)?,
        health: DynoHealth {
            passed: row.get("health_passed")?,
            unhealthy_since: optional_time(row, "unhealthy_since")?,
            failure: row.get("health_failure")?,
        },
    })
}
