//! Accounts with certificate authorities, and the orders that were begun.

use domain::acme::{Attempt, HISTORY, Outcome};
use domain::hostname::Hostname;
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::row::{Micros, collect, optional_time, parsed, time};
use crate::{Store, StoreError};

/// The key of what [`Store::platform_certificate_failed`] notes.
const PLATFORM_FAILURE: &str = "platform_certificate_failure";

/// The number of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderNumber(i64);

impl Store {
    /// The credentials of this server's account, as its client wrote them.
    pub fn acme_account(&self, directory: &str) -> Result<Option<Secret<String>>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT credentials_sealed FROM acme_account WHERE directory = ?1")?;
            let sealed: Option<Vec<u8>> = statement.query_row([directory], |row| row.get(0)).optional()?;
            sealed.map(|sealed| self.key.open_text(&sealed)).transpose()
        })
    }

    /// Keeps an account, in the place of another one with the same authority.
    pub async fn keep_acme_account(
        &self,
        directory: String,
        credentials: Secret<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = self.key.seal(credentials.expose().as_bytes())?;
        self.write(move |db| {
            db.execute(
                "INSERT INTO acme_account (directory, credentials_sealed, created_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (directory) DO UPDATE SET
                   credentials_sealed = excluded.credentials_sealed, created_at = excluded.created_at",
                params![directory, sealed, Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn forget_acme_account(&self, directory: String) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM acme_account WHERE directory = ?1", [directory])?;
            Ok(())
        })
        .await
    }

    /// The orders of as long as limits look back, oldest first.
    pub fn acme_orders(&self, now: Timestamp) -> Result<Vec<(Hostname, Attempt)>, StoreError> {
        let since = now.checked_sub(HISTORY).unwrap_or(Timestamp::MIN);
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM acme_order WHERE started_at >= ?1 ORDER BY started_at, id")?;
            collect(statement.query([Micros(since)])?, attempt)
        })
    }

    /// Records an order before it is begun, so that it counts whatever becomes of it.
    pub async fn begin_acme_order(&self, hostname: Hostname, now: Timestamp) -> Result<OrderNumber, StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO acme_order (hostname, started_at, outcome) VALUES (?1, ?2, 'under_way')",
                params![hostname.as_str(), Micros(now)],
            )?;
            Ok(OrderNumber(db.last_insert_rowid()))
        })
        .await
    }

    pub async fn end_acme_order(&self, order: OrderNumber, outcome: Outcome) -> Result<(), StoreError> {
        let (word, until) = word(outcome);
        self.write(move |db| {
            db.execute(
                "UPDATE acme_order SET outcome = ?2, deferred_until = ?3 WHERE id = ?1",
                params![order.0, word, until.map(Micros)],
            )?;
            Ok(())
        })
        .await
    }

    /// Notes for people why an order for one of the platform's own hosts failed.
    pub async fn platform_certificate_failed(&self, host: &Hostname, reason: &str) -> Result<(), StoreError> {
        self.set_setting(PLATFORM_FAILURE, format!("{host}: {reason}")).await
    }

    /// Forgets that, if it was about a host for which nothing fails any more.
    pub async fn forget_platform_certificate_failure(&self, is_over: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let failure = self.platform_certificate_failure()?;
        match failure.as_ref().and_then(|failure| failure.split_once(": ")) {
            Some((host, _reason)) if is_over(host) => self.set_setting(PLATFORM_FAILURE, String::new()).await,
            Some(_) | None => Ok(()),
        }
    }

    /// The last order for one of the platform's own hosts that failed: the host, and why.
    pub fn platform_certificate_failure(&self) -> Result<Option<String>, StoreError> {
        Ok(self.setting(PLATFORM_FAILURE)?.filter(|failure| !failure.is_empty()))
    }

    /// Ends what an earlier server began, and forgets what no limit looks at any more.
    pub async fn interrupt_acme_orders(&self, now: Timestamp) -> Result<(), StoreError> {
        let since = now.checked_sub(HISTORY).unwrap_or(Timestamp::MIN);
        self.write(move |db| {
            db.execute("UPDATE acme_order SET outcome = 'interrupted' WHERE outcome = 'under_way'", [])?;
            db.execute("DELETE FROM acme_order WHERE started_at < ?1", [Micros(since)])?;
            Ok(())
        })
        .await
    }
}

const fn word(outcome: Outcome) -> (&'static str, Option<Timestamp>) {
    match outcome {
        Outcome::UnderWay => ("under_way", None),
        Outcome::Issued => ("issued", None),
        Outcome::Failed => ("failed", None),
        Outcome::Deferred { until } => ("deferred", Some(until)),
        Outcome::Interrupted => ("interrupted", None),
    }
}

fn attempt(row: &Row<'_>) -> Result<(Hostname, Attempt), StoreError> {
    let until = optional_time(row, "deferred_until")?;
    let outcome = parsed(row, "outcome", |word| match word {
        "under_way" => Some(Outcome::UnderWay),
        "issued" => Some(Outcome::Issued),
        "failed" => Some(Outcome::Failed),
        "deferred" => until.map(|until| Outcome::Deferred { until }),
        "interrupted" => Some(Outcome::Interrupted),
        _other => None,
    })?;
    let hostname = parsed(row, "hostname", |text| Hostname::parse(text).ok())?;
    Ok((hostname, Attempt { at: time(row, "started_at")?, outcome }))
}
