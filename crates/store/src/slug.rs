//! Slugs: built code, immutable, named by the SHA-256 of its archive.

use domain::id::{AppId, SlugId};
use domain::name::ProcessType;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slug {
    pub id: SlugId,
    pub app: AppId,
    /// Hex; `None` until an uploaded slug has arrived.
    pub sha256: Option<String>,
    pub size_bytes: u64,
    /// In the order of their names.
    pub process_types: Vec<(ProcessType, String)>,
    /// JSON that only the builder reads.
    pub manifest: String,
    pub stack: String,
    pub commit: Option<String>,
    /// What `buildpack_provided_description` shows: `Python`.
    pub language: Option<String>,
    pub created_at: Timestamp,
}

impl Slug {
    pub fn command(&self, process_type: &ProcessType) -> Option<&str> {
        self.process_types.iter().find(|(name, _command)| name == process_type).map(|(_name, command)| command.as_str())
    }
}

impl Store {
    pub fn slug(&self, id: SlugId) -> Result<Option<Slug>, StoreError> {
        self.read(|db| find(db, id))
    }

    /// Every archive that some release, build or uploaded slug of a living app still names.
    pub fn slug_archives(&self) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT DISTINCT sha256 FROM slug WHERE sha256 IS NOT NULL")?;
            collect(statement.query([])?, |row| Ok(row.get(0)?))
        })
    }

    pub async fn create_slug(&self, slug: Slug) -> Result<(), StoreError> {
        self.write(move |db| insert(db, &slug)).await
    }

    /// Names the archive that an uploaded one became when it was checked and packed anew.
    pub async fn slug_repacked(&self, id: SlugId, sha256: String, size_bytes: u64) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE slug SET sha256 = ?2, size_bytes = ?3 WHERE id = ?1",
                params![id.to_string(), sha256, size_bytes.cast_signed()],
            )?;
            Ok(())
        })
        .await
    }

    /// Completes an uploaded slug with its archive.
    pub async fn slug_arrived(&self, id: SlugId, sha256: String, size_bytes: u64) -> Result<(), StoreError> {
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE slug SET sha256 = ?2, size_bytes = ?3 WHERE id = ?1 AND sha256 IS NULL",
                params![id.to_string(), sha256, size_bytes.cast_signed()],
            )?;
            if changed == 0 { Err(StoreError::NotFound("slug")) } else { Ok(()) }
        })
        .await
    }
}

pub(crate) fn find(db: &Connection, id: SlugId) -> Result<Option<Slug>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM slug WHERE id = ?1")?;
    let found = first(statement.query([id.to_string()])?, slug)?;
    let Some(mut slug) = found else { return Ok(None) };
    slug.process_types = processes(db, id)?;
    Ok(Some(slug))
}

pub(crate) fn insert(db: &Transaction<'_>, slug: &Slug) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO slug (id, app_id, sha256, size_bytes, manifest, stack, commit_id, language, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            slug.id.to_string(),
            slug.app.to_string(),
            slug.sha256,
            slug.size_bytes.cast_signed(),
            slug.manifest,
            slug.stack,
            slug.commit,
            slug.language,
            Micros(slug.created_at)
        ],
    )?;
    for (process_type, command) in &slug.process_types {
        db.execute(
            "INSERT INTO slug_process (slug_id, process_type, command) VALUES (?1, ?2, ?3)",
            params![slug.id.to_string(), process_type.as_str(), command],
        )?;
    }
    Ok(())
}

fn processes(db: &Connection, id: SlugId) -> Result<Vec<(ProcessType, String)>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT process_type, command FROM slug_process WHERE slug_id = ?1 ORDER BY process_type")?;
    collect(statement.query([id.to_string()])?, |row| {
        Ok((parsed(row, "process_type", |text| ProcessType::parse(text).ok())?, row.get("command")?))
    })
}

fn slug(row: &Row<'_>) -> Result<Slug, StoreError> {
    Ok(Slug {
        id: parsed(row, "id", SlugId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        sha256: row.get("sha256")?,
        size_bytes: row.get::<_, i64>("size_bytes")?.cast_unsigned(),
        process_types: Vec::new(),
        manifest: row.get("manifest")?,
        stack: row.get("stack")?,
        commit: row.get("commit_id")?,
        language: row.get("language")?,
        created_at: time(row, "created_at")?,
    })
}
