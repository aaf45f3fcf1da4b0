//! The untrusted half of a build: `berth build-inside`, which runs the steps of the plan in the sandbox.
//!
//! Its standard output is the build log in Heroku's form (`-----> ` before a phase, seven spaces before the rest). Every
//! tool is started with an absolute path and an environment that is written out here, so that neither a version file
//! nor a config file of the app's decides which tool runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use domain::database_file::is_database_file;
use thiserror::Error;
use wire::build::{MANIFEST_FILE, Manifest, PLAN_FILE, Plan, Step};
use wire::state_file;

use crate::dirs::Layout;

mod buildpack;
mod diagnose;
mod go;
mod hooks;
mod node;
mod package_json;
mod pipfile_lock;
mod poetry_lock;
mod process_types;
mod python;
mod rust;
mod static_site;
mod tool;
mod tree_copy;
mod wheelhouse;

#[derive(Debug, Error)]
enum InsideError {
    #[error("cannot {action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the plan or write the manifest")]
    State(#[from] state_file::StateFileError),
    #[error("the plan is missing")]
    NoPlan,
    #[error("unknown argument {0:?}")]
    Argument(OsString),
    #[error("cannot write the build log")]
    Output(#[from] io::Error),
    /// What failed has said so itself.
    #[error("{what} failed with status {status}")]
    Tool { what: String, status: i32 },
    #[error("{0}")]
    Refused(String),
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InsideError {
    move |source| InsideError::Io { action, path: path.to_owned(), source }
}

/// A build under way.
struct Build<'a> {
    layout: Layout,
    plan: Plan,
    /// Of every tool; steps add to it for those that follow.
    environment: BTreeMap<String, String>,
    manifest: Manifest,
    output: &'a mut dyn Write,
}

/// The body of `berth build-inside`: `--app`, `--cache`, `--in`, `--out` and `--tmp` name directories.
pub fn run_inside(arguments: &[OsString]) -> ExitCode {
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let layout = match parse_arguments(arguments) {
        Ok(layout) => layout,
        Err(error) => {
            drop(writeln!(io::stderr(), "build-inside: {error}"));
            return ExitCode::from(2);
        }
    };
    if run(&layout, environment, &mut io::stdout()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the plan; the log goes to `output`. Returns whether there is a result.
pub fn run(layout: &Layout, environment: BTreeMap<String, String>, output: &mut dyn Write) -> bool {
    match build(layout, environment, output) {
        Ok(()) => true,
        Err(error) => {
            let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            drop(writeln!(output, " !     {text}"));
            false
        }
    }
}

fn build(layout: &Layout, environment: BTreeMap<String, String>, output: &mut dyn Write) -> Result<(), InsideError> {
    let plan: Plan = state_file::read(&layout.input.join(PLAN_FILE))?.ok_or(InsideError::NoPlan)?;
    if let Some(home) = environment.get("HOME") {
        fs::create_dir_all(home).map_err(at("make", Path::new(home)))?;
    }
    let mut build = Build { layout: layout.clone(), plan, environment, manifest: Manifest::default(), output };
    shim::host::stack().clone_into(&mut build.manifest.stack);
    for note in build.plan.notes.clone() {
        build.say(&note)?;
    }
    build.hook("bin/pre_compile")?;
    for step in build.plan.steps.clone() {
        match step {
            Step::Python { python, uv } => build.python(&python, &uv)?,
            Step::Node { node } => build.node(&node)?,
            Step::Rust { rust } => build.rust(&rust)?,
            Step::Go { go } => build.go(&go)?,
            Step::Static => build.static_site()?,
            Step::Procfile => build.phase("Procfile app detected: nothing to compile")?,
            Step::Buildpack { name, source } => build.buildpack(&name, &source)?,
        }
    }
    build.hook("bin/post_compile")?;
    build.warn_of_database_files()?;
    build.process_types()?;
    state_file::write(&build.layout.output.join(MANIFEST_FILE), &build.manifest)?;
    Ok(())
}

impl Build<'_> {
    /// A line that begins a phase.
    fn phase(&mut self, text: &str) -> Result<(), InsideError> {
        Ok(writeln!(self.output, "-----> {text}")?)
    }

    fn say(&mut self, text: &str) -> Result<(), InsideError> {
        Ok(writeln!(self.output, "       {text}")?)
    }

    /// Said now and kept in the manifest, for those who deploy without watching.
    fn warn(&mut self, text: &str) -> Result<(), InsideError> {
        for (index, line) in text.lines().enumerate() {
            writeln!(self.output, "{}{line}", if index == 0 { " !     Warning: " } else { " !     " })?;
        }
        self.manifest.warnings.push(text.to_owned());
        Ok(())
    }

    fn app(&self, path: impl AsRef<Path>) -> PathBuf {
        self.layout.app.join(path)
    }

    fn has(&self, path: &str) -> bool {
        self.app(path).exists()
    }

    /// Puts a directory in front of the search path, of this build's tools and of the app's processes.
    fn add_path(&mut self, directory: &Path) {
        let directory = directory.display().to_string();
        let path = self.environment.entry("PATH".to_owned()).or_default();
        *path = format!("{directory}:{path}");
        if !self.manifest.path.contains(&directory) {
            self.manifest.path.insert(0, directory);
        }
    }

    fn add_default(&mut self, key: &str, value: &str) {
        self.manifest.environment.insert(key.to_owned(), value.to_owned());
    }

    /// SQLite in the slug looks like it works until the next release or restart.
    fn warn_of_database_files(&mut self) -> Result<(), InsideError> {
        let entries = fs::read_dir(&self.layout.app).map_err(at("read", &self.layout.app))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found: Vec<String> = names.filter(|name| is_database_file(Path::new(name))).take(5).collect();
        found.sort();
        if found.is_empty() {
            return Ok(());
        }
        self.warn(&format!(
            "{} is part of the slug: what a process writes there is lost at its next start.\nUse a database by DATABASE_URL.",
            found.join(", ")
        ))
    }

    fn config(&self, key: &str) -> Option<&str> {
        self.environment.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn parse_arguments(arguments: &[OsString]) -> Result<Layout, InsideError> {
    let mut layout = Layout::default();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let unknown = || InsideError::Argument(option.clone());
        let place = match option.to_str() {
            Some("--app") => &mut layout.app,
            Some("--cache") => &mut layout.cache,
            Some("--in") => &mut layout.input,
            Some("--out") => &mut layout.output,
            Some("--tmp") => &mut layout.temporary,
            _ => return Err(unknown()),
        };
        *place = rest.next().map(PathBuf::from).ok_or_else(unknown)?;
    }
    Ok(layout)
}
