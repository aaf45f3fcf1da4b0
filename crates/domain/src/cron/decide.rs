//! What must happen with one job now.

use jiff::{SignedDuration, Timestamp};

use super::{CatchUp, Overlap, Policy, RunKey, RunState, Schedule, Trigger};

/// A tick that nobody saw for so long was missed: what it was for may not be wanted any more.
pub const LATE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Runs of one job that wait, also after a long time in which nothing could start.
pub const WAITING_MAX: usize = 100;

/// Ticks that are looked at in one go; those of a job with seconds, in nearly three hours.
const TICKS_MAX: usize = 10_000;

/// A job as it is stored.
#[derive(Debug, Clone)]
pub struct JobView {
    pub schedule: Schedule,
    pub policy: Policy,
    pub paused: bool,
    /// The first tick that was not decided about yet.
    pub next: Option<Timestamp>,
    /// Whether a run can start: there is a release that serves.
    pub can_start: bool,
}

/// A run that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    pub key: RunKey,
    pub trigger: Trigger,
    pub progress: Progress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not before this time.
    Waiting(Timestamp),
    Running,
    Ended(RunEnd),
}

/// How the dyno of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    Succeeded,
    Failed,
    /// Because it was asked to.
    Stopped,
}

/// One change of a job's runs. All those of a plan happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A run that may start from this time on.
    Add { key: RunKey, not_before: Timestamp },
    /// A tick without a run, because the one before it goes on.
    Skip { key: RunKey },
    /// Ticks that nothing could start for: from the first one to the one that `key` names.
    Miss { key: RunKey, first: Timestamp, count: usize },
    /// A waiting run gets its dyno.
    Start { key: RunKey },
    /// A running one is told to stop.
    Stop { key: RunKey },
    /// A run is over. `is_final` says that no other attempt follows.
    Finish { key: RunKey, state: RunState, is_final: bool },
}

/// What is to be done, and the first tick after those that are dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub next: Option<Timestamp>,
    pub actions: Vec<Action>,
}

/// Decides about one job. `open` are its runs that wait or run, in the order in which they came.
///
/// At most one run of a job runs at a time. Every tick up to `now` is dealt with exactly once: the plan's `next`
/// never goes back. A paused job keeps its ticks; only what somebody asked for starts.
pub fn decide(job: &JobView, open: &[RunView], now: Timestamp) -> Plan {
    let mut work = Work { job, now, runs: open.to_vec(), actions: Vec::new() };
    work.finish_ended();
    let next = work.take_ticks();
    work.start_next();
    Plan { next, actions: work.actions }
}

struct Work<'a> {
    job: &'a JobView,
    now: Timestamp,
    runs: Vec<RunView>,
    actions: Vec<Action>,
}

impl Work<'_> {
    fn finish_ended(&mut self) {
        let ended = |run: &RunView| match run.progress {
            Progress::Ended(end) => Some((run.key, run.trigger, end)),
            Progress::Waiting(_) | Progress::Running => None,
        };
        let all: Vec<(RunKey, Trigger, RunEnd)> = self.runs.iter().filter_map(ended).collect();
        for (key, trigger, end) in all {
            self.runs.retain(|run| run.key != key);
            let policy = &self.job.policy;
            let again = end == RunEnd::Failed && trigger == Trigger::Schedule && key.attempt <= policy.retries;
            let state = match end {
                RunEnd::Succeeded => RunState::Succeeded,
                RunEnd::Failed => RunState::Failed,
                RunEnd::Stopped => RunState::Stopped,
            };
            self.actions.push(Action::Finish { key, state, is_final: !again });
            if again {
                let pause = policy.pause_after(key.attempt);
                let not_before = self.now.checked_add(pause).unwrap_or(self.now);
                self.add(RunKey { tick: key.tick, attempt: key.attempt + 1 }, not_before);
            }
        }
    }

    /// Deals with every tick until now; gives the first one after it.
    fn take_ticks(&mut self) -> Option<Timestamp> {
        if self.job.paused {
            return self.job.next;
        }
        let mut ticks = Vec::new();
        let mut next = self.job.next;
        while let Some(tick) = next.filter(|tick| *tick <= self.now) {
            next = if ticks.len() < TICKS_MAX {
                ticks.push(tick);
                self.job.schedule.next_after(tick)
            } else {
                self.job.schedule.next_after(self.now)
            };
        }
        let latest_late = self.now.checked_sub(LATE_AFTER).unwrap_or(Timestamp::MIN);
        let (late, due) = ticks.split_at(ticks.partition_point(|tick| *tick < latest_late));
        // Where a time off is made up for, a tick that is due at its end is a part of it. On its own it would come
        // behind the runs that are made up for, and `overlap` could skip it: the one that is wanted most.
        let is_made_up_for = !late.is_empty() && self.job.policy.catch_up != CatchUp::None;
        let (late, due) = if is_made_up_for { (ticks.as_slice(), [].as_slice()) } else { (late, due) };
        self.catch_up(late);
        for &tick in due {
            self.take_due(tick);
        }
        next
    }

    fn catch_up(&mut self, late: &[Timestamp]) {
        let kept = match self.job.policy.catch_up {
            CatchUp::None => 0,
            CatchUp::Last => 1,
            CatchUp::All => WAITING_MAX.saturating_sub(self.waiting()),
        };
        let (missed, wanted) = late.split_at(late.len().saturating_sub(kept));
        if let (Some(&first), Some(&last)) = (missed.first(), missed.last()) {
            let key = RunKey { tick: last, attempt: 1 };
            self.actions.push(Action::Miss { key, first, count: missed.len() });
        }
        if !wanted.is_empty() {
            self.drop_retries();
        }
        for &tick in wanted {
            self.add(RunKey { tick, attempt: 1 }, tick);
        }
    }

    fn take_due(&mut self, tick: Timestamp) {
        self.drop_retries();
        let key = RunKey { tick, attempt: 1 };
        let is_free = self.runs.is_empty();
        match self.job.policy.overlap {
            Overlap::Skip if !is_free => self.actions.push(Action::Skip { key }),
            Overlap::Queue if self.waiting() >= WAITING_MAX => self.actions.push(Action::Skip { key }),
            Overlap::Skip | Overlap::Queue => self.add(key, tick),
            Overlap::Replace => {
                self.drop_waiting(|run| run.trigger == Trigger::Schedule);
                let running: Vec<RunKey> =
                    self.runs.iter().filter(|run| run.progress == Progress::Running).map(|run| run.key).collect();
                self.actions.extend(running.into_iter().map(|key| Action::Stop { key }));
                self.add(key, tick);
            }
        }
    }

    /// The next tick takes the place of what would be tried again.
    fn drop_retries(&mut self) {
        self.drop_waiting(|run| run.key.attempt > 1);
    }

    fn drop_waiting(&mut self, which: impl Fn(&RunView) -> bool) {
        let is_dropped = |run: &RunView| matches!(run.progress, Progress::Waiting(_)) && which(run);
        let dropped: Vec<RunKey> = self.runs.iter().filter(|run| is_dropped(run)).map(|run| run.key).collect();
        self.runs.retain(|run| !dropped.contains(&run.key));
        for key in dropped {
            // One that was added in this very round never was.
            let before = self.actions.len();
            self.actions.retain(|action| !matches!(action, Action::Add { key: added, .. } if *added == key));
            if self.actions.len() == before {
                self.actions.push(Action::Finish { key, state: RunState::Skipped, is_final: true });
            } else {
                self.actions.push(Action::Skip { key });
            }
        }
    }

    fn start_next(&mut self) {
        if self.runs.iter().any(|run| run.progress == Progress::Running) {
            return;
        }
        let may_start = |run: &RunView| {
            let is_wanted = !self.job.paused || run.trigger == Trigger::Hand;
            is_wanted && matches!(run.progress, Progress::Waiting(not_before) if not_before <= self.now)
        };
        let Some(run) = self.runs.iter().find(|run| may_start(run)) else { return };
        let key = run.key;
        self.actions.push(if self.job.can_start {
            Action::Start { key }
        } else {
            Action::Finish { key, state: RunState::Missed, is_final: true }
        });
    }

    fn add(&mut self, key: RunKey, not_before: Timestamp) {
        self.actions.push(Action::Add { key, not_before });
        self.runs.push(RunView { key, trigger: Trigger::Schedule, progress: Progress::Waiting(not_before) });
    }

    fn waiting(&self) -> usize {
        self.runs.iter().filter(|run| matches!(run.progress, Progress::Waiting(_))).count()
    }
}
