//! Uploaded sources: the row says that an upload was announced; the bytes are a file named after the id.

use domain::id::{AccountId, SourceId};
use jiff::Timestamp;
use rusqlite::params;

use crate::row::{Micros, first, parsed, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub id: SourceId,
    pub account: AccountId,
    pub created_at: Timestamp,
}

impl Store {
    pub async fn create_source(&self, account: AccountId, now: Timestamp) -> Result<Source, StoreError> {
        let source = Source { id: SourceId::random(), account, created_at: now };
        let row = source.clone();
        self.write(move |db| {
            db.execute(
                "INSERT INTO source (id, account_id, created_at) VALUES (?1, ?2, ?3)",
                params![row.id.to_string(), row.account.to_string(), Micros(row.created_at)],
            )?;
            Ok(())
        })
        .await?;
        Ok(source)
    }

    pub fn source(&self, id: SourceId) -> Result<Option<Source>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM source WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, |row| {
                Ok(Source {
                    id,
                    account: parsed(row, "account_id", AccountId::parse)?,
                    created_at: time(row, "created_at")?,
                })
            })
        })
    }
}
