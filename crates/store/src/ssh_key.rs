//! Public SSH keys of accounts.

use domain::id::AccountId;
use domain::ssh_key::SshKey as PublicKey;
use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError};

/// Keys of one account.
const KEYS_MAX: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    pub id: Uuid,
    pub account: AccountId,
    pub fingerprint: String,
    pub public_key: String,
    pub comment: String,
    pub created_at: Timestamp,
}

impl Store {
    pub fn ssh_keys(&self, account: AccountId) -> Result<Vec<SshKey>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM ssh_key WHERE account_id = ?1 ORDER BY created_at")?;
            collect(statement.query([account.to_string()])?, ssh_key)
        })
    }

    pub async fn add_ssh_key(
        &self,
        account: AccountId,
        key: PublicKey,
        fingerprint: String,
        now: Timestamp,
    ) -> Result<SshKey, StoreError> {
        let row = SshKey {
            id: Uuid::new_v4(),
            account,
            fingerprint,
            public_key: key.text,
            comment: key.comment,
            created_at: now,
        };
        self.write(move |db| {
            let count: u32 = db.query_row(
                "SELECT count(*) FROM ssh_key WHERE account_id = ?1",
                [row.account.to_string()],
                |counted| counted.get(0),
            )?;
            if count >= KEYS_MAX {
                return Err(StoreError::Refused(format!("An account can have {KEYS_MAX} keys at most")));
            }
            let added = db.execute(
                "INSERT INTO ssh_key (id, account_id, fingerprint, public_key, comment, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                params![
                    row.id.to_string(),
                    row.account.to_string(),
                    row.fingerprint,
                    row.public_key,
                    row.comment,
                    Micros(row.created_at)
                ],
            )?;
            if added == 0 { Err(StoreError::Refused("Fingerprint has already been taken".to_owned())) } else { Ok(row) }
        })
        .await
    }

    /// `false` if the account has no such key.
    pub async fn remove_ssh_key(&self, account: AccountId, id: Uuid) -> Result<bool, StoreError> {
        self.write(move |db| {
            let removed = db.execute(
                "DELETE FROM ssh_key WHERE id = ?1 AND account_id = ?2",
                params![id.to_string(), account.to_string()],
            )?;
            Ok(removed > 0)
        })
        .await
    }
}

fn ssh_key(row: &Row<'_>) -> Result<SshKey, StoreError> {
    Ok(SshKey {
        id: parsed(row, "id", |text| Uuid::try_parse(text).ok())?,
        account: parsed(row, "account_id", AccountId::parse)?,
        fingerprint: row.get("fingerprint")?,
        public_key: row.get("public_key")?,
        comment: row.get("comment")?,
        created_at: time(row, "created_at")?,
    })
}
