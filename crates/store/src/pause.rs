//! Apps whose requests are held for a while.

use std::collections::HashMap;

use domain::id::AppId;
use jiff::Timestamp;
use rusqlite::params;

use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

impl Store {
    /// Until when an app's requests are, or were, held.
    pub fn paused_until(&self, app: AppId) -> Result<Option<Timestamp>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT until FROM pause WHERE app_id = ?1")?;
            first(statement.query([app.to_string()])?, |row| Ok(time(row, "until")?))
        })
    }

    /// The same of all apps, for one look at everything.
    pub fn all_pauses(&self) -> Result<HashMap<AppId, Timestamp>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT app_id, until FROM pause")?;
            let rows =
                collect(statement.query([])?, |row| Ok((parsed(row, "app_id", AppId::parse)?, time(row, "until")?)))?;
            Ok(rows.into_iter().collect())
        })
    }

    /// Holds an app's requests until then, or no longer.
    pub async fn pause(&self, app: AppId, until: Option<Timestamp>) -> Result<(), StoreError> {
        self.write(move |db| {
            match until {
                Some(until) => db.execute(
                    "INSERT INTO pause (app_id, until) VALUES (?1, ?2)
                     ON CONFLICT (app_id) DO UPDATE SET until = excluded.until",
                    params![app.to_string(), Micros(until)],
                )?,
                None => db.execute("DELETE FROM pause WHERE app_id = ?1", [app.to_string()])?,
            };
            Ok(())
        })
        .await
    }
}
