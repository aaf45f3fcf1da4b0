use std::collections::BTreeSet;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use proptest::prelude::*;

use super::*;

/// Zones with every kind of transition: an hour, half an hour, at midnight, none, and a day that never was.
const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Zurich",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "Africa/Cairo",
    "America/Asuncion",
    "Asia/Kolkata",
    "Europe/Dublin",
    "Africa/Casablanca",
];

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str, name: &str) -> Schedule {
    Schedule::parse(text, zone(name)).unwrap()
}

fn ticks(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let mut all = Vec::new();
    // Begins just before, so that a tick at `from` counts.
    let mut last = from.checked_sub(SignedDuration::from_nanos(1)).unwrap();
    while let Some(next) = schedule.next_after(last).filter(|next| *next < to) {
        assert!(next > last, "{next} after {last}");
        all.push(next);
        last = next;
    }
    all
}

fn check(pattern: &str, name: &str, after: &str, expect: &[&str]) {
    let schedule = schedule(pattern, name);
    let mut last = at(after);
    for expected in expect {
        last = schedule.next_after(last).unwrap();
        assert_eq!(last, at(expected), "{pattern} in {name}");
    }
}

#[test]
fn a_pattern_that_names_hours_follows_the_wall_clock() {
    // Spring: 02:00 to 03:00 is skipped on 29 March 2026.
    let spring = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check("30 2 * * *", "Europe/Zurich", "2026-03-27T12:00:00Z", &spring);
    // Autumn: 02:00 to 03:00 comes twice on 25 October 2026.
    let autumn = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
    check("30 2 * * *", "Europe/Zurich", "2026-10-23T12:00:00Z", &autumn);
    // All ticks of the skipped hour are one.
    let one = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T23:00:00Z"];
    check("0,30 1-3 * * *", "Europe/Zurich", "2026-03-29T00:00:00Z", &one);
}

#[test]
fn a_pattern_that_leaves_the_hour_open_follows_elapsed_time() {
    let spring = ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"];
    check("@hourly", "Europe/Zurich", "2026-03-28T23:30:00Z", &spring);
    let autumn = ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"];
    check("0 * * * *", "Europe/Zurich", "2026-10-24T23:30:00Z", &autumn);
}

#[test]
fn seconds_are_a_sixth_field_in_front() {
    check("*/20 * * * * *", "UTC", "2026-01-01T00:00:00.5Z", &["2026-01-01T00:00:20Z", "2026-01-01T00:00:40Z"]);
    check("15 30 4 * * *", "UTC", "2026-01-01T00:00:00Z", &["2026-01-01T04:30:15Z", "2026-01-02T04:30:15Z"]);
}

#[test]
fn days_names_and_nicknames() {
    check("0 9 * * MON-FRI", "UTC", "2026-11-27T10:00:00Z", &["2026-11-30T09:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
    check("0 9 13 * FRI", "UTC", "2026-11-26T10:00:00Z", &["2026-11-27T09:00:00Z"]);
    check("@daily", "UTC", "2026-11-26T10:00:00Z", &["2026-11-27T00:00:00Z"]);
    check("@weekly", "UTC", "2026-11-26T10:00:00Z", &["2026-11-29T00:00:00Z"]);
    check("@monthly", "UTC", "2026-11-26T10:00:00Z", &["2026-12-01T00:00:00Z"]);
    check("@yearly", "UTC", "2026-11-26T10:00:00Z", &["2027-01-01T00:00:00Z"]);
}

#[test]
fn what_is_no_schedule_is_refused_with_an_example() {
    for wrong in ["", "* * * *", "61 * * * *", "* 24 * * *", "a b c d e", "@reboot", "* * * * * * *", "* * 0 * *"] {
        let error = Schedule::parse(wrong, TimeZone::UTC).map(|_schedule| ()).unwrap_err();
        assert!(error.to_string().contains("30 5 * * *"), "{wrong}: {error}");
    }
    let never = Schedule::parse("0 0 30 2 *", TimeZone::UTC).map(|_schedule| ());
    assert_eq!(never, Err(ScheduleError::Never("0 0 30 2 *".to_owned())));
}

#[test]
fn ten_years_of_a_daily_job_have_one_run_a_day() {
    for name in ZONES {
        let rules = zone(name);
        let midnight = |year| rules.to_timestamp(date(year, 1, 1).at(0, 0, 0, 0)).unwrap();
        for hour in 0..=4 {
            let daily = schedule(&format!("30 {hour} * * *"), name);
            let all = ticks(&daily, midnight(2020), midnight(2030));
            let days: BTreeSet<_> = all.iter().map(|tick| rules.to_datetime(*tick).date()).collect();
            assert_eq!((all.len(), days.len()), (3653, 3653), "{name} at {hour}:30");
        }
    }
}

#[test]
fn ten_years_of_a_job_that_names_no_hour_have_equal_pauses() {
    let day = SignedDuration::from_hours(24);
    for name in ZONES {
        let often = schedule("*/30 * * * *", name);
        let rules = zone(name);
        let transitions = rules.following(at("2020-01-01T00:00:00Z")).map(|found| found.timestamp());
        for near in transitions.take_while(|near| *near < at("2030-01-01T00:00:00Z")) {
            let all = ticks(&often, near.checked_sub(day).unwrap(), near.checked_add(day).unwrap());
            assert_eq!(all.len(), 96, "{name} at {near}");
            let mut pauses = all.windows(2).map(|pair| pair[1].duration_since(pair[0]));
            assert!(pauses.all(|pause| pause == SignedDuration::from_mins(30)), "{name} at {near}");
        }
    }
}

#[test]
fn a_day_that_never_was_is_made_up_for() {
    // Samoa went over the date line: there was no 30 December 2011.
    check(
        "0 9 * * *",
        "Pacific/Apia",
        "2011-12-29T00:00:00Z",
        &["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"],
    );
}

/// What the wall shows at the ticks of a day, found by looking at every minute.
fn slow_ticks(hours: &[i8], minutes: &[i8], rules: &TimeZone, day: jiff::civil::Date) -> Vec<Timestamp> {
    let mut seen = BTreeSet::new();
    for hour in hours {
        for minute in minutes {
            let wall: DateTime = day.at(*hour, *minute, 0, 0);
            let ambiguous = rules.to_ambiguous_timestamp(wall);
            let moment = match ambiguous.offset() {
                jiff::tz::AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().unwrap(),
                jiff::tz::AmbiguousOffset::Fold { .. } => ambiguous.earlier().unwrap(),
                jiff::tz::AmbiguousOffset::Gap { before, .. } => {
                    // The end of the gap is the transition before what the old offset would have made of it.
                    let pushed = before.to_timestamp(wall).unwrap();
                    let after = pushed.checked_add(SignedDuration::from_nanos(1)).unwrap();
                    rules.preceding(after).next().unwrap().timestamp()
                }
            };
            seen.insert(moment);
        }
    }
    seen.into_iter().collect()
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,60}") {
        let _parsed = Schedule::parse(&text, TimeZone::UTC);
        let _name = JobName::parse(&text);
        let name = JobName::of_command(&text);
        prop_assert_eq!(JobName::parse(name.as_str()), Ok(name));
    }

    #[test]
    fn nothing_that_looks_like_a_pattern_makes_it_panic(text in "[0-9*/,\\-LW#?@A-Z ]{0,30}") {
        let _parsed = Schedule::parse(&text, TimeZone::UTC);
    }

    #[test]
    fn every_wall_clock_tick_around_a_transition_comes_once(
        zone_index in 0..ZONES.len(), transition in 0..20_usize, days in -2..3_i64,
        hours in prop::collection::btree_set(0..24_i8, 1..5), minutes in prop::collection::btree_set(0..60_i8, 1..4),
    ) {
        let rules = zone(ZONES[zone_index]);
        let mut transitions = rules.following(at("2020-01-01T00:00:00Z"));
        let near = transitions.nth(transition).map_or(at("2026-03-29T00:00:00Z"), |found| found.timestamp());
        let day = rules.to_datetime(near).date().checked_add(days.days()).unwrap();
        let (hours, minutes): (Vec<i8>, Vec<i8>) = (hours.into_iter().collect(), minutes.into_iter().collect());
        let list = |numbers: &[i8]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let schedule = Schedule::parse(&format!("{} {} * * *", list(&minutes), list(&hours)), rules.clone()).unwrap();
        let expect = slow_ticks(&hours, &minutes, &rules, day);
        let last = expect.last().unwrap().checked_add(SignedDuration::from_nanos(1)).unwrap();
        let got = ticks(&schedule, expect[0], last);
        prop_assert_eq!(got, expect);
    }
}

// --- decisions ---

fn job(pattern: &str, policy: Policy, next: &str) -> JobView {
    JobView { schedule: schedule(pattern, "UTC"), policy, paused: false, next: Some(at(next)), can_start: true }
}

fn key(tick: &str) -> RunKey {
    RunKey { tick: at(tick), attempt: 1 }
}

fn run(tick: &str, progress: Progress) -> RunView {
    RunView { key: key(tick), trigger: Trigger::Schedule, progress }
}

fn add(tick: &str) -> Action {
    Action::Add { key: key(tick), not_before: at(tick) }
}

const NOON: &str = "2026-11-27T12:00:00Z";
const ONE: &str = "2026-11-27T12:01:00Z";
const TWO: &str = "2026-11-27T12:02:00Z";

#[test]
fn a_tick_that_is_due_starts_one_run() {
    let plan = decide(&job("* * * * *", Policy::default(), NOON), &[], at("2026-11-27T12:00:00.4Z"));
    assert_eq!(plan, Plan { next: Some(at(ONE)), actions: vec![add(NOON), Action::Start { key: key(NOON) }] });
    let early = decide(&job("* * * * *", Policy::default(), NOON), &[], at("2026-11-27T11:59:59.9Z"));
    assert_eq!(early, Plan { next: Some(at(NOON)), actions: vec![] });
}

#[test]
fn a_run_that_goes_on_decides_about_the_next_tick_by_the_policy() {
    let with = |overlap| Policy { overlap, ..Policy::default() };
    let running = [run(NOON, Progress::Running)];
    let actions = |overlap| decide(&job("* * * * *", with(overlap), ONE), &running, at(ONE)).actions;
    assert_eq!(actions(Overlap::Skip), [Action::Skip { key: key(ONE) }]);
    assert_eq!(actions(Overlap::Queue), [add(ONE)]);
    assert_eq!(actions(Overlap::Replace), [Action::Stop { key: key(NOON) }, add(ONE)]);
    // One that waits in line is replaced, too.
    let line = [run(NOON, Progress::Running), run(ONE, Progress::Waiting(at(ONE)))];
    let replaced = decide(&job("* * * * *", with(Overlap::Replace), TWO), &line, at(TWO)).actions;
    let dropped = Action::Finish { key: key(ONE), state: RunState::Skipped, is_final: true };
    assert_eq!(replaced, [dropped, Action::Stop { key: key(NOON) }, add(TWO)]);
}

#[test]
fn what_waits_starts_when_the_one_before_it_has_ended() {
    let line = [run(NOON, Progress::Ended(RunEnd::Succeeded)), run(ONE, Progress::Waiting(at(ONE)))];
    let plan = decide(&job("* * * * *", Policy::default(), TWO), &line, at("2026-11-27T12:01:30Z"));
    let finished = Action::Finish { key: key(NOON), state: RunState::Succeeded, is_final: true };
    assert_eq!(plan.actions, [finished, Action::Start { key: key(ONE) }]);
}

#[test]
fn a_failure_is_tried_again_after_a_pause_that_doubles() {
    let policy = Policy { retries: 2, retry_delay_s: 10, ..Policy::default() };
    let job = job("@hourly", policy, "2026-11-27T13:00:00Z");
    let failed = |attempt| RunView {
        key: RunKey { tick: at(NOON), attempt },
        trigger: Trigger::Schedule,
        progress: Progress::Ended(RunEnd::Failed),
    };
    let plan = |attempt| decide(&job, &[failed(attempt)], at(ONE)).actions;
    let finish = |attempt, is_final| Action::Finish { key: failed(attempt).key, state: RunState::Failed, is_final };
    let again = |attempt, seconds| Action::Add {
        key: RunKey { tick: at(NOON), attempt },
        not_before: at(ONE).checked_add(SignedDuration::from_secs(seconds)).unwrap(),
    };
    assert_eq!(plan(1), [finish(1, false), again(2, 10)]);
    assert_eq!(plan(2), [finish(2, false), again(3, 20)]);
    assert_eq!(plan(3), [finish(3, true)]);
    let by_hand = RunView { trigger: Trigger::Hand, ..failed(1) };
    assert_eq!(decide(&job, &[by_hand], at(ONE)).actions, [finish(1, true)], "a person sees it fail");
}

#[test]
fn the_next_tick_takes_the_place_of_another_attempt() {
    let policy = Policy { retries: 3, ..Policy::default() };
    let retry = RunKey { tick: at(NOON), attempt: 2 };
    let waiting = RunView { key: retry, trigger: Trigger::Schedule, progress: Progress::Waiting(at(TWO)) };
    let plan = decide(&job("* * * * *", policy, ONE), &[waiting], at(ONE));
    let dropped = Action::Finish { key: retry, state: RunState::Skipped, is_final: true };
    assert_eq!(plan.actions, [dropped, add(ONE), Action::Start { key: key(ONE) }]);
}

#[test]
fn ticks_of_a_time_in_which_nothing_could_start_are_missed_or_made_up_for() {
    let now = at("2026-11-27T15:30:00Z");
    let actions = |catch_up| {
        let policy = Policy { catch_up, ..Policy::default() };
        decide(&job("@hourly", policy, NOON), &[], now).actions
    };
    let last = "2026-11-27T15:00:00Z";
    let missed = |last: &str, count| Action::Miss { key: key(last), first: at(NOON), count };
    assert_eq!(actions(CatchUp::None), [missed(last, 4)]);
    assert_eq!(
        actions(CatchUp::Last),
        [missed("2026-11-27T14:00:00Z", 3), add(last), Action::Start { key: key(last) }]
    );
    let all = actions(CatchUp::All);
    assert_eq!((all.len(), &all[0], &all[4]), (5, &add(NOON), &Action::Start { key: key(NOON) }));
}

#[test]
fn a_tick_that_is_due_at_the_end_of_a_time_off_is_a_part_of_it() {
    let (now, due) = (at("2026-11-27T15:00:20Z"), "2026-11-27T15:00:00Z");
    for overlap in Overlap::ALL {
        let actions = |catch_up, open: &[RunView]| {
            let policy = Policy { catch_up, overlap: *overlap, ..Policy::default() };
            decide(&job("@hourly", policy, NOON), open, now).actions
        };
        let missed = |last: &str, count| Action::Miss { key: key(last), first: at(NOON), count };
        let before_due = missed("2026-11-27T14:00:00Z", 3);
        let start = Action::Start { key: key(due) };
        assert_eq!(actions(CatchUp::None, &[]), [before_due.clone(), add(due), start.clone()], "it came in time");
        assert_eq!(actions(CatchUp::Last, &[]), [before_due, add(due), start]);
        let all = actions(CatchUp::All, &[]);
        assert_eq!((all.len(), &all[3], &all[4]), (5, &add(due), &Action::Start { key: key(NOON) }));
        // What failed before is not tried again as well.
        let retry = RunKey { tick: at("2026-11-27T11:00:00Z"), attempt: 2 };
        let waiting = RunView { key: retry, trigger: Trigger::Schedule, progress: Progress::Waiting(now) };
        let dropped = Action::Finish { key: retry, state: RunState::Skipped, is_final: true };
        assert!(actions(CatchUp::All, &[waiting]).contains(&dropped));
    }
}

#[test]
fn a_long_time_off_is_bounded() {
    let policy = Policy { catch_up: CatchUp::All, ..Policy::default() };
    let job = job("* * * * * *", policy, "2026-11-01T00:00:00Z");
    let plan = decide(&job, &[], at(NOON));
    let added = plan.actions.iter().filter(|action| matches!(action, Action::Add { .. })).count();
    assert_eq!(added, WAITING_MAX);
    assert_eq!(plan.next, Some(at("2026-11-27T12:00:01Z")));
}

#[test]
fn a_paused_job_keeps_still_but_for_what_somebody_asks_for() {
    let paused = JobView { paused: true, ..job("* * * * *", Policy::default(), NOON) };
    let waiting = run(NOON, Progress::Waiting(at(NOON)));
    let plan = decide(&paused, std::slice::from_ref(&waiting), at(TWO));
    assert_eq!(plan, Plan { next: Some(at(NOON)), actions: vec![] });
    let asked = RunView { trigger: Trigger::Hand, ..waiting };
    assert_eq!(decide(&paused, &[asked], at(TWO)).actions, [Action::Start { key: key(NOON) }]);
}

#[test]
fn without_a_release_that_serves_a_run_is_missed() {
    let bare = JobView { can_start: false, ..job("* * * * *", Policy::default(), NOON) };
    let missed = Action::Finish { key: key(NOON), state: RunState::Missed, is_final: true };
    assert_eq!(decide(&bare, &[], at(NOON)).actions, [add(NOON), missed]);
}

#[test]
fn names_are_made_of_commands_and_made_unique() {
    let name = |command| JobName::of_command(command).to_string();
    assert_eq!(name("python manage.py clear_sessions --all"), "python-manage-py-clear-sessions-all");
    assert_eq!(name("./7zip"), "job");
    let twice = JobName::of_command("rake sync").made_unique(|name| name.as_str() == "rake-sync");
    assert_eq!(twice.as_str(), "rake-sync-2");
}

/// Carries a plan out as the store and the platform do.
#[derive(Debug, Default)]
struct World {
    runs: Vec<RunView>,
    started: Vec<RunKey>,
    dealt_with: Vec<RunKey>,
    stopping: BTreeSet<RunKey>,
}

impl World {
    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Add { key, not_before } => {
                    assert!(self.runs.iter().all(|run| run.key != key));
                    if key.attempt == 1 {
                        self.dealt_with.push(key);
                    }
                    let progress = Progress::Waiting(not_before);
                    self.runs.push(RunView { key, trigger: Trigger::Schedule, progress });
                }
                Action::Skip { key } | Action::Miss { key, .. } => self.dealt_with.push(key),
                Action::Start { key } => {
                    assert!(self.runs.iter().all(|run| run.progress != Progress::Running), "two at once");
                    self.started.push(key);
                    self.runs.iter_mut().find(|run| run.key == key).unwrap().progress = Progress::Running;
                }
                Action::Stop { key } => drop(self.stopping.insert(key)),
                Action::Finish { key, .. } => self.runs.retain(|run| run.key != key),
            }
        }
    }
}

proptest! {
    /// Any course of events: looks at any time, runs that end in any way, servers that are away for a while.
    #[test]
    fn every_tick_is_dealt_with_once_and_no_run_is_doubled(
        overlap in prop::sample::select(Overlap::ALL), catch_up in prop::sample::select(CatchUp::ALL),
        retries in 0..3_u32,
        steps in prop::collection::vec((1..400_i64, 0..5_u8), 1..60),
    ) {
        let policy = Policy { overlap, catch_up, retries, retry_delay_s: 7, deadline_s: 60 };
        let mut view = job("* * * * *", policy, NOON);
        let mut now = at(NOON);
        let mut world = World::default();
        for (seconds, event) in steps {
            now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
            for run in world.runs.iter_mut().filter(|run| run.progress == Progress::Running) {
                let end = match event {
                    _ if world.stopping.contains(&run.key) => RunEnd::Stopped,
                    0 => RunEnd::Succeeded,
                    1 => RunEnd::Failed,
                    _ => continue,
                };
                run.progress = Progress::Ended(end);
            }
            let plan = decide(&view, &world.runs, now);
            // A look that repeats itself, because the first one was not written, decides the same.
            prop_assert_eq!(&plan, &decide(&view, &world.runs, now));
            prop_assert!(plan.next > Some(now) && plan.next >= view.next);
            view.next = plan.next;
            world.apply(plan.actions);
            // Nothing is left to do for the same moment, but for one more start per look.
            let idle = decide(&view, &world.runs, now);
            let only_starts = idle.actions.iter().all(|action| matches!(action, Action::Start { .. }));
            prop_assert!(only_starts);
            world.apply(idle.actions);
        }
        let distinct: BTreeSet<RunKey> = world.started.iter().copied().collect();
        prop_assert_eq!(distinct.len(), world.started.len(), "a start was doubled");
        let ticks: BTreeSet<RunKey> = world.dealt_with.iter().copied().filter(|key| key.attempt == 1).collect();
        let first_attempts = world.dealt_with.iter().filter(|key| key.attempt == 1).count();
        prop_assert_eq!(ticks.len(), first_attempts, "a tick was dealt with twice");
    }
}
