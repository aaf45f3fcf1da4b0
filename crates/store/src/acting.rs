//! On whose behalf the store is written to, and the record of it.
//!
//! A request's entry in the audit log is part of its first transaction: nothing is changed without one, also if the
//! server ends in the middle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use domain::id::{AccountId, AppId};
use rusqlite::Transaction;
use tokio::task_local;

use crate::StoreError;
use crate::audit::{self, AuditEntry};

/// Somebody, and what of theirs is to be recorded.
#[derive(Debug, Clone)]
pub struct Acting {
    account: AccountId,
    entry: Option<Arc<AuditEntry>>,
    /// The app that it turned out to be about, where no path told.
    app: Arc<OnceLock<AppId>>,
    recorded: Arc<AtomicBool>,
}

task_local! {
    static ACTING: Acting;
}

impl Acting {
    /// `entry` is recorded with the first thing that is written; reads have none.
    pub fn new(account: AccountId, entry: Option<AuditEntry>) -> Self {
        Self { account, entry: entry.map(Arc::new), app: Arc::default(), recorded: Arc::default() }
    }

    /// Runs a future whose writes are done for this account.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        ACTING.scope(self.clone(), work).await
    }

    /// What no transaction has recorded: whatever was done left no trace in the store.
    pub fn unrecorded(&self) -> Option<AuditEntry> {
        if self.recorded.load(Ordering::SeqCst) { None } else { self.entry() }
    }

    fn entry(&self) -> Option<AuditEntry> {
        let entry = self.entry.as_deref()?;
        Some(AuditEntry { app: entry.app.or_else(|| self.app.get().copied()), ..entry.clone() })
    }

    /// For whom the calling task works.
    pub(crate) fn current() -> Option<Self> {
        ACTING.try_with(Self::clone).ok()
    }

    /// Says that what the calling task does is about this app. The first one counts.
    pub(crate) fn is_about(app: AppId) {
        // Nobody may be acting: then there is no entry either.
        ACTING.try_with(|acting| acting.app.set(app).ok()).ok();
    }

    /// Puts the name, and the entry if it is the first time, into a transaction.
    pub(crate) fn sign(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let mut statement = transaction.prepare_cached("UPDATE change SET account_id = ?1 WHERE account_id IS NULL")?;
        statement.execute([self.account.to_string()])?;
        self.unrecorded().map_or(Ok(()), |entry| audit::insert(transaction, &entry))
    }

    /// The transaction stands.
    pub(crate) fn committed(&self) {
        self.recorded.store(true, Ordering::SeqCst);
    }
}
