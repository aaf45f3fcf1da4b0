//! The apps' requests of all threads: the last seconds one by one, and totals since the router started.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::error_code::ErrorCode;
use uuid::Uuid;
use wire::traffic::{AppTraffic, TrafficSecond};

use crate::app::Gauges;
use crate::traffic::{Distribution, Tallies, Tally};

/// Seconds that are kept for whoever follows.
const SECONDS_MAX: usize = 120;
/// With thousands of busy apps fewer seconds are kept: so many seconds of one app, all in all.
const APP_SECONDS_MAX: usize = 200_000;

/// Upper bounds in microseconds, with their names in seconds.
const BUCKETS: [(u64, &str); 15] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

#[derive(Debug, Default)]
pub(crate) struct TrafficTotals {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was handed over since the last second was closed.
    current: Tallies,
    /// Oldest first.
    seconds: VecDeque<Arc<TrafficSecond>>,
    app_seconds: usize,
    totals: HashMap<Uuid, AppTotals>,
}

#[derive(Debug, Default)]
struct AppTotals {
    statuses: [u64; 5],
    codes: Vec<(ErrorCode, u64)>,
    request_bytes: u64,
    response_bytes: u64,
    queue: Buckets,
    connect: Buckets,
    service: Buckets,
    /// As of the last second.
    gauges: Gauges,
}

#[derive(Debug, Default)]
struct Buckets {
    /// The last one is of everything longer.
    counts: [u64; BUCKETS.len() + 1],
    sum_us: u64,
}

impl TrafficTotals {
    /// Takes what a worker thread has counted.
    pub(crate) fn add(&self, tallies: Tallies) {
        let mut state = self.lock();
        for (app, tally) in tallies {
            match state.current.entry(app) {
                std::collections::hash_map::Entry::Occupied(mut entry) => entry.get_mut().add(&tally),
                std::collections::hash_map::Entry::Vacant(entry) => drop(entry.insert(tally)),
            }
        }
    }

    /// Closes a second. `gauges` are of the apps with anything under way; an app that `is_known` no longer is forgotten.
    pub(crate) fn close(&self, unix_second: u64, gauges: &HashMap<Uuid, Gauges>, is_known: impl Fn(Uuid) -> bool) {
        let mut state = self.lock();
        let current = std::mem::take(&mut state.current);
        for (app, tally) in &current {
            state.totals.entry(*app).or_default().add(tally);
        }
        for (app, totals) in &mut state.totals {
            totals.gauges = gauges.get(app).copied().unwrap_or_default();
        }
        for (app, gauges) in gauges.iter().filter(|(app, _gauges)| !current.contains_key(*app)) {
            state.totals.entry(*app).or_default().gauges = *gauges;
        }
        state.totals.retain(|app, _totals| is_known(*app));
        let quiet = gauges.iter().filter(|(app, _gauges)| !current.contains_key(*app));
        let quiet = quiet.map(|(app, _gauges)| AppTraffic { app: *app, ..AppTraffic::default() });
        let mut apps: Vec<AppTraffic> = current.iter().map(|(app, tally)| tally.to_wire(*app)).chain(quiet).collect();
        for app in &mut apps {
            let Gauges { in_flight, queued, connections } = gauges.get(&app.app).copied().unwrap_or_default();
            (app.in_flight, app.queued, app.connections) = (in_flight, queued, connections);
        }
        apps.sort_unstable_by_key(|app| app.app);
        state.app_seconds += apps.len();
        state.seconds.push_back(Arc::new(TrafficSecond { unix_second, apps }));
        while state.seconds.len() > SECONDS_MAX || (state.app_seconds > APP_SECONDS_MAX && state.seconds.len() > 1) {
            let oldest = state.seconds.pop_front();
            state.app_seconds -= oldest.map_or(0, |oldest| oldest.apps.len());
        }
    }

    /// The kept seconds behind `after`, oldest first, as many as together have at most `apps_max` apps, but one at
    /// least.
    pub(crate) fn after(&self, after: u64, apps_max: usize) -> Vec<Arc<TrafficSecond>> {
        let mut apps = 0;
        let state = self.lock();
        let behind = state.seconds.iter().filter(|second| second.unix_second > after).enumerate();
        let few = behind.take_while(|(index, second)| {
            apps += second.apps.len();
            *index == 0 || apps <= apps_max
        });
        few.map(|(_index, second)| second.clone()).collect()
    }

    /// The last `count` seconds, oldest first.
    pub(crate) fn last(&self, count: u64) -> Vec<Arc<TrafficSecond>> {
        let state = self.lock();
        let skipped = state.seconds.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        state.seconds.iter().skip(skipped).cloned().collect()
    }

    /// The apps that anything is known of.
    pub(crate) fn apps(&self) -> Vec<Uuid> {
        let state = self.lock();
        state.totals.keys().chain(state.current.keys()).copied().collect()
    }

    /// Everything about apps in Prometheus' text format.
    pub(crate) fn render(&self, names: &HashMap<Uuid, String>, text: &mut String) {
        let state = self.lock();
        let mut apps: Vec<(String, &AppTotals)> =
            state.totals.iter().filter_map(|(app, totals)| Some((label(names.get(app)?), totals))).collect();
        apps.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        family(text, "requests_total", "counter", "Requests that ended, by the class of their answer's status.");
        for (app, totals) in &apps {
            for (class, count) in (1..).zip(totals.statuses).filter(|(_class, count)| *count > 0) {
                line(text, "requests_total", &format!("app=\"{app}\",status=\"{class}xx\""), count);
            }
        }
        family(text, "errors_total", "counter", "Requests that ended with an error code.");
        for (app, totals) in &apps {
            for (code, count) in &totals.codes {
                line(text, "errors_total", &format!("app=\"{app}\",code=\"{code}\""), *count);
            }
        }
        type Number = fn(&AppTotals) -> u64;
        let numbers: [(&str, &str, &str, Number); 5] = [
            ("request_bytes_total", "counter", "Bytes of request bodies.", |totals| totals.request_bytes),
            ("response_bytes_total", "counter", "Bytes of response bodies.", |totals| totals.response_bytes),
            ("in_flight_requests", "gauge", "Requests that a dyno has and has not answered.", |totals| {
                totals.gauges.in_flight
            }),
            ("queued_requests", "gauge", "Requests that wait for a dyno.", |totals| totals.gauges.queued),
            ("app_connections", "gauge", "Connections and streams with a request under way.", |totals| {
                totals.gauges.connections
            }),
        ];
        for (name, kind, help, number) in numbers {
            family(text, name, kind, help);
            for (app, totals) in &apps {
                line(text, name, &format!("app=\"{app}\""), number(totals));
            }
        }
        type Times = fn(&AppTotals) -> &Buckets;
        let times: [(&str, &str, Times); 3] = [
            ("queue_seconds", "Time that requests waited for a dyno.", |totals| &totals.queue),
            ("connect_seconds", "Time that connecting to a dyno took.", |totals| &totals.connect),
            ("service_seconds", "Time from sending a request to the end of its answer.", |totals| &totals.service),
        ];
        for (name, help, buckets) in times {
            family(text, name, "histogram", help);
            for (app, totals) in &apps {
                buckets(totals).render(name, app, text);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AppTotals {
    fn add(&mut self, tally: &Tally) {
        self.statuses.iter_mut().zip(tally.statuses).for_each(|(class, count)| *class += count);
        for &(code, count) in &tally.codes {
            match self.codes.iter_mut().find(|(known, _count)| *known == code) {
                Some((_code, known)) => *known += count,
                None => self.codes.push((code, count)),
            }
        }
        self.codes.sort_unstable();
        self.request_bytes += tally.request_bytes;
        self.response_bytes += tally.response_bytes;
        self.queue.add(&tally.queue);
        self.connect.add(&tally.connect);
        self.service.add(&tally.service);
    }
}

impl Buckets {
    fn add(&mut self, distribution: &Distribution) {
        for (us, count) in distribution.counts() {
            self.counts[BUCKETS.partition_point(|&(bound, _name)| bound < us)] += count;
        }
        self.sum_us = self.sum_us.saturating_add(distribution.sum_us);
    }

    fn render(&self, name: &str, app: &str, text: &mut String) {
        let mut sum = 0;
        for (count, bound) in self.counts.iter().zip(BUCKETS.iter().map(|&(_us, name)| name).chain(["+Inf"])) {
            sum += count;
            line(text, &format!("{name}_bucket"), &format!("app=\"{app}\",le=\"{bound}\""), sum);
        }
        let (seconds, micros) = (self.sum_us / 1_000_000, self.sum_us % 1_000_000);
        line(text, &format!("{name}_sum"), &format!("app=\"{app}\""), format_args!("{seconds}.{micros:06}"));
        line(text, &format!("{name}_count"), &format!("app=\"{app}\""), sum);
    }
}

/// Begins a metric of the router.
pub(crate) fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    push(text, format_args!("# HELP berth_router_{name} {help}\n# TYPE berth_router_{name} {kind}\n"));
}

pub(crate) fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    push(text, format_args!("berth_router_{name}{open}{labels}{close} {value}\n"));
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string does not fail");
}

fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
