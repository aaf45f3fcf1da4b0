//! What the server and a build say to each other: the plan that goes into the sandbox, the manifest that comes out.
//!
//! The plan is trusted, the manifest is not: it was written by whatever the app's build ran, so that every field is
//! parsed and bounded again before a slug is made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub const PLAN_FILE: &str = "plan.json";
pub const MANIFEST_FILE: &str = "manifest.json";

/// What `berth build-inside` does. All paths are as the sandbox sees them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The names, not the values, of the config vars in the build's environment: what `ENV_DIR` holds.
    pub config_keys: Vec<String>,
    /// The commit, as `SOURCE_VERSION` shows it to hooks; empty where it is not known.
    #[serde(default)]
    pub source_version: String,
    /// The newest modification time in the source, in seconds; see the slug's clamping.
    #[serde(default)]
    pub source_date: u64,
    /// The `STACK` of classic buildpacks.
    pub stack: String,
    /// Lines for the head of the build log: what was detected and which versions were chosen.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The executable that serves static files at run time.
    pub berth: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    Node { node: Toolchain },
    Python { python: Toolchain, uv: PathBuf },
    Rust { rust: Toolchain },
    Go { go: Toolchain },
    Static,
    Procfile,
    Buildpack { name: String, source: BuildpackSource },
}

/// One language's tools in the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Toolchain {
    pub version: String,
    /// The directory with `bin/` in it; `/usr` for the host's userland.
    pub root: PathBuf,
    /// The directory under `runtimes/` that must be mounted again at run time; none for the host's userland.
    #[serde(default)]
    pub runtime: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BuildpackSource {
    /// A directory of the sandbox; copied before use, because buildpacks write into themselves.
    Directory { path: PathBuf },
    /// Cloned by git inside the sandbox.
    Git { url: String, reference: Option<String> },
    /// A `.tgz` that curl fetches inside the sandbox.
    Archive { url: String },
}

/// What a finished build leaves in its output directory, and what a slug keeps beside its tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Process types with their shell commands.
    #[serde(default)]
    pub process_types: BTreeMap<String, String>,
    /// `Python`, `Node.js`, ...: the API's `buildpack_provided_description`.
    #[serde(default)]
    pub languages: Vec<String>,
    /// Directories for the front of `PATH`.
    #[serde(default)]
    pub path: Vec<String>,
    /// Defaults that config vars override.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Directories under `runtimes/` to mount.
    #[serde(default)]
    pub runtimes: Vec<String>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The userland it was built on.
    #[serde(default)]
    pub stack: String,
}
