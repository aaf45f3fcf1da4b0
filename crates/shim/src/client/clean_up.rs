//! Removes what dynos of this instance left behind that nobody knows any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use uuid::Uuid;

use crate::cgroup;
use crate::host::is_host_interface;
use crate::netlink::Netlink;

#[derive(Debug, Error)]
pub enum CleanUpError {
    #[error("cannot look for what dynos left behind in {path}")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove the network interface {name}")]
    Interface {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove the run directory {path}")]
    RunDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Removes cgroups (killing what is in them), interfaces and run directories of dynos that are not in `keep`.
///
/// Blocks while killed processes leave; `keep_interfaces` are the host interfaces of the dynos to keep.
pub fn clean_up(
    run_root: &Path,
    instance: &str,
    keep: &[Uuid],
    keep_interfaces: &[String],
) -> Result<(), CleanUpError> {
    let is_kept = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| Uuid::parse_str(name).ok());
        name.is_some_and(|dyno| keep.contains(&dyno))
    };
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| CleanUpError::Look { path, source }
    };
    for dir in cgroup::dyno_dirs(instance).map_err(at(Path::new("/sys/fs/cgroup")))? {
        if !is_kept(&dir) {
            for pid in cgroup::members(&dir).into_iter().filter_map(Pid::from_raw) {
                // It may have ended by itself.
                kill_process(pid, Signal::KILL).ok();
            }
            cgroup::remove_dir(&dir);
        }
    }
    if keep.is_empty() {
        cgroup::remove_instance(instance).map_err(at(Path::new("/sys/fs/cgroup")))?;
    }
    for entry in fs::read_dir("/sys/class/net").map_err(at(Path::new("/sys/class/net")))? {
        let name = entry.map_err(at(Path::new("/sys/class/net")))?.file_name().to_string_lossy().into_owned();
        if is_host_interface(instance, &name) && !keep_interfaces.contains(&name) {
            let delete = || Netlink::open()?.delete_link(&name);
            delete().map_err(|source| CleanUpError::Interface { name: name.clone(), source })?;
        }
    }
    for entry in fs::read_dir(run_root).map_err(at(run_root))? {
        let path = entry.map_err(at(run_root))?.path();
        let is_dyno = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| Uuid::parse_str(name).is_ok());
        if is_dyno && !is_kept(&path) {
            fs::remove_dir_all(&path).map_err(|source| CleanUpError::RunDir { path: path.clone(), source })?;
        }
    }
    Ok(())
}
