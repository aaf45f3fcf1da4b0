//! What a `berth up` that was killed leaves behind: server and router live on, without anybody who would restart them.
//!
//! The next `berth up` takes their place. Whoever is at work is found by asking the kernel who listens on the sockets
//! in the data directory; only roles that a supervisor started count, so one that a service manager runs is left alone.
//! The router's listening sockets are taken over before it is told to end: connections wait, and none is refused.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::net::sockopt::{socket_acceptconn, socket_peercred};
use rustix::process::{
    ForeignRawFd, Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open, test_kill_process,
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::data_dir::DataDir;

/// In the arguments of every role that `berth up` starts.
pub(crate) const SUPERVISED: &str = "--supervised";

/// A router that is told to end lets requests finish for 30 s.
const END_TIMEOUT: Duration = Duration::from_secs(35);
const PAUSE: Duration = Duration::from_millis(10);

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

    /// Ends them as a service manager would: dynos stay alive, requests finish.
    pub(crate) async fn end(&self, data_dir: &DataDir) -> Result<()> {
        let all: Vec<Pid> = self.server.into_iter().chain(self.router).collect();
        for &pid in &all {
            info!(pid = pid.as_raw_nonzero().get(), "Taking over from a role whose supervisor was killed");
            if let Err(error) = kill_process(pid, Signal::TERM) {
                warn!(%error, pid = pid.as_raw_nonzero().get(), "cannot end it");
            }
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while all.iter().any(|&pid| test_kill_process(pid).is_ok()) {
            if Instant::now() > deadline {
                bail!("an earlier server or router of {} does not end; kill it", data_dir.path.display());
            }
            sleep(PAUSE).await;
        }
        drop(data_dir.lock().context("a server that `berth up` did not start is alive")?);
        Ok(())
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
