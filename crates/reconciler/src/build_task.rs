//! Carries out one build: source → sandbox → slug → release. One at a time per app.
//!
//! A build outlives its server: the next one finds its process, or the end of it, and goes on from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use builder::archive::TopFolder;
use builder::build::{BuildRequest, Prepared, finish, prepare};
use builder::dirs::{DataDirs, Layout};
use domain::display_chain::display_chain;
use domain::dyno::{DynoKind, DynoName, DynoState};
use domain::dyno_size::{ByteCount, DEFAULT_SIZE_NAME};
use domain::id::{DynoId, SlugId};
use domain::name::ProcessType;
use domain::secret::Secret;
use jiff::Timestamp;
use store::Store;
use store::app::App;
use store::build::{Build, BuildStatus, SourceLocation};
use store::dyno::{Dyno, DynoExit, NewDyno};
use store::slug::Slug;
use tokio::sync::mpsc;
use tracing::{info, warn};
use wire::shim::{Environment, LogLimits, PROTOCOL, Spec};

use crate::config::ReconcilerConfig;
use crate::launch_plan::{hostname, identity, network};
use crate::log::PlatformLog;
use crate::main_loop::Message;
use crate::remove_tree::remove_tree;
use crate::source_fetch::fetch;

/// How long an upload can be built, from its last byte on: as long as its URL is good.
const SOURCE_VALID: Duration = Duration::from_secs(60 * 60);

pub(crate) struct BuildTask {
    pub(crate) build: Build,
    pub(crate) app: App,
    pub(crate) config: Arc<ReconcilerConfig>,
    pub(crate) store: Arc<Store>,
    pub(crate) log: PlatformLog,
    pub(crate) messages: mpsc::UnboundedSender<Message>,
}

/// A launch that the main loop carries out for a build.
#[derive(Debug)]
pub(crate) struct BuildLaunch {
    pub(crate) dyno: Dyno,
    pub(crate) spec: Spec,
    pub(crate) environment: Secret<Environment>,
}

impl BuildTask {
    pub(crate) async fn run(self) {
        let stream = self.build.id.uuid();
        info!(app.name = %self.app.name, build.id = %self.build.id, "Build started");
        if let Err(failure) = self.build().await {
            self.log.output(stream, &format!(" !     {failure}"));
            self.log.output(stream, " !     Push failed: nothing was released, what served before goes on serving.");
            self.log.api(self.app.id, &format!("Build failed -- {}", failure.lines().next().unwrap_or("")));
            info!(app.name = %self.app.name, build.id = %self.build.id, failure, "Build failed");
            let ended = self.store.end_build(self.build.id, BuildStatus::Failed, failure, Timestamp::now()).await;
            if let Err(error) = ended {
                warn!(build.id = %self.build.id, error = display_chain(&error), "cannot record a failed build");
            }
        }
        self.log.end(stream);
        let dirs = DataDirs::new(&self.config.data_dir);
        remove_tree(&dirs.build(self.build.id));
    }

    async fn build(&self) -> Result<(), String> {
        let say = |text: &str| self.log.output(self.build.id.uuid(), text);
        let dyno = match self.earlier_attempt().await? {
            Some(dyno) => dyno,
            None => {
                say(&format!("-----> Building on {}", shim::host::stack()));
                self.empty_cache().await?;
                let prepared = self.prepare(self.source().await?).await?;
                self.start(&prepared).await?
            }
        };
        let ended = self.wait_for(dyno).await?;
        match (ended.exit_status, ended.exit_reason.as_deref()) {
            (Some(0), Some("exited")) => {}
            (_, Some("deadline_passed")) => {
                let limit = time_text(self.config.build_limits.deadline_ms / 1000);
                return Err(format!("the build ran longer than {limit} and was stopped"));
            }
            (_, Some("out_of_memory")) => {
                let limit = ByteCount(self.config.build_limits.memory_bytes);
                return Err(format!("the build needed more than {limit} of memory and was stopped"));
            }
            (_, Some("disk_full")) => {
                let limit = ByteCount(self.config.build_limits.disk_bytes);
                // Its cache counts, too, and would fail every build after it.
                remove_tree(&DataDirs::new(&self.config.data_dir).cache(self.app.id));
                return Err(format!("the build wrote more than {limit} and was stopped; its cache was emptied"));
            }
            (status, reason) => {
                let status = status.map_or_else(String::new, |status| format!(" (exit status {status})"));
                let how = if reason == Some("exited") { "" } else { reason.unwrap_or("") };
                return Err(format!("the build failed{status} {how}").trim_end().to_owned());
            }
        }
        let slug = self.finish().await?;
        say(&format!("-----> Compressing...\n       Done: {}", ByteCount(slug.size_bytes)));
        let commit = self.build.source_version.clone();
        let short: Option<String> = commit.as_deref().map(|commit| commit.chars().take(8).collect());
        let description = short.map_or_else(|| "Deploy".to_owned(), |commit| format!("Deploy {commit}"));
        let released = self
            .store
            .build_succeeded(self.build.id, slug, description.clone(), Timestamp::now())
            .await
            .map_err(|error| display_chain(&error))?;
        if let Some(release) = released {
            let email = self.store.account(self.build.account).ok().flatten().map(|account| account.email);
            let by = email.unwrap_or_default();
            self.log.api(self.app.id, &format!("{description} by user {by}"));
            self.log.api(self.app.id, &format!("Release v{} created by user {by}", release.version));
            self.log.api(self.app.id, "Build succeeded");
            let held = if self.build.hold { " (held: `berth releases:resume` serves it)" } else { "" };
            say(&format!("-----> Launching v{}{held}", release.version));
            info!(app.name = %self.app.name, release.version = release.version, "Build succeeded");
        }
        self.remove_sources();
        Ok(())
    }

    /// Removes archives that have served their purpose. An upload may be built more than once, for other apps, too, as
    /// long as its URL is good.
    fn remove_sources(&self) {
        if let SourceLocation::Url(_) = self.build.source {
            remove_tree(&self.source_path());
        }
        let wanted = match self.store.wanted_sources() {
            Ok(wanted) => wanted,
            Err(error) => return warn!(error = display_chain(&error), "cannot look for old sources"),
        };
        let entries = std::fs::read_dir(self.config.data_dir.join("sources")).into_iter().flatten().flatten();
        for entry in entries {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
            let name = entry.file_name();
            let is_wanted = wanted.iter().any(|source| name.to_str() == Some(source.to_string().as_str()));
            if !is_wanted && age.is_some_and(|age| age > SOURCE_VALID) {
                remove_tree(&entry.path());
            }
        }
    }

    /// Removes what earlier builds left, if somebody asked for that. Builds of an app come one after another, so nobody
    /// uses it now.
    async fn empty_cache(&self) -> Result<(), String> {
        if !self.store.wants_empty_cache(self.app.id).map_err(|error| display_chain(&error))? {
            return Ok(());
        }
        remove_tree(&DataDirs::new(&self.config.data_dir).cache(self.app.id));
        self.store.cache_emptied(self.app.id).await.map_err(|error| display_chain(&error))?;
        self.log.output(self.build.id.uuid(), "       Without the cache of earlier builds");
        Ok(())
    }

    /// The process that an earlier server started for this build, if it runs or has ended by itself.
    async fn earlier_attempt(&self) -> Result<Option<DynoId>, String> {
        let earlier = self.store.build_dyno(self.build.id).map_err(|error| display_chain(&error))?;
        match earlier {
            Some(dyno) if dyno.state == DynoState::Requested => {
                // Its environment died with the server that was about to launch it.
                let exit = DynoExit { status: None, reason: "unknown".to_owned() };
                let ended = self.store.dyno_exited(dyno.id, exit, Timestamp::now()).await;
                ended.map_err(|error| display_chain(&error))?;
            }
            Some(dyno) if dyno.state.is_alive() || dyno.exit_reason.as_deref() == Some("exited") => {
                return Ok(Some(dyno.id));
            }
            Some(_) | None => {}
        }
        remove_tree(&DataDirs::new(&self.config.data_dir).build(self.build.id));
        Ok(None)
    }

    fn source_path(&self) -> PathBuf {
        let sources = self.config.data_dir.join("sources");
        match &self.build.source {
            SourceLocation::Uploaded(id) => sources.join(id.to_string()),
            SourceLocation::Url(_) => sources.join(format!("fetched-{}", self.build.id)),
        }
    }

    async fn source(&self) -> Result<PathBuf, String> {
        let path = self.source_path();
        if let SourceLocation::Url(url) = &self.build.source {
            let (url, to, allowed) = (url.clone(), path.clone(), Arc::clone(&self.config.outgoing_networks));
            let fetched = tokio::task::spawn_blocking(move || fetch(&url, &to, &allowed)).await;
            fetched.map_err(|error| error.to_string())??;
        }
        Ok(path)
    }

    async fn prepare(&self, source: PathBuf) -> Result<Prepared, String> {
        let config = self.store.build_config(self.build.id).map_err(|error| display_chain(&error))?;
        let request = BuildRequest {
            build: self.build.id,
            app: self.app.id,
            source,
            top_folder: match self.build.source {
                SourceLocation::Uploaded(_) => TopFolder::Keep,
                SourceLocation::Url(_) => TopFolder::Strip,
            },
            buildpacks: self.build.buildpacks.clone(),
            config: config.into_iter().map(|(key, value)| (key.to_string(), value)).collect(),
            source_version: self.build.source_version.clone().unwrap_or_default(),
            berth: self.config.berth.clone(),
            limits: self.config.build_limits,
        };
        let (settings, log, stream) = (Arc::clone(&self.config), self.log.clone(), self.build.id.uuid());
        let prepared = tokio::task::spawn_blocking(move || {
            let dirs = DataDirs::new(&settings.data_dir);
            let mut say = |line: &str| log.output(stream, &format!("       {line}"));
            prepare(&request, &dirs, &Layout::default(), &settings.host, &mut say)
        });
        prepared.await.map_err(|error| error.to_string())?.map_err(|error| display_chain(&error))
    }

    /// Starts the build in its sandbox, at low weight.
    async fn start(&self, prepared: &Prepared) -> Result<DynoId, String> {
        let process_type = ProcessType::parse("build").map_err(|error| error.to_string())?;
        let new = NewDyno {
            app: self.app.id,
            kind: DynoKind::Build,
            name: DynoName { process_type, index: 1 },
            release: None,
            build: Some(self.build.id),
            size: DEFAULT_SIZE_NAME.to_owned(),
            command: "build".to_owned(),
            env: std::collections::BTreeMap::new(),
            crashes: 0,
            attach: None,
            time_to_live_s: None,
        };
        let dyno = self.store.create_dyno(new, Timestamp::now()).await.map_err(|error| display_chain(&error))?;
        let id = dyno.id;
        let mut mounts = prepared.mounts.clone();
        mounts.push(wire::shim::Mount::Scratch { target: Layout::default().temporary });
        let spec = Spec {
            protocol: PROTOCOL,
            instance: self.config.instance.clone(),
            dyno: id.uuid(),
            name: "build.1".to_owned(),
            hostname: hostname(id),
            command: prepared.command.clone(),
            working_dir: prepared.working_dir.clone(),
            // Another uid than the app's: a build must not reach into the app's running dynos.
            identity: identity(self.app.uid + 1, &Layout::default()),
            mounts,
            limits: prepared.limits.clone(),
            network: network(&self.config, dyno.slot.unwrap_or(0), false),
            log: LogLimits::default(),
            stop_grace_ms: 5_000,
            deadline_ms: Some(prepared.deadline_ms),
            required: Vec::new(),
            attach: None,
        };
        self.send(Message::LaunchBuild(Box::new(BuildLaunch {
            dyno,
            spec,
            environment: prepared.environment.clone(),
        })));
        Ok(id)
    }

    async fn wait_for(&self, id: DynoId) -> Result<Dyno, String> {
        let mut changes = self.store.changes();
        let mut cancelled = false;
        loop {
            changes.borrow_and_update();
            let dyno = self.store.dyno(id).map_err(|error| display_chain(&error))?;
            let Some(dyno) = dyno else { return Err("the build's process is gone".to_owned()) };
            if dyno.state == DynoState::Exited {
                return if cancelled { Err("the build was cancelled".to_owned()) } else { Ok(dyno) };
            }
            let status = self.store.build(self.build.id).map_err(|error| display_chain(&error))?;
            if !cancelled && status.is_none_or(|build| build.status != BuildStatus::Pending) {
                cancelled = true;
                self.send(Message::Kill(id));
            }
            if changes.changed().await.is_err() {
                return Err("the server stops".to_owned());
            }
        }
    }

    async fn finish(&self) -> Result<Slug, String> {
        let (build, data_dir) = (self.build.id, self.config.data_dir.clone());
        let bytes_max = self.config.slug_bytes_max;
        let finished = tokio::task::spawn_blocking(move || finish(build, &DataDirs::new(&data_dir), bytes_max)).await;
        let built = finished.map_err(|error| error.to_string())?.map_err(|error| display_chain(&error))?;
        let process_types = built
            .manifest
            .process_types
            .iter()
            .filter_map(|(name, command)| Some((ProcessType::parse(name).ok()?, command.clone())));
        Ok(Slug {
            id: SlugId::random(),
            app: self.app.id,
            sha256: Some(built.sha256.clone()),
            size_bytes: built.size_bytes,
            process_types: process_types.collect(),
            manifest: String::new(),
            stack: built.manifest.stack.clone(),
            commit: self.build.source_version.clone(),
            language: built.manifest.languages.first().cloned(),
            created_at: Timestamp::now(),
        })
    }

    fn send(&self, message: Message) {
        // The main loop outlives its builds, but for the moment in which the server stops.
        drop(self.messages.send(message));
    }
}

/// `15 minutes`, `90 seconds`.
fn time_text(seconds: u64) -> String {
    if seconds >= 60 && seconds.is_multiple_of(60) {
        format!("{} minutes", seconds / 60)
    } else {
        format!("{seconds} seconds")
    }
}
