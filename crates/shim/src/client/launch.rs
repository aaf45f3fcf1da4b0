//! Starts shims and waits for their one line.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;
use wire::shim::{Environment, LaunchReply, SPEC_FILE, Spec, State};
use wire::state_file::{self, StateFileError};

/// Longer than the shim's own limit for setting up a sandbox, so that its message arrives.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// A reply is a few hundred bytes.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Error)]
pub enum LaunchError {
    #[error("cannot make the run directory {path}")]
    RunDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the spec")]
    Spec(#[source] StateFileError),
    #[error("cannot hand over the environment")]
    Environment(#[source] io::Error),
    #[error("cannot start a shim from {path}")]
    Start {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim did not answer within {} s", REPLY_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the shim ended without a word; is {path} the platform's own executable?")]
    Silent { path: PathBuf },
    /// The shim's own words: what it could not set up, and why.
    #[error("{message}")]
    Failed { message: String },
}

/// Makes `run_dir`, starts a shim from `exe` and gives the state of the running process.
///
/// `environment` goes through memory only. When the future is dropped the shim goes on: look at the run directory.
pub async fn launch(exe: &Path, run_dir: &Path, spec: &Spec, environment: &Environment) -> Result<State, LaunchError> {
    let at_run_dir = |source| LaunchError::RunDir { path: run_dir.to_owned(), source };
    std::fs::create_dir_all(run_dir).map_err(at_run_dir)?;
    // Control socket, output and the app's files are nobody else's business.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(run_dir, private).map_err(at_run_dir)?;
    state_file::write(&run_dir.join(SPEC_FILE), spec).map_err(LaunchError::Spec)?;
    let memfd = environment_memfd(environment).map_err(LaunchError::Environment)?;
    start(exe, run_dir, &["shim"], memfd.into()).await
}

/// Replaces the shim of a process that still runs. An error [`LaunchError::Failed`] means that there is nothing to
/// recover; the exit record then tells the end as far as it is known.
pub async fn recover(exe: &Path, run_dir: &Path) -> Result<State, LaunchError> {
    start(exe, run_dir, &["shim", "--recover"], Stdio::null()).await
}

async fn start(exe: &Path, run_dir: &Path, arguments: &[&str], stdin: Stdio) -> Result<State, LaunchError> {
    let at_start = |source| LaunchError::Start { path: exe.to_owned(), source };
    let mut child = Command::new(exe)
        .args(arguments)
        .arg(run_dir)
        .env_clear()
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(at_start)?;
    let stdout = child.stdout.take();
    let read = async {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let limited = tokio::io::AsyncReadExt::take(stdout, REPLY_BYTES_MAX);
            BufReader::new(limited).read_line(&mut line).await?;
        }
        // What was started forks and ends at once; this only takes its status away.
        child.wait().await?;
        Ok::<_, io::Error>(line)
    };
    let line = timeout(REPLY_TIMEOUT, read).await.map_err(|_elapsed| LaunchError::NoAnswer)?.map_err(at_start)?;
    match serde_json::from_str(&line) {
        Ok(LaunchReply::Running { state }) => Ok(state),
        Ok(LaunchReply::Failed { message }) => Err(LaunchError::Failed { message }),
        Err(_) => Err(LaunchError::Silent { path: exe.to_owned() }),
    }
}

fn environment_memfd(environment: &Environment) -> io::Result<File> {
    let mut file = File::from(memfd_create("environment", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(environment)?)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
