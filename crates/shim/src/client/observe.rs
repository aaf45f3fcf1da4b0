//! What became of a process, told from its run directory alone. It decides nothing and changes nothing.

use std::path::Path;

use wire::shim::{EXIT_FILE, Exit, STATE_FILE, State};
use wire::state_file::{self, StateFileError};

use super::connection::{Connection, ConnectionError};
use crate::process_ref;

/// An observation of one run directory.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// The end is recorded.
    Ended(Exit),
    /// The shim answers.
    Running(State),
    /// The process runs without a shim: recover it.
    ShimLost(State),
    /// No process, and no record of its end: the machine restarted, or both were killed. `recover` records what can
    /// still be known where there is a state.
    Gone,
}

/// Looks at a run directory.
///
/// # Errors
/// A file that cannot be read is not evidence of anything: ask again or ask the operator.
pub async fn observe(run_dir: &Path, instance: &str) -> Result<Observed, StateFileError> {
    if let Some(exit) = ended(run_dir)? {
        return Ok(Observed::Ended(exit));
    }
    let Some(state) = state_file::read::<State>(&run_dir.join(STATE_FILE))? else { return Ok(Observed::Gone) };
    if process_ref::boot_id().is_ok_and(|boot_id| boot_id != state.boot_id) {
        return Ok(Observed::Gone);
    }
    match Connection::connect(run_dir, instance).await {
        Ok(_) => return Ok(Observed::Running(state)),
        Err(ConnectionError::Ended(exit)) => return Ok(Observed::Ended(*exit)),
        Err(_) => {}
    }
    // The end may have been recorded since the first look.
    if let Some(exit) = ended(run_dir)? {
        return Ok(Observed::Ended(exit));
    }
    let alive = process_ref::open(state.init).is_some();
    Ok(if alive { Observed::ShimLost(state) } else { Observed::Gone })
}

fn ended(run_dir: &Path) -> Result<Option<Exit>, StateFileError> {
    state_file::read(&run_dir.join(EXIT_FILE))
}
