//! What a `berth up` that was killed, or replaces itself, leaves behind: server and router live on, without anybody who
//! would restart them.
//!
//! The next `berth up` takes their place. Whoever is at work is found by asking the kernel who listens on the sockets
//! in the data directory; only roles that a supervisor started count, so one that a service manager runs is left alone.
//! The router's listening sockets are copied, and the new router itself takes over from the old one.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::{socket_acceptconn, socket_peercred};
use rustix::process::{
    ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitOptions, kill_process, pidfd_getfd, pidfd_open,
    test_kill_process, waitpid,
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::data_dir::DataDir;

/// In the arguments of every role that `berth up` starts.
pub(crate) const SUPERVISED: &str = "--supervised";

const END_TIMEOUT: Duration = Duration::from_secs(35);
const PAUSE: Duration = Duration::from_millis(10);
const ROUTER_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Orphans {
    server: Option<Pid>,
    router: Option<Pid>,
}

impl Orphans {
    /// To be called with the supervisor's lock: while another supervisor lives, its roles are no orphans.
    pub(crate) fn find(data_dir: &Path) -> Self {
        let find = |socket: &Path| listening_process(socket).filter(|&pid| is_supervised(pid));
        Self { server: find(&data_dir.join("run/api.sock")), router: find(&data_dir.join(wire::routes::ROUTER_SOCKET)) }
    }

    /// A copy of the router's socket that listens on exactly this address.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<TcpListener> {
        let router = self.router?;
        let process = pidfd_open(router, PidfdFlags::empty()).ok()?;
        let descriptors = fs::read_dir(format!("/proc/{}/fd", router.as_raw_nonzero())).ok()?;
        let numbers = descriptors.flatten().filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        });
        let sockets = numbers.filter_map(|entry| {
            let number: ForeignRawFd = entry.file_name().to_str()?.parse().ok()?;
            pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()
        });
        let mut listening = sockets.filter(is_listening).map(TcpListener::from);
        listening.find(|listener| listener.local_addr().is_ok_and(|bound| bound == address))
    }

    /// Ends the server as a service manager would: dynos stay alive.
    pub(crate) async fn end_server(&self, data_dir: &DataDir) -> Result<()> {
        if let Some(pid) = self.server {
            info!(pid = pid.as_raw_nonzero().get(), "Taking over from an earlier server");
            if let Err(error) = kill_process(pid, Signal::TERM) {
                warn!(%error, pid = pid.as_raw_nonzero().get(), "cannot end it");
            }
            let deadline = Instant::now() + END_TIMEOUT;
            while !has_ended(pid) {
                if Instant::now() > deadline {
                    bail!("an earlier server of {} does not end; kill it", data_dir.path.display());
                }
                sleep(PAUSE).await;
            }
        }
        drop(data_dir.lock().context("a server that `berth up` did not start is alive")?);
        Ok(())
    }

    /// Waits until the router has ended, which its successor sees to.
    pub(crate) async fn router_ended(&self) {
        while self.router.is_some_and(|pid| !has_ended(pid)) {
            sleep(ROUTER_PAUSE).await;
        }
    }

    pub(crate) fn kill_router(&self) {
        if let Some(pid) = self.router.filter(|&pid| !has_ended(pid)) {
            // It may end in this very moment.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
    }
}

/// Collects the exit status of one that is a child of this process, as after a replacement.
fn has_ended(pid: Pid) -> bool {
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(status) => status.is_some(),
        Err(_no_child) => test_kill_process(pid).is_err(),
    }
}

/// Who listens on a Unix socket, if anybody does. Asks the kernel, so nothing that listens needs to answer.
fn listening_process(socket: &Path) -> Option<Pid> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    socket_peercred(stream.as_fd()).ok().map(|peer| peer.pid)
}

fn is_supervised(pid: Pid) -> bool {
    let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    arguments.split(|&byte| byte == 0).any(|argument| argument == SUPERVISED.as_bytes())
}

fn is_listening(descriptor: &OwnedFd) -> bool {
    socket_acceptconn(descriptor).unwrap_or(false)
}
