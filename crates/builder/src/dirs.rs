//! Where builds, slugs, caches and runtimes are, outside in the data directory and inside in the sandbox.

use std::path::{Path, PathBuf};

use domain::id::{AppId, BuildId};

/// The parts of the data directory that builds touch.
#[derive(Debug, Clone)]
pub struct DataDirs {
    root: PathBuf,
}

impl DataDirs {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Scratch space of one build: `app`, `in`, `out`. The caller removes it when the build is over.
    pub fn build(&self, build: BuildId) -> PathBuf {
        self.root.join("builds").join(build.to_string())
    }

    pub fn cache(&self, app: AppId) -> PathBuf {
        self.root.join("cache").join(app.to_string())
    }

    pub fn slugs(&self) -> PathBuf {
        self.root.join("slugs")
    }

    pub fn runtimes(&self) -> PathBuf {
        self.root.join("runtimes")
    }

    /// Classic buildpacks that the operator installed, one directory each.
    pub fn buildpacks(&self) -> PathBuf {
        self.root.join("buildpacks")
    }
}

/// Where a build finds its directories. The defaults are the sandbox's; tests use directories of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub app: PathBuf,
    pub cache: PathBuf,
    pub input: PathBuf,
    pub output: PathBuf,
    pub runtimes: PathBuf,
    pub temporary: PathBuf,
    pub berth: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            app: "/app".into(),
            cache: "/cache".into(),
            input: "/in".into(),
            output: "/out".into(),
            runtimes: "/opt/berth/runtimes".into(),
            temporary: "/tmp".into(),
            berth: "/opt/berth/bin/berth".into(),
        }
    }
}

impl Layout {
    /// The virtual environment, where Heroku's Python buildpack has its interpreter: hooks and settings name this path.
    pub fn virtual_env(&self) -> PathBuf {
        self.app.join(".heroku/python")
    }

    pub fn runtime(&self, id: &str) -> PathBuf {
        self.runtimes.join(id)
    }
}

/// Whether `name` can be one component of a path in the data directory.
pub fn is_plain_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    (1..=128).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.')
}

/// A fresh hidden name beside `path`, from which a finished directory is renamed into place.
pub(crate) fn temporary_neighbour(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.{}", uuid::Uuid::new_v4().simple()))
}
