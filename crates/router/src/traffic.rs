//! What one worker thread counts of the apps' requests until it hands that over, once a second.
//!
//! Counting is a look into a map of its own and a few additions: no thread waits for another one, and an app without
//! requests is not in the map.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use domain::error_code::ErrorCode;
use hdrhistogram::Histogram;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use uuid::Uuid;
use wire::traffic::{AppTraffic, Times};

use crate::log_thread::unix_us;
use crate::request_log::LineView;

/// Hand-overs that may wait for the status thread. If it is that far behind, threads go on counting by themselves.
pub(crate) const TALLIES_MAX: usize = 1_024;

const SECOND_US: u64 = 1_000_000;

pub(crate) type Tallies = HashMap<Uuid, Box<Tally>>;

/// One app's requests.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    /// From 1xx to 5xx.
    pub(crate) statuses: [u64; 5],
    /// Few: one that counts many kinds of failures has other worries than a search.
    pub(crate) codes: Vec<(ErrorCode, u64)>,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) queue: Distribution,
    pub(crate) connect: Distribution,
    pub(crate) service: Distribution,
}

/// A histogram of microseconds that grows as far as it must.
#[derive(Debug)]
pub(crate) struct Distribution {
    histogram: Histogram<u32>,
    pub(crate) sum_us: u64,
}

impl Distribution {
    fn new() -> Self {
        // Two digits: one per cent, in a few kilobytes.
        let histogram = Histogram::new(2).expect("two significant digits are allowed");
        Self { histogram, sum_us: 0 }
    }

    fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.histogram.record(us).expect("a histogram that resizes takes every value");
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("a histogram that resizes takes every other");
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// Microseconds and how often, ascending.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_since_last_iteration()))
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            statuses: [0; 5],
            codes: Vec::new(),
            request_bytes: 0,
            response_bytes: 0,
            queue: Distribution::new(),
            connect: Distribution::new(),
            service: Distribution::new(),
        }
    }

    fn count(&mut self, request: &LineView<'_>) {
        self.requests += 1;
        if let Some(class) = self.statuses.get_mut(usize::from(request.status / 100).saturating_sub(1)) {
            *class += 1;
        }
        if let Some(failure) = request.failure {
            self.count_code(failure.code, 1);
        }
        self.request_bytes += request.request_bytes;
        self.response_bytes += request.bytes;
        self.queue.record(request.queue);
        self.connect.record(request.connect);
        self.service.record(request.service);
    }

    fn count_code(&mut self, code: ErrorCode, count: u64) {
        match self.codes.iter_mut().find(|(known, _count)| *known == code) {
            Some((_code, known)) => *known += count,
            None => self.codes.push((code, count)),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(class, count)| *class += count);
        other.codes.iter().for_each(|&(code, count)| self.count_code(code, count));
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.queue.add(&other.queue);
        self.connect.add(&other.connect);
        self.service.add(&other.service);
    }

    pub(crate) fn to_wire(&self, app: Uuid) -> AppTraffic {
        let times = |distribution: &Distribution| Times(distribution.counts().collect());
        AppTraffic {
            app,
            requests: self.requests,
            statuses: self.statuses,
            codes: self.codes.iter().map(|&(code, count)| (code.code().to_owned(), count)).collect(),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            queue: times(&self.queue),
            connect: times(&self.connect),
            service: times(&self.service),
            ..AppTraffic::default()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Traffic {
    apps: RefCell<Tallies>,
    sender: Sender<Tallies>,
}

impl Traffic {
    pub(crate) fn new(sender: Sender<Tallies>) -> Self {
        Self { apps: RefCell::default(), sender }
    }

    pub(crate) fn count(&self, app: Uuid, request: &LineView<'_>) {
        self.apps.borrow_mut().entry(app).or_insert_with(|| Box::new(Tally::new())).count(request);
    }

    /// Hands over at the end of each second, until it is aborted.
    pub(crate) async fn hand_over(&self) {
        loop {
            tokio::time::sleep(until_next_second()).await;
            self.flush();
        }
    }

    fn flush(&self) {
        let tallies = self.apps.take();
        if tallies.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(tallies)) = self.sender.try_send(tallies) {
            self.apps.replace(tallies);
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Until the wall clock's next whole second, which all threads share.
pub(crate) fn until_next_second() -> Duration {
    Duration::from_micros(SECOND_US - unix_us() % SECOND_US)
}
