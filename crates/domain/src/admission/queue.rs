//! The requests of one app that wait for a slot: in which order they get one, and which are refused without.
//!
//! A queue that drains now and then is served oldest first, and its requests may wait for long: that is a burst. One
//! that stands, while more keep coming, is overload: then whoever is served first decides only *who* gets an answer
//! in time, and oldest first means nobody. So the newest are served first, and the oldest are refused as soon as they
//! could not be answered in time even if nobody else came.
//!
//! What piled up while nothing moved is served behind whoever comes from then on, at once: it has waited for longer than
//! is known here, if the router itself stood still.
//!
//! What piled up while the app was *at rest*, because somebody paused it or its first dyno is on its way, was told to wait
//! and is not overload. It is served oldest first, and whoever comes meanwhile behind it, for as long as that gets shorter.

use std::collections::VecDeque;
use std::time::Duration;

/// How a queue is judged, from the app's settings and what is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRules {
    /// Longest wait while the queue stands under overload; also how long it must stand before it counts as such.
    pub target: Duration,
    /// Longest wait otherwise.
    pub patience: Duration,
    /// Most requests that wait.
    pub length_max: usize,
    /// How long a dyno takes for an answer, where that is known.
    pub service: Option<Duration>,
    /// Whether it is known that the dynos cannot work on more at once. Without that nobody is refused for it: those who
    /// wait might be served in time.
    pub sheds: bool,
    /// What piled up in a stall still waits.
    pub after_stall: bool,
    /// Nobody is served, and nobody is refused for having waited.
    pub at_rest: bool,
}

/// So many of the newest are kept whatever the rate: it may be unknown, or zero because the dynos are frozen.
const KEPT_MIN: usize = 8;

#[derive(Debug)]
pub struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    /// Since when there has always been somebody.
    standing_since: Option<Duration>,
    overloaded: bool,
    current: Interval,
    previous: Interval,
    /// Requests that got a slot since `standing_since`.
    served: u32,
    /// The same per second, smoothed over the intervals since then.
    rate: Option<f64>,
    pace: Pace,
    /// Until then waiting did not count.
    rested_until: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    Usual,
    AtRest,
    /// With what happened since.
    WorkingOff(Interval),
}

#[derive(Debug)]
struct Entry<T> {
    since: Duration,
    value: T,
}

/// What happened in one span of `target` length.
#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    began: Duration,
    /// While the queue had stood for half of `target` already: what came before may be one burst.
    arrived: u32,
    served: u32,
}

/// A request that does not get a slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Shed<T> {
    pub value: T,
    pub retry_after: Duration,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            standing_since: None,
            overloaded: false,
            current: Interval::default(),
            previous: Interval::default(),
            served: 0,
            rate: None,
            pace: Pace::Usual,
            rested_until: Duration::ZERO,
        }
    }
}

impl<T> Queue<T> {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How long the one that has waited longest has waited for a dyno: `None` if nobody does.
    pub fn oldest(&self, now: Duration) -> Option<Duration> {
        let oldest = self.entries.front().filter(|_entry| !matches!(self.pace, Pace::AtRest));
        oldest.map(|entry| self.waited(entry, now))
    }

    /// Whether what piled up at rest is being served. The rules should refuse nobody meanwhile.
    pub fn is_working_off(&self) -> bool {
        matches!(self.pace, Pace::WorkingOff(_))
    }

    /// Until when waiting last did not count.
    pub fn rested_until(&self) -> Duration {
        self.rested_until
    }

    fn waited(&self, entry: &Entry<T>, now: Duration) -> Duration {
        now.saturating_sub(entry.since.max(self.rested_until))
    }

    /// Whether the newest are served first.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Takes a request in, and gives the one that has to leave for it.
    ///
    /// # Errors
    /// The request itself, if its wait would be in vain.
    pub fn enter(&mut self, value: T, now: Duration, rules: &QueueRules) -> Result<Option<Shed<T>>, Shed<T>> {
        self.turn(now, rules);
        let stood = self.standing_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.current.arrived += u32::from(stood * 2 >= rules.target);
        if let Pace::WorkingOff(progress) = &mut self.pace {
            progress.arrived += 1;
        }
        let mut shed = None;
        let hopeless = rules.sheds && !rules.at_rest && !self.overloaded && self.wait(now) > rules.patience;
        if self.entries.len() >= rules.length_max.max(1) || hopeless {
            if !self.overloaded {
                return Err(Shed { value, retry_after: self.retry_after(now) });
            }
            let retry_after = self.retry_after(now);
            shed = self.entries.pop_front().map(|entry| Shed { value: entry.value, retry_after });
        }
        self.standing_since.get_or_insert(now);
        self.entries.push_back(Entry { since: now, value });
        Ok(shed)
    }

    /// Offers the requests to `place`, in the order in which they should be served, until it returns [`Offer::Stop`].
    pub fn serve(&mut self, now: Duration, rules: &QueueRules, mut place: impl FnMut(&T) -> Offer) -> Vec<T> {
        self.turn(now, rules);
        let mut taken = Vec::new();
        if rules.at_rest {
            return taken;
        }
        let newest_first = self.overloaded || rules.after_stall && !self.is_working_off();
        let mut passed = 0;
        while passed < self.entries.len() {
            let index = if newest_first { self.entries.len() - 1 - passed } else { passed };
            let Some(entry) = self.entries.get(index) else { break };
            match place(&entry.value) {
                Offer::Stop => break,
                Offer::Pass => passed += 1,
                Offer::Taken => {
                    self.current.served += 1;
                    self.served += 1;
                    if let Pace::WorkingOff(progress) = &mut self.pace {
                        progress.served += 1;
                    }
                    taken.extend(self.entries.remove(index).map(|entry| entry.value));
                }
                Offer::Gone => taken.extend(self.entries.remove(index).map(|entry| entry.value)),
            }
        }
        self.note_empty();
        taken
    }

    /// Takes out those whose wait is over or hopeless.
    pub fn expire(&mut self, now: Duration, rules: &QueueRules) -> Vec<Shed<T>> {
        self.turn(now, rules);
        let retry_after = self.retry_after(now);
        let mut shed = Vec::new();
        let wait_max = self.wait_max(rules);
        let kept = self.kept(wait_max, now);
        while let Some(entry) = self.entries.front().filter(|_entry| !rules.at_rest) {
            let over = self.waited(entry, now) >= wait_max;
            let hopeless = rules.sheds && self.overloaded && self.entries.len() > kept;
            if !over && !hopeless {
                break;
            }
            shed.extend(self.entries.pop_front().map(|entry| Shed { value: entry.value, retry_after }));
        }
        self.note_empty();
        shed
    }

    /// Gives up the place of the request that `is` finds, because its client has left.
    pub fn leave(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        // Whoever leaves came lately, more often than not.
        let index = self.entries.iter().rposition(|entry| is(&entry.value))?;
        let entry = self.entries.remove(index)?;
        self.note_empty();
        Some(entry.value)
    }

    /// Takes out everybody.
    pub fn clear(&mut self) -> Vec<T> {
        let all = self.entries.drain(..).map(|entry| entry.value).collect();
        self.note_empty();
        all
    }

    /// When a client that is refused now may come again: when what waits already has been served.
    fn retry_after(&self, now: Duration) -> Duration {
        self.wait(now).clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// How long what waits will take, at the present rate.
    fn wait(&self, now: Duration) -> Duration {
        let seconds = self.rate(now).map_or(0.0, |rate| to_f64(self.entries.len()) / rate);
        Duration::from_secs_f64(seconds.min(3_600.0))
    }

    /// `None` while it is too early to say, and while nothing moves.
    fn rate(&self, now: Duration) -> Option<f64> {
        let stood = self.standing_since.map_or(0.0, |since| now.saturating_sub(since).as_secs_f64());
        let so_far = (self.served > 0 && stood > 0.0).then(|| f64::from(self.served) / stood);
        self.rate.or(so_far).filter(|rate| *rate > 0.0)
    }

    /// Under overload an answer should come within twice the target, its service included.
    fn wait_max(&self, rules: &QueueRules) -> Duration {
        if !self.overloaded || !rules.sheds {
            return rules.patience;
        }
        let service = rules.service.unwrap_or_default().mul_f64(1.2);
        (rules.target * 2).saturating_sub(service).clamp(rules.target / 4, rules.target)
    }

    /// So many can be served within the longest wait; whoever is behind them cannot.
    fn kept(&self, wait_max: Duration, now: Duration) -> usize {
        let served = self.rate(now).map_or(0.0, |rate| rate * wait_max.as_secs_f64());
        KEPT_MIN.max(to_usize(served))
    }

    fn note_empty(&mut self) {
        if self.entries.is_empty() {
            self.standing_since = None;
            self.overloaded = false;
            self.served = 0;
            self.rate = None;
            self.pace = if matches!(self.pace, Pace::AtRest) { Pace::AtRest } else { Pace::Usual };
        }
    }

    /// Follows the app into its rest and out of it, and ends working off where there is not less and less to do: that is
    /// overload, whatever came before it.
    fn change_pace(&mut self, now: Duration, rules: &QueueRules) {
        self.pace = match self.pace {
            Pace::Usual | Pace::WorkingOff(_) if rules.at_rest => Pace::AtRest,
            Pace::AtRest if !rules.at_rest => {
                self.rested_until = now;
                self.standing_since = (!self.entries.is_empty()).then_some(now);
                (self.served, self.rate) = (0, None);
                let progress = Interval { began: now, ..Interval::default() };
                if self.entries.is_empty() { Pace::Usual } else { Pace::WorkingOff(progress) }
            }
            Pace::WorkingOff(Interval { began, arrived, served }) => {
                let age = now.saturating_sub(began);
                // A few long requests say nothing about how many are served.
                let tells = f64::from(served) >= to_f64(KEPT_MIN) || age >= rules.patience;
                if age >= rules.target * 4 && tells && arrived >= served { Pace::Usual } else { self.pace }
            }
            Pace::Usual | Pace::AtRest => self.pace,
        };
    }

    /// Begins a new interval where the present one is over, and judges by the one that ended.
    fn turn(&mut self, now: Duration, rules: &QueueRules) {
        self.change_pace(now, rules);
        let age = now.saturating_sub(self.current.began);
        if age >= rules.target {
            let standing = self.standing_since.is_some_and(|since| since <= self.current.began);
            if standing {
                let rate = f64::from(self.current.served) / age.as_secs_f64().max(0.001);
                self.rate = Some(self.rate.map_or(rate, |before| f64::midpoint(before, rate)));
            }
            self.previous = self.current;
            self.current = Interval { began: now, arrived: 0, served: 0 };
        }
        let stands = self.standing_since.is_some_and(|since| now.saturating_sub(since) >= rules.target);
        // One burst, however long it takes, is not overload: nobody is served better by refusing a part of it.
        let arrived = self.previous.arrived + self.current.arrived;
        let served = self.previous.served + self.current.served;
        let is_usual = matches!(self.pace, Pace::Usual);
        self.overloaded = is_usual && stands && arrived > 0 && arrived.saturating_mul(2) >= served;
    }
}

/// What became of a request that was offered a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Taken,
    /// It waits no longer, and takes no slot.
    Gone,
    /// It cannot have what is free, others can.
    Pass,
    /// Nothing is free.
    Stop,
}

#[expect(clippy::cast_precision_loss, reason = "a queue is short")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number, cut off")]
fn to_usize(number: f64) -> usize {
    number.clamp(0.0, 1e9) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> QueueRules {
        QueueRules {
            target: Duration::from_millis(500),
            patience: Duration::from_secs(5),
            length_max: 100,
            service: None,
            sheds: true,
            after_stall: false,
            at_rest: false,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn serve_one<T: Copy>(queue: &mut Queue<T>, now: Duration) -> Option<T> {
        let mut offers = [Offer::Stop, Offer::Taken].into_iter().rev();
        queue.serve(now, &rules(), |_value| offers.next().unwrap_or(Offer::Stop)).first().copied()
    }

    #[test]
    fn what_piled_up_in_a_stall_waits_for_whoever_comes_after_it() {
        let mut queue = Queue::default();
        for number in 0..3 {
            assert_eq!(queue.enter(number, Duration::ZERO, &rules()), Ok(None));
        }
        let rules = QueueRules { after_stall: true, ..rules() };
        let mut order = Vec::new();
        let taken = queue.serve(Duration::from_millis(1), &rules, |number| {
            order.push(*number);
            Offer::Taken
        });
        assert_eq!((taken, order), (vec![2, 1, 0], vec![2, 1, 0]));
    }

    #[test]
    fn a_burst_is_served_oldest_first_and_may_wait() {
        let mut queue = Queue::default();
        for number in 0..6 {
            queue.enter(number, ms(number), &rules()).unwrap();
        }
        for number in 0..6 {
            let now = ms(300 * (number + 1));
            assert_eq!(queue.expire(now, &rules()), []);
            assert_eq!(serve_one(&mut queue, now), Some(number), "at {now:?}");
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_standing_queue_is_served_newest_first_and_the_oldest_are_refused() {
        let mut queue = Queue::default();
        let mut refused = Vec::new();
        for number in 0..100 {
            let now = ms(number * 10);
            queue.enter(number, now, &rules()).unwrap();
            if number % 5 == 4 {
                let served = serve_one(&mut queue, now);
                assert_eq!(served, Some(if number * 10 < 500 { number / 5 } else { number }), "{number}");
            }
            refused.extend(queue.expire(now, &rules()).into_iter().map(|shed| (shed.value, now)));
        }
        assert!(queue.is_overloaded());
        assert!(refused.len() > 50, "{refused:?}");
        assert!(refused.iter().all(|(number, at)| *at <= ms(number * 10) + ms(510)), "{refused:?}");
    }

    /// A queue that held so many through a pause of a minute, and then gets so many a second more while 100 are served:
    /// who was refused, and whether it was still working off after five seconds.
    fn after_a_pause(held: u64, per_second: u64) -> (Vec<u64>, bool) {
        let at_rest = QueueRules { at_rest: true, length_max: 10_000, ..rules() };
        let mut queue = Queue::default();
        for number in 0..held {
            queue.enter(number, ms(number), &at_rest).unwrap();
            assert_eq!(queue.expire(ms(number), &at_rest), []);
            assert_eq!((serve_at(&mut queue, ms(number), &at_rest), queue.oldest(ms(number))), (None, None));
        }
        let (mut refused, mut served, mut number) = (Vec::new(), Vec::new(), held);
        for tick in 0..500_u64 {
            let now = ms(60_000 + tick * 10);
            let is_kind = queue.is_working_off();
            let patience = if is_kind { ms(30_000) } else { ms(5_000) };
            let rules = QueueRules { sheds: !is_kind, patience, length_max: 10_000, ..rules() };
            refused.extend(queue.expire(now, &rules).into_iter().map(|shed| shed.value));
            for _arrival in tick * per_second / 100..(tick + 1) * per_second / 100 {
                queue.enter(number, now, &rules).unwrap();
                number += 1;
            }
            served.extend(serve_at(&mut queue, now, &rules));
        }
        let is_working_off = queue.is_working_off();
        assert!(!is_working_off || served.is_sorted(), "oldest first: {served:?}");
        (refused, is_working_off)
    }

    fn serve_at(queue: &mut Queue<u64>, now: Duration, rules: &QueueRules) -> Option<u64> {
        let mut offers = [Offer::Stop, Offer::Taken].into_iter().rev();
        queue.serve(now, rules, |_value| offers.next().unwrap_or(Offer::Stop)).first().copied()
    }

    #[test]
    fn what_was_held_is_served_first_and_nobody_is_refused_for_it() {
        for (held, per_second) in [(400, 50), (900, 10), (900, 90)] {
            assert_eq!(after_a_pause(held, per_second).0, [0; 0], "{held} held, {per_second}/s");
        }
        assert!(after_a_pause(900, 90).1, "there is less and less to do");
        assert!(!after_a_pause(200, 10).1, "all are served");
    }

    #[test]
    fn overload_after_a_pause_is_overload() {
        let (refused, is_working_off) = after_a_pause(400, 300);
        assert!(!is_working_off && refused.len() > 500, "{}", refused.len());
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut queue = Queue::default();
        queue.enter('a', ms(0), &rules()).unwrap();
        queue.enter('b', ms(1), &rules()).unwrap();
        assert_eq!(queue.leave(|value| *value == 'a'), Some('a'));
        assert_eq!(queue.leave(|value| *value == 'a'), None);
        assert_eq!(serve_one(&mut queue, ms(2)), Some('b'));
    }

    #[test]
    fn a_full_queue_refuses_the_newest_of_a_burst_and_the_oldest_under_overload() {
        let rules = QueueRules { length_max: 2, ..rules() };
        let mut queue = Queue::default();
        queue.enter(0, ms(0), &rules).unwrap();
        queue.enter(1, ms(0), &rules).unwrap();
        assert_eq!(queue.enter(2, ms(1), &rules).unwrap_err().value, 2);
        queue.enter(3, ms(400), &rules).unwrap_err();
        let shed = queue.enter(4, ms(600), &rules).unwrap();
        assert_eq!(shed.map(|shed| shed.value), Some(0));
    }

    #[test]
    fn a_slow_service_shortens_the_wait() {
        let mut queue: Queue<u8> = Queue { overloaded: true, ..Queue::default() };
        let wait = |queue: &Queue<u8>, service| queue.wait_max(&QueueRules { service, ..rules() });
        assert_eq!(wait(&queue, Some(ms(50))), ms(500));
        assert_eq!(wait(&queue, Some(ms(500))), ms(400));
        assert_eq!(wait(&queue, Some(ms(5_000))), ms(125));
        queue.overloaded = false;
        assert_eq!(wait(&queue, Some(ms(500))), ms(5_000));
    }

    proptest! {
        #[test]
        fn everyone_is_served_refused_or_waits_once(steps in proptest::collection::vec((0_u64..200, 0_u8..4), 1..300)) {
            let mut queue = Queue::default();
            let (mut now, mut entered, mut gone) = (Duration::ZERO, 0_u64, Vec::new());
            for (pause, step) in steps {
                now += ms(pause);
                match step {
                    0 | 1 => {
                        match queue.enter(entered, now, &rules()) {
                            Ok(shed) => gone.extend(shed.map(|shed| shed.value)),
                            Err(shed) => gone.push(shed.value),
                        }
                        entered += 1;
                    }
                    2 => gone.extend(serve_one(&mut queue, now)),
                    _ => gone.extend(queue.expire(now, &rules()).into_iter().map(|shed| shed.value)),
                }
            }
            gone.extend(queue.serve(now, &rules(), |_value| Offer::Taken));
            gone.sort_unstable();
            prop_assert_eq!(gone, (0..entered).collect::<Vec<_>>());
        }
    }
}
