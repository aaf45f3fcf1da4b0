//! The run directory, the working directory of the shim: who holds it, and the files that say what runs.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::stdio::{dup2_stdin, stdin};
use wire::shim::{SPEC_FILE, STATE_FILE, Spec, State};
use wire::state_file;

use crate::error::{Doing as _, SetupError, display_chain};

/// Held by the one shim of a run directory.
const LOCK_FILE: &str = "shim.lock";
/// Where init leaves the wait status of the process.
pub(super) const STATUS_FILE: &str = "init-status";

/// Moves standard input, which holds secrets, out of the way of everything that is started later.
pub(crate) fn take_stdin() -> Result<OwnedFd, SetupError> {
    let inherited = stdin().try_clone_to_owned().doing(|| "duplicate standard input".to_owned())?;
    let null = File::open("/dev/null").doing(|| "open /dev/null".to_owned())?;
    dup2_stdin(&null).doing(|| "close standard input".to_owned())?;
    Ok(inherited)
}

/// Makes this process the one shim of the run directory, until it ends.
pub(super) fn lock() -> Result<(), SetupError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(LOCK_FILE)
        .doing(|| format!("open {LOCK_FILE}"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // The descriptor stays open, and with it the lock, for the life of the process.
            std::mem::forget(file);
            Ok(())
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(SetupError::Refused("another shim serves this run directory".to_owned()))
        }
        Err(error) => Err(error).doing(|| format!("lock {LOCK_FILE}")),
    }
}

pub(super) fn open_status() -> Result<OwnedFd, SetupError> {
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(STATUS_FILE);
    Ok(options.doing(|| format!("open {STATUS_FILE}"))?.into())
}

pub(crate) fn read_spec() -> Result<Spec, SetupError> {
    let spec: Spec = state_file::read(&here(SPEC_FILE))
        .map_err(|error| SetupError::Refused(display_chain(&error)))?
        .ok_or_else(|| SetupError::Refused("there is no spec.json in the run directory".to_owned()))?;
    let hex = |byte: u8| byte.is_ascii_hexdigit();
    // It becomes a part of paths and of interface names.
    if spec.instance.len() != 8 || !spec.instance.bytes().all(hex) {
        return Err(SetupError::Refused("the instance in spec.json must be eight hex digits".to_owned()));
    }
    Ok(spec)
}

pub(super) fn write_state(state: &State) -> Result<(), SetupError> {
    state_file::write(&here(STATE_FILE), state).map_err(|error| SetupError::Refused(display_chain(&error)))
}

/// A file of the run directory, the working directory. With a parent, which is synchronised after a rename.
pub(crate) fn here(name: &str) -> PathBuf {
    Path::new(".").join(name)
}
