//! Releases: immutable but for their state, which only the reconciler moves (and `releases:resume`, once).

use domain::config::ConfigVars;
use domain::id::{AccountId, AppId, ReleaseId, SlugId};
use domain::release::{ReleaseCause, ReleaseEvent, ReleaseState};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::event::{self, NewEvent};
use crate::row::{Micros, collect, first, lines, parsed, parsed_optional, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError, add_on, app, attachment, formation, slug};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub id: ReleaseId,
    pub app: AppId,
    pub version: u64,
    pub cause: ReleaseCause,
    pub description: String,
    pub slug: Option<SlugId>,
    pub account: AccountId,
    pub state: ReleaseState,
    /// Why it failed, for people.
    pub failure: Option<String>,
    pub run_command: bool,
    /// `service:plan` of the add-ons that the app had when it was made.
    pub add_on_plans: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct NewRelease {
    pub app: AppId,
    pub cause: ReleaseCause,
    pub description: String,
    pub slug: Option<SlugId>,
    pub account: AccountId,
    pub config: ConfigVars,
    /// Wait for `releases:resume` before anything happens.
    pub hold: bool,
    pub run_command: bool,
}

impl Store {
    /// All releases of an app, oldest first.
    pub fn releases(&self, app: AppId) -> Result<Vec<Release>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM release WHERE app_id = ?1 ORDER BY version")?;
            collect(statement.query([app.to_string()])?, release)
        })
    }

    pub fn release(&self, id: ReleaseId) -> Result<Option<Release>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM release WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, release)
        })
    }

    /// Releases that are on their way or serve: all that placement needs to know.
    pub fn live_releases(&self, app: AppId) -> Result<Vec<Release>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM release WHERE app_id = ?1
                 AND state IN ('pending', 'preparing', 'rolling_out', 'serving') ORDER BY version",
            )?;
            collect(statement.query([app.to_string()])?, release)
        })
    }

    /// The live releases of all apps, each app's in the order of their versions.
    pub fn all_live_releases(&self) -> Result<Vec<Release>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM release WHERE state IN ('pending', 'preparing', 'rolling_out', 'serving')
                 ORDER BY version",
            )?;
            collect(statement.query([])?, release)
        })
    }

    pub fn release_config(&self, id: ReleaseId) -> Result<ConfigVars, StoreError> {
        self.read(|db| {
            let sealed: Option<Vec<u8>> = db
                .query_row("SELECT config_sealed FROM release WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            self.key.open_config(&sealed.ok_or(StoreError::NotFound("release"))?)
        })
    }

    /// What a dyno of the release finds in its environment: the release's config vars, and what the app's add-ons give
    /// now, whatever they gave when the release was made.
    pub fn release_environment(&self, id: ReleaseId) -> Result<ConfigVars, StoreError> {
        let own = self.release_config(id)?;
        self.read(|db| {
            let app: Option<String> = db
                .query_row("SELECT app_id FROM release WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            let app = app.ok_or(StoreError::NotFound("release"))?;
            let app = AppId::parse(&app).ok_or(StoreError::Damaged("app_id"))?;
            attachment::with_add_ons(db, &self.key, app, own)
        })
    }

    /// Releases a slug, with the app's config vars as they are now.
    pub async fn release_slug(
        &self,
        app: AppId,
        slug: SlugId,
        description: String,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Release, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            app::must_live(db, app)?;
            let new = NewRelease {
                app,
                cause: ReleaseCause::Build,
                description,
                slug: Some(slug),
                account,
                config: key.open_config(&app::sealed_config(db, app)?)?,
                hold: false,
                run_command: true,
            };
            insert(db, &key, &new, now)
        })
        .await
    }

    /// Lets a held release go on. Refused once a newer one is on its way or serves: it would be overtaken, or overtake.
    pub async fn resume_release(&self, id: ReleaseId, now: Timestamp) -> Result<Release, StoreError> {
        self.write(move |db| {
            let release = get(db, id)?.ok_or(StoreError::NotFound("release"))?;
            let version = release.version;
            let mut statement = db.prepare_cached(
                "SELECT * FROM release WHERE app_id = ?1 AND version > ?2
                 AND state IN ('pending', 'preparing', 'rolling_out', 'serving') ORDER BY version LIMIT 1",
            )?;
            let newer = statement.query(params![release.app.to_string(), version.cast_signed()])?;
            if let Some(newer) = first(newer, self::release)? {
                let state = if newer.state == ReleaseState::Serving { "serves already" } else { "is on its way" };
                return Err(StoreError::Refused(format!(
                    "v{} {state} and is newer than v{version}. Deploy again, or roll back to a release that ran.",
                    newer.version
                )));
            }
            if !advance(db, &release, ReleaseEvent::Resumed, None, now)? {
                return Err(StoreError::Refused(format!("v{version} is not held; it is {}.", release.state)));
            }
            get(db, id)?.ok_or(StoreError::NotFound("release"))
        })
        .await
    }

    /// Goes back to an older release: its slug and its config vars, which become the app's.
    pub async fn roll_back(
        &self,
        app: AppId,
        to: ReleaseId,
        account: AccountId,
        run_command: bool,
        now: Timestamp,
    ) -> Result<Release, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            app::must_live(db, app)?;
            let mut statement = db.prepare_cached("SELECT * FROM release WHERE id = ?1 AND app_id = ?2")?;
            let old = first(statement.query([to.to_string(), app.to_string()])?, release)?
                .ok_or(StoreError::NotFound("release"))?;
            if old.slug.is_none() || !matches!(old.state, ReleaseState::Serving | ReleaseState::Superseded) {
                return Err(StoreError::Refused(format!(
                    "Cannot roll back to v{}: it never ran. `berth releases` shows which ones did",
                    old.version
                )));
            }
            let sealed: Vec<u8> =
                db.query_row("SELECT config_sealed FROM release WHERE id = ?1", [to.to_string()], |row| row.get(0))?;
            let mut config = key.open_config(&sealed)?;
            // What belongs to an add-on by now is the add-on's to set.
            for (var, ..) in attachment::owned_vars(db, app)? {
                config.remove(&var);
            }
            db.execute(
                "UPDATE app SET config_sealed = ?2, updated_at = ?3 WHERE id = ?1",
                params![app.to_string(), key.seal_config(&config)?, Micros(now)],
            )?;
            let new = NewRelease {
                app,
                cause: ReleaseCause::Rollback,
                description: format!("Rollback to v{}", old.version),
                slug: old.slug,
                account,
                config,
                hold: false,
                run_command,
            };
            insert(db, &key, &new, now)
        })
        .await
    }

    /// Moves a release to its next state. A transition that is not allowed (a repeated event) changes nothing.
    pub async fn advance_release(
        &self,
        id: ReleaseId,
        event: ReleaseEvent,
        failure: Option<String>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let release = get(db, id)?.ok_or(StoreError::NotFound("release"))?;
            advance(db, &release, event, failure.as_deref(), now)
        })
        .await
    }
}

fn get(db: &Connection, id: ReleaseId) -> Result<Option<Release>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM release WHERE id = ?1")?;
    first(statement.query([id.to_string()])?, release)
}

/// `false` if the transition is not allowed.
fn advance(
    db: &Transaction<'_>,
    release: &Release,
    event: ReleaseEvent,
    failure: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Ok(next) = release.state.next(event) else { return Ok(false) };
    let (id, app) = (release.id.to_string(), release.app.to_string());
    if next == ReleaseState::Serving {
        db.execute(
            "UPDATE release SET state = 'superseded', updated_at = ?3
             WHERE app_id = ?1 AND state = 'serving' AND id <> ?2",
            params![app, id, Micros(now)],
        )?;
        db.execute("UPDATE app SET released_at = ?2 WHERE id = ?1", params![app, Micros(now)])?;
    }
    db.execute(
        "UPDATE release SET state = ?2, failure = COALESCE(?3, failure), updated_at = ?4 WHERE id = ?1",
        params![id, next.as_str(), failure, Micros(now)],
    )?;
    if let Some(event) = told(release, next, failure) {
        event::insert(db, &event, now)?;
    }
    if next == ReleaseState::Failed {
        fail_with(db, release, now)?;
        carry_on_without(db, release, now)?;
    }
    Ok(true)
}

/// What made way for a release with the same code before it had served itself has failed with it.
fn fail_with(db: &Transaction<'_>, failed: &Release, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "UPDATE release SET state = 'failed', failure = ?4, updated_at = ?5
         WHERE app_id = ?1 AND version < ?2 AND slug_id = ?3 AND state = 'superseded' AND version >
             (SELECT COALESCE(MAX(version), 0) FROM release WHERE app_id = ?1 AND state = 'serving')",
        params![
            failed.app.to_string(),
            failed.version.cast_signed(),
            failed.slug.map(|slug| slug.to_string()),
            format!("it made way for v{}, which failed", failed.version),
            Micros(now)
        ],
    )?;
    Ok(())
}

/// Changes of config vars and add-ons that were made while a release was on its way were released with its code. Now that
/// it has failed, they go on with the code that serves: nobody runs what its release phase has refused.
fn carry_on_without(db: &Transaction<'_>, failed: &Release, now: Timestamp) -> Result<(), StoreError> {
    let app = failed.app.to_string();
    let serving = newest_slug(db, failed.app, "('serving')")?;
    // Without code there is nothing to prepare or to start.
    let state = if serving.is_some() { ReleaseState::Pending } else { ReleaseState::Serving };
    let changed = db.execute(
        "UPDATE release SET slug_id = ?3, state = ?4, updated_at = ?5
         WHERE app_id = ?1 AND version > ?2 AND slug_id = ?6 AND state = 'pending' AND cause IN (?7, ?8)",
        params![
            app,
            failed.version.cast_signed(),
            serving.map(|slug| slug.to_string()),
            state.as_str(),
            Micros(now),
            failed.slug.map(|slug| slug.to_string()),
            ReleaseCause::ConfigChange.as_str(),
            ReleaseCause::AddonChange.as_str()
        ],
    )?;
    if changed > 0 && state == ReleaseState::Serving {
        db.execute(
            "UPDATE release SET state = 'superseded' WHERE app_id = ?1 AND state = 'serving' AND version <
                 (SELECT MAX(version) FROM release WHERE app_id = ?1 AND state = 'serving')",
            [app],
        )?;
    }
    Ok(())
}

/// What others are told when a release has come to its end or to serve.
fn told(release: &Release, next: ReleaseState, failure: Option<&str>) -> Option<NewEvent> {
    let version = release.version;
    let (kind, text) = match next {
        ReleaseState::Serving => {
            let kind = match release.cause {
                ReleaseCause::Build => "deploy",
                ReleaseCause::Promotion => "promotion",
                ReleaseCause::Rollback => "rollback",
                ReleaseCause::ConfigChange | ReleaseCause::AddonChange => "config",
                ReleaseCause::Initial => return None,
            };
            (kind, format!("v{version} serves: {}", release.description))
        }
        ReleaseState::Failed => {
            let reason = failure.and_then(|text| text.lines().next()).unwrap_or("it failed");
            ("failure", format!("v{version} failed ({}): {reason}", release.description))
        }
        ReleaseState::Held
        | ReleaseState::Pending
        | ReleaseState::Preparing
        | ReleaseState::RollingOut
        | ReleaseState::Superseded => return None,
    };
    Some(NewEvent { app: release.app, kind, subject: format!("v{version}"), text })
}

/// Inserts a release with the next version number. Its process types get formation rows.
pub(crate) fn insert(
    db: &Transaction<'_>,
    key: &MasterKey,
    new: &NewRelease,
    now: Timestamp,
) -> Result<Release, StoreError> {
    let version: i64 = db.query_row(
        "SELECT COALESCE(MAX(version), 0) + 1 FROM release WHERE app_id = ?1",
        [new.app.to_string()],
        |row| row.get(0),
    )?;
    // A release without code has nothing to prepare or to start.
    let state = match (new.hold, new.slug) {
        (true, _) => ReleaseState::Held,
        (false, None) => ReleaseState::Serving,
        (false, Some(_)) => ReleaseState::Pending,
    };
    if state == ReleaseState::Serving {
        db.execute(
            "UPDATE release SET state = 'superseded' WHERE app_id = ?1 AND state = 'serving'",
            [new.app.to_string()],
        )?;
    }
    let release = Release {
        id: ReleaseId::random(),
        app: new.app,
        version: version.cast_unsigned(),
        cause: new.cause,
        description: new.description.clone(),
        slug: new.slug,
        account: new.account,
        state,
        failure: None,
        run_command: new.run_command,
        add_on_plans: add_on::plans_of(db, new.app)?,
        created_at: now,
        updated_at: now,
    };
    db.execute(
        "INSERT INTO release (id, app_id, version, cause, description, slug_id, account_id, state, run_command,
                              config_sealed, add_on_plans, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
        params![
            release.id.to_string(),
            release.app.to_string(),
            version,
            release.cause.as_str(),
            release.description,
            release.slug.map(|slug| slug.to_string()),
            release.account.to_string(),
            release.state.as_str(),
            release.run_command,
            key.seal_config(&new.config)?,
            release.add_on_plans.join("\n"),
            Micros(now)
        ],
    )?;
    let slug = release.slug.map(|id| slug::find(db, id)).transpose()?.flatten();
    for (process_type, _command) in slug.iter().flat_map(|slug| &slug.process_types) {
        if !process_type.is_release() {
            formation::ensure(db, release.app, process_type, now)?;
        }
    }
    Ok(release)
}

/// The code that a release without code of its own carries on with: that of the newest one that is on its way or serves.
pub(crate) fn newest_usable_slug(db: &Connection, app: AppId) -> Result<Option<SlugId>, StoreError> {
    newest_slug(db, app, "('pending', 'preparing', 'rolling_out', 'serving')")
}

fn newest_slug(db: &Connection, app: AppId, states: &str) -> Result<Option<SlugId>, StoreError> {
    let newest = format!(
        "SELECT slug_id FROM release WHERE app_id = ?1 AND slug_id IS NOT NULL AND state IN {states}
         ORDER BY version DESC LIMIT 1"
    );
    let text: Option<String> = db.query_row(&newest, [app.to_string()], |row| row.get(0)).optional()?;
    text.map(|text| SlugId::parse(&text).ok_or(StoreError::Damaged("slug_id"))).transpose()
}

pub(crate) fn release(row: &Row<'_>) -> Result<Release, StoreError> {
    Ok(Release {
        id: parsed(row, "id", ReleaseId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        version: row.get::<_, i64>("version")?.cast_unsigned(),
        cause: parsed(row, "cause", ReleaseCause::parse)?,
        description: row.get("description")?,
        slug: parsed_optional(row, "slug_id", SlugId::parse)?,
        account: parsed(row, "account_id", AccountId::parse)?,
        state: parsed(row, "state", ReleaseState::parse)?,
        failure: row.get("failure")?,
        run_command: row.get("run_command")?,
        add_on_plans: lines(&row.get::<_, String>("add_on_plans")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

#[cfg(test)]
mod tests;
