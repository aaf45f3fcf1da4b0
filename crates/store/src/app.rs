//! Apps and their current config vars.

use domain::config::{self, ConfigChanges, ConfigVars};
use domain::id::{AccountId, AddOnId, AppId};
use domain::name::AppName;
use domain::release::ReleaseCause;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::add_on::{self, Attaching, NewAddOn};
use crate::attachment;
use crate::release::{self, NewRelease, Release};
use crate::row::{Micros, collect, first, lines, optional_time, parsed, time};
use crate::sealed::MasterKey;
use crate::setting::next_number;
use crate::{Store, StoreError, formation};

/// First uid of apps. Each app takes two: one for its dyno processes, the next for its builds.
const FIRST_APP_UID: u32 = 400_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub owner: AccountId,
    /// The uid of its dynos; `uid + 1` is the uid of its builds.
    pub uid: u32,
    pub maintenance: bool,
    /// Set explicitly, in order; empty means detection.
    pub buildpacks: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub released_at: Option<Timestamp>,
    pub destroyed_at: Option<Timestamp>,
    /// Certificates for its domains are managed for it.
    pub acm: bool,
    /// When somebody last said that what kept them from being issued is gone.
    pub acm_refreshed_at: Option<Timestamp>,
    /// Requests that one of its dynos works on at once, as far as was learned.
    pub workers_hint: Option<u32>,
    /// Changes take a code of whoever's second factor.
    pub second_factor: bool,
}

/// What an update of an app changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppChange {
    pub name: Option<AppName>,
    pub maintenance: Option<bool>,
    pub buildpacks: Option<Vec<String>>,
    pub acm: Option<bool>,
    pub acm_refreshed_at: Option<Timestamp>,
    pub second_factor: Option<bool>,
}

/// What a copy of an app has of the original's add-ons.
#[derive(Debug, Clone)]
pub enum ClonedAddOn {
    /// The very same.
    Same(AddOnId, Attaching),
    /// One of its own.
    New(NewAddOn),
}

impl Store {
    /// Makes an app with its first release, `v1` "Initial release". A name in use is refused.
    pub async fn create_app(&self, name: AppName, owner: AccountId, now: Timestamp) -> Result<App, StoreError> {
        let key = self.key.clone();
        self.write(move |db| insert(db, &key, name, owner, now)).await
    }

    /// Makes an app with another one's formation and buildpacks, and with these config vars and add-ons, all together.
    pub async fn clone_app(
        &self,
        source: AppId,
        name: AppName,
        owner: AccountId,
        vars: ConfigVars,
        add_ons: Vec<ClonedAddOn>,
        now: Timestamp,
    ) -> Result<App, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let app = insert(db, &key, name, owner, now)?;
            db.execute(
                "UPDATE app SET config_sealed = ?2, buildpacks = (SELECT buildpacks FROM app WHERE id = ?3)
                 WHERE id = ?1",
                params![app.id.to_string(), key.seal_config(&vars)?, source.to_string()],
            )?;
            for row in formation::list(db, source)? {
                formation::ensure(db, app.id, &row.entry.process_type, now)?;
                db.execute(
                    "UPDATE formation SET quantity = ?3, size = ?4, concurrency = ?5
                     WHERE app_id = ?1 AND process_type = ?2",
                    params![
                        app.id.to_string(),
                        row.entry.process_type.as_str(),
                        row.entry.quantity,
                        row.entry.size,
                        row.entry.concurrency
                    ],
                )?;
            }
            if !vars.is_empty() {
                let new = NewRelease {
                    app: app.id,
                    cause: ReleaseCause::ConfigChange,
                    description: format!("Set {} config vars", vars.len()),
                    slug: None,
                    account: owner,
                    config: vars,
                    hold: false,
                    run_command: false,
                };
                release::insert(db, &key, &new, now)?;
            }
            for wanted in add_ons {
                match wanted {
                    ClonedAddOn::Same(id, attaching) => {
                        let same = add_on::get(db, id)?;
                        add_on::attach(db, &key, same, app.id, owner, &attaching, None, now)?;
                    }
                    ClonedAddOn::New(new) => {
                        add_on::create(db, &key, NewAddOn { app: app.id, ..new }, now)?;
                    }
                }
            }
            let mut statement = db.prepare_cached("SELECT * FROM app WHERE id = ?1")?;
            first(statement.query([app.id.to_string()])?, self::app)?.ok_or(StoreError::NotFound("app"))
        })
        .await
    }

    /// Finds a living app by name or id.
    pub fn find_app(&self, name_or_id: &str) -> Result<Option<App>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM app WHERE (name = ?1 OR id = ?1) AND destroyed_at IS NULL LIMIT 1")?;
            first(statement.query([name_or_id])?, app)
        })
    }

    /// An app by id, destroyed or not.
    pub fn app(&self, id: AppId) -> Result<Option<App>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM app WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, app)
        })
    }

    /// All apps with those that are being destroyed, by name.
    pub fn apps(&self) -> Result<Vec<App>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM app ORDER BY name")?;
            collect(statement.query([])?, app)
        })
    }

    pub async fn update_app(&self, id: AppId, change: AppChange, now: Timestamp) -> Result<App, StoreError> {
        self.write(move |db| {
            let mut statement = db.prepare_cached("SELECT * FROM app WHERE id = ?1 AND destroyed_at IS NULL")?;
            let mut app = first(statement.query([id.to_string()])?, app)?.ok_or(StoreError::NotFound("app"))?;
            if let Some(name) = change.name.filter(|name| *name != app.name) {
                refuse_taken_name(db, &name)?;
                app.name = name;
            }
            app.maintenance = change.maintenance.unwrap_or(app.maintenance);
            app.buildpacks = change.buildpacks.unwrap_or(app.buildpacks);
            app.acm = change.acm.unwrap_or(app.acm);
            app.acm_refreshed_at = change.acm_refreshed_at.or(app.acm_refreshed_at);
            app.second_factor = change.second_factor.unwrap_or(app.second_factor);
            app.updated_at = now;
            db.execute(
                "UPDATE app SET name = ?2, maintenance = ?3, buildpacks = ?4, updated_at = ?5, acm = ?6,
                   acm_refreshed_at = ?7, second_factor = ?8
                 WHERE id = ?1",
                params![
                    id.to_string(),
                    app.name.as_str(),
                    app.maintenance,
                    app.buildpacks.join("\n"),
                    Micros(now),
                    app.acm,
                    app.acm_refreshed_at.map(Micros),
                    app.second_factor
                ],
            )?;
            Ok(app)
        })
        .await
    }

    /// Has the next build begin without a cache.
    pub async fn request_empty_cache(&self, id: AppId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("UPDATE app SET empty_cache = 1 WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Whether the next build is to begin without a cache.
    pub fn wants_empty_cache(&self, id: AppId) -> Result<bool, StoreError> {
        self.read(|db| {
            let wants = db
                .query_row("SELECT empty_cache FROM app WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            Ok(wants.unwrap_or(false))
        })
    }

    pub async fn cache_emptied(&self, id: AppId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("UPDATE app SET empty_cache = 0 WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Marks an app as destroyed. Its name and its domains are free at once; the reconciler removes what is left of it.
    pub async fn destroy_app(&self, id: AppId, account: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            must_live(db, id)?;
            db.execute(
                "UPDATE app SET destroyed_at = ?2 WHERE id = ?1 AND destroyed_at IS NULL",
                params![id.to_string(), Micros(now)],
            )?;
            db.execute("DELETE FROM domain WHERE app_id = ?1", [id.to_string()])?;
            db.execute("DELETE FROM app_transfer WHERE app_id = ?1", [id.to_string()])?;
            add_on::leave_app(db, &key, id, account, now)
        })
        .await
    }

    /// Notes how many requests a dyno works on at once, for the next router and the next release to begin with.
    pub async fn note_workers(&self, id: AppId, workers: u32) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("UPDATE app SET workers_hint = ?2 WHERE id = ?1", params![id.to_string(), workers])?;
            Ok(())
        })
        .await
    }

    /// Removes the rows of a destroyed app, when nothing of it exists any more. `false` if one of its add-ons does.
    pub async fn forget_app(&self, id: AppId) -> Result<bool, StoreError> {
        self.write(move |db| {
            let mut add_ons = db.prepare_cached("SELECT 1 FROM add_on WHERE app_id = ?1")?;
            if add_ons.exists([id.to_string()])? {
                // Whoever takes them down needs to know whose they were.
                return Ok(false);
            }
            db.execute("DELETE FROM build WHERE app_id = ?1", [id.to_string()])?;
            db.execute("DELETE FROM release WHERE app_id = ?1", [id.to_string()])?;
            // What other apps have released of its code is theirs from now on.
            db.execute(
                "UPDATE slug SET app_id = (SELECT app_id FROM release WHERE slug_id = slug.id LIMIT 1)
                 WHERE app_id = ?1 AND EXISTS (SELECT 1 FROM release WHERE slug_id = slug.id)",
                [id.to_string()],
            )?;
            db.execute("DELETE FROM app WHERE id = ?1 AND destroyed_at IS NOT NULL", [id.to_string()])?;
            Ok(true)
        })
        .await
    }

    /// The app's own config vars as the next release will have them, without those of add-ons.
    pub fn config(&self, app: AppId) -> Result<ConfigVars, StoreError> {
        self.read(|db| self.key.open_config(&sealed_config(db, app)?))
    }

    /// Changes config vars and makes the release that carries them, in one transaction.
    ///
    /// A change that changes nothing makes no release.
    pub async fn change_config(
        &self,
        app: AppId,
        account: AccountId,
        changes: ConfigChanges,
        now: Timestamp,
    ) -> Result<(ConfigVars, Option<Release>), StoreError> {
        self.change_config_and(app, account, changes, false, now).await
    }

    /// The same, and the release runs its release phase.
    pub async fn change_config_with_release_phase(
        &self,
        app: AppId,
        account: AccountId,
        changes: ConfigChanges,
        now: Timestamp,
    ) -> Result<(ConfigVars, Option<Release>), StoreError> {
        self.change_config_and(app, account, changes, true, now).await
    }

    async fn change_config_and(
        &self,
        app: AppId,
        account: AccountId,
        changes: ConfigChanges,
        run_command: bool,
        now: Timestamp,
    ) -> Result<(ConfigVars, Option<Release>), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            must_live(db, app)?;
            let current = key.open_config(&sealed_config(db, app)?)?;
            if let Some((var, _attachment, add_on)) =
                attachment::owned_vars(db, app)?.into_iter().find(|(var, ..)| changes.contains_key(var))
            {
                return Err(StoreError::Refused(format!(
                    "Cannot overwrite attachment values {var}: it belongs to the add-on {}. \
                     `berth addons:update {}` changes it.",
                    add_on.name, add_on.name
                )));
            }
            let (vars, description) =
                config::apply(&current, changes).map_err(|error| StoreError::Refused(error.to_string()))?;
            if description.is_empty() {
                return Ok((vars, None));
            }
            db.execute(
                "UPDATE app SET config_sealed = ?2, updated_at = ?3 WHERE id = ?1",
                params![app.to_string(), key.seal_config(&vars)?, Micros(now)],
            )?;
            let new = NewRelease {
                app,
                cause: ReleaseCause::ConfigChange,
                description,
                slug: release::newest_usable_slug(db, app)?,
                account,
                config: vars.clone(),
                hold: false,
                run_command,
            };
            let release = release::insert(db, &key, &new, now)?;
            Ok((vars, Some(release)))
        })
        .await
    }
}

fn insert(
    db: &Transaction<'_>,
    key: &MasterKey,
    name: AppName,
    owner: AccountId,
    now: Timestamp,
) -> Result<App, StoreError> {
    refuse_taken_name(db, &name)?;
    let number = next_number(db, "apps_created", 1)?;
    let app = App {
        id: AppId::random(),
        name,
        owner,
        uid: FIRST_APP_UID + 2 * number,
        maintenance: false,
        buildpacks: Vec::new(),
        created_at: now,
        updated_at: now,
        released_at: Some(now),
        destroyed_at: None,
        acm: false,
        acm_refreshed_at: None,
        workers_hint: None,
        second_factor: false,
    };
    db.execute(
        "INSERT INTO app (id, name, owner_id, uid, config_sealed, created_at, updated_at, released_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6)",
        params![
            app.id.to_string(),
            app.name.as_str(),
            owner.to_string(),
            app.uid,
            key.seal_config(&ConfigVars::new())?,
            Micros(now)
        ],
    )?;
    let first = NewRelease {
        app: app.id,
        cause: ReleaseCause::Initial,
        description: "Initial release".to_owned(),
        slug: None,
        account: owner,
        config: ConfigVars::new(),
        hold: false,
        run_command: false,
    };
    release::insert(db, key, &first, now)?;
    Ok(app)
}

pub(crate) fn sealed_config(db: &Connection, app: AppId) -> Result<Vec<u8>, StoreError> {
    db.query_row("SELECT config_sealed FROM app WHERE id = ?1", [app.to_string()], |row| row.get(0))
        .optional()?
        .ok_or(StoreError::NotFound("app"))
}

/// Whether an app is there and not being destroyed.
pub(crate) fn is_living(db: &Connection, app: AppId) -> Result<bool, StoreError> {
    let mut living = db.prepare_cached("SELECT 1 FROM app WHERE id = ?1 AND destroyed_at IS NULL")?;
    Ok(living.exists([app.to_string()])?)
}

/// Refuses a change of an app that somebody else has destroyed meanwhile.
pub(crate) fn must_live(db: &Connection, app: AppId) -> Result<(), StoreError> {
    if is_living(db, app)? { Ok(()) } else { Err(StoreError::NotFound("app")) }
}

fn refuse_taken_name(db: &Connection, name: &AppName) -> Result<(), StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM app WHERE name = ?1 AND destroyed_at IS NULL")?;
    if taken.exists([name.as_str()])? {
        return Err(StoreError::Refused(format!("Name {name} is already taken")));
    }
    Ok(())
}

pub(crate) fn app(row: &Row<'_>) -> Result<App, StoreError> {
    Ok(App {
        id: parsed(row, "id", AppId::parse)?,
        name: parsed(row, "name", |text| AppName::parse(text).ok())?,
        owner: parsed(row, "owner_id", AccountId::parse)?,
        uid: row.get("uid")?,
        maintenance: row.get("maintenance")?,
        buildpacks: lines(&row.get::<_, String>("buildpacks")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        released_at: optional_time(row, "released_at")?,
        destroyed_at: optional_time(row, "destroyed_at")?,
        acm: row.get("acm")?,
        acm_refreshed_at: optional_time(row, "acm_refreshed_at")?,
        workers_hint: row.get("workers_hint")?,
        second_factor: row.get("second_factor")?,
    })
}
