//! The server's side: launches shims, talks to them, and after a restart finds out what became of them.

mod attach;
mod clean_up;
mod connection;
mod launch;
mod observe;
mod orphan;
mod visit;
mod written;

pub use attach::attach;
pub use clean_up::{CleanUpError, clean_up};
pub use connection::{Connection, ConnectionError};
pub use launch::{LaunchError, launch, recover};
pub use observe::{Observed, observe};
pub use orphan::{OrphanError, OrphanSignal, signal_orphan};
pub use visit::{VisitError, VisitStream, VisitStreams, Visiting, visit};
pub use written::find_written;
