//! One app's activation: what is decided for it, and the start of carrying it out.

use std::sync::Arc;

use domain::dyno::{DynoEvent, DynoKind, DynoName, DynoState};
use domain::id::ReleaseId;
use domain::name::ProcessType;
use domain::release::{ReleaseEvent, ReleaseState};
use domain::rollout::{Action, AppTarget, DrainView, DynoRequest, DynoView, decide};
use jiff::Timestamp;
use store::StoreError;
use store::dyno::{Dyno, NewDyno};
use store::release::Release;
use tracing::info;

use crate::dyno_task::Order;
use crate::main_loop::MainLoop;
use crate::release::{ReleaseStep, next_step};
use crate::router_link::RouterView;
use crate::world::AppWorld;

/// Log lines of a dyno that did not become ready, kept with the failed release.
const FAILURE_LOG_LINES: usize = 50;

impl MainLoop {
    /// Brings one app a step nearer to what it should be.
    pub(crate) async fn reconcile_app(
        &mut self,
        world: &AppWorld,
        router: &RouterView,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if world.app.destroyed_at.is_some() {
            return self.destroy_app(world, router, now).await;
        }
        if let Some(release) = world.under_way().cloned() {
            self.advance_release(world, &release, now).await?;
        }
        let target = self.target(world)?;
        self.act(world, &target, router, now).await?;
        self.replace_unhealthy(world, now).await?;
        self.replace_wedged(world, router).await?;
        self.stop_one_offs(world, now).await
    }

    fn target(&mut self, world: &AppWorld) -> Result<AppTarget, StoreError> {
        let candidate = world.releases.iter().find(|release| release.state == ReleaseState::RollingOut);
        Ok(AppTarget {
            serving: world.serving().map(|release| self.observer.release_target(release)).transpose()?,
            candidate: candidate.map(|release| self.observer.release_target(release)).transpose()?,
            formation: world.formation.iter().map(|formation| formation.entry.clone()).collect(),
        })
    }

    /// Decides about the formation and starts what was decided.
    async fn act(
        &mut self,
        world: &AppWorld,
        target: &AppTarget,
        router: &RouterView,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let formation = world.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Formation);
        let views: Vec<DynoView> = formation.map(|dyno| view(world, dyno, router)).collect();
        for action in decide(target, &views, &self.config.limits, now) {
            self.carry_out(world, action, now).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, world: &AppWorld, action: Action, now: Timestamp) -> Result<(), StoreError> {
        let app = world.app.id;
        match action {
            Action::Start { name, release, size, crashes, reason } => {
                let Some(release) = world.releases.iter().find(|other| other.version == release) else { return Ok(()) };
                let command = self.command(release, &name.process_type)?;
                info!(app.name = %world.app.name, dyno.name = %name, release.version = release.version, ?reason, "Starting a dyno");
                self.log.dyno(app, &name.to_string(), &format!("Starting process with command `{command}`"));
                let new = NewDyno {
                    app,
                    kind: DynoKind::Formation,
                    name,
                    release: Some(release.id),
                    build: None,
                    size,
                    command,
                    env: std::collections::BTreeMap::new(),
                    crashes,
                    attach: None,
                    time_to_live_s: None,
                };
                self.store.create_dyno(new, now).await?;
            }
            Action::TakeOut { dyno, reason } => {
                info!(app.name = %world.app.name, dyno.id = %dyno, ?reason, "Taking a dyno out");
                self.store.advance_dyno(dyno, DynoEvent::TakenOut, now).await?;
            }
            Action::Stop { dyno, reason } => {
                info!(app.name = %world.app.name, dyno.id = %dyno, ?reason, "Stopping a dyno");
                self.store.advance_dyno(dyno, DynoEvent::StopSent, now).await?;
                self.order(dyno, Order::Stop);
            }
            Action::BootTimedOut { dyno } => self.order(dyno, Order::BootTimedOut),
            Action::Forget { dyno } => self.store.forget_dyno(dyno).await?,
            Action::ReleaseReady { version } => {
                if let Some(release) = world.releases.iter().find(|release| release.version == version) {
                    info!(app.name = %world.app.name, release.version = version, "Release v{version} serves");
                    self.store.advance_release(release.id, ReleaseEvent::Ready, None, now).await?;
                }
            }
            Action::ReleaseFailed { version, dyno } => {
                if let Some(release) = world.releases.iter().find(|release| release.version == version) {
                    let failed = world.dynos.iter().find(|other| other.id == dyno);
                    let failure = self.explain_failure(world, failed);
                    self.fail_release(world, release.id, version, failure, now).await?;
                }
            }
        }
        Ok(())
    }

    /// Why a dyno of a new release did not become ready: how it ended and its last words.
    fn explain_failure(&self, world: &AppWorld, dyno: Option<&Dyno>) -> String {
        let Some(dyno) = dyno else { return "a dyno ended before it was ready".to_owned() };
        let name = dyno.name.to_string();
        let ending = match (dyno.exit_reason.as_deref(), dyno.exit_status) {
            (Some("not_started"), _) => "could not be started".to_owned(),
            (Some("out_of_memory"), _) => "ran out of memory".to_owned(),
            (Some("killed"), _) => "did not become ready in time".to_owned(),
            (_, Some(status)) => format!("exited with status {status} before it was ready"),
            (_, None) => "ended before it was ready".to_owned(),
        };
        let mut text = format!("{name} {ending}. Its last lines:\n");
        for line in self.log.tail(world.app.id, &name, FAILURE_LOG_LINES) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    async fn fail_release(
        &mut self,
        world: &AppWorld,
        id: ReleaseId,
        version: u64,
        failure: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        info!(app.name = %world.app.name, release.version = version, "Release v{version} failed");
        let first_line = failure.lines().next().unwrap_or("").to_owned();
        self.log.api(world.app.id, &format!("Release v{version} failed: {first_line}"));
        self.store.advance_release(id, ReleaseEvent::Failed, Some(failure), now).await?;
        Ok(())
    }

    async fn advance_release(&mut self, world: &AppWorld, release: &Release, now: Timestamp) -> Result<(), StoreError> {
        let Some(slug) = release.slug.map(|id| self.observer.slug(id)).transpose()?.flatten() else {
            return self.fail_release(world, release.id, release.version, "its slug is gone".to_owned(), now).await;
        };
        let newer = world.releases.iter().find(|other| other.version > release.version && other.state.is_under_way());
        let phase = self.store.release_phase_dyno(release.id)?;
        let ready = self.slug_is_ready(&slug);
        match next_step(release, newer, &slug, ready, phase.as_ref()) {
            ReleaseStep::Wait => {}
            ReleaseStep::Advance(event) => {
                self.store.advance_release(release.id, event, None, now).await?;
            }
            ReleaseStep::StartCommand(command) => {
                let process_type =
                    ProcessType::parse("release").map_err(|_never| StoreError::Damaged("process type"))?;
                let name = DynoName { process_type, index: u32::try_from(release.version).unwrap_or(u32::MAX) };
                self.log.dyno(world.app.id, &name.to_string(), &format!("Starting process with command `{command}`"));
                let new = NewDyno {
                    app: world.app.id,
                    kind: DynoKind::ReleasePhase,
                    name,
                    release: Some(release.id),
                    build: None,
                    size: domain::dyno_size::DEFAULT_SIZE_NAME.to_owned(),
                    command,
                    env: std::collections::BTreeMap::new(),
                    crashes: 0,
                    attach: None,
                    time_to_live_s: None,
                };
                self.store.create_dyno(new, now).await?;
            }
            ReleaseStep::Fail(failure) => {
                self.fail_release(world, release.id, release.version, failure, now).await?;
            }
            ReleaseStep::Import => self.import_slug(world, release, &slug),
        }
        Ok(())
    }

    async fn stop_one_offs(&mut self, world: &AppWorld, now: Timestamp) -> Result<(), StoreError> {
        let asked = world.dynos.iter().filter(|dyno| {
            dyno.kind == DynoKind::OneOff && dyno.request == DynoRequest::Stop && dyno.state != DynoState::Stopping
        });
        for dyno in asked {
            self.store.advance_dyno(dyno.id, DynoEvent::StopSent, now).await?;
            self.order(dyno.id, Order::Stop);
        }
        Ok(())
    }

    /// Stops everything of a destroyed app; when nothing is left, removes its data and its rows.
    async fn destroy_app(&mut self, world: &AppWorld, router: &RouterView, now: Timestamp) -> Result<(), StoreError> {
        let nothing = AppTarget { serving: None, candidate: None, formation: Vec::new() };
        self.act(world, &nothing, router, now).await?;
        for dyno in world.dynos.iter().filter(|dyno| dyno.kind != DynoKind::Formation && dyno.state.is_alive()) {
            if dyno.state != DynoState::Stopping {
                self.store.advance_dyno(dyno.id, DynoEvent::StopSent, now).await?;
                self.order(dyno.id, Order::Kill);
            }
        }
        let alive = world.dynos.iter().any(|dyno| dyno.state.is_alive());
        let id = world.app.id;
        if !alive && !self.builds_run_for(id) && self.app_data_is_removed(id) && self.store.forget_app(id).await? {
            info!(app.name = %world.app.name, "App {} is gone", world.app.name);
        }
        Ok(())
    }

    /// The command of a process type in a release.
    fn command(&mut self, release: &Release, process_type: &ProcessType) -> Result<String, StoreError> {
        let slug = release.slug.map(|id| self.observer.slug(id)).transpose()?.flatten();
        let command = slug.as_ref().and_then(|slug| slug.command(process_type)).unwrap_or("");
        Ok(command.to_owned())
    }
}

fn view(world: &AppWorld, dyno: &Dyno, router: &RouterView) -> DynoView {
    let id = dyno.id.uuid();
    let acknowledged = router.connected && !router.in_table.contains(&id);
    let in_flight = Arc::clone(&router.in_flight);
    DynoView {
        id: dyno.id,
        name: dyno.name.clone(),
        // A release that is not live any more has no version that could match.
        release: world.release_version(dyno).unwrap_or(0),
        size: dyno.size.clone(),
        state: dyno.state,
        since: dyno.since,
        crashes: dyno.crashes,
        request: dyno.request,
        drain: if acknowledged && dyno.state == DynoState::Draining && router.counted.contains(&id) {
            DrainView::InFlight(in_flight.get(&id).copied().unwrap_or(0))
        } else {
            DrainView::Unknown
        },
    }
}
