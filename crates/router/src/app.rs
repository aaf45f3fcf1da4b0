//! An app as all threads share it: what the table says about it now, and the requests that wait for one of its dynos.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use domain::error_code::ErrorCode;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use wire::routes::{Availability, EdgeSettings, RequestLimits};

use crate::admission::{Admission, DynoLoad, Refusal, WaitFor, admit};
use crate::config::Bounds;
use crate::dyno::{Dyno, Slot};
use crate::places::AppPlaces;
use crate::random;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: Uuid,
    pub(crate) places: Arc<AppPlaces>,
    view: ArcSwap<AppView>,
    queue: Mutex<VecDeque<Waiter>>,
    /// Length of `queue`, for those who do not want to take its lock.
    waiting: AtomicUsize,
    tickets: AtomicU64,
}

/// One version of the app in the table; never changed, only replaced.
#[derive(Debug)]
pub(crate) struct AppView {
    /// `None` once the app has left the table.
    pub(crate) availability: Option<Availability>,
    pub(crate) dynos: Vec<Arc<Dyno>>,
    pub(crate) limits: RequestLimits,
    pub(crate) edge: EdgeSettings,
}

#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) slot: Slot,
    /// Every dyno is quarantined; this one is asked to see whether it is back.
    pub(crate) half_open: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    tried: Vec<u64>,
    answer: oneshot::Sender<Result<Picked, Refusal>>,
}

enum Entry {
    Picked(Picked),
    Wait(WaitFor),
    Refused(Refusal),
}

impl App {
    pub(crate) fn new(id: Uuid, view: AppView) -> Self {
        Self {
            id,
            places: Arc::default(),
            view: ArcSwap::from_pointee(view),
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
        }
    }

    pub(crate) fn view(&self) -> Arc<AppView> {
        self.view.load_full()
    }

    /// Puts a new version in force and looks again at every request that waits.
    ///
    /// The caller marks the dynos that left *after* this, so that whoever finds one marked finds the new view too.
    pub(crate) fn set_view(&self, view: AppView) {
        self.view.store(Arc::new(view));
    }

    /// Gives a slot on the best dyno, at once or after waiting for one.
    ///
    /// Cancel-safe: a request whose client leaves while it waits is taken out of the queue and never sent.
    pub(crate) async fn pick(self: &Arc<Self>, tried: &[u64], bounds: &Bounds) -> Result<Picked, Refusal> {
        let entry = self.enter(tried);
        let reason = match entry {
            // Whoever waits already is first: the free slot is about to be given to it.
            Entry::Picked(picked) if self.waiting.load(Ordering::SeqCst) == 0 => return Ok(picked),
            Entry::Picked(picked) => {
                drop(picked);
                WaitFor::Slot
            }
            Entry::Refused(refusal) => return Err(refusal),
            Entry::Wait(reason) => reason,
        };
        let deadline = Instant::now()
            + match reason {
                WaitFor::Slot => bounds.queue_wait,
                WaitFor::Boot => std::time::Duration::from_millis(self.view.load().limits.boot_wait_ms),
            };
        let (sender, receiver) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        {
            let mut queue = self.lock();
            if queue.len() >= bounds.queue_requests_max {
                return Err(Refusal::Code(ErrorCode::H11));
            }
            queue.push_back(Waiter { ticket, tried: tried.to_vec(), answer: sender });
            self.waiting.store(queue.len(), Ordering::SeqCst);
        }
        let _place = Place { app: self, ticket };
        // A slot may have become free before this request stood in the queue.
        self.dispatch();
        match timeout_at(deadline, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_closed)) => Err(Refusal::Code(ErrorCode::H99)),
            Err(_elapsed) if self.view.load().dynos.is_empty() => Err(Refusal::Code(ErrorCode::H20)),
            Err(_elapsed) => Err(Refusal::Code(ErrorCode::H11)),
        }
    }

    pub(crate) fn slot_freed(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.dispatch();
        }
    }

    /// Gives every waiting request, oldest first, what it can have now: a slot, a refusal, or more waiting.
    pub(crate) fn dispatch(self: &Arc<Self>) {
        // Slots whose request left in this very moment: dropping one comes back here, so not under the lock.
        let mut unwanted = Vec::new();
        let mut queue = self.lock();
        let mut index = 0;
        while let Some(waiter) = queue.get(index) {
            let answer = if waiter.answer.is_closed() {
                Err(Refusal::NoSuchApp)
            } else {
                match self.enter(&waiter.tried) {
                    Entry::Picked(picked) => Ok(picked),
                    Entry::Refused(refusal) => Err(refusal),
                    // The ones behind it could only have a slot that this one has tried.
                    Entry::Wait(_reason) if waiter.tried.is_empty() => break,
                    Entry::Wait(_reason) => {
                        index += 1;
                        continue;
                    }
                }
            };
            let Some(waiter) = queue.remove(index) else { break };
            unwanted.extend(waiter.answer.send(answer).err());
        }
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        drop(unwanted);
    }

    fn enter(self: &Arc<Self>, tried: &[u64]) -> Entry {
        loop {
            let view = self.view.load();
            let loads: Vec<DynoLoad> = view.dynos.iter().map(|dyno| dyno.load(tried)).collect();
            let (index, half_open) = match admit(view.availability, &loads, random::next()) {
                Admission::Take { index, half_open } => (index, half_open),
                Admission::Wait(reason) => return Entry::Wait(reason),
                // All are marked as removed: the view that replaces this one is in force by now.
                Admission::Refuse(Refusal::AllTried) if !self.is_current(&view) => continue,
                Admission::Refuse(refusal) => return Entry::Refused(refusal),
            };
            let dyno = &view.dynos[index];
            // The count may have changed since the choice; then another thread got on, and the choice is made again.
            if let Some(slot) = dyno.try_take(self, loads[index].in_flight) {
                return Entry::Picked(Picked { slot, half_open });
            }
        }
    }

    fn is_current(&self, view: &Arc<AppView>) -> bool {
        Arc::ptr_eq(view, &self.view.load())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue that is given up when the request goes away.
struct Place<'a> {
    app: &'a Arc<App>,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.app.lock();
        if let Some(index) = queue.iter().position(|waiter| waiter.ticket == self.ticket) {
            queue.remove(index);
            self.app.waiting.store(queue.len(), Ordering::SeqCst);
        }
    }
}
