//! Second factors of accounts.

use domain::id::AccountId;
use domain::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension as _, params};

use crate::row::{Micros, optional_time};
use crate::{Store, StoreError};

/// Wrong codes in a row before the account has to wait, and how long: nobody guesses six digits this way.
const FAILURES_MAX: u32 = 5;
const WAIT: SignedDuration = SignedDuration::from_mins(15);

/// The secret that an authenticator app has, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoFactor {
    pub secret: Secret<Vec<u8>>,
    /// A code of it was seen: from then on it is asked for.
    pub confirmed: bool,
    /// The newest step whose code was used.
    pub last_step: u64,
    pub blocked_until: Option<Timestamp>,
}

impl Store {
    pub fn two_factor(&self, account: AccountId) -> Result<Option<TwoFactor>, StoreError> {
        self.read(|db| {
            let found = db
                .query_row("SELECT * FROM two_factor WHERE account_id = ?1", [account.to_string()], |row| {
                    let step: i64 = row.get("last_step")?;
                    let sealed: Vec<u8> = row.get("secret_sealed")?;
                    Ok((sealed, row.get("confirmed")?, step, optional_time(row, "blocked_until")?))
                })
                .optional()?;
            let Some((sealed, confirmed, step, blocked_until)) = found else { return Ok(None) };
            let secret = Secret::new(self.key.open(&sealed)?);
            let last_step = u64::try_from(step).map_err(|_negative| StoreError::Damaged("last_step"))?;
            Ok(Some(TwoFactor { secret, confirmed, last_step, blocked_until }))
        })
    }

    /// Keeps a secret that is not confirmed yet, in the place of another such one.
    pub async fn propose_two_factor(&self, account: AccountId, secret: Secret<Vec<u8>>) -> Result<(), StoreError> {
        let sealed = self.key.seal(secret.expose())?;
        self.write(move |db| {
            let changed = db.execute(
                "INSERT INTO two_factor (account_id, secret_sealed) VALUES (?1, ?2)
                 ON CONFLICT (account_id) DO UPDATE SET secret_sealed = excluded.secret_sealed WHERE NOT confirmed",
                params![account.to_string(), sealed],
            )?;
            let enabled = || StoreError::Refused("Two-factor authentication is enabled already".to_owned());
            if changed == 0 { Err(enabled()) } else { Ok(()) }
        })
        .await
    }

    /// Uses the code of a step up, which confirms the secret. `false` if somebody else was faster.
    pub async fn use_two_factor_step(&self, account: AccountId, step: u64) -> Result<bool, StoreError> {
        let step = i64::try_from(step).map_err(|_range| StoreError::Damaged("step"))?;
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE two_factor SET last_step = ?2, confirmed = 1, failures = 0, blocked_until = NULL
                 WHERE account_id = ?1 AND last_step < ?2",
                params![account.to_string(), step],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Counts a wrong code.
    pub async fn count_wrong_code(&self, account: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let until = now.checked_add(WAIT).unwrap_or(now);
        self.write(move |db| {
            db.execute(
                "UPDATE two_factor SET
                     blocked_until = CASE WHEN failures + 1 >= ?2 THEN ?3 ELSE blocked_until END,
                     failures = CASE WHEN failures + 1 >= ?2 THEN 0 ELSE failures + 1 END
                 WHERE account_id = ?1",
                params![account.to_string(), FAILURES_MAX, Micros(until)],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn remove_two_factor(&self, account: AccountId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM two_factor WHERE account_id = ?1", [account.to_string()])?;
            Ok(())
        })
        .await
    }
}
