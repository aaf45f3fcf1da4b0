//! A router and its dynos on a fake clock: arrivals from a seed, real decisions, simulated work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use domain::admission::choice::{Choice, DynoLoad, RAMP_FULL, Standing, choose};
use domain::admission::learner::{DynoCount, Learner};
use domain::admission::queue::{Offer, Queue, QueueRules};

/// How often the router looks at its limits and queues.
const TICK: f64 = 0.010;
/// From a dyno's answer to the next request's arrival at a dyno: two hops and the router between.
const HOP: f64 = 0.000_15;
/// An answer that comes later is worth nothing.
pub(crate) const GOOD_WITHIN: f64 = 1.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Service {
    Constant,
    Uniform,
    Exponential,
    /// Nine of ten are short, one takes five times the mean.
    Mixed,
    /// Nine of ten take 20 ms, one 5 s, where the mean is 0.518 s.
    Endpoints,
}

/// Requests that come all at once and last for as long as their clients want.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Polls {
    pub(crate) at: f64,
    pub(crate) count: usize,
    pub(crate) seconds: f64,
}

/// A new release takes the place of all dynos.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deploy {
    pub(crate) at: f64,
    pub(crate) workers: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) seed: u64,
    pub(crate) dynos: usize,
    pub(crate) workers: usize,
    pub(crate) seconds: f64,
    pub(crate) service: Service,
    /// Requests per second as a multiple of what all dynos together can answer at the beginning.
    pub(crate) load: Vec<(f64, f64)>,
    /// Multiplies the service time of each dyno.
    pub(crate) slowness: Vec<f64>,
    pub(crate) duration: f64,
    /// From, to: no dyno works.
    pub(crate) freeze: Option<(f64, f64)>,
    /// From, to: the app is paused.
    pub(crate) pause: Option<(f64, f64)>,
    /// At, workers from then on.
    pub(crate) change: Option<(f64, usize)>,
    pub(crate) hint: Option<u32>,
    /// The limit is declared, not learned.
    pub(crate) declared: Option<u32>,
    /// The dyno takes everything at once and shares its processor.
    pub(crate) shares: bool,
    /// As many requests as come go to the dynos at once: what every other router does.
    pub(crate) unlimited: bool,
    /// Requests per second, where the dynos have no capacity that could be multiplied.
    pub(crate) rate: Option<f64>,
    /// Seconds that the first request of a worker takes.
    pub(crate) first_seconds: Option<f64>,
    pub(crate) polls: Vec<Polls>,
    pub(crate) deploy: Option<Deploy>,
}

impl Lane {
    pub(crate) fn new(workers: usize, seconds: f64, service: Service, load: f64, seed: u64) -> Self {
        let (dynos, duration) = (4, 30.0);
        Self {
            seed,
            dynos,
            workers,
            seconds,
            service,
            load: vec![(0.0, load)],
            slowness: vec![1.0; dynos],
            duration,
            freeze: None,
            pause: None,
            change: None,
            hint: None,
            declared: None,
            shares: false,
            unlimited: false,
            rate: None,
            first_seconds: None,
            polls: Vec::new(),
            deploy: None,
        }
    }

    /// One server that takes whatever comes, and so many requests per second.
    pub(crate) fn asynchronous(dynos: usize, seconds: f64, service: Service, rate: f64, seed: u64) -> Self {
        let lane = Self::new(1_000_000, seconds, service, 1.0, seed);
        Self { dynos, slowness: vec![1.0; dynos], rate: Some(rate), ..lane }
    }

    /// Answers per second of all dynos.
    pub(crate) fn capacity(&self) -> f64 {
        self.slowness.iter().map(|slowness| self.workers as f64 / (self.seconds * slowness)).sum()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) arrived: f64,
    /// A multiple of the lane's service time, or seconds where it is a poll.
    work: f64,
    is_poll: bool,
    /// When it got a slot.
    sent: f64,
    /// When it was answered or refused, if it was.
    pub(crate) answered: Option<f64>,
    pub(crate) refused: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) workers: u32,
    pub(crate) history: Vec<(f64, u32, Vec<u32>)>,
}

impl Report {
    pub(crate) fn good(&self, from: f64, to: f64) -> usize {
        let of_span = self.outcomes.iter().filter(|outcome| outcome.arrived >= from && outcome.arrived < to);
        of_span.filter(|o| o.answered.is_some_and(|at| at - o.arrived <= GOOD_WITHIN)).count()
    }

    pub(crate) fn offered(&self, from: f64, to: f64) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.arrived >= from && outcome.arrived < to).count()
    }

    /// Of the answered requests.
    pub(crate) fn median(&self) -> f64 {
        let mut times: Vec<f64> =
            self.outcomes.iter().filter_map(|outcome| Some(outcome.answered? - outcome.arrived)).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Arrive,
    Tick,
    /// A dyno's next answer, unless its plans have changed since.
    Finish {
        dyno: usize,
        version: u64,
    },
    Free {
        dyno: usize,
        request: usize,
    },
    Reach {
        dyno: usize,
        request: usize,
    },
    Change(usize),
    Poll {
        seconds: f64,
    },
    Deploy(usize),
    Thaw,
    Freeze,
}

#[derive(PartialEq)]
struct At(f64, u64, Event);

impl Eq for At {}
impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

struct Dyno {
    serial: u64,
    workers: usize,
    slowness: f64,
    shares: bool,
    in_table: bool,
    started: usize,
    backlog: VecDeque<(usize, f64)>,
    /// Request and the work that is left.
    active: Vec<(usize, f64)>,
    worked_until: f64,
    version: u64,
    // As the router sees it:
    in_flight: u32,
    limit: u32,
    full_since: Option<f64>,
    full: f64,
    completions: u64,
    held: f64,
    held_squares: f64,
    answers: u64,
}

impl Dyno {
    fn new(lane: &Lane, index: usize, serial: u64, workers: usize, limit: u32) -> Self {
        Self {
            serial,
            workers,
            slowness: lane.slowness[index],
            shares: lane.shares,
            in_table: true,
            started: 0,
            backlog: VecDeque::new(),
            active: Vec::new(),
            worked_until: 0.0,
            version: 0,
            in_flight: 0,
            limit,
            full_since: None,
            full: 0.0,
            completions: 0,
            held: 0.0,
            held_squares: 0.0,
            answers: 0,
        }
    }

    fn speed(&self) -> f64 {
        if self.shares { (self.workers as f64 / self.active.len().max(1) as f64).min(1.0) } else { 1.0 }
    }

    fn work(&mut self, now: f64, frozen: bool) {
        let done = if frozen { 0.0 } else { (now - self.worked_until) * self.speed() };
        self.active.iter_mut().for_each(|(_request, left)| *left -= done);
        self.worked_until = now;
    }

    fn start(&mut self) {
        while self.shares || self.active.len() < self.workers {
            let Some(next) = self.backlog.pop_front() else { break };
            self.active.push(next);
        }
    }

    fn take(&mut self, now: f64) {
        self.in_flight += 1;
        if self.in_flight == self.limit {
            self.full_since = Some(now);
        }
    }

    fn free(&mut self, now: f64, sent: f64) {
        self.answers += 1;
        if self.in_flight == self.limit
            && let Some(since) = self.full_since.take()
        {
            self.full += now - since;
            self.completions += 1;
            self.held += now - sent;
            self.held_squares += (now - sent) * (now - sent);
        }
        self.in_flight -= 1;
        if self.in_flight == self.limit {
            self.full_since = Some(now);
        }
    }

    fn set_limit(&mut self, limit: u32, now: f64) {
        if limit == self.limit {
            return;
        }
        if let Some(since) = self.full_since.take() {
            self.full += now - since;
        }
        self.limit = limit;
        if self.in_flight == limit {
            self.full_since = Some(now);
        }
    }

    fn count(&self, now: f64) -> DynoCount {
        let full = self.full + self.full_since.map_or(0.0, |since| now - since);
        DynoCount {
            serial: self.serial,
            full: Duration::from_secs_f64(full),
            completions: self.completions,
            held: Duration::from_secs_f64(self.held),
            held_squares_us: (self.held_squares * 1e12) as u64,
            answers: self.answers,
            in_flight: self.in_flight,
        }
    }
}

pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Above 0, at most 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

struct Simulation {
    lane: Lane,
    now: f64,
    events: BinaryHeap<Reverse<At>>,
    sequence: u64,
    /// What would be different in another run of the same lane.
    chance: Chance,
    /// When requests come and how much work they are.
    traffic: Chance,
    dynos: Vec<Dyno>,
    queue: Queue<usize>,
    learner: Learner,
    outcomes: Vec<Outcome>,
    frozen: bool,
    history: Vec<(f64, u32, Vec<u32>)>,
}

pub(crate) fn run(lane: &Lane) -> Report {
    let limit = lane.declared.unwrap_or(1);
    let dyno = |index: usize| Dyno::new(lane, index, index as u64, lane.workers, limit);
    let mut simulation = Simulation {
        lane: lane.clone(),
        now: 0.0,
        events: BinaryHeap::new(),
        sequence: 0,
        chance: Chance::new(lane.seed ^ 0x5555),
        traffic: Chance::new(lane.seed),
        dynos: (0..lane.dynos).map(dyno).collect(),
        queue: Queue::default(),
        learner: Learner::new(lane.hint),
        outcomes: Vec::new(),
        frozen: false,
        history: Vec::new(),
    };
    simulation.run();
    Report { outcomes: simulation.outcomes, workers: simulation.learner.workers(), history: simulation.history }
}

impl Simulation {
    fn at(&mut self, time: f64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(At(time, self.sequence, event)));
    }

    fn run(&mut self) {
        if self.lane.rate != Some(0.0) {
            self.at(0.0, Event::Arrive);
        }
        self.at(0.0, Event::Tick);
        if let Some((from, to)) = self.lane.freeze {
            self.at(from, Event::Freeze);
            self.at(to, Event::Thaw);
        }
        if let Some((at, workers)) = self.lane.change {
            self.at(at, Event::Change(workers));
        }
        for polls in self.lane.polls.clone() {
            for _poll in 0..polls.count {
                self.at(polls.at, Event::Poll { seconds: polls.seconds });
            }
        }
        if let Some(Deploy { at, workers }) = self.lane.deploy {
            self.at(at, Event::Deploy(workers));
        }
        while let Some(Reverse(At(time, _sequence, event))) = self.events.pop() {
            if time > self.lane.duration + 40.0 {
                break;
            }
            self.now = time;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Tick => self.tick(),
            Event::Reach { dyno, request } => {
                let Outcome { work, is_poll, .. } = self.outcomes[request];
                let seconds = if is_poll { 1.0 } else { self.lane.seconds * self.dynos[dyno].slowness };
                let is_first = self.dynos[dyno].started < self.dynos[dyno].workers.min(64);
                self.dynos[dyno].started += 1;
                let work = work * seconds + self.lane.first_seconds.filter(|_seconds| is_first).unwrap_or_default();
                self.advance(dyno);
                self.dynos[dyno].backlog.push_back((request, work));
                self.dynos[dyno].start();
                self.plan(dyno);
            }
            Event::Finish { dyno, version } if version == self.dynos[dyno].version && !self.frozen => {
                self.advance(dyno);
                let (done, left) = std::mem::take(&mut self.dynos[dyno].active)
                    .into_iter()
                    .partition::<Vec<_>, _>(|(_request, left)| *left <= 1e-9);
                self.dynos[dyno].active = left;
                for (request, _left) in done {
                    self.outcomes[request].answered = Some(self.now + HOP);
                    self.at(self.now + HOP, Event::Free { dyno, request });
                }
                self.dynos[dyno].start();
                self.plan(dyno);
            }
            Event::Finish { .. } => {}
            Event::Free { dyno, request } => {
                self.dynos[dyno].free(self.now, self.outcomes[request].sent);
                self.dispatch();
            }
            Event::Change(workers) => {
                for dyno in 0..self.dynos.len() {
                    self.advance(dyno);
                    self.dynos[dyno].workers = workers;
                    self.dynos[dyno].start();
                    self.plan(dyno);
                }
            }
            Event::Poll { seconds } => self.enter(seconds, true),
            Event::Deploy(workers) => {
                self.dynos.iter_mut().for_each(|dyno| dyno.in_table = false);
                for index in 0..self.lane.dynos {
                    let serial = self.dynos.len() as u64;
                    let mut dyno = Dyno::new(&self.lane, index, serial, workers, 1);
                    dyno.limit = self.lane.declared.unwrap_or(self.learner.limit(serial));
                    dyno.worked_until = self.now;
                    self.dynos.push(dyno);
                }
                self.dispatch();
            }
            Event::Freeze => {
                (0..self.dynos.len()).for_each(|dyno| self.advance(dyno));
                self.frozen = true;
            }
            Event::Thaw => {
                (0..self.dynos.len()).for_each(|dyno| self.advance(dyno));
                self.frozen = false;
                (0..self.dynos.len()).for_each(|dyno| self.plan(dyno));
            }
        }
    }

    fn draw(&mut self) -> f64 {
        let chance = &mut self.traffic;
        match self.lane.service {
            Service::Constant => 0.98 + 0.04 * chance.unit(),
            Service::Uniform => 0.5 + chance.unit(),
            Service::Exponential => chance.exponential(),
            Service::Mixed if chance.unit() < 0.1 => 5.0,
            Service::Mixed => 5.0 / 9.0,
            Service::Endpoints if chance.unit() < 0.1 => 5.0 / 0.518,
            Service::Endpoints => 0.020 / 0.518,
        }
    }

    fn advance(&mut self, dyno: usize) {
        let (now, frozen) = (self.now, self.frozen);
        self.dynos[dyno].work(now, frozen);
    }

    fn plan(&mut self, index: usize) {
        let dyno = &mut self.dynos[index];
        dyno.version += 1;
        let (speed, version) = (dyno.speed(), dyno.version);
        let next = dyno.active.iter().map(|(_request, left)| *left).min_by(f64::total_cmp);
        if let Some(left) = next
            && !self.frozen
        {
            self.at(self.now + (left / speed).max(0.0), Event::Finish { dyno: index, version });
        }
    }

    fn load(&self) -> f64 {
        self.lane.load.iter().rev().find(|(from, _load)| *from <= self.now).map_or(0.0, |(_from, load)| *load)
    }

    fn arrive(&mut self) {
        let rate = self.lane.rate.unwrap_or_else(|| self.lane.capacity()) * self.load();
        let next = self.now + self.traffic.exponential() / rate;
        if next < self.lane.duration {
            self.at(next, Event::Arrive);
        }
        let work = self.draw();
        self.enter(work, false);
    }

    fn enter(&mut self, work: f64, is_poll: bool) {
        let request = self.outcomes.len();
        self.outcomes.push(Outcome { arrived: self.now, work, is_poll, sent: 0.0, answered: None, refused: None });
        if self.queue.is_empty()
            && !self.is_paused()
            && let Some(dyno) = self.choose()
        {
            self.send(dyno, request);
            return;
        }
        let (now, rules) = (self.clock(), self.rules());
        match self.queue.enter(request, now, &rules) {
            Ok(shed) => {
                if let Some(shed) = shed {
                    self.refuse(shed.value);
                }
            }
            Err(shed) => self.refuse(shed.value),
        }
        self.dispatch();
    }

    fn refuse(&mut self, request: usize) {
        self.outcomes[request].refused = Some(self.now);
    }

    fn choose(&mut self) -> Option<usize> {
        let loads = self.dynos.iter().map(|dyno| DynoLoad {
            in_flight: dyno.in_flight,
            limit: (!self.lane.unlimited).then_some(dyno.limit),
            weight: 1,
            ramp: RAMP_FULL,
            standing: if dyno.in_table { Standing::Healthy } else { Standing::Excluded },
        });
        match choose(loads, self.chance.next()) {
            Choice::Take { index, .. } => Some(index),
            Choice::Busy | Choice::None => None,
        }
    }

    fn send(&mut self, dyno: usize, request: usize) {
        self.outcomes[request].sent = self.now;
        self.dynos[dyno].take(self.now);
        self.at(self.now + HOP, Event::Reach { dyno, request });
    }

    fn dispatch(&mut self) {
        let (now, rules) = (self.clock(), self.rules());
        while !self.is_paused()
            && let Some(dyno) = self.choose()
        {
            let mut offered = false;
            let taken = self.queue.serve(now, &rules, |_request| {
                let offer = if offered { Offer::Stop } else { Offer::Taken };
                offered = true;
                offer
            });
            let Some(request) = taken.into_iter().next() else { break };
            self.send(dyno, request);
        }
    }

    fn tick(&mut self) {
        self.at(self.now + TICK, Event::Tick);
        let in_table = self.dynos.iter().filter(|dyno| dyno.in_table);
        let counts: Vec<DynoCount> = in_table.map(|dyno| dyno.count(self.now)).collect();
        let now = self.clock();
        self.learner.step(now, &counts, self.queue.oldest(now));
        for index in 0..self.dynos.len() {
            let learned = self.learner.limit(self.dynos[index].serial);
            let limit = self.lane.declared.unwrap_or(learned);
            self.dynos[index].set_limit(limit, self.now);
        }
        let limits: Vec<u32> = self.dynos.iter().filter(|dyno| dyno.in_table).map(|dyno| dyno.limit).collect();
        if self.history.last().is_none_or(|(_at, _workers, before)| *before != limits) {
            self.history.push((self.now, self.learner.workers(), limits));
        }
        self.dispatch();
        let rules = self.rules();
        for shed in self.queue.expire(now, &rules) {
            self.refuse(shed.value);
        }
    }

    fn clock(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    fn is_paused(&self) -> bool {
        self.lane.pause.is_some_and(|(from, to)| self.now >= from && self.now < to)
    }

    /// As the router makes them.
    fn rules(&self) -> QueueRules {
        let sheds = self.lane.declared.is_some() || self.learner.sheds();
        let (sheds, at_rest) = (sheds && !self.queue.is_working_off(), self.is_paused());
        QueueRules {
            target: Duration::from_millis(500),
            patience: Duration::from_secs(if sheds { 5 } else { 30 }),
            length_max: if sheds || at_rest { 1_000 } else { 10_000 },
            service: self.learner.latency(),
            sheds,
            after_stall: self.lane.declared.is_none() && self.learner.is_after_stall(),
            at_rest,
        }
    }
}
