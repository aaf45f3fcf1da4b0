//! The start of dyno tasks: what each needs to know, gathered from the store.

use std::sync::Arc;

use builder::dirs::DataDirs;
use builder::masker::Masker;
use domain::display_chain::display_chain;
use domain::dyno::{DynoKind, DynoState};
use domain::id::BuildId;
use domain::secret::Secret;
use store::StoreError;
use store::dyno::Dyno;
use telemetry::ingest::{Mask, RingTarget};
use tokio::sync::mpsc;
use uuid::Uuid;
use wire::shim::{Environment, Spec};

use crate::build_task::BuildLaunch;
use crate::dyno_task::DynoTask;
use crate::launch_plan::{self, DynoPlan};
use crate::main_loop::MainLoop;
use crate::readiness;
use crate::routes;
use crate::world::AppWorld;

impl MainLoop {
    /// Every living dyno has a task. After a restart of the server that means: adopt.
    pub(crate) fn start_tasks(&mut self, worlds: &[AppWorld]) -> Result<(), StoreError> {
        for world in worlds {
            for dyno in &world.dynos {
                let alive = dyno.state.is_alive() && !self.orders.contains_key(&dyno.id);
                // A build's first launch belongs to its build task, which knows how.
                let waits = dyno.kind == DynoKind::Build && dyno.state == DynoState::Requested;
                if alive && !waits {
                    self.start_task(world, dyno)?;
                }
            }
        }
        Ok(())
    }

    fn start_task(&mut self, world: &AppWorld, dyno: &Dyno) -> Result<(), StoreError> {
        let launch = if dyno.state == DynoState::Requested && dyno.kind != DynoKind::Build {
            self.launch_of(world, dyno)?
        } else {
            None
        };
        let app = world.app.id.uuid();
        let process = dyno.name.to_string();
        let (target, output) = match (dyno.kind, dyno.build) {
            (DynoKind::Build, Some(build)) => (self.build_target(build)?, None),
            (DynoKind::Formation | DynoKind::Build, _) => {
                (RingTarget::Process { stream: app, output: None, process }, None)
            }
            (DynoKind::OneOff, _) => {
                let stream = dyno.id.uuid();
                (RingTarget::Process { stream: app, output: Some(stream), process }, Some(stream))
            }
            (DynoKind::ReleasePhase, _) => {
                let stream = dyno.release.map_or(dyno.id.uuid(), domain::id::ReleaseId::uuid);
                (RingTarget::Process { stream: app, output: Some(stream), process }, Some(stream))
            }
        };
        self.spawn(world, dyno, launch, target, output);
        Ok(())
    }

    pub(crate) fn start_build_dyno(&mut self, launch: BuildLaunch) -> Result<(), StoreError> {
        let Some(app) = self.store.app(launch.dyno.app)? else { return Ok(()) };
        let world = AppWorld::bare(app);
        let Some(build) = launch.dyno.build else { return Ok(()) };
        let target = self.build_target(build)?;
        self.spawn(&world, &launch.dyno, Some((launch.spec, launch.environment)), target, None);
        Ok(())
    }

    /// A build's output, with the values of config vars hidden.
    fn build_target(&self, build: BuildId) -> Result<RingTarget, StoreError> {
        let secrets = self.store.build_config(build)?;
        let mask = Mask(Arc::new(move |line| {
            let mut masker = Masker::new(secrets.values().map(|secret| secret.expose().as_str()));
            let mut masked = masker.push(&line);
            masked.extend(masker.finish());
            masked
        }));
        Ok(RingTarget::Build { output: build.uuid(), mask })
    }

    fn spawn(
        &mut self,
        world: &AppWorld,
        dyno: &Dyno,
        launch: Option<(Spec, Secret<Environment>)>,
        target: RingTarget,
        output: Option<Uuid>,
    ) {
        let web = dyno.kind == DynoKind::Formation && dyno.name.process_type.is_web();
        let size = launch_plan::size_or_smallest(&self.config.sizes, &dyno.size);
        let task = DynoTask {
            dyno: dyno.id,
            app: world.app.id,
            name: dyno.name.to_string(),
            state: dyno.state,
            run_dir: self.config.run_dir(dyno.id),
            berth: self.config.berth.clone(),
            instance: self.config.instance.clone(),
            launch,
            probe: self.probe_target(world, dyno).filter(|_target| web),
            quota: (dyno.kind != DynoKind::Build).then_some(size.memory),
            boot: self.config.limits.boot,
            grace: self.config.limits.exit,
            memory_report: self.config.limits.memory_report,
            target,
            output,
            log: self.log.clone(),
            ingest: self.ingest.clone(),
            launches: Arc::clone(&self.launches),
            reports: self.reports.clone(),
        };
        let (orders, receiver) = mpsc::unbounded_channel();
        self.orders.insert(dyno.id, orders);
        self.tasks.spawn(task.run(receiver));
    }

    /// Where and how a web dyno is probed; `None` for one that is over.
    pub(crate) fn probe_target(&self, world: &AppWorld, dyno: &Dyno) -> Option<readiness::Target> {
        Some(readiness::Target {
            address: routes::address(&self.config.network, dyno.slot?),
            host: routes::probe_host(world, &self.config.domain),
            protocol: dyno.protocol,
        })
    }

    /// Spec and environment of a dyno of a release; `None` if its release or slug is gone, which ends the dyno.
    fn launch_of(&mut self, world: &AppWorld, dyno: &Dyno) -> Result<Option<(Spec, Secret<Environment>)>, StoreError> {
        let release = dyno.release.map(|id| self.store.release(id)).transpose()?.flatten();
        let Some(release) = release else { return Ok(None) };
        let Some(slug) = release.slug.map(|id| self.observer.slug(id)).transpose()?.flatten() else { return Ok(None) };
        let Some(sha256) = slug.sha256.as_deref() else { return Ok(None) };
        let dirs = DataDirs::new(&self.config.data_dir);
        let built = builder::slug::find(&dirs, sha256).map_err(|error| StoreError::Refused(display_chain(&error)))?;
        let Some(built) = built else { return Ok(None) };
        let plan = DynoPlan {
            dyno: dyno.id,
            name: &dyno.name,
            kind: dyno.kind,
            command: &dyno.command,
            size: &dyno.size,
            slot: dyno.slot.unwrap_or(0),
            uid: world.app.uid,
            slug_sha256: sha256,
            manifest: &built.manifest,
            config: &self.store.release_environment(release.id)?,
            extra_env: &self.store.dyno_env(dyno.id)?,
            attach: dyno.attach,
            time_to_live_s: dyno.time_to_live_s,
        };
        Ok(Some(launch_plan::launch(&plan, &self.config)))
    }
}
