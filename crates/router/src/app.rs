//! An app as all threads share it: what the table says about it now, and the requests that wait for one of its dynos.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use domain::admission::learner::{DynoCount, Learner};
use domain::admission::queue::{Offer, Queue, QueueRules, Shed};
use domain::admission::retry_budget::RetryBudget;
use domain::error_code::ErrorCode;
use tokio::sync::oneshot;
use tokio::time::timeout;
use uuid::Uuid;
use wire::routes::{AdmissionSettings, AppAdmission, Availability, EdgeSettings, RequestLimits, StuckDyno};

use crate::active_apps::ActiveApps;
use crate::admission::{Admission, Refusal, WaitFor, admit, rests};
use crate::clock;
use crate::config::Bounds;
use crate::dyno::{Dyno, Slot};
use crate::log_thread::unix_us;
use crate::places::AppPlaces;
use crate::random;

/// How long after a dyno was last at its limit there may still be something to learn.
const QUIET_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: Uuid,
    /// The app whose log its requests stand in.
    pub(crate) logged_for: Uuid,
    pub(crate) places: Arc<AppPlaces>,
    view: ArcSwap<AppView>,
    state: Mutex<State>,
    /// Requests in `state`, for those who do not want to take its lock.
    waiting: AtomicUsize,
    tickets: AtomicU64,
    /// Requests so far; the retry budget is a share of them.
    requests: AtomicU64,
    full_at_us: AtomicU64,
    /// Whether it is among the apps that the admission thread looks at.
    is_active: AtomicBool,
    active_apps: Arc<ActiveApps>,
}

/// What only one thread at a time decides about.
#[derive(Debug, Default)]
struct State {
    /// Those that wait: for a slot of a busy dyno, for a dyno to start, or for the app to be resumed.
    queue: Queue<Waiter>,
    /// `None` where the formation declares how many requests a dyno may have.
    learner: Option<Learner>,
    budget: RetryBudget,
    budgeted: u64,
    /// Until then requests were, or will be, held.
    held_until: Duration,
}

/// One version of the app in the table; never changed, only replaced.
#[derive(Debug)]
pub(crate) struct AppView {
    /// `None` once the app has left the table.
    pub(crate) availability: Option<Availability>,
    pub(crate) dynos: Vec<Arc<Dyno>>,
    pub(crate) limits: RequestLimits,
    pub(crate) edge: EdgeSettings,
    pub(crate) admission: AdmissionSettings,
}

#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) slot: Slot,
    /// Every dyno is quarantined; this one is asked to see whether it is back.
    pub(crate) half_open: bool,
}

/// What an app has under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) in_flight: u64,
    pub(crate) queued: u64,
    /// Requests and upgraded connections of clients.
    pub(crate) connections: u64,
}

type Answer = Result<Picked, Refusal>;

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    tried: Vec<u64>,
    wanted: Option<Uuid>,
    answer: oneshot::Sender<Answer>,
}

enum Entry {
    Picked(Picked),
    Wait(WaitFor),
    Refused(Refusal),
}

impl App {
    pub(crate) fn new(id: Uuid, logged_for: Uuid, view: AppView, active_apps: Arc<ActiveApps>) -> Self {
        let app = Self {
            id,
            logged_for,
            places: Arc::new(AppPlaces::new(active_apps.held.clone())),
            view: ArcSwap::from_pointee(view),
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            full_at_us: AtomicU64::new(0),
            is_active: AtomicBool::new(false),
            active_apps,
        };
        app.note_view();
        app
    }

    pub(crate) fn view(&self) -> Arc<AppView> {
        self.view.load_full()
    }

    /// Puts a new version in force.
    ///
    /// The caller marks the dynos that left *after* this, so that whoever finds one marked finds the new view too, and
    /// then calls [`App::dispatch`].
    pub(crate) fn set_view(&self, view: AppView) {
        self.view.store(Arc::new(view));
        self.note_view();
    }

    fn note_view(&self) {
        let mut state = self.lock();
        self.limit_dynos(&mut state);
        let (now, held_for) = (clock::now(), self.held_for());
        state.held_until = if held_for.is_zero() { state.held_until.min(now) } else { now + held_for };
    }

    /// Gives a slot on the best dyno, at once or after waiting for one: on `wanted` if that has one.
    ///
    /// Cancel-safe: a request whose client leaves while it waits is taken out of the queue and never sent.
    pub(crate) async fn pick(self: &Arc<Self>, tried: &[u64], wanted: Option<Uuid>, bounds: &Bounds) -> Answer {
        self.requests.fetch_add(u64::from(tried.is_empty()), Ordering::Relaxed);
        // Whoever waits already is first: a free slot is about to be given to it.
        let is_first = self.waiting.load(Ordering::SeqCst) == 0;
        match self.enter(tried, wanted) {
            Entry::Picked(picked) if is_first => Ok(picked),
            Entry::Picked(picked) => {
                drop(picked);
                self.wait(tried, wanted, bounds).await
            }
            Entry::Refused(refusal) => Err(refusal),
            Entry::Wait(_reason) => self.wait(tried, wanted, bounds).await,
        }
    }

    async fn wait(self: &Arc<Self>, tried: &[u64], wanted: Option<Uuid>, bounds: &Bounds) -> Answer {
        let began = clock::now();
        let (sender, mut receiver) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter { ticket, tried: tried.to_vec(), wanted, answer: sender };
        let entered = {
            let mut state = self.lock();
            let rules = self.rules(&state, bounds);
            let entered = state.queue.enter(waiter, clock::now(), &rules);
            self.note_waiting(&state);
            entered
        };
        match entered {
            Ok(oldest) => refuse(oldest),
            Err(Shed { retry_after, .. }) => {
                return Err(Refusal::Shed { retry_after: retry_after.max(self.held_for()) });
            }
        }
        let mut place = Place { app: self, ticket, is_taken: true };
        self.activate();
        // A slot may have become free before this request stood in the queue.
        self.dispatch(bounds);
        loop {
            let deadline = self.deadline(began, bounds);
            match timeout(deadline.saturating_sub(clock::now()), &mut receiver).await {
                Ok(answer) => {
                    place.is_taken = false;
                    return answer.unwrap_or(Err(Refusal::Code(ErrorCode::H99)));
                }
                // The app was paused meanwhile, or for longer, or its dynos are there now.
                Err(_elapsed) if self.deadline(began, bounds) > deadline => {}
                Err(_elapsed) if self.view.load().dynos.is_empty() => return Err(Refusal::Code(ErrorCode::H20)),
                Err(_elapsed) => return Err(Refusal::Shed { retry_after: Duration::from_secs(1) }),
            }
        }
    }

    /// When a request that began to wait at `began` has waited for too long, as things are now. Where it waits for a dyno
    /// that is busy, the queue refuses it earlier.
    fn deadline(&self, began: Duration, bounds: &Bounds) -> Duration {
        let view = self.view.load();
        let (held_until, rested_until) = {
            let state = self.lock();
            (state.held_until, state.queue.rested_until())
        };
        let began = began.max(held_until);
        if view.dynos.is_empty() {
            return began + Duration::from_millis(view.limits.boot_wait_ms);
        }
        began.max(rested_until) + Duration::from_millis(view.limits.first_byte_ms).max(bounds.queue_wait)
    }

    /// For how long its requests will be held from now on.
    fn held_for(&self) -> Duration {
        let until = self.view.load().admission.held_until_unix_ms;
        until.map_or(Duration::ZERO, |until| Duration::from_millis(until.saturating_sub(unix_us() / 1000)))
    }

    /// Whether new requests wait whatever dynos there are.
    pub(crate) fn is_held(&self) -> bool {
        !self.held_for().is_zero()
    }

    pub(crate) fn slot_freed(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.dispatch(&self.active_apps.bounds);
        }
    }

    /// Gives the requests that wait what they can have now: a slot, a refusal, or more waiting.
    pub(crate) fn dispatch(self: &Arc<Self>, bounds: &Bounds) {
        let mut answers = Vec::new();
        {
            let mut state = self.lock();
            let rules = self.rules(&state, bounds);
            let mut given = Vec::new();
            let gone = state.queue.serve(clock::now(), &rules, |waiter| {
                if waiter.answer.is_closed() {
                    given.push(None);
                    return Offer::Gone;
                }
                match self.enter(&waiter.tried, waiter.wanted) {
                    Entry::Picked(picked) => given.push(Some(Ok(picked))),
                    Entry::Refused(refusal) => given.push(Some(Err(refusal))),
                    // The others could only have a slot that this one has tried.
                    Entry::Wait(_reason) if waiter.tried.is_empty() => return Offer::Stop,
                    Entry::Wait(_reason) => return Offer::Pass,
                }
                Offer::Taken
            });
            answers.extend(gone.into_iter().zip(given));
            self.note_waiting(&state);
        }
        // Not under the lock: a slot whose request left in this very moment comes back here when it is dropped.
        for (waiter, answer) in answers {
            if let Some(answer) = answer {
                drop(waiter.answer.send(answer));
            }
        }
    }

    /// One look of the admission thread: learns, refuses what has waited too long. Says whether more looks are needed.
    pub(crate) fn look(self: &Arc<Self>, bounds: &Bounds) -> bool {
        let now = clock::now();
        let shed = {
            let mut state = self.lock();
            let waiting = state.queue.oldest(now);
            if let Some(learner) = &mut state.learner {
                let view = self.view.load();
                let counts: Vec<DynoCount> = view.dynos.iter().map(|dyno| dyno.count()).collect();
                learner.step(now, &counts, waiting);
            }
            self.limit_dynos(&mut state);
            let rules = self.rules(&state, bounds);
            let shed = state.queue.expire(now, &rules);
            self.note_waiting(&state);
            shed
        };
        refuse(shed);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.dispatch(bounds);
            return true;
        }
        let quiet = clock::now_us().saturating_sub(self.full_at_us.load(Ordering::Relaxed));
        if Duration::from_micros(quiet) < QUIET_AFTER {
            return true;
        }
        self.is_active.store(false, Ordering::SeqCst);
        // Whoever came to wait before that line did not register the app.
        self.waiting.load(Ordering::SeqCst) > 0 && !self.is_active.swap(true, Ordering::SeqCst)
    }

    /// The router stood still until now.
    pub(crate) fn note_standstill(&self) {
        if let Some(learner) = &mut self.lock().learner {
            learner.note_standstill(clock::now());
        }
    }

    /// A dyno has reached its limit.
    pub(crate) fn note_full(self: &Arc<Self>) {
        self.full_at_us.store(clock::now_us(), Ordering::Relaxed);
        self.activate();
    }

    fn activate(self: &Arc<Self>) {
        if !self.is_active.load(Ordering::SeqCst) && !self.is_active.swap(true, Ordering::SeqCst) {
            self.active_apps.add(self.clone());
        }
    }

    /// Whether one more request may be sent to another dyno after one has refused it.
    pub(crate) fn may_retry(&self) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let mut state = self.lock();
        let new = requests.saturating_sub(state.budgeted);
        state.budgeted = requests;
        state.budget.add_requests(new, clock::now());
        state.budget.take(clock::now())
    }

    /// Without a lock; `None` if there is nothing under way.
    pub(crate) fn gauges(&self) -> Option<Gauges> {
        let in_flight: u64 = self.view.load().dynos.iter().map(|dyno| u64::from(dyno.in_flight())).sum();
        let queued = self.waiting.load(Ordering::Relaxed) as u64;
        let connections = self.places.taken() as u64;
        (in_flight + queued + connections > 0).then_some(Gauges { in_flight, queued, connections })
    }

    /// `None` while there is nothing to say.
    pub(crate) fn admission(&self) -> Option<AppAdmission> {
        let in_flight = self.view.load().dynos.iter().map(|dyno| dyno.in_flight()).sum();
        let state = self.lock();
        let latency = state.learner.as_ref().and_then(Learner::latency);
        let waiting = state.queue.len();
        if waiting == 0 && latency.is_none() && in_flight == 0 {
            return None;
        }
        Some(AppAdmission {
            app: self.id,
            in_flight,
            queued: u32::try_from(waiting).unwrap_or(u32::MAX),
            overloaded: state.queue.is_overloaded(),
            workers: state.learner.as_ref().filter(|_learner| latency.is_some()).map(Learner::hint),
            latency_ms: latency.map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
        })
    }

    /// Its dynos with requests that have no answer after twice the time that clients wait for one, and no client.
    pub(crate) fn stuck(&self) -> Vec<StuckDyno> {
        let view = self.view.load();
        let age = 2 * Duration::from_millis(view.limits.first_byte_ms);
        view.dynos.iter().filter_map(|dyno| dyno.stuck(age)).collect()
    }

    /// Gives every dyno the limit that is learned or declared for it.
    fn limit_dynos(&self, state: &mut State) {
        let view = self.view.load();
        if view.dynos.iter().all(|dyno| dyno.is_declared()) {
            // An app without dynos keeps what it has learned for those that are on their way.
            if !view.dynos.is_empty() {
                state.learner = None;
            }
            return;
        }
        let learner = state.learner.get_or_insert_with(|| Learner::new(view.admission.workers_hint));
        for dyno in view.dynos.iter().filter(|dyno| !dyno.is_declared()) {
            dyno.set_limit(learner.limit(dyno.serial));
        }
    }

    fn rules(&self, state: &State, bounds: &Bounds) -> QueueRules {
        let view = self.view.load();
        let target = Duration::from_millis(view.admission.queue_target_ms);
        let at_rest = rests(view.availability, self.is_held(), view.dynos.len());
        let (sheds, patience) = if state.queue.is_working_off() {
            (false, Duration::from_millis(view.limits.first_byte_ms))
        } else {
            (state.learner.as_ref().is_none_or(Learner::sheds), self.patience(bounds))
        };
        QueueRules {
            target: target.max(Duration::from_millis(1)),
            patience: if sheds { bounds.queue_wait } else { patience }.max(target),
            length_max: if sheds || at_rest { bounds.queue_requests_max } else { bounds.app_requests_max },
            service: state.learner.as_ref().and_then(Learner::latency),
            sheds,
            after_stall: state.learner.as_ref().is_some_and(Learner::is_after_stall),
            at_rest,
        }
    }

    /// How long a request waits for a slot while it is not known whether the limit is right: without one, it would have
    /// been with a dyno for as long.
    fn patience(&self, bounds: &Bounds) -> Duration {
        let view = self.view.load();
        if view.dynos.iter().all(|dyno| dyno.is_declared()) {
            return bounds.queue_wait;
        }
        Duration::from_millis(view.limits.first_byte_ms)
    }

    fn enter(self: &Arc<Self>, tried: &[u64], wanted: Option<Uuid>) -> Entry {
        loop {
            let view = self.view.load();
            let held = view.admission.held_until_unix_ms.is_some_and(|until| unix_us() / 1000 < until);
            let loads = view.dynos.iter().map(|dyno| dyno.load(tried, wanted));
            let (index, in_flight, half_open) = match admit(view.availability, held, loads, random::next()) {
                Admission::Take { index, in_flight, half_open } => (index, in_flight, half_open),
                Admission::Wait(reason) => return Entry::Wait(reason),
                // All are marked as removed: the view that replaces this one is in force by now.
                Admission::Refuse(Refusal::AllTried) if !self.is_current(&view) => continue,
                Admission::Refuse(refusal) => return Entry::Refused(refusal),
            };
            // The count may have changed since the choice; then another thread got on, and the choice is made again.
            if let Some(slot) = view.dynos[index].try_take(self, in_flight) {
                return Entry::Picked(Picked { slot, half_open });
            }
        }
    }

    fn is_current(&self, view: &Arc<AppView>) -> bool {
        Arc::ptr_eq(view, &self.view.load())
    }

    fn note_waiting(&self, state: &State) {
        self.waiting.store(state.queue.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(shed: impl IntoIterator<Item = Shed<Waiter>>) {
    for Shed { value, retry_after } in shed {
        // Its client may have left in this very moment.
        drop(value.answer.send(Err(Refusal::Shed { retry_after })));
    }
}

/// A place in the queue that is given up when the request goes away.
struct Place<'a> {
    app: &'a Arc<App>,
    ticket: u64,
    /// Whoever has been called stands in the queue no longer: nothing needs to be looked for.
    is_taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            let mut state = self.app.lock();
            state.queue.leave(|waiter| waiter.ticket == self.ticket);
            self.app.note_waiting(&state);
        }
    }
}
