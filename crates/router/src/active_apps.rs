//! The apps whose dynos are busy, and the thread that looks at them: only there is something to learn or to refuse.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::app::App;
use crate::config::Bounds;

/// How often limits and queues are looked at.
const PERIOD: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(crate) struct ActiveApps {
    pub(crate) bounds: Bounds,
    added: Mutex<Vec<Arc<App>>>,
    bell: Notify,
}

impl ActiveApps {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, added: Mutex::default(), bell: Notify::new() }
    }

    pub(crate) fn add(&self, app: Arc<App>) {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).push(app);
        self.bell.notify_one();
    }

    /// Looks until it is dropped. Sleeps while no app is busy.
    pub(crate) async fn look_after(&self) {
        let mut active: Vec<Arc<App>> = Vec::new();
        loop {
            if active.is_empty() {
                self.bell.notified().await;
            } else {
                tokio::time::sleep(PERIOD).await;
            }
            active.append(&mut self.added.lock().unwrap_or_else(PoisonError::into_inner));
            active.retain(|app| app.look(&self.bounds));
        }
    }
}
