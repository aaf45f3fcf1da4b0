//! Keeps one task for each drain in the store.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use domain::display_chain::display_chain;
use domain::id::LogDrainId;
use store::Store;
use store::log_drain::LogDrain;
use telemetry::log_store::LogStore;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};

use crate::DeliveryConfig;
use crate::connector::Connector;
use crate::cursor;
use crate::drain_task::DrainTask;
use crate::roots::{RootsError, roots};

/// Besides on every change: for drains whose task ended with an error.
const PERIOD: Duration = Duration::from_secs(10);

/// The running drains.
#[derive(Debug)]
pub struct Drains {
    task: JoinHandle<()>,
}

impl Drains {
    /// Starts to serve the store's drains until `stop` is true.
    pub fn start(
        config: DeliveryConfig,
        store: Arc<Store>,
        logs: Arc<LogStore>,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, RootsError> {
        let roots = roots(config.authorities.as_deref())?;
        let connector = Connector::new(roots, &config.allowed_networks);
        let supervisor = Supervisor { config, connector, store, logs, tasks: HashMap::new(), known: HashSet::new() };
        Ok(Self { task: tokio::spawn(supervisor.run(stop)) })
    }

    /// Waits until every drain has written down how far it is.
    pub async fn join(self) {
        if let Err(error) = self.task.await {
            error!(%error, "the log drains ended early");
        }
    }
}

struct Supervisor {
    config: DeliveryConfig,
    connector: Connector,
    store: Arc<Store>,
    logs: Arc<LogStore>,
    tasks: HashMap<LogDrainId, JoinHandle<()>>,
    /// At the last look.
    known: HashSet<LogDrainId>,
}

impl Supervisor {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.store.changes();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            changes.borrow_and_update();
            match self.store.all_log_drains() {
                Ok(wanted) => self.adjust(wanted).await,
                Err(error) => error!(error = display_chain(&error), "cannot read the log drains"),
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                _tick = ticks.tick() => {}
                _stopped = stop.wait_for(|&stop| stop) => break,
            }
        }
        for (_id, task) in self.tasks.drain() {
            end(task).await;
        }
    }

    async fn adjust(&mut self, wanted: Vec<LogDrain>) {
        let ids: HashSet<LogDrainId> = wanted.iter().map(|drain| drain.id).collect();
        let gone: Vec<LogDrainId> = self.tasks.keys().filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            if let Some(task) = self.tasks.remove(&id) {
                end(task).await;
            }
        }
        if self.known != ids {
            self.forget_cursors(&ids);
            self.known = ids;
        }
        self.tasks.retain(|_id, task| !task.is_finished());
        for drain in wanted {
            if !self.tasks.contains_key(&drain.id) {
                self.start_task(&drain);
            }
        }
    }

    fn start_task(&mut self, drain: &LogDrain) {
        let id = drain.id;
        let task = match DrainTask::new(drain, &self.config, &self.connector, &self.logs) {
            Ok(task) => task,
            Err(error) => {
                warn!(drain.id = %id, error = display_chain(&error), "cannot start a log drain");
                return;
            }
        };
        let running = tokio::spawn(async move {
            if let Err(error) = task.run().await {
                warn!(drain.id = %id, error = display_chain(&error), "a log drain ended; it starts again");
            }
        });
        self.tasks.insert(id, running);
    }

    /// Removes the files of drains that are no more.
    fn forget_cursors(&self, known: &HashSet<LogDrainId>) {
        let Ok(files) = fs::read_dir(cursor::directory(&self.config.data_dir)) else { return };
        for path in files.flatten().map(|file| file.path()) {
            let id = path.file_stem().and_then(OsStr::to_str).and_then(LogDrainId::parse);
            if id.is_some_and(|id| !known.contains(&id))
                && let Err(error) = fs::remove_file(&path)
            {
                warn!(path = %path.display(), %error, "cannot remove the file of a log drain that is gone");
            }
        }
    }
}

/// Ends a task and waits until it has dropped what it held.
async fn end(task: JoinHandle<()>) {
    task.abort();
    // Ended by us, or before.
    drop(task.await);
}
