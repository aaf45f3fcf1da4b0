//! Autoscaling: looks at the last minute of every app that wants it, asks [`domain::autoscale::decide`], and writes the
//! formation, as somebody at a terminal would. From there on the main loop does what it does.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::autoscale::{Minute, Reason, Step, decide};
use domain::display_chain::display_chain;
use jiff::Timestamp;
use router::client::{ClientError, RouterClient};
use store::formation::Formation;
use store::monitor::Monitor;
use store::{Store, StoreError};
use tokio::sync::watch;
use tracing::{info, warn};
use uuid::Uuid;
use wire::traffic::{AppTraffic, TrafficSecond};

use crate::log::PlatformLog;
use crate::main_loop::StopMode;

/// How often the router is asked.
const LOOK: Duration = Duration::from_secs(5);

/// How much of the past a decision is made from.
const SECONDS: usize = 60;

/// Codes that more dynos would have prevented: a full queue, a timeout, nowhere to go.
const WANT_OF_DYNOS: [&str; 3] = ["H11", "H12", "H21"];

pub(crate) struct Autoscaler {
    pub(crate) data_dir: PathBuf,
    pub(crate) instance: String,
    pub(crate) store: Arc<Store>,
    pub(crate) log: PlatformLog,
}

impl Autoscaler {
    pub(crate) async fn run(self, mut stop: watch::Receiver<StopMode>) {
        let mut seconds = VecDeque::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _stopped = stop.wait_for(|mode| *mode != StopMode::Running) => return,
            }
            match self.store.active_monitors() {
                // Nobody wants it: the router is not asked.
                Ok(monitors) if monitors.is_empty() => seconds.clear(),
                Ok(monitors) => {
                    if let Err(error) = self.follow(&mut seconds).await {
                        // Without figures there is no decision. The link to the router says what is wrong with it.
                        tracing::debug!(%error, "no traffic to scale by");
                        continue;
                    }
                    self.look(&monitors, &seconds).await;
                }
                Err(error) => warn!(error = display_chain(&error), "cannot read what is to be scaled"),
            }
        }
    }

    /// A connection for each look: the router may be another one by now.
    async fn follow(&self, seconds: &mut VecDeque<TrafficSecond>) -> Result<(), ClientError> {
        let mut client = RouterClient::connect(&self.data_dir, &self.instance).await?;
        loop {
            let after = seconds.back().map_or(0, |second| second.unix_second);
            let new = client.traffic(after).await?;
            let is_all = new.is_empty();
            seconds.extend(new);
            while seconds.len() > SECONDS {
                seconds.pop_front();
            }
            if is_all {
                return Ok(());
            }
        }
    }

    async fn look(&self, monitors: &[Monitor], seconds: &VecDeque<TrafficSecond>) {
        let now = Timestamp::now();
        let oldest = u64::try_from(now.as_second()).unwrap_or(0).saturating_sub(SECONDS as u64);
        let recent = || seconds.iter().filter(|second| second.unix_second >= oldest);
        for monitor in monitors {
            let Ok(Some(formation)) = self.formation(monitor) else { continue };
            let minute = minute_of(monitor.app.uuid(), recent());
            let quantity = formation.entry.quantity;
            let changed_at = formation.updated_at.max(monitor.updated_at);
            if let Some(step) = decide(monitor.bounds, quantity, minute, changed_at, now)
                && let Err(error) = self.scale(monitor, &formation, minute, step, now).await
            {
                warn!(app.id = %monitor.app, error = display_chain(&error), "cannot scale an app");
            }
        }
    }

    fn formation(&self, monitor: &Monitor) -> Result<Option<Formation>, StoreError> {
        let rows = self.store.formation(monitor.app)?;
        Ok(rows.into_iter().find(|row| row.entry.process_type == monitor.process_type))
    }

    async fn scale(
        &self,
        monitor: &Monitor,
        formation: &Formation,
        minute: Minute,
        step: Step,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (kind, size) = (&monitor.process_type, &formation.entry.size);
        let why = reason_text(monitor, minute, step.reason);
        let maximum = step
            .reaches_maximum(monitor.bounds)
            .then(|| format!("{kind} has reached the maximum of its autoscaling, {} dynos: {why}", monitor.bounds.max));
        if !self.store.autoscale(formation.clone(), step.to, maximum, now).await? {
            return Ok(());
        }
        self.log.api(monitor.app, &format!("Scaled to {kind}@{}:{size} by autoscaling: {why}", step.to));
        info!(app.id = %monitor.app, from = formation.entry.quantity, to = step.to, why, "Scaled an app");
        Ok(())
    }
}

fn reason_text(monitor: &Monitor, minute: Minute, reason: Reason) -> String {
    let wanted = monitor.bounds.p95_ms;
    match reason {
        Reason::BelowMinimum => "there were fewer than the minimum".to_owned(),
        Reason::AboveMaximum => "there were more than the maximum".to_owned(),
        Reason::Failing => {
            format!("{} of {} requests failed for want of dynos in the last minute", minute.failures, minute.requests)
        }
        Reason::Slow => format!("p95 was {} ms in the last minute, and should be {wanted} ms", minute.p95_ms),
        Reason::Quiet => format!("p95 was {} ms in the last minute, far below {wanted} ms", minute.p95_ms),
    }
}

/// What a minute of an app's requests says.
fn minute_of<'a>(app: Uuid, seconds: impl Iterator<Item = &'a TrafficSecond>) -> Minute {
    let mut sum = AppTraffic::default();
    for second in seconds {
        second.apps.iter().filter(|traffic| traffic.app == app).for_each(|traffic| sum.add(traffic));
    }
    let failures = |codes: &BTreeMap<String, u64>| WANT_OF_DYNOS.iter().filter_map(|code| codes.get(*code)).sum();
    // A request waits and is served; the sum of both quantiles is never less than that of the whole.
    let p95_us = sum.queue.quantile_us(950) + sum.service.quantile_us(950);
    Minute { requests: sum.requests, failures: failures(&sum.codes), p95_ms: p95_us / 1000 }
}

#[cfg(test)]
mod tests {
    use wire::traffic::Times;

    use super::*;

    #[test]
    fn a_minute_is_the_sum_of_an_apps_seconds() {
        let app = Uuid::from_u128(1);
        let second = |unix_second, app, codes: &[(&str, u64)], service| TrafficSecond {
            unix_second,
            apps: vec![AppTraffic {
                app,
                requests: 10,
                codes: codes.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect(),
                service: Times(vec![(service, 10)]),
                ..AppTraffic::default()
            }],
        };
        let seconds = [
            second(1, app, &[("H12", 1), ("H13", 5)], 20_000),
            second(2, Uuid::from_u128(2), &[("H12", 9)], 9_000_000),
            second(3, app, &[("H11", 2)], 400_000),
        ];
        let expected = Minute { requests: 20, failures: 3, p95_ms: 400 };
        assert_eq!(minute_of(app, seconds.iter()), expected);
        assert_eq!(minute_of(Uuid::from_u128(3), seconds.iter()), Minute::default());
    }
}
