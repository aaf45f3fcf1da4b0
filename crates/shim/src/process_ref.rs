//! Pids that cannot be confused: a pid together with its start time, valid within one boot.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use wire::shim::ProcessRef;

/// Names `pid` so that a later process of the same number is not taken for it.
pub(crate) fn reference(pid: Pid) -> io::Result<ProcessRef> {
    let pid = pid.as_raw_nonzero().get();
    Ok(ProcessRef { pid, start_ticks: start_ticks(pid)? })
}

/// Opens the process if it is still the same one. A zombie counts: its exit can still be waited for.
pub(crate) fn open(process: ProcessRef) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
    // Compared after opening: the descriptor pins the process, so the answer stays true.
    (start_ticks(process.pid).ok()? == process.start_ticks).then_some(pidfd)
}

pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name, field 2, may hold spaces and parentheses: count from its last one.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in /proc/<pid>/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_by_its_start_time() {
        let own = reference(rustix::process::getpid()).unwrap();
        assert!(open(own).is_some());
        assert!(open(ProcessRef { start_ticks: own.start_ticks + 1, ..own }).is_none());
    }
}
