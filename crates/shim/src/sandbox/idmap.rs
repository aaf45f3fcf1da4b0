//! User namespaces: one that maps ids of a mount, and the maps of the sandbox itself where there is no root.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use rustix::process::{Signal, WaitOptions, getegid, geteuid, kill_process, pidfd_send_signal, waitpid};

use crate::error::{Doing as _, SetupError};
use crate::sys::{self, Side};

/// Makes a namespace for `MOUNT_ATTR_IDMAP` in which files of `owner` on disk belong to `seen_as` in the mount.
///
/// A namespace exists only as long as something refers to it, so a helper process lives until it has been opened.
pub(super) fn mount_map(owner: (u32, u32), seen_as: (u32, u32)) -> Result<OwnedFd, SetupError> {
    let (pid, pidfd) = match sys::clone3(libc::CLONE_NEWUSER, None).doing(|| "make a user namespace".to_owned())? {
        Side::Child => loop {
            // Holds the namespace until it is killed; with the shim gone nobody would.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
            rustix::event::pause();
        },
        Side::Parent(child) => child,
    };
    let raw = pid.as_raw_nonzero().get();
    let result = write_map(raw, "uid_map", owner.0, seen_as.0)
        .and_then(|()| write_map(raw, "gid_map", owner.1, seen_as.1))
        .and_then(|()| File::open(format!("/proc/{raw}/ns/user")).doing(|| "open a user namespace".to_owned()));
    if pidfd_send_signal(&pidfd, Signal::KILL).is_err() {
        kill_process(pid, Signal::KILL).ok();
    }
    waitpid(Some(pid), WaitOptions::empty()).doing(|| "wait for a helper process".to_owned())?;
    result.map(OwnedFd::from)
}

/// Lets `uid` and `gid` of the sandbox be the calling user, the only one that it may map without root.
pub(super) fn map_to_caller(pid: i32, uid: u32, gid: u32) -> Result<(), SetupError> {
    // Without this the kernel refuses a map of groups: dropping a group can widen rights.
    fs::write(format!("/proc/{pid}/setgroups"), "deny").doing(|| "deny setgroups".to_owned())?;
    write_map(pid, "uid_map", uid, geteuid().as_raw())?;
    write_map(pid, "gid_map", gid, getegid().as_raw())
}

fn write_map(pid: i32, file: &str, inside: u32, outside: u32) -> Result<(), SetupError> {
    fs::write(format!("/proc/{pid}/{file}"), format!("{inside} {outside} 1\n")).doing(|| format!("write {file}"))
}
