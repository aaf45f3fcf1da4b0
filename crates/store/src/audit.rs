//! The audit log: who changed what, when, from where.

use domain::id::{AccountId, AppId};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::row::{Micros, collect, parsed, parsed_optional, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub account: AccountId,
    /// Method and route: `PATCH /apps/{app}/config-vars`.
    pub action: String,
    /// The path that it was about.
    pub target: String,
    pub app: Option<AppId>,
    /// The address that the request came from.
    pub origin: String,
}

impl Store {
    pub async fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write(move |db| insert(db, &entry)).await
    }

    /// The newest entries first, of one app or of everything.
    pub fn audit(&self, app: Option<AppId>, entries_max: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM audit WHERE ?1 IS NULL OR app_id = ?1 ORDER BY sequence DESC LIMIT ?2",
            )?;
            collect(statement.query(params![app.map(|id| id.to_string()), entries_max])?, |row| {
                Ok(AuditEntry {
                    at: time(row, "at")?,
                    account: parsed(row, "account_id", AccountId::parse)?,
                    action: row.get("action")?,
                    target: row.get("target")?,
                    app: parsed_optional(row, "app_id", AppId::parse)?,
                    origin: row.get("origin")?,
                })
            })
        })
    }
}

pub(crate) fn insert(db: &Connection, entry: &AuditEntry) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO audit (at, account_id, action, target, app_id, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            Micros(entry.at),
            entry.account.to_string(),
            entry.action,
            entry.target,
            entry.app.map(|id| id.to_string()),
            entry.origin
        ],
    )?;
    Ok(())
}
