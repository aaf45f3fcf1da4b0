//! Builds. The API inserts them, the reconciler carries them out.

use domain::config::ConfigVars;
use domain::id::{AccountId, AppId, BuildId, ReleaseId, SlugId, SourceId};
use domain::release::ReleaseCause;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::event::{self, NewEvent};
use crate::release::{self, NewRelease, Release};
use crate::row::{Micros, collect, first, lines, parsed, parsed_optional, time};
use crate::slug::{self, Slug};
use crate::{Store, StoreError, app, attachment};

/// Where a build's source comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLocation {
    /// An upload, or an archive made of a pushed commit.
    Uploaded(SourceId),
    Url(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStatus {
    Pending,
    Succeeded,
    Failed,
    /// Replaced by a newer one before it began, or cancelled by somebody.
    Canceled,
}

impl BuildStatus {
    const ALL: [Self; 4] = [Self::Pending, Self::Succeeded, Self::Failed, Self::Canceled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub id: BuildId,
    pub app: AppId,
    pub account: AccountId,
    pub source: SourceLocation,
    /// What the client calls the version: a commit, usually.
    pub source_version: Option<String>,
    pub buildpacks: Vec<String>,
    pub status: BuildStatus,
    pub hold: bool,
    pub failure: Option<String>,
    pub slug: Option<SlugId>,
    pub release: Option<ReleaseId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone)]
pub struct NewBuild {
    pub app: AppId,
    pub account: AccountId,
    pub source: SourceLocation,
    pub source_version: Option<String>,
    pub buildpacks: Vec<String>,
    pub hold: bool,
}

/// Why a build that waited was cancelled.
pub const REPLACED: &str = "a newer build of this app was requested before this one began";

impl Store {
    /// Inserts a build with the app's config vars as they are now. One that waits is replaced by the newer one: the
    /// ids are of builds that never began.
    pub async fn create_build(&self, new: NewBuild, now: Timestamp) -> Result<(Build, Vec<BuildId>), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            app::must_live(db, new.app)?;
            let sealed = key.seal_config(&attachment::environment(db, &key, new.app)?)?;
            let build = Build {
                id: BuildId::random(),
                app: new.app,
                account: new.account,
                source: new.source,
                source_version: new.source_version,
                buildpacks: new.buildpacks,
                status: BuildStatus::Pending,
                hold: new.hold,
                failure: None,
                slug: None,
                release: None,
                created_at: now,
                updated_at: now,
            };
            let (source_id, source_url) = match &build.source {
                SourceLocation::Uploaded(id) => (Some(id.to_string()), None),
                SourceLocation::Url(url) => (None, Some(url.clone())),
            };
            let mut replace = db.prepare_cached(
                "UPDATE build SET status = 'canceled', updated_at = ?2, failure = ?3
                 WHERE app_id = ?1 AND status = 'pending'
                   AND NOT EXISTS (SELECT 1 FROM dyno WHERE dyno.build_id = build.id)
                   AND id <> (SELECT id FROM build WHERE app_id = ?1 AND status = 'pending'
                              ORDER BY created_at LIMIT 1)
                 RETURNING id",
            )?;
            let replaced = collect(replace.query(params![new.app.to_string(), Micros(now), REPLACED])?, |row| {
                parsed(row, "id", BuildId::parse)
            })?;
            db.execute(
                "INSERT INTO build (id, app_id, account_id, source_id, source_url, source_version, buildpacks, status,
                                    hold, config_sealed, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?9, ?10, ?10)",
                params![
                    build.id.to_string(),
                    build.app.to_string(),
                    build.account.to_string(),
                    source_id,
                    source_url,
                    build.source_version,
                    build.buildpacks.join("\n"),
                    build.hold,
                    sealed,
                    Micros(now)
                ],
            )?;
            Ok((build, replaced))
        })
        .await
    }

    pub fn build(&self, id: BuildId) -> Result<Option<Build>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM build WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, build)
        })
    }

    /// All builds of an app, oldest first.
    pub fn builds(&self, app: AppId) -> Result<Vec<Build>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM build WHERE app_id = ?1 ORDER BY created_at")?;
            collect(statement.query([app.to_string()])?, build)
        })
    }

    /// The build of each app that is to be carried out now: the oldest one that is pending.
    pub fn current_builds(&self) -> Result<Vec<Build>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT build.* FROM build JOIN app ON app.id = build.app_id
                 WHERE build.status = 'pending' AND app.destroyed_at IS NULL
                   AND NOT EXISTS (SELECT 1 FROM build AS older WHERE older.app_id = build.app_id
                       AND older.status = 'pending' AND older.created_at < build.created_at)
                 ORDER BY build.created_at",
            )?;
            collect(statement.query([])?, build)
        })
    }

    /// The uploads that builds are still to be made of.
    pub fn wanted_sources(&self) -> Result<Vec<SourceId>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT source_id FROM build WHERE status = 'pending' AND source_id IS NOT NULL")?;
            collect(statement.query([])?, |row| parsed(row, "source_id", SourceId::parse))
        })
    }

    pub fn build_config(&self, id: BuildId) -> Result<ConfigVars, StoreError> {
        self.read(|db| {
            let sealed: Option<Vec<u8>> = db
                .query_row("SELECT config_sealed FROM build WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            self.key.open_config(&sealed.ok_or(StoreError::NotFound("build"))?)
        })
    }

    /// Ends a build without a result. A build that has ended already stays as it is.
    pub async fn end_build(
        &self,
        id: BuildId,
        status: BuildStatus,
        failure: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut end = db.prepare_cached(
                "UPDATE build SET status = ?2, failure = ?3, updated_at = ?4 WHERE id = ?1 AND status = 'pending'
                 RETURNING app_id",
            )?;
            let ended = first(end.query(params![id.to_string(), status.as_str(), failure, Micros(now)])?, |row| {
                parsed(row, "app_id", AppId::parse)
            })?;
            if let Some(app) = ended.filter(|_app| status == BuildStatus::Failed) {
                let text = format!("A build failed: {}", failure.lines().next().unwrap_or_default());
                event::insert(db, &NewEvent { app, kind: "failure", subject: id.to_string(), text }, now)?;
            }
            Ok(())
        })
        .await
    }

    /// Ends a build with its slug and the release of it, with the app's config vars as they are now. Idempotent:
    /// `None` if the build had ended before.
    pub async fn build_succeeded(
        &self,
        id: BuildId,
        slug: Slug,
        description: String,
        now: Timestamp,
    ) -> Result<Option<Release>, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let mut statement = db.prepare_cached("SELECT * FROM build WHERE id = ?1 AND status = 'pending'")?;
            let Some(build) = first(statement.query([id.to_string()])?, build)? else { return Ok(None) };
            if !app::is_living(db, build.app)? {
                // Nothing is released for an app that is going.
                return Ok(None);
            }
            slug::insert(db, &slug)?;
            let new = NewRelease {
                app: build.app,
                cause: ReleaseCause::Build,
                description,
                slug: Some(slug.id),
                account: build.account,
                config: key.open_config(&app::sealed_config(db, build.app)?)?,
                hold: build.hold,
                run_command: true,
            };
            let release = release::insert(db, &key, &new, now)?;
            db.execute(
                "UPDATE build SET status = 'succeeded', slug_id = ?2, release_id = ?3, updated_at = ?4 WHERE id = ?1",
                params![id.to_string(), slug.id.to_string(), release.id.to_string(), Micros(now)],
            )?;
            Ok(Some(release))
        })
        .await
    }
}

pub(crate) fn build(row: &Row<'_>) -> Result<Build, StoreError> {
    let source = match (parsed_optional(row, "source_id", SourceId::parse)?, row.get("source_url")?) {
        (Some(id), None) => SourceLocation::Uploaded(id),
        (None, Some(url)) => SourceLocation::Url(url),
        (Some(_), Some(_)) | (None, None) => return Err(StoreError::Damaged("source_id")),
    };
    Ok(Build {
        id: parsed(row, "id", BuildId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        account: parsed(row, "account_id", AccountId::parse)?,
        source,
        source_version: row.get("source_version")?,
        buildpacks: lines(&row.get::<_, String>("buildpacks")?),
        status: parsed(row, "status", BuildStatus::parse)?,
        hold: row.get("hold")?,
        failure: row.get("failure")?,
        slug: parsed_optional(row, "slug_id", SlugId::parse)?,
        release: parsed_optional(row, "release_id", ReleaseId::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
