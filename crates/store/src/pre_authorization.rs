//! Tokens that may change an app which asks for a second factor, for a while.

use domain::id::{AppId, TokenId};
use jiff::Timestamp;
use rusqlite::params;

use crate::row::Micros;
use crate::{Store, StoreError};

impl Store {
    /// Whether a code was shown for this app by this token, not too long ago.
    pub fn is_pre_authorized(&self, token: TokenId, app: AppId, now: Timestamp) -> Result<bool, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT 1 FROM pre_authorization WHERE token_id = ?1 AND app_id = ?2 AND expires_at > ?3",
            )?;
            Ok(statement.exists(params![token.to_string(), app.to_string(), Micros(now)])?)
        })
    }

    pub async fn pre_authorize(
        &self,
        token: TokenId,
        app: AppId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM pre_authorization WHERE expires_at <= ?1", [Micros(now)])?;
            db.execute(
                "INSERT INTO pre_authorization (token_id, app_id, expires_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (token_id, app_id) DO UPDATE SET expires_at = excluded.expires_at",
                params![token.to_string(), app.to_string(), Micros(until)],
            )?;
            Ok(())
        })
        .await
    }
}
