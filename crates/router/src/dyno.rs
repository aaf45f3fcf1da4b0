//! A dyno as all threads share it: how many requests it has, how many it may have, whether it may get more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use wire::routes::DynoRoute;

use crate::admission::{DynoLoad, Standing};
use crate::app::App;

/// Set in [`Dyno::state`] once the dyno has left the table.
///
/// It shares the word with the count: taking a slot is one compare-and-swap of both, so that no request can be given
/// to a dyno after its removal has been acknowledged, on any thread. Zero-downtime deploys rest on this.
const REMOVED: u32 = 1 << 31;
const NO_LIMIT: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Dyno {
    pub(crate) id: Uuid,
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    /// Names this dyno in the connection pools and in a request's list of tried dynos.
    pub(crate) serial: u64,
    /// In-flight count and [`REMOVED`].
    state: AtomicU32,
    limit: AtomicU32,
    /// Milliseconds since `epoch`; 0 is never.
    quarantined_until: AtomicU64,
    epoch: Instant,
    /// True once its upgraded connections shall end.
    closing: watch::Sender<bool>,
}

impl Dyno {
    pub(crate) fn new(route: &DynoRoute) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Self {
            id: route.dyno,
            name: route.name.as_str().into(),
            address: route.address,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            state: AtomicU32::new(REMOVED),
            limit: AtomicU32::new(route.concurrency.unwrap_or(NO_LIMIT)),
            quarantined_until: AtomicU64::new(0),
            epoch: Instant::now(),
            closing: watch::Sender::new(false),
        }
    }

    /// Puts the dyno (back) into the table.
    pub(crate) fn enter(&self, concurrency: Option<u32>) {
        self.limit.store(concurrency.unwrap_or(NO_LIMIT), Ordering::SeqCst);
        if self.state.fetch_and(!REMOVED, Ordering::SeqCst) & REMOVED != 0 {
            self.closing.send_replace(false);
        }
    }

    /// Takes the dyno out of the table: after this returns no request is given to it.
    pub(crate) fn remove(&self) {
        self.state.fetch_or(REMOVED, Ordering::SeqCst);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.state.load(Ordering::SeqCst) & !REMOVED
    }

    pub(crate) fn load(&self, tried: &[u64]) -> DynoLoad {
        let state = self.state.load(Ordering::SeqCst);
        let limit = self.limit.load(Ordering::SeqCst);
        let standing = if state & REMOVED != 0 || tried.contains(&self.serial) {
            Standing::Excluded
        } else if self.quarantined_until.load(Ordering::Relaxed) > self.now_ms() {
            Standing::Quarantined
        } else {
            Standing::Healthy
        };
        DynoLoad { in_flight: state & !REMOVED, limit: (limit != NO_LIMIT).then_some(limit), standing }
    }

    /// Takes a slot if the dyno is still in the table and has exactly `in_flight` requests, as the choice saw it.
    pub(crate) fn try_take(self: &Arc<Self>, app: &Arc<App>, in_flight: u32) -> Option<Slot> {
        self.state
            .compare_exchange(in_flight, in_flight + 1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
            .then(|| Slot { app: app.clone(), dyno: self.clone() })
    }

    pub(crate) fn quarantine(&self, duration: Duration) {
        let until = self.now_ms() + u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2);
        self.quarantined_until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn end_quarantine(&self) {
        self.quarantined_until.store(0, Ordering::Relaxed);
    }

    pub(crate) fn close_upgraded(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

/// One request's place on a dyno. Dropping it says that the dyno has answered or closed.
#[derive(Debug)]
pub(crate) struct Slot {
    app: Arc<App>,
    pub(crate) dyno: Arc<Dyno>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.dyno.state.fetch_sub(1, Ordering::SeqCst);
        self.app.slot_freed();
    }
}
