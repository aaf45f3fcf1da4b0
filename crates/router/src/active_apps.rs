//! The apps whose dynos are busy, and the thread that looks at them: only there is something to learn or to refuse.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::app::App;
use crate::config::Bounds;
use crate::places::ByAll;

/// How often limits and queues are looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// A process that is late by so much was frozen, with everything that was to come to it.
const STANDSTILL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct ActiveApps {
    pub(crate) bounds: Bounds,
    /// What all apps have together.
    pub(crate) held: Arc<ByAll>,
    added: Mutex<Vec<Arc<App>>>,
    bell: Notify,
}

impl ActiveApps {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let held = Arc::new(ByAll::new(bounds.held_bytes_max));
        Self { bounds, held, added: Mutex::default(), bell: Notify::new() }
    }

    pub(crate) fn add(&self, app: Arc<App>) {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).push(app);
        self.bell.notify_one();
    }

    /// Looks until it is dropped. Sleeps while no app is busy.
    pub(crate) async fn look_after(&self) {
        let mut active: Vec<Arc<App>> = Vec::new();
        loop {
            let mut stood_still = false;
            if active.is_empty() {
                self.bell.notified().await;
            } else {
                let since = Instant::now();
                tokio::time::sleep(PERIOD).await;
                stood_still = since.elapsed() >= STANDSTILL;
            }
            if stood_still {
                active.iter().for_each(|app| app.note_standstill());
            }
            active.append(&mut self.added.lock().unwrap_or_else(PoisonError::into_inner));
            active.retain(|app| app.look(&self.bounds));
        }
    }
}
