//! Runs one tool of a build: its output indented into the log, its last lines kept for advice when it fails.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Build, InsideError, at, diagnose};

/// Lines of a failed tool that are searched for a known cause.
const TAIL_LINES: usize = 300;
/// Longest line that is passed on in one piece, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// A tool about to run.
pub(super) struct Tool {
    program: PathBuf,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    removed: Vec<String>,
}

impl Tool {
    pub(super) fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: BTreeMap::new(),
            removed: Vec::new(),
        }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_string_lossy().into_owned());
        self
    }

    pub(super) fn args(self, arguments: &[&str]) -> Self {
        arguments.iter().fold(self, Self::arg)
    }

    pub(super) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(key.to_owned(), value.as_ref().to_string_lossy().into_owned());
        self
    }

    pub(super) fn without(mut self, key: &str) -> Self {
        self.removed.push(key.to_owned());
        self
    }

    pub(super) fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    fn command(&self, build: &Build<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(self.directory.as_deref().unwrap_or(&build.layout.app))
            .env_clear()
            .envs(&build.environment)
            .envs(&self.environment)
            .stdin(Stdio::null());
        for key in &self.removed {
            command.env_remove(key);
        }
        command
    }
}

/// How a tool ended.
pub(super) struct Outcome {
    /// As a shell counts: 128 + signal.
    pub status: i32,
    pub tail: VecDeque<String>,
    pub took: Duration,
}

impl Build<'_> {
    /// Runs a tool whose failure ends the build. Returns how long it took.
    pub(super) fn run(&mut self, what: &str, tool: &Tool) -> Result<Duration, InsideError> {
        let outcome = self.attempt(tool)?;
        if outcome.status == 0 {
            return Ok(outcome.took);
        }
        self.explain(&outcome)?;
        Err(InsideError::Tool { what: what.to_owned(), status: outcome.status })
    }

    /// Runs a tool whose failure is the caller's to judge.
    pub(super) fn attempt(&mut self, tool: &Tool) -> Result<Outcome, InsideError> {
        self.attempt_with_indent(tool, "       ")
    }

    pub(super) fn attempt_with_indent(&mut self, tool: &Tool, indent: &str) -> Result<Outcome, InsideError> {
        let begun = Instant::now();
        let (reader, writer) = io::pipe()?;
        let mut command = tool.command(self);
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn().map_err(at("run", &tool.program))?;
        // The command holds the pipe's write ends: without this the reader would wait for ever.
        drop(command);
        let mut reader = BufReader::new(reader);
        let mut tail = VecDeque::new();
        let mut line = Vec::new();
        while reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
            // Progress bars rewrite their line; the log shows its last state.
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            let text = text.rsplit('\r').next().unwrap_or(text);
            if !is_noise(text) {
                writeln!(self.output, "{indent}{text}")?;
            }
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text.to_owned());
            line.clear();
        }
        let status = child.wait()?;
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Outcome { status, tail, took: begun.elapsed() })
    }

    /// Runs a tool for its standard output; what it says on standard error is shown only if it fails.
    pub(super) fn capture(&mut self, what: &str, tool: &Tool) -> Result<String, InsideError> {
        let output = tool.command(self).output().map_err(at("run", &tool.program))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            self.say(line)?;
        }
        Err(InsideError::Tool { what: what.to_owned(), status: output.status.code().unwrap_or(128) })
    }

    /// Says what is known about a failure.
    pub(super) fn explain(&mut self, outcome: &Outcome) -> Result<(), InsideError> {
        let lines: Vec<&str> = outcome.tail.iter().map(String::as_str).collect();
        for advice in diagnose::diagnose(&lines) {
            for line in advice.lines() {
                writeln!(self.output, " !     {line}")?;
            }
        }
        Ok(())
    }
}

/// npm warns of the variable that only node-gyp reads, once per command.
fn is_noise(line: &str) -> bool {
    line.starts_with("npm warn Unknown env config \"nodedir\"")
}

/// `1.4s`, `2m03s`.
pub(super) fn shown(took: Duration) -> String {
    match took.as_secs() {
        0..60 => format!("{:.1}s", took.as_secs_f64()),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

pub(super) fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
