//! The request log of one worker thread: lines are collected and handed over together, because waking another thread
//! for each costs more than the line.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::log_thread::{LogBatch, LogSender};

/// How long a line may wait for others.
const COLLECT: Duration = Duration::from_millis(20);
/// A batch of this size is handed over at once.
const BATCH_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct WorkerLog {
    sender: LogSender,
    lines_max: usize,
    batch: RefCell<LogBatch>,
    /// Rings when the first line of a batch is there.
    begun: Notify,
}

impl WorkerLog {
    pub(crate) fn new(sender: LogSender, lines_max: usize) -> Self {
        Self { sender, lines_max, batch: RefCell::default(), begun: Notify::new() }
    }

    /// Adds a line that `render` appends to a text.
    pub(crate) fn line(&self, app: Uuid, render: impl FnOnce(&mut String)) {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        batch.push(app, render);
        if batch.bytes() >= BATCH_BYTES {
            self.sender.send(std::mem::take(&mut batch), self.lines_max);
        }
    }

    /// Hands lines over in time, until it is aborted.
    pub(crate) async fn hand_over(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(COLLECT).await;
            self.flush();
        }
    }

    fn flush(&self) {
        let batch = self.batch.take();
        if !batch.is_empty() {
            self.sender.send(batch, self.lines_max);
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}
