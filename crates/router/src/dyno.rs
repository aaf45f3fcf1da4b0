//! A dyno as all threads share it: how many requests it has, how many it may have, whether it may get more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use domain::admission::choice::{DynoLoad, RAMP_FULL, Standing};
use domain::admission::learner::{DynoCount, WORKERS_START};
use tokio::sync::watch;
use uuid::Uuid;
use wire::routes::{DynoProtocol, DynoRoute, StuckDyno};

use crate::app::App;
use crate::clock;
use crate::in_flight::Count;
use crate::orphans::Orphans;
use crate::places::LeftPlace;
use crate::quarantine::{Quarantine, Trust};

/// Set in [`Dyno::state`] once the dyno has left the table.
///
/// It shares the word with the count: taking a slot is one compare-and-swap of both, so that no request can be given
/// to a dyno after its removal has been acknowledged, on any thread. Zero-downtime deploys rest on this.
const REMOVED: u32 = 1 << 31;

/// In place of a declared limit where there is none.
const UNDECLARED: u32 = u32::MAX;

/// How long a dyno's share grows after it came into the table, and with how much of it that begins.
const RAMP: Duration = Duration::from_secs(5);
const RAMP_START: u32 = RAMP_FULL / 8;

#[derive(Debug)]
pub(crate) struct Dyno {
    pub(crate) id: Uuid,
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    /// Names this dyno in the connection pools and in a request's list of tried dynos.
    pub(crate) serial: u64,
    /// In-flight count and [`REMOVED`].
    state: AtomicU32,
    /// How many requests it may have: as the formation declares, or [`UNDECLARED`], and as was learned. They are kept
    /// apart because whoever has just learned may not know that a limit is declared since.
    declared: AtomicU32,
    learned: AtomicU32,
    weight: AtomicU32,
    h2c: AtomicBool,
    /// Requests that have become conversations of their own and no longer count against a limit that was learned.
    conversations: AtomicU32,
    /// What a router that this one took over from still has in flight there, as far as it counts against the limit.
    elsewhere: AtomicU32,
    /// Since when there are exactly as many requests as the limit allows, in microseconds; 0 while there are not.
    full_since_us: AtomicU64,
    full_us: AtomicU64,
    /// Requests that ended while the dyno was full.
    completions: AtomicU64,
    /// How long these had been here, all together, and the sum of the squares, which wraps around.
    held_us: AtomicU64,
    held_squares_us: AtomicU64,
    /// Requests that ended, those apart that had become conversations.
    answers: AtomicU64,
    quarantine: Quarantine,
    /// When its share is whole; 0 once that is past.
    ramp_ends_us: AtomicU64,
    /// True once its upgraded connections shall end.
    closing: watch::Sender<bool>,
    pub(crate) orphans: Arc<Orphans>,
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
            declared: AtomicU32::new(route.concurrency.unwrap_or(UNDECLARED)),
            learned: AtomicU32::new(WORKERS_START),
            weight: AtomicU32::new(route.weight),
            h2c: AtomicBool::new(false),
            conversations: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            full_since_us: AtomicU64::new(0),
            full_us: AtomicU64::new(0),
            completions: AtomicU64::new(0),
            held_us: AtomicU64::new(0),
            held_squares_us: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            quarantine: Quarantine::default(),
            ramp_ends_us: AtomicU64::new(clock::micros(clock::now() + RAMP)),
            closing: watch::Sender::new(false),
            orphans: Arc::default(),
        }
    }

    pub(crate) fn protocol(&self) -> DynoProtocol {
        if self.h2c.load(Ordering::Relaxed) { DynoProtocol::H2c } else { DynoProtocol::Http1 }
    }

    /// Puts the dyno (back) into the table. It speaks `protocol` if its route says nothing else.
    pub(crate) fn enter(&self, route: &DynoRoute, protocol: DynoProtocol) {
        self.weight.store(route.weight, Ordering::Relaxed);
        self.h2c.store(route.protocol.unwrap_or(protocol) == DynoProtocol::H2c, Ordering::Relaxed);
        let declared = route.concurrency.unwrap_or(UNDECLARED);
        if self.declared.swap(declared, Ordering::SeqCst) != declared {
            self.note_limit();
        }
        if self.state.fetch_and(!REMOVED, Ordering::SeqCst) & REMOVED != 0 {
            self.closing.send_replace(false);
        }
    }

    /// Changes how many requests it may have at once where that is not declared.
    pub(crate) fn set_limit(&self, learned: u32) {
        if self.learned.swap(learned, Ordering::SeqCst) != learned {
            self.note_limit();
        }
    }

    /// The limit has changed.
    fn note_limit(&self) {
        self.end_full(None);
        if self.in_flight() == self.limit() {
            self.begin_full();
        }
    }

    /// Sets what another router has in flight there; says whether that changed. As here, conversations count against a
    /// declared limit only.
    pub(crate) fn set_elsewhere(&self, there: Count) -> bool {
        let beyond = if self.is_declared() { 0 } else { there.conversations };
        let count = there.requests.saturating_sub(beyond);
        if self.elsewhere.swap(count, Ordering::SeqCst) == count {
            return false;
        }
        self.note_limit();
        true
    }

    pub(crate) fn is_declared(&self) -> bool {
        self.declared.load(Ordering::SeqCst) != UNDECLARED
    }

    /// What the learner wants to know.
    pub(crate) fn count(&self) -> DynoCount {
        let since = self.full_since_us.load(Ordering::Relaxed);
        let running = if since == 0 { 0 } else { clock::now_us().saturating_sub(since) };
        let full = Duration::from_micros(self.full_us.load(Ordering::Relaxed) + running);
        DynoCount {
            serial: self.serial,
            full,
            completions: self.completions.load(Ordering::Relaxed),
            held: Duration::from_micros(self.held_us.load(Ordering::Relaxed)),
            held_squares_us: self.held_squares_us.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
            in_flight: self.in_flight().saturating_sub(self.conversations.load(Ordering::Relaxed)),
        }
    }

    /// What it has been at work on for longer than `age` though nobody waits for it, if there is anything.
    pub(crate) fn stuck(&self, age: Duration) -> Option<StuckDyno> {
        let (held, requests) = self.orphans.older_than(age);
        (held > 0).then(|| StuckDyno { dyno: self.id, held, limit: self.places().0, requests })
    }

    fn limit(&self) -> u32 {
        let (limit, beyond) = self.places();
        limit.saturating_add(beyond).saturating_sub(self.elsewhere.load(Ordering::SeqCst))
    }

    /// Requests that it may have at once, and conversations that it has besides.
    fn places(&self) -> (u32, u32) {
        match self.declared.load(Ordering::SeqCst) {
            UNDECLARED => (self.learned.load(Ordering::SeqCst), self.conversations.load(Ordering::SeqCst)),
            declared => (declared, 0),
        }
    }

    fn begin_full(&self) {
        // It may have been full all along: a conversation that ends takes its place with it.
        self.full_since_us.compare_exchange(0, clock::now_us(), Ordering::SeqCst, Ordering::SeqCst).unwrap_or_default();
        // Another thread may have ended a request in between, and found nothing to end.
        if self.in_flight() != self.limit() {
            self.full_since_us.store(0, Ordering::SeqCst);
        }
    }

    /// The answer that ends it, if one does, is to a request that had been here since `taken_us`.
    fn end_full(&self, taken_us: Option<u64>) {
        let since = self.full_since_us.swap(0, Ordering::Relaxed);
        if since == 0 {
            return;
        }
        let now = clock::now_us();
        self.full_us.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
        if let Some(taken_us) = taken_us {
            let held = now.saturating_sub(taken_us);
            self.completions.fetch_add(1, Ordering::Relaxed);
            self.held_us.fetch_add(held, Ordering::Relaxed);
            self.held_squares_us.fetch_add(held.wrapping_mul(held), Ordering::Relaxed);
        }
    }

    /// Takes the dyno out of the table: after this returns no request is given to it.
    pub(crate) fn remove(&self) {
        self.state.fetch_or(REMOVED, Ordering::SeqCst);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.state.load(Ordering::SeqCst) & !REMOVED
    }

    pub(crate) fn in_flight_here(&self) -> Count {
        Count { requests: self.in_flight(), conversations: self.conversations.load(Ordering::SeqCst) }
    }

    /// As a request sees it that has tried some dynos, and whose client's session may be on this one.
    pub(crate) fn load(&self, tried: &[u64], wanted: Option<Uuid>) -> DynoLoad {
        let state = self.state.load(Ordering::SeqCst);
        let trust = self.quarantine.trust();
        let standing = match trust {
            _ if state & REMOVED != 0 || tried.contains(&self.serial) => Standing::Excluded,
            Trust::Quarantined => Standing::Quarantined,
            Trust::Trusted if wanted == Some(self.id) => Standing::Wanted,
            Trust::Trusted | Trust::HalfOpen | Trust::Scouted => Standing::Healthy,
        };
        // Whoever comes while it is being found out whether the dyno is back waits for that.
        let limit = if trust == Trust::Scouted { 0 } else { self.limit() };
        let weight = self.weight.load(Ordering::Relaxed);
        DynoLoad { in_flight: state & !REMOVED, limit: Some(limit), weight, ramp: self.ramp(), standing }
    }

    fn ramp(&self) -> u32 {
        let ends = self.ramp_ends_us.load(Ordering::Relaxed);
        if ends == 0 {
            return RAMP_FULL;
        }
        let left = ends.saturating_sub(clock::now_us());
        if left == 0 {
            self.ramp_ends_us.store(0, Ordering::Relaxed);
        }
        let missing = u64::from(RAMP_FULL - RAMP_START) * left / clock::micros(RAMP);
        RAMP_FULL - u32::try_from(missing).unwrap_or(0)
    }

    /// Takes a slot if the dyno is still in the table and has exactly `in_flight` requests, as the choice saw it, and no
    /// other request has become the scout since then.
    pub(crate) fn try_take(self: &Arc<Self>, app: &Arc<App>, in_flight: u32) -> Option<Slot> {
        let scout = self.quarantine.try_scout()?;
        let taken = self.state.compare_exchange(in_flight, in_flight + 1, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_err() {
            if scout {
                self.quarantine.end_scout();
            }
            return None;
        }
        if in_flight + 1 == self.limit() {
            self.begin_full();
            app.note_full();
        }
        Some(Slot {
            app: app.clone(),
            dyno: self.clone(),
            taken_us: clock::now_us(),
            begun: AtomicBool::new(false),
            conversation: AtomicBool::new(false),
            scout: AtomicBool::new(scout),
        })
    }

    pub(crate) fn close_upgraded(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

/// One request's place on a dyno. Dropping it says that the dyno has answered or closed.
#[derive(Debug)]
pub(crate) struct Slot {
    app: Arc<App>,
    pub(crate) dyno: Arc<Dyno>,
    taken_us: u64,
    /// Whether the dyno has been given the request.
    begun: AtomicBool,
    conversation: AtomicBool,
    /// Whether this request is finding out if the dyno takes connections again.
    scout: AtomicBool,
}

impl Slot {
    /// An answer that has begun and takes longer than this to end is a stream.
    pub(crate) const CONVERSATION: Duration = Duration::from_secs(2);

    /// The dyno gets the request now. A slot that is given back before says nothing about how fast a dyno answers.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the request must go over a new connection.
    pub(crate) fn is_scout(&self) -> bool {
        self.scout.load(Ordering::Relaxed)
    }

    /// The dyno has taken a new connection for this request.
    pub(crate) fn connected(&self) {
        self.end_scout();
        if self.dyno.quarantine.end() {
            self.app.slot_freed();
        }
    }

    /// The dyno has not taken one.
    pub(crate) fn refused(&self, quarantine: Duration) {
        self.dyno.quarantine.begin(quarantine, self.taken_us);
        self.end_scout();
    }

    fn end_scout(&self) {
        if self.scout.swap(false, Ordering::Relaxed) {
            self.dyno.quarantine.end_scout();
        }
    }

    pub(crate) fn is_conversation(&self) -> bool {
        self.conversation.load(Ordering::Relaxed)
    }

    /// For a request that has lost its client and goes on.
    pub(crate) fn leave(&self) -> LeftPlace {
        self.app.places.leave()
    }

    /// The request has become an open conversation, a WebSocket or a stream of events: it says nothing about how many
    /// requests a dyno can work on, and must not keep others out.
    pub(crate) fn begin_conversation(&self) {
        if !self.conversation.swap(true, Ordering::Relaxed) {
            self.dyno.conversations.fetch_add(1, Ordering::SeqCst);
            if self.dyno.in_flight() != self.dyno.limit() {
                self.dyno.end_full(None);
            }
            self.app.slot_freed();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end_scout();
        let conversation = self.conversation.load(Ordering::Relaxed);
        let answered = self.begun.load(Ordering::Relaxed) && !conversation;
        if conversation {
            self.dyno.conversations.fetch_sub(1, Ordering::SeqCst);
        }
        if answered {
            self.dyno.answers.fetch_add(1, Ordering::Relaxed);
        }
        let limit = self.dyno.limit();
        let before = self.dyno.state.fetch_sub(1, Ordering::SeqCst) & !REMOVED;
        if before == limit {
            self.dyno.end_full(answered.then_some(self.taken_us));
        } else if before == limit.saturating_add(1) {
            self.dyno.begin_full();
        }
        self.app.slot_freed();
    }
}

#[cfg(test)]
mod tests {
    use wire::routes::{AdmissionSettings, EdgeSettings, RequestLimits};

    use super::*;
    use crate::app::AppView;

    fn route(concurrency: Option<u32>) -> DynoRoute {
        DynoRoute {
            dyno: Uuid::nil(),
            name: "web.1".to_owned(),
            address: "127.0.0.1:5000".parse().unwrap(),
            concurrency,
            weight: 1,
            protocol: None,
        }
    }

    fn dyno_of_app() -> (Arc<Dyno>, Arc<App>) {
        let dyno = Arc::new(Dyno::new(&route(None)));
        dyno.enter(&route(None), DynoProtocol::Http1);
        let view = AppView {
            availability: None,
            dynos: Vec::new(),
            limits: RequestLimits::default(),
            edge: EdgeSettings::default(),
            admission: AdmissionSettings::default(),
        };
        (dyno, Arc::new(App::new(Uuid::nil(), Uuid::nil(), view, Arc::default())))
    }

    #[test]
    fn a_slot_that_is_given_back_before_the_dyno_has_the_request_is_no_answer() {
        let (dyno, app) = dyno_of_app();
        let counted = || (dyno.count().answers, dyno.count().completions);
        drop(dyno.try_take(&app, 0).unwrap());
        assert_eq!(counted(), (0, 0));
        let request = dyno.try_take(&app, 0).unwrap();
        request.begin();
        drop(request);
        assert_eq!(counted(), (1, 1));
    }

    #[test]
    fn a_declared_limit_is_in_force_whatever_is_learned_and_when() {
        let (dyno, app) = dyno_of_app();
        // The admission thread found it undeclared, and comes with what it has learned when that has changed.
        dyno.enter(&route(Some(1)), DynoProtocol::Http1);
        dyno.set_limit(7);
        assert_eq!((dyno.limit(), dyno.is_declared()), (1, true));
        let _request = dyno.try_take(&app, 0).unwrap();
        assert_ne!(dyno.full_since_us.load(Ordering::SeqCst), 0);
        dyno.enter(&route(None), DynoProtocol::Http1);
        assert_eq!((dyno.limit(), dyno.is_declared()), (7, false));
        assert_eq!(dyno.full_since_us.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_conversation_neither_fills_a_dyno_nor_ends_its_being_full() {
        let (dyno, app) = dyno_of_app();
        let full_since = || dyno.full_since_us.load(Ordering::SeqCst);
        let conversation = dyno.try_take(&app, 0).unwrap();
        assert_ne!(full_since(), 0);
        conversation.begin_conversation();
        assert_eq!(full_since(), 0, "there is room for a request again");
        let request = dyno.try_take(&app, 1).unwrap();
        request.begin();
        dyno.full_since_us.fetch_sub(1, Ordering::SeqCst);
        let since = full_since();
        drop(conversation);
        assert_eq!(full_since(), since, "it has been full since then");
        drop(request);
        let count = dyno.count();
        assert_eq!((full_since(), count.completions, count.answers), (0, 1, 1));
    }
}
