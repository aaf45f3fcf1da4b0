//! Runs one process in a sandbox and stays with it: the supervisor, and the client that talks to it.
//!
//! ```text
//! server (tokio, may restart) ──exec──► shim (one thread) ──clone3──► init (PID 1 inside, app uid) ──exec──► app
//!         ▲      ctl.sock                 │ poll: out.fifo, err.fifo, pidfd, ctl.sock
//!         └───────────────────────────────┘ writes state.json, exit.json, log/ in the run directory
//! ```
//!
//! * [`supervisor`] is the body of `berth shim`: no tokio, no threads, so that `fork` and `clone3` are safe and a dyno
//!   costs a few hundred kilobytes.
//! * [`visit`] is the body of `berth shim --visit`: somebody comes to a process that runs, with a shell or a connection.
//! * [`client`] is what the server uses: launch, connect, observe after a restart, recover, clean up.
//! * [`dns`] lets dynos ask a resolver that only listens on the host's loopback.
//! * [`host`] prepares what all dynos of a machine share: forwarding rules, address translation, resolvers.
//!
//! *Invariant:* untrusted code runs only below this crate, and what the sandbox could not enforce is reported, never
//! assumed.
#![expect(unsafe_code, reason = "namespaces, credentials and seccomp have no safe interface; see `sys`")]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod client;
pub mod dns;
pub mod host;
pub mod supervisor;
pub mod visit;

mod cgroup;
mod descriptor_passing;
mod disk;
mod error;
mod listening;
mod netlink;
mod process_ref;
mod sandbox;
mod sys;
