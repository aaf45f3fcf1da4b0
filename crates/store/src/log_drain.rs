//! Log drains: where copies of an app's log go.

use domain::id::{AppId, LogDrainId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::row::{Micros, collect, first, parsed, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError};

/// Drains of one app: each reads the whole log.
const DRAINS_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDrain {
    pub id: LogDrainId,
    pub app: AppId,
    pub url: Secret<String>,
    pub token: String,
    /// The first line for the drain is the one after this.
    pub after_sequence: u64,
    pub created_at: Timestamp,
}

impl Store {
    /// The drains of an app, oldest first.
    pub fn log_drains(&self, app: AppId) -> Result<Vec<LogDrain>, StoreError> {
        self.read(|db| of_app(db, &self.key, app))
    }

    /// The drains of all apps that are not being destroyed.
    pub fn all_log_drains(&self) -> Result<Vec<LogDrain>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT log_drain.* FROM log_drain JOIN app ON app.id = log_drain.app_id
                 WHERE app.destroyed_at IS NULL ORDER BY log_drain.created_at",
            )?;
            collect(statement.query([])?, |row| log_drain(row, &self.key))
        })
    }

    pub fn log_drain(&self, id: LogDrainId) -> Result<Option<LogDrain>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM log_drain WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, |row| log_drain(row, &self.key))
        })
    }

    /// Adds a drain that gets the lines after `after_sequence`.
    pub async fn add_log_drain(
        &self,
        app: AppId,
        url: Secret<String>,
        after_sequence: u64,
        now: Timestamp,
    ) -> Result<LogDrain, StoreError> {
        let key = self.key.clone();
        let id = LogDrainId::random();
        let row = LogDrain { id, app, url, token: format!("d.{id}"), after_sequence, created_at: now };
        self.write(move |db| {
            let others = of_app(db, &key, app)?;
            if others.iter().any(|other| other.url == row.url) {
                return Err(StoreError::Refused("Url has already been taken: the app has this drain".to_owned()));
            }
            if others.len() >= DRAINS_MAX {
                return Err(StoreError::Refused(format!("An app can have {DRAINS_MAX} drains at most")));
            }
            db.execute(
                "INSERT INTO log_drain (id, app_id, url_sealed, token, after_sequence, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    row.id.to_string(),
                    row.app.to_string(),
                    key.seal(row.url.expose().as_bytes())?,
                    row.token,
                    i64::try_from(row.after_sequence).map_err(|_range| StoreError::Damaged("after_sequence"))?,
                    Micros(now)
                ],
            )?;
            Ok(row)
        })
        .await
    }

    pub async fn remove_log_drain(&self, id: LogDrainId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM log_drain WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn of_app(db: &Connection, key: &MasterKey, app: AppId) -> Result<Vec<LogDrain>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM log_drain WHERE app_id = ?1 ORDER BY created_at")?;
    collect(statement.query([app.to_string()])?, |row| log_drain(row, key))
}

fn log_drain(row: &Row<'_>, key: &MasterKey) -> Result<LogDrain, StoreError> {
    let url = key.open(&row.get::<_, Vec<u8>>("url_sealed")?)?;
    let after: i64 = row.get("after_sequence")?;
    Ok(LogDrain {
        id: parsed(row, "id", LogDrainId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        url: Secret::new(String::from_utf8(url).map_err(|_not_text| StoreError::Damaged("url_sealed"))?),
        token: row.get("token")?,
        after_sequence: u64::try_from(after).map_err(|_negative| StoreError::Damaged("after_sequence"))?,
        created_at: time(row, "created_at")?,
    })
}
