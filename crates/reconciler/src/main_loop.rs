//! The loop: wakes, looks, decides, starts. Every long-lived thing that it starts reports back here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use builder::dirs::DataDirs;
use domain::admission::learner::is_news;
use domain::display_chain::display_chain;
use domain::dyno::{DynoEvent, DynoKind, DynoState};
use domain::id::{AppId, BuildId, DynoId, SlugId};
use domain::rollout::DynoRequest;
use jiff::{SignedDuration, Timestamp};
use store::dyno::{Dyno, DynoExit, DynoSelection};
use store::{Store, StoreError};
use telemetry::ingest::{Ingest, RingTarget};
use telemetry::log_store::LogStore;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};
use uuid::Uuid;
use wire::routes::ROUTER_LOGS;
use wire::shim::{Exit, ExitReason, Mechanism};

use crate::acme::{ChallengeBoard, Manager};
use crate::autoscale::Autoscaler;
use crate::build_task::{BuildLaunch, BuildTask};
use crate::certificates::CertificateRoutes;
use crate::config::ReconcilerConfig;
use crate::dyno_task::{Fact, Order, Report};
use crate::health::Checks;
use crate::launch_plan;
use crate::log::PlatformLog;
use crate::platform_hosts::PLATFORM_ROUTE;
use crate::remove_tree::remove_tree;
use crate::router_link::{self, RouterView, Wanted};
use crate::routes;
use crate::world::{AppWorld, Observer};

/// Time passes, too: restarts that wait, drains, boot timeouts.
const TICK: Duration = Duration::from_secs(1);

/// Launches at once: each is short and mostly kernel work.
const LAUNCHES_MAX: usize = 8;

/// How often such rows are looked for.
const FORGET_PERIOD: Duration = Duration::from_secs(60 * 60);

/// Rows of dynos that ended are kept this long, for `berth run` to read their exit status.
const ENDED_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The first ring of the router's log; a fixed id, because there is one router. The others' ids follow.
const ROUTER_RING: u128 = 0x6265_7274_6800_4000_8000_726f_7574_6572;

/// The rings of the router's log and where they are in the data directory.
pub(crate) fn router_rings() -> impl Iterator<Item = (Uuid, &'static str)> {
    (ROUTER_RING..).map(Uuid::from_u128).zip(ROUTER_LOGS)
}

/// How the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    Running,
    /// Leave the dynos alive: the next start adopts them.
    Detach,
    /// Stop every dyno first.
    Drain,
    /// Kill every dyno first.
    Kill,
}

/// What tasks tell the loop.
#[derive(Debug)]
pub(crate) enum Message {
    Report(Report),
    LaunchBuild(Box<BuildLaunch>),
    Kill(DynoId),
    SlugImported { slug: SlugId },
}

/// The running reconciler.
#[derive(Debug)]
pub struct Reconciler {
    router: watch::Receiver<RouterView>,
    in_force: Arc<Mutex<BTreeSet<Mechanism>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Reconciler {
    /// Starts the loop. It ends after `stop` is set to something else than `Running`.
    pub fn start(
        config: ReconcilerConfig,
        store: Arc<Store>,
        logs: Arc<LogStore>,
        ingest: Ingest,
        stop: watch::Receiver<StopMode>,
    ) -> Self {
        let (wanted, wanted_receiver) = watch::channel(None);
        let (view, view_receiver) = watch::channel(RouterView::default());
        tokio::spawn(router_link::run(config.data_dir.clone(), config.instance.clone(), wanted_receiver, view));
        for (ring, dir) in router_rings() {
            ingest.add(ring, &config.data_dir.join(dir), RingTarget::Router);
        }
        let (messages, receiver) = mpsc::unbounded_channel();
        let (reports, report_receiver) = mpsc::unbounded_channel();
        let in_force = Arc::new(Mutex::new(BTreeSet::new()));
        let challenges = ChallengeBoard::default();
        let log = PlatformLog::new(Arc::clone(&logs));
        if let Some(acme) = &config.acme {
            let manager = Manager {
                config: acme.clone(),
                domain: config.domain.clone(),
                platform_hosts: config.platform_hosts.clone(),
                store: Arc::clone(&store),
                log: log.clone(),
                board: challenges.clone(),
                router: view_receiver.clone(),
                account: Arc::default(),
                dns: Arc::default(),
                records: HashMap::new(),
            };
            tokio::spawn(manager.run(stop.clone()));
        }
        let autoscaler = Autoscaler {
            data_dir: config.data_dir.clone(),
            instance: config.instance.clone(),
            store: Arc::clone(&store),
            log: log.clone(),
        };
        tokio::spawn(autoscaler.run(stop.clone()));
        let main_loop = MainLoop {
            observer: Observer::new(Arc::clone(&store)),
            certificates: CertificateRoutes::new(Arc::clone(&store), config.platform_hosts.clone()),
            challenges,
            log,
            logs,
            config: Arc::new(config),
            store,
            ingest,
            wanted,
            router: view_receiver.clone(),
            messages,
            reports,
            orders: HashMap::new(),
            tasks: JoinSet::new(),
            builds: HashMap::new(),
            imports: HashSet::new(),
            removals: HashMap::new(),
            checks: Checks::default(),
            in_force: Arc::clone(&in_force),
            launches: Arc::new(Semaphore::new(LAUNCHES_MAX)),
        };
        let task = tokio::spawn(main_loop.run(receiver, report_receiver, stop));
        Self { router: view_receiver, in_force, task }
    }

    /// What the router last said.
    pub fn router(&self) -> watch::Receiver<RouterView> {
        self.router.clone()
    }

    /// Isolation that the last dynos were started with.
    pub fn in_force(&self) -> Arc<Mutex<BTreeSet<Mechanism>>> {
        Arc::clone(&self.in_force)
    }

    /// Waits for the end of the loop.
    pub async fn join(self) {
        if let Err(error) = self.task.await {
            error!(%error, "the reconciler ended early");
        }
    }
}

pub(crate) struct MainLoop {
    pub(crate) config: Arc<ReconcilerConfig>,
    pub(crate) store: Arc<Store>,
    pub(crate) observer: Observer,
    certificates: CertificateRoutes,
    challenges: ChallengeBoard,
    pub(crate) log: PlatformLog,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) ingest: Ingest,
    wanted: watch::Sender<Option<Wanted>>,
    router: watch::Receiver<RouterView>,
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    /// One task per living dyno.
    pub(crate) orders: HashMap<DynoId, mpsc::UnboundedSender<Order>>,
    pub(crate) tasks: JoinSet<()>,
    builds: HashMap<BuildId, (AppId, tokio::task::JoinHandle<()>)>,
    pub(crate) imports: HashSet<SlugId>,
    /// Data of destroyed apps on its way out.
    removals: HashMap<AppId, JoinHandle<()>>,
    pub(crate) checks: Checks,
    in_force: Arc<Mutex<BTreeSet<Mechanism>>>,
    pub(crate) launches: Arc<Semaphore>,
}

impl MainLoop {
    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        mut reports: mpsc::UnboundedReceiver<Report>,
        mut stop: watch::Receiver<StopMode>,
    ) {
        let mut changes = self.store.changes();
        let mut router = self.router.clone();
        let mut challenges = self.challenges.watch();
        let mut forget = interval(FORGET_PERIOD);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(error) = self.clean_up() {
            error!(error = display_chain(&error), "cannot clean up after the last server");
        }
        loop {
            let message = tokio::select! {
                _changed = changes.changed() => None,
                _changed = router.changed() => None,
                _changed = challenges.changed() => None,
                Some(report) = reports.recv() => Some(Message::Report(report)),
                Some(message) = messages.recv() => Some(message),
                _now = tick.tick() => None,
                _now = forget.tick() => {
                    if let Err(error) = self.forget_ended().await {
                        error!(error = display_chain(&error), "cannot forget ended dynos");
                    }
                    continue;
                }
                Some(_done) = self.tasks.join_next(), if !self.tasks.is_empty() => continue,
                () = stopping(&mut stop) => break,
            };
            changes.mark_unchanged();
            if let Some(message) = message {
                self.handle(message).await;
            }
            while let Ok(report) = reports.try_recv() {
                self.handle(Message::Report(report)).await;
            }
            while let Ok(message) = messages.try_recv() {
                self.handle(message).await;
            }
            if let Err(error) = self.activate().await {
                // Often the disk is full: everything that runs goes on, and the next second tries again.
                error!(error = display_chain(&error), "cannot reconcile");
                tokio::time::sleep(TICK).await;
            }
        }
        let mode = *stop.borrow();
        if mode != StopMode::Detach {
            self.drain(&mut reports, &mut stop).await;
        }
        for (_app, build) in self.builds.values() {
            build.abort();
        }
    }

    /// Looks at everything and starts what must happen.
    async fn activate(&mut self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let router = self.router.borrow().clone();
        let before = self.observer.look()?;
        self.check_health(&before).await?;
        let worlds = self.observer.look()?;
        self.start_builds(&worlds)?;
        self.start_tasks(&worlds)?;
        self.run_cron(&worlds, now).await?;
        for world in worlds.iter() {
            self.reconcile_app(world, &router, now).await?;
            self.note_workers(world, &router).await?;
        }
        self.publish()?;
        Ok(())
    }

    /// Keeps what the router has learned for its successor.
    async fn note_workers(&self, world: &AppWorld, router: &RouterView) -> Result<(), StoreError> {
        let app = &world.app;
        let learned = router.status.admission.iter().find(|admission| admission.app == app.id.uuid());
        match learned.and_then(|admission| admission.workers) {
            Some(workers) if is_news(app.workers_hint, workers) => self.store.note_workers(app.id, workers).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Gives the router what should be in force after this activation.
    fn publish(&mut self) -> Result<(), StoreError> {
        let worlds = self.observer.look()?;
        let mut table = router_link::Routes::new();
        for world in worlds.iter() {
            let serving = world.serving().map(|release| self.observer.release_target(release)).transpose()?;
            let has_web = serving.is_some_and(|target| target.process_types.iter().any(|name| name.is_web()));
            if let Some(own) = routes::route(world, has_web, &self.config) {
                table.extend(routes::passed_on(world, &own, &self.config.domain).map(|route| (route.app, route)));
                table.insert(own.app, own);
            }
        }
        table.insert(PLATFORM_ROUTE, self.config.platform_hosts.route());
        let draining = worlds.iter().flat_map(|world| &world.dynos).filter(|dyno| dyno.state == DynoState::Draining);
        let draining: BTreeSet<Uuid> = draining.map(|dyno| dyno.id.uuid()).collect();
        let next = Wanted {
            routes: Arc::new(table),
            draining: Arc::new(draining),
            certificates: Arc::new(self.certificates.wanted(&worlds, Timestamp::now())?),
            challenges: self.challenges.watch().borrow().clone(),
            fronts: Arc::clone(&self.config.fronts),
        };
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.as_ref() != Some(&next);
            if changed {
                *wanted = Some(next);
            }
            changed
        });
        Ok(())
    }

    pub(crate) async fn handle(&mut self, message: Message) {
        let handled = match message {
            Message::Report(report) => self.record(report).await,
            Message::LaunchBuild(launch) => self.start_build_dyno(*launch),
            Message::Kill(dyno) => {
                self.order(dyno, Order::Kill);
                Ok(())
            }
            Message::SlugImported { slug } => {
                self.imports.remove(&slug);
                self.observer.forget_slug(slug);
                Ok(())
            }
        };
        if let Err(error) = handled {
            error!(error = display_chain(&error), "cannot record what a dyno reported");
        }
    }

    /// Turns a fact into the stored state.
    async fn record(&mut self, Report { dyno: id, fact }: Report) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let Some(before) = self.store.dyno(id)? else { return Ok(()) };
        let after = match fact {
            Fact::Launched { in_force } => {
                self.in_force.lock().unwrap_or_else(PoisonError::into_inner).extend(in_force);
                self.store.advance_dyno(id, DynoEvent::Launched, now).await?
            }
            Fact::Checked(finding) => {
                self.record_health(&before, finding, now).await?;
                None
            }
            Fact::Ready => self.store.advance_dyno(id, DynoEvent::Ready, now).await?,
            Fact::Exited { exit } => {
                self.orders.remove(&id);
                let exit =
                    DynoExit { status: exit.status, reason: reason_word(ended_by(before.kind, &exit)).to_owned() };
                let after = self.store.dyno_exited(id, exit, now).await?;
                remove_tree(&self.config.run_dir(id));
                after
            }
            Fact::Unsupervised => {
                let text = "The process cannot be supervised any longer; replacing it";
                self.log.dyno(before.app, &before.name.to_string(), text);
                let which = DynoSelection::One(id.to_string());
                self.store.request_dynos(before.app, which, DynoRequest::Restart).await?;
                None
            }
            Fact::Lost => {
                self.orders.remove(&id);
                remove_tree(&self.config.run_dir(id));
                if before.kind == DynoKind::Formation {
                    self.store.dyno_lost(id, now).await?;
                    self.log.dyno(before.app, &before.name.to_string(), "The process is gone; starting another one");
                    None
                } else {
                    let exit = DynoExit { status: None, reason: reason_word(ExitReason::Unknown).to_owned() };
                    self.store.dyno_exited(id, exit, now).await?
                }
            }
        };
        if let Some(after) = after
            && before.kind != DynoKind::Build
        {
            self.log_transition(&before, &after);
        }
        Ok(())
    }

    /// `State changed from starting to up`, in Heroku's words.
    fn log_transition(&self, before: &Dyno, after: &Dyno) {
        let word = |dyno: &Dyno| match (dyno.kind, dyno.state) {
            (DynoKind::OneOff | DynoKind::ReleasePhase, DynoState::Exited) => "complete",
            (_, state) => state.heroku_word(),
        };
        let (from, to) = (word(before), word(after));
        if from != to {
            self.log.dyno(after.app, &after.name.to_string(), &format!("State changed from {from} to {to}"));
        }
    }

    pub(crate) fn order(&self, dyno: DynoId, order: Order) {
        if let Some(orders) = self.orders.get(&dyno) {
            // A task that ended has reported why.
            let _ended = orders.send(order);
        }
    }

    fn start_builds(&mut self, worlds: &[AppWorld]) -> Result<(), StoreError> {
        self.builds.retain(|_build, (_app, task)| !task.is_finished());
        for build in self.store.current_builds()? {
            if self.builds.contains_key(&build.id) {
                continue;
            }
            let Some(world) = worlds.iter().find(|world| world.app.id == build.app) else { continue };
            let (id, app) = (build.id, build.app);
            let task = BuildTask {
                build,
                app: world.app.clone(),
                config: Arc::clone(&self.config),
                store: Arc::clone(&self.store),
                log: self.log.clone(),
                messages: self.messages.clone(),
            };
            self.builds.insert(id, (app, tokio::spawn(task.run())));
        }
        Ok(())
    }

    pub(crate) fn builds_run_for(&self, app: AppId) -> bool {
        self.builds.values().any(|(other, task)| *other == app && !task.is_finished())
    }

    /// Removes everything on disk that belongs to one app only, and says whether that is done. A cache has ten thousand
    /// files: they go on a thread of their own, while the loop serves the other apps.
    pub(crate) fn app_data_is_removed(&mut self, app: AppId) -> bool {
        if self.removals.get(&app).is_some_and(JoinHandle::is_finished) {
            self.removals.remove(&app);
            return true;
        }
        let (data_dir, logs) = (&self.config.data_dir, &self.logs);
        self.removals.entry(app).or_insert_with(|| {
            let cache = DataDirs::new(data_dir).cache(app);
            let repository = data_dir.join("repos").join(format!("{app}.git"));
            let logs = Arc::clone(logs);
            tokio::task::spawn_blocking(move || {
                remove_tree(&cache);
                remove_tree(&repository);
                if let Err(error) = logs.remove(app.uuid()) {
                    warn!(app.id = %app, %error, "cannot remove the log of a destroyed app");
                }
            })
        });
        false
    }

    /// Ends what belongs to nobody: processes, cgroups and interfaces of dynos that the store does not know.
    fn clean_up(&self) -> Result<(), StoreError> {
        let dynos = self.store.all_dynos()?;
        let known: Vec<Uuid> = dynos.iter().map(|dyno| dyno.id.uuid()).collect();
        let slots = dynos.iter().filter_map(|dyno| dyno.slot);
        let interfaces: Vec<String> =
            slots.filter_map(|slot| launch_plan::host_interface(&self.config, slot)).collect();
        let run = self.config.data_dir.join("run");
        if let Err(error) = shim::client::clean_up(&run, &self.config.instance, &known, &interfaces) {
            warn!(error = display_chain(&error), "cannot remove what dead dynos left");
        }
        Ok(())
    }

    /// Forgets rows that nobody asks for any more.
    async fn forget_ended(&self) -> Result<(), StoreError> {
        let before = Timestamp::now().checked_sub(ENDED_KEPT).unwrap_or(Timestamp::MIN);
        self.store.forget_ended_dynos(before).await
    }
}

/// Waits for the stop; also over when whoever could ask for it is gone.
pub(crate) async fn stopping(stop: &mut watch::Receiver<StopMode>) {
    drop(stop.wait_for(|mode| *mode != StopMode::Running).await);
}

/// Why a process ended. A build is many processes: when the kernel kills one of them for its memory, the others fail.
fn ended_by(kind: DynoKind, exit: &Exit) -> ExitReason {
    let failed = exit.reason == ExitReason::Exited && exit.status != Some(0);
    if kind == DynoKind::Build && failed && exit.out_of_memory_kills > 0 {
        ExitReason::OutOfMemory
    } else {
        exit.reason
    }
}

/// Stored with the dyno, in the words of the sandbox.
const fn reason_word(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Exited => "exited",
        ExitReason::Signalled => "signalled",
        ExitReason::OutOfMemory => "out_of_memory",
        ExitReason::Stopped => "stopped",
        ExitReason::StopTimedOut => "stop_timed_out",
        ExitReason::Killed => "killed",
        ExitReason::DeadlinePassed => "deadline_passed",
        ExitReason::DiskFull => "disk_full",
        ExitReason::NotStarted => "not_started",
        ExitReason::Unknown => "unknown",
    }
}
