//! What happened to apps, for whoever passes it on.

use domain::id::AppId;
use jiff::Timestamp;
use rusqlite::{Transaction, params};

use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError, notification};

/// Events that are kept.
const KEPT_MAX: i64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub sequence: i64,
    pub at: Timestamp,
    pub app: AppId,
    /// As `cron.failed`.
    pub kind: String,
    /// What it is about: a job, a dyno, a release.
    pub subject: String,
    /// One line for people, without secrets.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub app: AppId,
    pub kind: &'static str,
    pub subject: String,
    pub text: String,
}

impl Store {
    /// Events after the one with this number, oldest first.
    pub fn events_after(&self, sequence: i64, events_max: u32) -> Result<Vec<Event>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM event WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")?;
            collect(statement.query(params![sequence, events_max])?, |row| {
                Ok(Event {
                    sequence: row.get("sequence")?,
                    at: time(row, "at")?,
                    app: parsed(row, "app_id", AppId::parse)?,
                    kind: row.get("kind")?,
                    subject: row.get("subject")?,
                    text: row.get("text")?,
                })
            })
        })
    }
}

/// Records an event, with the messages about it, in the transaction of what it is about; forgets the oldest.
pub(crate) fn insert(db: &Transaction<'_>, event: &NewEvent, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO event (at, app_id, kind, subject, text) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![Micros(now), event.app.to_string(), event.kind, event.subject, event.text],
    )?;
    let sequence = db.last_insert_rowid();
    db.execute("DELETE FROM event WHERE sequence <= ?1", [sequence - KEPT_MAX])?;
    notification::enqueue(db, event, sequence, now)
}
