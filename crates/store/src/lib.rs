//! The control plane's database.
//!
//! The only crate that knows SQL. One thread writes, a few connections read, and every committed write wakes whoever
//! watches [`Store::changes`]: the API writes desired state here and returns, the reconciler wakes and acts. Every
//! column has one writer; see the migrations.

pub mod account;
pub mod acme;
pub mod acting;
pub mod add_on;
pub mod app;
pub mod app_transfer;
pub mod attachment;
pub mod audit;
pub mod build;
pub mod change;
pub mod collaborator;
pub mod cron;
pub mod custom_domain;
pub mod dns_provider;
pub mod dyno;
pub mod event;
pub mod formation;
pub mod health_check;
pub mod log_drain;
pub mod managed_certificate;
pub mod monitor;
pub mod notification;
pub mod oauth_client;
pub mod pause;
pub mod pipeline;
pub mod pre_authorization;
pub mod promotion;
pub mod protection;
pub mod release;
pub mod routing;
mod row;
mod sealed;
pub mod setting;
pub mod slug;
pub mod sni_endpoint;
pub mod source;
pub mod ssh_key;
pub mod two_factor;
pub mod webhook;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use crate::acting::Acting;
pub use crate::sealed::MasterKey;

const MIGRATIONS: [&str; 15] = [
    include_str!("../migrations/0001_control_plane.sql"),
    include_str!("../migrations/0002_account.sql"),
    include_str!("../migrations/0003_one_off.sql"),
    include_str!("../migrations/0004_domains.sql"),
    include_str!("../migrations/0005_pipelines.sql"),
    include_str!("../migrations/0006_edge.sql"),
    include_str!("../migrations/0007_routing.sql"),
    include_str!("../migrations/0008_cron.sql"),
    include_str!("../migrations/0009_environments.sql"),
    include_str!("../migrations/0010_drains.sql"),
    include_str!("../migrations/0011_people.sql"),
    include_str!("../migrations/0012_long_tail.sql"),
    include_str!("../migrations/0013_add_ons.sql"),
    include_str!("../migrations/0014_app_transfers.sql"),
    include_str!("../migrations/0015_dyno_protocol.sql"),
];

/// Read connections kept open; more may exist for a moment.
const READERS_KEPT_MAX: usize = 4;

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot open the database {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error(
        "the database is at schema {found}; this version of berth knows {known}. Start the newer version again, or restore the copy made before the upgrade"
    )]
    NewerSchema { found: u32, known: u32 },
    #[error("a stored value of {0} cannot be read: the database is damaged or its master key is another one")]
    Damaged(&'static str),
    #[error("database error")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the database has been closed")]
    Closed,
    /// The row that a write depends on is not there (any more).
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The write would undo something that its author may not have thought of; the same again, confirmed, does it.
    #[error("{0}")]
    Unconfirmed(String),
    /// The write is refused by a rule of the data.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    /// Nothing was written, and nothing can be until somebody makes room.
    pub fn is_disk_full(&self) -> bool {
        let full = rusqlite::ErrorCode::DiskFull;
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(full))
    }

    /// What a write belongs to has gone since somebody looked: a certificate, a pipeline, an app.
    pub fn is_orphan(&self) -> bool {
        let Self::Sqlite(rusqlite::Error::SqliteFailure(error, _text)) = self else { return false };
        error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The open database. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    key: MasterKey,
    writer: mpsc::Sender<Job>,
    readers: Mutex<Vec<Connection>>,
    changes: watch::Sender<u64>,
}

impl Store {
    /// Opens the database, making or upgrading it. A copy of the old file is kept beside it before an upgrade.
    pub fn open(path: &Path, key: MasterKey) -> Result<Self, StoreError> {
        let opening = |source| StoreError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(opening)?;
        configure(&connection).map_err(opening)?;
        migrate(&mut connection, path)?;
        change::watch(&connection).map_err(opening)?;
        let (writer, jobs) = mpsc::channel::<Job>();
        // The thread ends when the store is dropped and its channel closes.
        let spawned = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            for job in jobs {
                job(&mut connection);
            }
        });
        spawned.map_err(|error| opening(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        let (changes, _receiver) = watch::channel(0);
        Ok(Self { path: path.to_owned(), key, writer, readers: Mutex::new(Vec::new()), changes })
    }

    /// Wakes after every committed write. As long as the number stays, nothing was written that is not known by then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Runs `work` in one transaction on the writer thread: all of it is committed, or nothing.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let (acting, changes) = (Acting::current(), self.changes.clone());
        let job: Job = Box::new(move |connection| {
            let result = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(StoreError::from)
                .and_then(|transaction| {
                    let value = work(&transaction)?;
                    if let Some(acting) = &acting {
                        acting.sign(&transaction)?;
                    }
                    transaction.commit()?;
                    if let Some(acting) = &acting {
                        acting.committed();
                    }
                    Ok(value)
                });
            if result.is_ok() {
                changes.send_modify(|count| *count += 1);
            }
            // Where nobody waits any more, the write stands and was told of all the same.
            drop(reply.send(result));
        });
        self.writer.send(job).map_err(|_closed| StoreError::Closed)?;
        answer.await.map_err(|_closed| StoreError::Closed)?
    }

    /// Runs `work` on a read connection. Reads are short: they may be called from async code.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(Duration::from_secs(5))?;
                connection
            }
        };
        let result = work(&connection);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_KEPT_MAX {
            readers.push(connection);
        }
        result
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // An answered request must survive a power cut.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "on")
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    if found > 0 && found < known {
        let copy = path.with_extension(format!("before-{known}.db"));
        if !copy.exists() {
            connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
        }
    }
    for (version, sql) in (1_u32..).zip(MIGRATIONS).filter(|(version, _sql)| *version > found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
