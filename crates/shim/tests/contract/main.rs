//! The real supervisor, real processes, real sandboxes: what a dyno gets, how it ends, and what it leaves behind.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the helpers of tests fail and talk like tests")]

mod attach;
mod dns;
mod endings;
mod harness;
mod isolation;
mod limits;
mod logs;
mod mounts;
mod network;
mod recovery;
mod uml;
mod visit;
