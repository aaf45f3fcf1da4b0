//! What one worker thread puts on record: a line per request in the log, and its part in the counts.
//!
//! Lines are collected and handed over together, because waking another thread for each costs more than the line.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use domain::error_code::ErrorCode;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::log_thread::{LogBatch, LogSender};
use crate::request_log::{Failure, LineView};
use crate::traffic::Traffic;

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
    traffic: Traffic,
    /// The router has waited long enough for requests to end.
    is_cut_off: Cell<bool>,
}

impl WorkerLog {
    pub(crate) fn new(sender: LogSender, lines_max: usize, traffic: Traffic) -> Self {
        Self {
            sender,
            lines_max,
            batch: RefCell::default(),
            begun: Notify::new(),
            traffic,
            is_cut_off: Cell::new(false),
        }
    }

    /// From now on a request that ends unanswered does so because the router ends.
    pub(crate) fn cut_off(&self) {
        self.is_cut_off.set(true);
    }

    /// A request has ended.
    pub(crate) fn request(&self, app: Uuid, request: &LineView<'_>) {
        let mut request = *request;
        if self.is_cut_off.get() && request.failure.is_some_and(|failure| failure.code == ErrorCode::H27) {
            request.failure = Some(Failure { code: ErrorCode::H24, cause: None });
            request.status = 503;
        }
        let request = &request;
        self.traffic.count(app, request);
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            self.begun.notify_one();
        }
        batch.push(app, |text| request.render(text));
        if batch.bytes() >= BATCH_BYTES {
            self.sender.send(std::mem::take(&mut batch), self.lines_max);
        }
    }

    /// The same for one without a line.
    pub(crate) fn unlogged_request(&self, app: Uuid, request: &LineView<'_>) {
        self.traffic.count(app, request);
    }

    /// Hands lines and counts over in time, until it is aborted.
    pub(crate) async fn hand_over(&self) {
        tokio::join!(self.hand_lines_over(), self.traffic.hand_over());
    }

    async fn hand_lines_over(&self) {
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
