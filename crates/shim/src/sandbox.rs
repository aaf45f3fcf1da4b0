//! Starts the process of a spec: namespaces, file system, network, privileges, and an init that reaps.
//!
//! ```text
//! shim                                  child (PID 1 inside)
//!   clone3(NEWNS|NEWPID|…, INTO_CGROUP) ──►
//!   without root: write id maps
//!   ── "m", only then ───────────────►  join v1 cgroups, build the new root, pivot into it
//!   make the veth pair
//!   ── "g" ──────────────────────────►  address and routes, drop privileges, Landlock, seccomp
//!                                        fork ──► app: exec
//!   ◄── "+mechanism" lines, end of file  (exec closes the last copy of the channel)
//! ```
//!
//! The child is a fork of a process with one thread, so it may allocate. It reports a failure as one line of text and
//! leaves by `_exit`; no destructor of the shim ever runs in it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, pidfd_send_signal, waitid};
use rustix::time::{ClockId, clock_gettime};
use wire::shim::{Mechanism, Network, Spec, Terminal};

use crate::cgroup::Cgroups;
use crate::error::{Doing as _, SetupError, display_chain};
use crate::netlink::Netlink;
use crate::sys::{self, Side};

mod etc;
mod idmap;
mod init;
mod landlock;
mod namespaces;
mod network;
mod planned_mount;
mod privileges;
mod root;
mod seccomp;
mod sftp;
mod terminal;
pub(crate) mod visitor;

pub(crate) use init::read_environment;
pub(crate) use namespaces::Namespaces;
pub(crate) use planned_mount::{LAYERS_DIR, ROOT_DIR};

/// How long the child may take to get from clone to exec: a slow disk, not a hang.
const SETUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Descriptors that the process gets from the shim.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// A memfd with the environment as JSON. Only the process itself ever parses it.
    pub(crate) environment: OwnedFd,
    pub(crate) null: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Where init leaves the wait status, for a shim that is not its parent.
    pub(crate) status: OwnedFd,
    pub(crate) standard: Standard,
}

/// What the standard streams of the process are.
#[derive(Debug)]
pub(crate) enum Standard {
    /// Nothing to read, and the log.
    Log,
    /// A terminal of its own, in the sandbox's own `/dev/pts`.
    Terminal(Terminal),
    Pipes {
        input: OwnedFd,
        output: OwnedFd,
    },
}

/// A process that has executed its command.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) in_force: Vec<Mechanism>,
    pub(crate) cloned_at_monotonic_ns: u64,
    /// The other side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// What the child needs to know besides the spec.
struct Plan<'a> {
    spec: &'a Spec,
    rooted: bool,
    cgroups: &'a Cgroups,
    mounts: Vec<planned_mount::PlannedMount>,
    filters: Option<seccomp::Filters>,
}

/// Starts the process. The working directory must be the run directory. On an error nothing of it is left running;
/// cgroups and layers are the caller's to remove.
pub(crate) fn start(spec: &Spec, cgroups: &Cgroups, descriptors: Descriptors) -> Result<Started, SetupError> {
    let rooted = geteuid().is_root();
    if !rooted && matches!(spec.network, Network::Isolated { .. }) {
        let message = "an isolated network needs root: start the platform as root or use the host's network";
        return Err(SetupError::Refused(message.to_owned()));
    }
    let filters = seccomp::compile();
    let plan = Plan { spec, rooted, cgroups, mounts: planned_mount::plan(spec, rooted)?, filters };

    let (channel, child_channel) = UnixStream::pair().doing(|| "make a socket pair".to_owned())?;
    channel.set_read_timeout(Some(SETUP_TIMEOUT)).doing(|| "set a time limit".to_owned())?;
    let terminals = UnixStream::pair().doing(|| "make a socket pair".to_owned())?;
    let has_terminal = matches!(descriptors.standard, Standard::Terminal(_));
    let target = cgroups.clone_target();
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if matches!(spec.network, Network::Isolated { .. }) {
        flags |= libc::CLONE_NEWNET;
    }
    if !rooted {
        flags |= libc::CLONE_NEWUSER;
    }
    let cloned_at = clock_gettime(ClockId::Monotonic);
    let (pid, pidfd) = match sys::clone3(flags, target.as_ref().map(OwnedFd::as_fd)) {
        Ok(Side::Child) => init::enter(&plan, child_channel, descriptors, terminals.1),
        Ok(Side::Parent(child)) => child,
        Err(source) => return Err(clone_failed(source, rooted)),
    };
    drop(child_channel);
    drop(terminals.1);
    // Else the other side of a pipe would never end.
    drop(descriptors);
    let result = guide(&plan, pid, channel).and_then(|reported| {
        let terminal = has_terminal.then(|| terminal::receive(&terminals.0)).transpose();
        Ok((reported, terminal.doing(|| "get the terminal of the process".to_owned())?))
    });
    match result {
        Ok((reported, terminal)) => {
            let mut in_force = vec![Mechanism::MountNamespace, Mechanism::PidNamespace];
            in_force.push(if rooted { Mechanism::OwnUid } else { Mechanism::UserNamespace });
            if matches!(spec.network, Network::Isolated { .. }) {
                in_force.push(Mechanism::NetworkNamespace);
            }
            in_force.extend(reported);
            let nanoseconds = u64::try_from(cloned_at.tv_sec * 1_000_000_000 + cloned_at.tv_nsec);
            Ok(Started { pid, pidfd, in_force, cloned_at_monotonic_ns: nanoseconds.unwrap_or_default(), terminal })
        }
        Err(error) => {
            kill_and_reap(&pidfd);
            if let Network::Isolated { host_interface, .. } = &spec.network {
                // It also goes with the namespace; what counts is the error that we already have.
                drop(Netlink::open().and_then(|netlink| netlink.delete_link(host_interface)));
            }
            Err(error)
        }
    }
}

/// Leads the child through its start, from the outside, and collects what it reports.
fn guide(plan: &Plan<'_>, pid: Pid, channel: UnixStream) -> Result<Vec<Mechanism>, SetupError> {
    let pid = pid.as_raw_nonzero().get();
    if !plan.rooted {
        idmap::map_to_caller(pid, plan.spec.identity.uid, plan.spec.identity.gid)?;
        // A child that has failed already has closed its end; its message tells more than this write's error.
        drop((&channel).write_all(b"m"));
    }
    if let Network::Isolated { address, gateway, host_interface, .. } = &plan.spec.network {
        network::wire_host(host_interface, *address, *gateway, pid)
            .doing(|| format!("make the network interface {host_interface}"))?;
    }
    drop((&channel).write_all(b"g"));
    let mut in_force = Vec::new();
    for line in BufReader::new(channel).lines() {
        let line = line.doing(|| format!("start the process within {} s", SETUP_TIMEOUT.as_secs()))?;
        match line.split_at_checked(1) {
            Some(("+", mechanism)) => in_force.extend(serde_json::from_str::<Mechanism>(mechanism)),
            Some(("!", message)) => return Err(SetupError::Refused(message.to_owned())),
            _ => return Err(SetupError::Refused(format!("the sandbox reported {line:?}"))),
        }
    }
    if in_force.is_empty() {
        return Err(SetupError::Refused("the sandbox ended before it could start the command".to_owned()));
    }
    Ok(in_force)
}

/// Kills PID 1 of the sandbox, and with it everything inside, and waits until it is gone.
pub(crate) fn kill_and_reap(pidfd: &OwnedFd) {
    // Both fail only if it is gone already.
    pidfd_send_signal(pidfd, Signal::KILL).ok();
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok();
}

fn clone_failed(source: io::Error, rooted: bool) -> SetupError {
    let denied = matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC));
    if denied && !rooted {
        let message = "this machine lets only root make user namespaces: start the platform as root, or allow them \
                       (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)";
        return SetupError::Refused(message.to_owned());
    }
    SetupError::System { doing: "make the namespaces of the sandbox".to_owned(), source }
}

/// The child's end of the channel.
struct Reporter {
    channel: File,
}

impl Reporter {
    fn in_force(&mut self, mechanism: Mechanism) {
        // The shim has gone away: then it cannot be told, and the next read of the channel ends the child.
        drop(serde_json::to_string(&mechanism).map(|name| writeln!(self.channel, "+{name}")));
    }

    fn failed(&mut self, error: &SetupError) {
        drop(writeln!(self.channel, "!{}", display_chain(error).replace('\n', " ")));
    }
}
