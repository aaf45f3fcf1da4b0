//! The audit log: who changed what, when, from where.

use domain::id::AccountId;
use jiff::Timestamp;
use rusqlite::params;

use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub account: AccountId,
    /// As `app.create`, `config.update`.
    pub action: String,
    pub target: String,
    /// The address that the request came from.
    pub origin: String,
}

impl Store {
    pub async fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO audit (at, account_id, action, target, origin) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![Micros(entry.at), entry.account.to_string(), entry.action, entry.target, entry.origin],
            )?;
            Ok(())
        })
        .await
    }

    /// The newest entries first.
    pub fn audit(&self, entries_max: u32) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM audit ORDER BY sequence DESC LIMIT ?1")?;
            collect(statement.query([entries_max])?, |row| {
                Ok(AuditEntry {
                    at: time(row, "at")?,
                    account: parsed(row, "account_id", AccountId::parse)?,
                    action: row.get("action")?,
                    target: row.get("target")?,
                    origin: row.get("origin")?,
                })
            })
        })
    }
}
