//! Checks of the web dynos that serve: one task per dyno of an app that has a check.
//!
//! Level-triggered: each activation says which tasks there should be, and what a task finds goes the way of all facts.
//! The decisions are in [`domain::health`].

use std::collections::HashMap;

use domain::duration_text;
use domain::dyno::{DynoKind, DynoState};
use domain::health::{self, CheckedDyno, HealthChange, HealthCheck, HealthState};
use domain::id::DynoId;
use domain::rollout::DynoRequest;
use domain::routing::DynoProtocol;
use jiff::Timestamp;
use store::StoreError;
use store::dyno::{Dyno, DynoHealth, DynoSelection};
use store::health_check::HealthFinding;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::dyno_task::{Fact, Report};
use crate::main_loop::MainLoop;
use crate::readiness::{self, Probe, Target};
use crate::world::AppWorld;

/// The tasks that there are, by dyno, with what each was told.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    running: HashMap<DynoId, (Plan, AbortHandle)>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Clone, PartialEq)]
struct Plan {
    check: HealthCheck,
    target: Target,
}

impl Checks {
    /// The dynos that are to be asked something else from now on.
    fn asked_otherwise(&self, wanted: &HashMap<DynoId, (Plan, HealthState)>) -> Vec<DynoId> {
        let is_other = |(dyno, (plan, _state)): &(&DynoId, &(Plan, HealthState))| {
            let running = self.running.get(dyno).map(|(running, _task)| &running.check);
            running.is_some_and(|check| (&check.path, &check.status) != (&plan.check.path, &plan.check.status))
        };
        wanted.iter().filter(is_other).map(|(dyno, _plan)| *dyno).collect()
    }

    /// Starts and ends tasks until they are the wanted ones.
    fn become_these(&mut self, wanted: HashMap<DynoId, (Plan, HealthState)>, reports: &mpsc::UnboundedSender<Report>) {
        self.running.retain(|dyno, (plan, task)| {
            let stays = wanted.get(dyno).is_some_and(|(wanted, _state)| wanted == plan);
            if !stays {
                task.abort();
            }
            stays
        });
        for (dyno, (plan, state)) in wanted {
            if !self.running.contains_key(&dyno) {
                let task = self.tasks.spawn(watch(dyno, plan.clone(), state, reports.clone()));
                self.running.insert(dyno, (plan, task));
            }
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Checks a dyno again and again, and reports what that changes.
async fn watch(dyno: DynoId, plan: Plan, mut state: HealthState, reports: mpsc::UnboundedSender<Report>) {
    let mut ticks = interval(plan.check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = look(&plan).await;
        let change = state.observe(outcome.is_ok(), &plan.check);
        let finding = match (change, outcome) {
            (None, _) => continue,
            (Some(HealthChange::FirstPassed), _) => HealthFinding::Passed,
            (Some(HealthChange::BecameHealthy), _) => HealthFinding::BecameHealthy,
            (Some(HealthChange::BecameUnhealthy), outcome) => {
                HealthFinding::BecameUnhealthy { failure: outcome.err().unwrap_or_default() }
            }
        };
        if reports.send(Report { dyno, fact: Fact::Checked(finding) }).is_err() {
            return;
        }
    }
}

/// One check. The error says what was wrong and what to do about it.
async fn look(Plan { check, target }: &Plan) -> Result<(), String> {
    let probe = match target.protocol {
        DynoProtocol::Http1 => readiness::probe(target.address, &target.host, &check.path, check.timeout).await,
        DynoProtocol::H2c => readiness::greet(target.address, check.timeout).await,
    };
    let asked = format!("GET {} with Host: {}", check.path, target.host);
    match probe {
        Probe::Greeted => Ok(()),
        Probe::Answered(answer) if check.status.contains(answer.status) => Ok(()),
        Probe::Answered(answer) => {
            let cause = readiness::probable_cause(&answer, &target.host, &check.path);
            let cause = cause.map(|cause| format!("; {cause}")).unwrap_or_default();
            Err(format!("{asked} was answered with {}, not {}{cause}", answer.status, check.status))
        }
        Probe::NotListening => Err("it takes no connections".to_owned()),
        Probe::NotHttp(why) => Err(format!("{asked}: {why}")),
    }
}

/// The app's `web` dynos, as decisions about health see them.
pub(crate) fn checked_dynos(world: &AppWorld) -> Vec<CheckedDyno> {
    web_dynos(world).map(checked).collect()
}

fn web_dynos(world: &AppWorld) -> impl Iterator<Item = &Dyno> {
    world.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Formation && dyno.name.process_type.is_web())
}

pub(crate) const fn checked(dyno: &Dyno) -> CheckedDyno {
    CheckedDyno {
        id: dyno.id,
        state: dyno.state,
        request: dyno.request,
        unhealthy_since: dyno.health.unhealthy_since,
        passed: dyno.health.passed,
    }
}

impl MainLoop {
    /// Every web dyno that serves is checked as its app wants it.
    pub(crate) async fn check_health(&mut self, worlds: &[AppWorld]) -> Result<(), StoreError> {
        let mut wanted = HashMap::new();
        for world in worlds.iter().filter(|world| world.app.destroyed_at.is_none()) {
            let Some(check) = &world.health_check else { continue };
            for dyno in web_dynos(world).filter(|dyno| dyno.state == DynoState::Up) {
                let Some(target) = self.probe_target(world, dyno) else { continue };
                let state = HealthState::remembered(dyno.health.unhealthy_since.is_some(), dyno.health.passed);
                wanted.insert(dyno.id, (Plan { check: check.clone(), target }, state));
            }
        }
        // What was found by asking for something else says nothing about this.
        for dyno in self.checks.asked_otherwise(&wanted) {
            self.store.health_found(dyno, HealthFinding::Nothing, Timestamp::now()).await?;
            wanted.entry(dyno).and_modify(|(_plan, state)| *state = HealthState::default());
        }
        self.checks.become_these(wanted, &self.reports);
        Ok(())
    }

    /// Keeps what a check has found, and says it.
    pub(crate) async fn record_health(
        &self,
        before: &Dyno,
        finding: HealthFinding,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(check) = self.store.health_check(before.app)? else { return Ok(()) };
        if before.state != DynoState::Up {
            return Ok(());
        }
        let name = before.name.to_string();
        match &finding {
            HealthFinding::Passed | HealthFinding::Nothing => {}
            HealthFinding::BecameHealthy => {
                self.log.dyno(before.app, &name, &format!("Healthy again after {} passed checks", check.successes));
            }
            HealthFinding::BecameUnhealthy { failure } => {
                let after = if before.health.passed {
                    format!("replaced if that lasts for {}", duration_text::show(check.replace_after))
                } else {
                    "not replaced, because it has never passed a check".to_owned()
                };
                self.log.dyno(
                    before.app,
                    &name,
                    &format!(
                        "Unhealthy after {} failed checks: {failure}. It gets no requests while a healthy dyno is \
                         there, and is {after}",
                        check.failures
                    ),
                );
            }
        }
        self.store.health_found(before.id, finding, now).await
    }

    /// Replaces a dyno that stays unhealthy: a successor first, one at a time.
    pub(crate) async fn replace_unhealthy(&self, world: &AppWorld, now: Timestamp) -> Result<(), StoreError> {
        let Some(check) = &world.health_check else {
            // What was found long ago says nothing once there is a check again.
            for dyno in web_dynos(world).filter(|dyno| dyno.health != DynoHealth::default()) {
                self.store.health_found(dyno.id, HealthFinding::Nothing, now).await?;
            }
            return Ok(());
        };
        if world.under_way().is_some() {
            return Ok(());
        }
        let Some(id) = health::replace(&checked_dynos(world), check, now) else { return Ok(()) };
        if let Some(dyno) = world.dynos.iter().find(|dyno| dyno.id == id) {
            let text = format!("Unhealthy for {}; replacing it", duration_text::show(check.replace_after));
            self.log.dyno(world.app.id, &dyno.name.to_string(), &text);
        }
        self.store.request_dynos(world.app.id, DynoSelection::One(id.to_string()), DynoRequest::Restart).await?;
        Ok(())
    }
}
