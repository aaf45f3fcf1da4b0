//! On whose behalf the store is written to, and the record of it.
//!
//! A request's entry in the audit log is part of its first transaction: nothing is changed without one, also if the
//! server ends in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::id::AccountId;
use rusqlite::Transaction;
use tokio::task_local;

use crate::StoreError;
use crate::audit::{self, AuditEntry};

/// Somebody, and what of theirs is to be recorded.
#[derive(Debug, Clone)]
pub struct Acting {
    account: AccountId,
    entry: Option<Arc<AuditEntry>>,
    recorded: Arc<AtomicBool>,
}

task_local! {
    static ACTING: Acting;
}

impl Acting {
    /// `entry` is recorded with the first thing that is written; reads have none.
    pub fn new(account: AccountId, entry: Option<AuditEntry>) -> Self {
        Self { account, entry: entry.map(Arc::new), recorded: Arc::new(AtomicBool::new(false)) }
    }

    /// Runs a future whose writes are done for this account.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        ACTING.scope(self.clone(), work).await
    }

    /// What no transaction has recorded: whatever was done left no trace in the store.
    pub fn unrecorded(&self) -> Option<AuditEntry> {
        let entry = self.entry.as_deref().filter(|_entry| !self.recorded.load(Ordering::SeqCst));
        entry.cloned()
    }

    /// For whom the calling task works.
    pub(crate) fn current() -> Option<Self> {
        ACTING.try_with(Self::clone).ok()
    }

    /// Puts the name, and the entry if it is the first time, into a transaction.
    pub(crate) fn sign(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let mut statement = transaction.prepare_cached("UPDATE change SET account_id = ?1 WHERE account_id IS NULL")?;
        statement.execute([self.account.to_string()])?;
        match &self.entry {
            Some(entry) if !self.recorded.load(Ordering::SeqCst) => audit::insert(transaction, entry),
            Some(_) | None => Ok(()),
        }
    }

    /// The transaction stands.
    pub(crate) fn committed(&self) {
        self.recorded.store(true, Ordering::SeqCst);
    }
}
