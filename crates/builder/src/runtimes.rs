//! Interpreters and toolchains: which can be had on this machine, and a copy of the chosen one under `runtimes/`.
//!
//! What runs with an app is *copied*, never linked: `/root` is closed to sandboxes and version managers move things.
//! The host's own `/usr` is the exception, because every sandbox has it mounted. A build-only toolchain (Rust, Go) is
//! mounted read-only from where it is. Sources in order: `runtimes/`, a download by uv, version managers, Debian's
//! `/usr`, packages of the language's registry fetched with its own client.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use thiserror::Error;
use wire::build::Toolchain;

use crate::dirs::{DataDirs, Layout, temporary_neighbour};
use crate::host::Host;
use crate::version::{ResolveError, Version};

mod copy;
mod go;
mod node;
mod python;
mod rust;
mod uv;

/// How long fetching one runtime may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("cannot prepare {what} in {path:?}")]
    Prepare {
        what: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot fetch {what}: {output}")]
    Fetch { what: String, output: String },
    #[error(
        "the app pins Rust {wanted}, which is not installed here ({available} are); change the pin or ask the operator to install it with rustup"
    )]
    RustPin { wanted: String, available: String },
    #[error("no {0} is installed on this machine; ask the operator to install it")]
    NotInstalled(&'static str),
    #[error("the fetched {what} cannot be unpacked")]
    Archive {
        what: String,
        #[source]
        source: crate::archive::ArchiveError,
    },
}

/// A toolchain with the directory that must be mounted for it; none for the host's `/usr`.
#[derive(Debug, Clone, PartialEq)]
pub struct Provided {
    pub toolchain: Toolchain,
    /// Outside; its place inside is `toolchain.root`.
    pub source: Option<PathBuf>,
}

/// Makes runtimes available, telling `log` about every choice that is not plain.
pub struct Runtimes<'a> {
    pub(crate) dirs: &'a DataDirs,
    pub(crate) layout: &'a Layout,
    pub(crate) host: &'a Host,
    pub(crate) log: &'a mut dyn FnMut(&str),
}

impl std::fmt::Debug for Runtimes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes").field("dirs", self.dirs).finish_non_exhaustive()
    }
}

impl<'a> Runtimes<'a> {
    pub fn new(dirs: &'a DataDirs, layout: &'a Layout, host: &'a Host, log: &'a mut dyn FnMut(&str)) -> Self {
        Self { dirs, layout, host, log }
    }

    /// The runtimes of one kind that are in `runtimes/` already, as (version, directory name): `kind-X.Y.Z-hash`.
    fn present(&self, kind: &str) -> Vec<(Version, String)> {
        let entries = fs::read_dir(self.dirs.runtimes()).into_iter().flatten().filter_map(Result::ok);
        let mut present: Vec<(Version, String)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = Version::parse(name.strip_prefix(kind)?.strip_prefix('-')?.split('-').next()?)?;
                Some((version, name))
            })
            .collect();
        present.sort();
        present
    }

    fn provided(&self, version: Version, id: String) -> Provided {
        Provided {
            source: Some(self.dirs.runtimes().join(&id)),
            toolchain: Toolchain { version: version.to_string(), root: self.layout.runtime(&id), runtime: Some(id) },
        }
    }

    fn userland(version: Version) -> Provided {
        let root = PathBuf::from("/usr");
        Provided { toolchain: Toolchain { version: version.to_string(), root, runtime: None }, source: None }
    }

    /// Fills `runtimes/<id>` by `fill` unless it is there. Two builds may do it at once: the first to finish wins.
    fn install(&self, id: &str, fill: impl FnOnce(&Path) -> Result<(), RuntimeError>) -> Result<(), RuntimeError> {
        let place = self.dirs.runtimes().join(id);
        if place.exists() {
            return Ok(());
        }
        let prepare = |source| RuntimeError::Prepare { what: id.to_owned(), path: place.clone(), source };
        let temporary = temporary_neighbour(&place);
        fs::create_dir_all(&temporary).map_err(prepare)?;
        let filled = fill(&temporary).and_then(|()| match fs::rename(&temporary, &place) {
            Err(_) if place.exists() => Ok(()),
            renamed => renamed.map_err(prepare),
        });
        if temporary.exists() {
            drop(fs::remove_dir_all(&temporary));
        }
        filled
    }

    /// Runs one of the machine's own package clients in `directory`, which holds nothing of any app's.
    fn client(
        &self,
        what: &str,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
        extra: &BTreeMap<String, String>,
    ) -> Result<String, RuntimeError> {
        let prepare = |source| RuntimeError::Prepare { what: what.to_owned(), path: program.to_owned(), source };
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(self.host.client_environment())
            .envs(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(prepare)?;
        let pid = rustix::process::Pid::from_child(&child);
        let errors = child.stderr.take();
        let (done, overdue) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if overdue.recv_timeout(FETCH_TIMEOUT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // It may have ended by itself in this moment.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        });
        let reading = std::thread::spawn(move || errors.map(io::read_to_string).transpose());
        let output = child.stdout.take().map(io::read_to_string).transpose().map_err(prepare)?.unwrap_or_default();
        // The pid is not reused before `wait` has returned, so that the watch cannot kill another process.
        drop(done);
        drop(watch.join());
        let status = child.wait().map_err(prepare)?;
        let errors = reading.join().ok().and_then(Result::ok).flatten().unwrap_or_default();
        if status.success() {
            Ok(output)
        } else {
            let last: Vec<&str> = errors.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
            Err(RuntimeError::Fetch {
                what: what.to_owned(),
                output: last.into_iter().rev().collect::<Vec<_>>().join("; "),
            })
        }
    }

    /// Fetches one wheel with pip and unpacks it into `place`.
    fn fetch_wheel(&self, requirement: &str, place: &Path) -> Result<(), RuntimeError> {
        let prepare = |source| RuntimeError::Prepare { what: requirement.to_owned(), path: place.to_owned(), source };
        let python = ["/usr/bin/python3".into()]
            .into_iter()
            .chain(self.host.tool("python3"))
            .find(|path: &PathBuf| path.exists());
        let python = python.ok_or(RuntimeError::NotInstalled("python3"))?;
        let download = place.join(".download");
        fs::create_dir_all(&download).map_err(prepare)?;
        let arguments = ["-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", requirement];
        self.client(requirement, &python, &arguments, &download, &BTreeMap::new())?;
        let wheel = fs::read_dir(&download).map_err(prepare)?.filter_map(Result::ok).map(|entry| entry.path()).next();
        let wheel = wheel.ok_or_else(|| prepare(io::ErrorKind::NotFound.into()))?;
        let mut file = fs::File::open(&wheel).map_err(prepare)?;
        crate::archive::unpack(&mut file, place, &crate::archive::Options::SLUG)
            .map_err(|source| RuntimeError::Archive { what: requirement.to_owned(), source })?;
        fs::remove_dir_all(&download).map_err(prepare)
    }
}

/// The first `X.Y.Z` in a text such as `Python 3.11.2` or `v20.20.2`.
fn version_in(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(Version::parse)
}

/// Copies a whole directory of the operator's.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy::tree(from, to, |_path| false)
}
