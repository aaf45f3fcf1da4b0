//! What the router counts of each app's requests, second by second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::routes::RouterStatus;

/// One second of all apps that had requests in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficSecond {
    /// Its beginning, in seconds since the Unix epoch.
    pub unix_second: u64,
    pub apps: Vec<AppTraffic>,
}

/// Counts are of requests that ended in this second, however; what is under way is as of its end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppTraffic {
    pub app: Uuid,
    pub requests: u64,
    /// By the answer's status: from 1xx to 5xx.
    pub statuses: [u64; 5],
    /// By error code: `H12`.
    pub codes: BTreeMap<String, u64>,
    /// Bodies only, of upgraded connections everything.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Given to a dyno and not answered yet, upgraded connections included.
    pub in_flight: u64,
    /// Waiting for a dyno.
    pub queued: u64,
    /// Clients' connections, or streams of HTTP/2, with a request under way, upgraded ones included.
    pub connections: u64,
    /// From the request's arrival to a dyno's free place.
    pub queue: Times,
    pub connect: Times,
    /// From the request's being sent to the end of the answer.
    pub service: Times,
}

impl AppTraffic {
    /// Adds a later second. Of what is under way the later one counts.
    pub fn add(&mut self, later: &Self) {
        self.app = later.app;
        self.requests += later.requests;
        self.statuses.iter_mut().zip(later.statuses).for_each(|(class, count)| *class += count);
        for (code, count) in &later.codes {
            *self.codes.entry(code.clone()).or_insert(0) += count;
        }
        self.request_bytes += later.request_bytes;
        self.response_bytes += later.response_bytes;
        (self.in_flight, self.queued, self.connections) = (later.in_flight, later.queued, later.connections);
        self.queue.add(&later.queue);
        self.connect.add(&later.connect);
        self.service.add(&later.service);
    }
}

/// How long something took, as a histogram: microseconds and how often, ascending. Exact to one per cent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times(pub Vec<(u64, u64)>);

impl Times {
    /// The time in microseconds that `per_mille` of all did not exceed; 0 of none.
    pub fn quantile_us(&self, per_mille: u64) -> u64 {
        let total: u64 = self.0.iter().map(|&(_us, count)| count).sum();
        let rank = (total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let at = self.0.iter().find(|&&(_us, count)| {
            seen += count;
            seen >= rank
        });
        at.map_or(0, |&(us, _count)| us)
    }

    /// Adds what another second counted.
    pub fn add(&mut self, other: &Self) {
        let mut counts: BTreeMap<u64, u64> = self.0.iter().copied().collect();
        for &(us, count) in &other.0 {
            *counts.entry(us).or_insert(0) += count;
        }
        self.0 = counts.into_iter().collect();
    }
}

/// What `/status` answers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusPage {
    pub router: RouterStatus,
    /// Seconds that the figures of apps are of: 60, or fewer just after a start.
    pub seconds: u64,
    /// Apps that had requests meanwhile, by name.
    pub apps: BTreeMap<String, AppPage>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppPage {
    pub requests: u64,
    pub statuses: [u64; 5],
    pub codes: BTreeMap<String, u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// As of the last second.
    pub in_flight: u64,
    pub queued: u64,
    pub connections: u64,
    pub queue_ms: Quantiles,
    pub connect_ms: Quantiles,
    pub service_ms: Quantiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl From<&Times> for Quantiles {
    fn from(times: &Times) -> Self {
        let milliseconds =
            |per_mille| std::time::Duration::from_micros(times.quantile_us(per_mille)).as_secs_f64() * 1e3;
        Self { p50: milliseconds(500), p95: milliseconds(950), p99: milliseconds(990), max: milliseconds(1000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_seconds_still_parse() {
        let second: TrafficSecond = serde_json::from_str(include_str!("../testdata/traffic-1.json")).unwrap();
        assert_eq!(second.unix_second, 1_790_000_000);
        let app = &second.apps[0];
        assert_eq!((app.requests, app.statuses, app.codes["H12"]), (13, [0, 11, 1, 0, 1], 1));
        assert_eq!((app.in_flight, app.queued, app.connections), (3, 2, 5));
        assert_eq!((app.service.quantile_us(500), app.service.quantile_us(1000)), (5_023, 30_146_559));
        let written = serde_json::to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<TrafficSecond>(&written).unwrap(), second);
    }

    #[test]
    fn quantiles_are_found_where_they_are() {
        let mut times = Times(vec![(10, 1), (20, 98)]);
        assert_eq!(Times::default().quantile_us(500), 0);
        times.add(&Times(vec![(5, 1), (20, 1), (30, 9_899)]));
        assert_eq!(times.0, [(5, 1), (10, 1), (20, 99), (30, 9_899)]);
        assert_eq!([0, 10, 11, 1000].map(|per_mille| times.quantile_us(per_mille)), [5, 20, 30, 30]);
    }
}
