//! Settings of the installation: small values by key.

use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::{Store, StoreError};

impl Store {
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read(|db| {
            Ok(db.query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0)).optional()?)
        })
    }

    pub async fn set_setting(&self, key: &'static str, value: String) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO setting (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                params![key, value],
            )?;
            Ok(())
        })
        .await
    }
}

/// Takes the next number of a counter that never goes back. The first one is `start`.
pub(crate) fn next_number(db: &Transaction<'_>, key: &str, start: u32) -> Result<u32, StoreError> {
    let number: u32 = db.query_row(
        "INSERT INTO setting (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1
         RETURNING CAST(value AS INTEGER)",
        params![key, start.to_string()],
        |row| row.get(0),
    )?;
    Ok(number)
}
