//! Arrivals as a router has logged them, to be replayed.

use std::time::Duration;

use jiff::Timestamp;

use crate::simulator::{Lane, Polls, Service};

/// A request of the log: when it came, and how long a dyno worked on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traced {
    at: f64,
    service: f64,
    /// From its arrival to its end.
    pub(crate) took: f64,
}

/// Reads the lines of `berth logs` or `heroku logs` that are the router's. Requests that no dyno answered have no service
/// time; they are given the mean.
pub(crate) fn parse(log: &str) -> Vec<Traced> {
    let lines = log.lines().filter(|line| line.contains("heroku[router]: "));
    let mut traced: Vec<(Timestamp, Option<f64>, f64)> = lines
        .filter_map(|line| {
            let ended: Timestamp = line.split(' ').next()?.parse().ok()?;
            let seconds = |name: &str| {
                let text = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_suffix("ms"))?;
                text.parse::<f64>().ok().map(|ms| ms / 1000.0)
            };
            let service = seconds("service=").unwrap_or_default();
            let took = service + seconds("connect=").unwrap_or_default() + seconds("queue=").unwrap_or_default();
            let came = ended.checked_sub(Duration::from_secs_f64(took)).ok()?;
            Some((came, (!line.contains(" dyno= ")).then_some(service), took))
        })
        .collect();
    traced.sort_by_key(|(came, ..)| *came);
    let known: Vec<f64> = traced.iter().filter_map(|(_came, service, _took)| *service).collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let Some(&(first, ..)) = traced.first() else { return Vec::new() };
    let since = |came: Timestamp| came.duration_since(first).as_secs_f64();
    traced
        .iter()
        .map(|&(came, service, took)| Traced { at: since(came), service: service.unwrap_or(mean), took })
        .collect()
}

/// The same requests, so many times as fast one after the other, for dynos of one worker each.
pub(crate) fn lane(trace: &[Traced], dynos: usize, speed: f64) -> Lane {
    let polls = |traced: &Traced| Polls { at: traced.at / speed, count: 1, seconds: traced.service };
    let mean = trace.iter().map(|traced| traced.service).sum::<f64>() / trace.len().max(1) as f64;
    Lane {
        dynos,
        slowness: vec![1.0; dynos],
        duration: trace.last().map_or(0.0, |last| last.at) / speed,
        polls: trace.iter().map(polls).collect(),
        rate: Some(0.0),
        ..Lane::new(1, mean, Service::Constant, 1.0, 7)
    }
}
