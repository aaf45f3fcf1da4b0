//! The trusted half of a build: from a source archive to what a shim is given, and from what it left to a slug.
//!
//! Both functions block (they unpack, fetch and pack): call them on a thread that may.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use domain::id::{AppId, BuildId};
use domain::secret::Secret;
use thiserror::Error;
use wire::build::{MANIFEST_FILE, Manifest, PLAN_FILE, Plan, Step};
use wire::shim::{Limits, Mount};
use wire::state_file;

use crate::archive::{self, ArchiveError, TopFolder};
use crate::beneath;
use crate::detect::{DetectError, Detection, detect};
use crate::dirs::{DataDirs, Layout};
use crate::host::Host;
use crate::masker::Masker;
use crate::runtimes::{RuntimeError, Runtimes};
use crate::slug::{self, Slug, SlugError};
use crate::source_tree::SourceTree;

use steps::Steps;

mod steps;

/// Largest manifest that is read from a build, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// The stack whose buildpacks fit Debian 12's C library.
const CLASSIC_STACK: &str = "heroku-22";

/// Config vars that would change how the tools of the build itself run; Heroku leaves the same ones out.
const WITHHELD: [&str; 16] = [
    "PATH",
    "HOME",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "CPATH",
    "CPPATH",
    "GIT_DIR",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "TMPDIR",
    "SSL_CERT_DIR",
];

#[derive(Debug)]
pub struct BuildRequest {
    pub build: BuildId,
    pub app: AppId,
    /// The source archive, read from its beginning.
    pub source: PathBuf,
    pub top_folder: TopFolder,
    /// As the app lists them; empty for detection.
    pub buildpacks: Vec<String>,
    /// With the add-ons' variables.
    pub config: BTreeMap<String, Secret<String>>,
    /// The commit, where it is known.
    pub source_version: String,
    /// Where the running `berth` executable is on this machine.
    pub berth: PathBuf,
    pub limits: BuildLimits,
}

#[derive(Debug, Clone, Copy)]
pub struct BuildLimits {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub deadline_ms: u64,
}

impl BuildLimits {
    fn shim(self) -> Limits {
        Limits {
            memory_bytes: Some(self.memory_bytes),
            // A tenth of an app's: a build never slows the apps down.
            cpu_weight: 10,
            cpu_quota_percent: None,
            processes_max: 4096,
            open_files_max: 65_536,
            disk_bytes: Some(self.disk_bytes),
        }
    }
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, disk_bytes: 8 << 30, deadline_ms: 30 * 60 * 1000 }
    }
}

/// What the shim is to run.
#[derive(Debug)]
pub struct Prepared {
    pub command: Vec<String>,
    pub working_dir: PathBuf,
    pub mounts: Vec<Mount>,
    /// Holds config vars: goes to the shim over its memfd only.
    pub environment: Secret<BTreeMap<String, String>>,
    pub limits: Limits,
    pub deadline_ms: u64,
    pub plan: Plan,
    secrets: Vec<Secret<String>>,
}

impl Prepared {
    /// Hides the values of config vars in the build's output.
    pub fn masker(&self) -> Masker {
        Masker::new(self.secrets.iter().map(|secret| secret.expose().as_str()))
    }
}

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("cannot unpack the source")]
    Source(#[source] ArchiveError),
    #[error(transparent)]
    Detect(#[from] DetectError),
    #[error("{0}")]
    Procfile(domain::procfile::ProcfileError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("buildpack {0} is not in the operator's buildpacks directory")]
    NoSuchBuildpack(String),
    #[error("cannot {action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep the plan")]
    Plan(#[source] state_file::StateFileError),
    #[error("the build was never prepared")]
    NoPlan,
    #[error("the build left no manifest")]
    NoManifest,
    #[error("the build left a manifest that is not readable")]
    Manifest(#[source] serde_json::Error),
    #[error(transparent)]
    Slug(#[from] SlugError),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Io { action, path: path.to_owned(), source }
}

/// Unpacks the source, decides how to build it and makes its runtimes available.
/// `log` gets lines for the build's log while that happens.
pub fn prepare(
    request: &BuildRequest,
    dirs: &DataDirs,
    layout: &Layout,
    host: &Host,
    log: &mut dyn FnMut(&str),
) -> Result<Prepared, BuildError> {
    // A preparation that a restart of the server cut off begins anew.
    discard(request.build, dirs)?;
    let build_dir = dirs.build(request.build);
    let (app, input, output) = (build_dir.join("app"), build_dir.join("in"), build_dir.join("out"));
    let cache = dirs.cache(request.app);
    for directory in [&app, &input, &output, &cache, &dirs.runtimes(), &dirs.slugs()] {
        fs::create_dir_all(directory).map_err(io_error("make", directory))?;
    }
    let (source_date, detection) = open_source(request, &app)?;

    let notes = detection.notes;
    let mut record = |line: &str| log(line);
    let mounts = vec![
        Mount::Writable { source: app, target: layout.app.clone() },
        Mount::Writable { source: cache, target: layout.cache.clone() },
        Mount::Writable { source: output, target: layout.output.clone() },
        Mount::ReadOnly { source: input.clone(), target: layout.input.clone() },
        Mount::ReadOnly { source: request.berth.clone(), target: layout.berth.clone() },
    ];
    let runtimes = Runtimes::new(dirs, layout, host, &mut record);
    let mut steps = Steps { runtimes, dirs, layout, input: &input, mounts };
    let planned = detection.packs.iter().map(|pack| steps.step(pack)).collect::<Result<_, _>>()?;
    let mounts = steps.mounts;

    let mut environment = host.provide(&input, &layout.input).map_err(io_error("write", &input))?;
    let config = request.config.iter().filter(|(key, _value)| !WITHHELD.contains(&key.as_str()));
    let config: BTreeMap<String, String> = config.map(|(key, value)| (key.clone(), value.expose().clone())).collect();
    let plan = Plan {
        steps: planned,
        config_keys: config.keys().cloned().collect(),
        source_version: request.source_version.clone(),
        source_date,
        stack: CLASSIC_STACK.to_owned(),
        notes,
        berth: layout.berth.clone(),
    };
    environment.extend(config);
    environment.extend(fixed_environment(layout, request, source_date));
    let plan_file = input.join(PLAN_FILE);
    state_file::write(&plan_file, &plan).map_err(BuildError::Plan)?;
    fs::set_permissions(&plan_file, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .map_err(io_error("share", &plan_file))?;

    Ok(Prepared {
        command: command(layout),
        working_dir: layout.app.clone(),
        mounts,
        environment: Secret::new(environment),
        limits: request.limits.shim(),
        deadline_ms: request.limits.deadline_ms,
        plan,
        secrets: request.config.values().cloned().collect(),
    })
}

/// After the build ended with status 0: checks its manifest and makes the slug.
///
/// Everything it needs is on disk: the server may have been restarted since [`prepare`].
pub fn finish(build: BuildId, dirs: &DataDirs, slug_bytes_max: u64) -> Result<Slug, BuildError> {
    let build_dir = dirs.build(build);
    let plan: Plan =
        state_file::read(&build_dir.join("in").join(PLAN_FILE)).map_err(BuildError::Plan)?.ok_or(BuildError::NoPlan)?;
    let output = build_dir.join("out");
    let bytes = beneath::read(&output, Path::new(MANIFEST_FILE), MANIFEST_BYTES_MAX)
        .map_err(io_error("read", &output))?
        .ok_or(BuildError::NoManifest)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(BuildError::Manifest)?;
    let manifest = slug::check_manifest(manifest, &given_runtimes(&plan))?;
    Ok(slug::make(dirs, &build_dir.join("app"), manifest, plan.source_date, slug_bytes_max)?)
}

/// Removes what a build left, whatever became of it. A build that is not there is fine.
pub fn discard(build: BuildId, dirs: &DataDirs) -> Result<(), BuildError> {
    let build_dir = dirs.build(build);
    match fs::remove_dir_all(&build_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &build_dir)(error)),
        _ => Ok(()),
    }
}

fn given_runtimes(plan: &Plan) -> Vec<String> {
    let toolchains = plan.steps.iter().filter_map(|step| match step {
        Step::Node { node: toolchain } | Step::Python { python: toolchain, .. } => Some(toolchain),
        Step::Rust { rust: toolchain } | Step::Go { go: toolchain } => Some(toolchain),
        Step::Static | Step::Procfile | Step::Buildpack { .. } => None,
    });
    toolchains.filter_map(|toolchain| toolchain.runtime.clone()).collect()
}

/// Unpacks the source and decides how to build it; with the newest time in it.
fn open_source(request: &BuildRequest, app: &Path) -> Result<(u64, Detection), BuildError> {
    let mut source = File::open(&request.source).map_err(io_error("read", &request.source))?;
    let options = archive::Options { top_folder: request.top_folder, ..archive::Options::SOURCE };
    let unpacked = archive::unpack(&mut source, app, &options).map_err(BuildError::Source)?;
    let tree = SourceTree::read(app).map_err(io_error("read", app))?;
    if let Some(procfile) = tree.text("Procfile") {
        domain::procfile::parse(procfile).map_err(BuildError::Procfile)?;
    }
    Ok((unpacked.newest, detect(&tree, &request.buildpacks)?))
}

/// What no config var may change.
fn fixed_environment(layout: &Layout, request: &BuildRequest, source_date: u64) -> [(String, String); 9] {
    [
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("HOME", layout.temporary.join("home").display().to_string()),
        ("TMPDIR", layout.temporary.display().to_string()),
        ("LANG", "C.UTF-8".to_owned()),
        ("STACK", CLASSIC_STACK.to_owned()),
        ("SOURCE_VERSION", request.source_version.clone()),
        ("SOURCE_DATE_EPOCH", source_date.max(315_619_200).to_string()),
        ("REQUEST_ID", request.build.to_string()),
        ("DYNO", "build".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}

fn command(layout: &Layout) -> Vec<String> {
    let shown = |path: &Path| path.display().to_string();
    let mut command = vec![shown(&layout.berth), "build-inside".to_owned()];
    for (option, path) in [
        ("--app", &layout.app),
        ("--cache", &layout.cache),
        ("--in", &layout.input),
        ("--out", &layout.output),
        ("--tmp", &layout.temporary),
    ] {
        command.extend([option.to_owned(), shown(path)]);
    }
    command
}
