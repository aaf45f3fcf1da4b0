//! A process whose shim is gone for good: nobody is left to ask, so it is ended by signals from outside.

use std::io;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use uuid::Uuid;
use wire::shim::{STATE_FILE, State};
use wire::state_file::{self, StateFileError};

use crate::cgroup;
use crate::process_ref;

#[derive(Debug, Error)]
pub enum OrphanError {
    #[error("cannot read what is known of the process")]
    State(#[source] StateFileError),
    #[error("cannot look for its processes")]
    Look(#[source] io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanSignal {
    Terminate,
    Kill,
}

/// Signals every process of a dyno: what is in its cgroups, and its init where it has none.
pub fn signal_orphan(run_dir: &Path, instance: &str, dyno: Uuid, signal: OrphanSignal) -> Result<(), OrphanError> {
    let state = state_file::read::<State>(&run_dir.join(STATE_FILE)).map_err(OrphanError::State)?;
    let name = dyno.to_string();
    let all = cgroup::dyno_dirs(instance).map_err(OrphanError::Look)?;
    let dirs: Vec<_> = all.into_iter().filter(|dir| dir.file_name().is_some_and(|file| *file == *name)).collect();
    // A pid that belongs to somebody else by now is not signalled.
    let init = state.filter(|state| process_ref::open(state.init).is_some()).map(|state| state.init.pid);
    let mut pids: Vec<i32> = dirs.iter().flat_map(|dir| cgroup::members(dir)).chain(init).collect();
    pids.sort_unstable();
    pids.dedup();
    let signal_number = match signal {
        OrphanSignal::Terminate => Signal::TERM,
        OrphanSignal::Kill => Signal::KILL,
    };
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        // It may have ended by itself.
        kill_process(pid, signal_number).ok();
    }
    if signal == OrphanSignal::Kill {
        dirs.iter().for_each(|dir| cgroup::remove_dir(dir));
    }
    Ok(())
}
