//! The control groups of one process: limits, accounting, and the certainty that nothing of it is left.
//!
//! Three worlds: *v2* (one tree), *v1* (a tree per controller; on a hybrid host also a v2 tree without controllers, which
//! is good for membership), and *none*. What a directory can do is told by the files in it, so a recovered shim
//! needs nothing but the paths that `state.json` holds.
//!
//! Names: `<base>/berth-<instance>/<dyno>`. The base is the root of a v1 tree; in v2 it is the root as well, or, where the
//! platform was itself started in a cgroup (a systemd unit with `Delegate=`), that cgroup, whose own processes then
//! live in its leaf `supervisor`, because v2 wants processes only in leaves.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use uuid::Uuid;
use wire::shim::{Limits, Mechanism, Statistics};

use crate::error::{Doing as _, SetupError};

pub(crate) mod hierarchy;

use hierarchy::{Hierarchy, Tree};

/// How long the removal of a cgroup waits for its last, already killed processes.
const REMOVE_ATTEMPTS: u32 = 400;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

const CPU_PERIOD_US: u64 = 100_000;

#[derive(Debug, Default, Clone)]
pub(crate) struct Cgroups {
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes the directories and sets the limits. What could be enforced is returned with them.
    pub(crate) fn create(instance: &str, dyno: Uuid, limits: &Limits) -> Result<(Self, Vec<Mechanism>), SetupError> {
        let hierarchy = Hierarchy::detect().doing(|| "find the cgroup file systems".to_owned())?;
        let mut cgroups = Self::default();
        let mut in_force = Vec::new();
        for tree in &hierarchy.trees {
            let parent = tree.base.join(instance_dir(instance));
            let dir = parent.join(dyno.to_string());
            match make(tree, &parent, &dir) {
                Ok(()) => cgroups.dirs.push(dir),
                // Without root there is often no tree to write to; the launch goes on and says what is missing.
                Err(error) if is_denied(&error) => {}
                Err(source) => {
                    cgroups.remove();
                    return Err(SetupError::System { doing: format!("make the cgroup {}", dir.display()), source });
                }
            }
        }
        if cgroups.find("pids.max").is_some()
            || cgroups.find("memory.max").is_some()
            || cgroups.find("cgroup.events").is_some()
        {
            let v1 = hierarchy.has_v1_controllers();
            in_force.push(if v1 { Mechanism::CgroupV1 } else { Mechanism::CgroupV2 });
        }
        match cgroups.limit(limits) {
            Ok(enforced) => in_force.extend(enforced),
            Err(error) => {
                cgroups.remove();
                return Err(error);
            }
        }
        Ok((cgroups, in_force))
    }

    /// Takes over what another shim made.
    pub(crate) const fn reopen(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The directory for `CLONE_INTO_CGROUP`, which avoids the wait of a `cgroup.procs` write and any race.
    pub(crate) fn clone_target(&self) -> Option<OwnedFd> {
        let dir = self.v2_dir()?;
        File::open(dir).ok().map(OwnedFd::from)
    }

    /// Moves the calling process, which has one thread, into all directories that `CLONE_INTO_CGROUP` does not cover.
    ///
    /// By `0` to `tasks` and not by a pid to `cgroup.procs`: only a thread that moves itself alone needs no lock over
    /// all processes of the machine. Taking that one waits for a grace period of RCU, which was half of a launch.
    pub(crate) fn join(&self) -> Result<(), SetupError> {
        let v2 = self.v2_dir();
        for dir in self.dirs.iter().filter(|dir| Some(dir.as_path()) != v2) {
            let path = dir.join("tasks");
            fs::write(&path, "0").doing(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Kills all members at once, where the kernel can (v2 from 5.14).
    pub(crate) fn kill(&self) {
        if let Some(path) = self.find("cgroup.kill") {
            // The caller kills PID 1 of the namespace as well; this is the faster of two ways.
            drop(fs::write(path, "1"));
        }
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = Statistics {
            cpu_us: self.cpu_us(),
            memory_peak_bytes: self
                .number("memory.peak")
                .or_else(|| self.number("memory.max_usage_in_bytes"))
                .unwrap_or_default(),
            out_of_memory_kills: self.out_of_memory_kills(),
            processes: self.number("pids.current").unwrap_or_default(),
            ..Statistics::default()
        };
        let Some(stat) = self.find("memory.stat").and_then(|path| fs::read_to_string(path).ok()) else {
            return statistics;
        };
        let field = |name| keyed(&stat, name);
        if let Some(anonymous) = field("anon") {
            let shared = field("shmem").unwrap_or_default();
            statistics.memory_swap_bytes = self.number("memory.swap.current").unwrap_or_default();
            statistics.memory_bytes = anonymous + shared + statistics.memory_swap_bytes;
            statistics.memory_cache_bytes = field("file").unwrap_or_default().saturating_sub(shared);
        } else {
            let shared = field("total_shmem").unwrap_or_default();
            statistics.memory_swap_bytes = field("total_swap").unwrap_or_default();
            statistics.memory_bytes = field("total_rss").unwrap_or_default() + shared + statistics.memory_swap_bytes;
            statistics.memory_cache_bytes = field("total_cache").unwrap_or_default().saturating_sub(shared);
        }
        statistics
    }

    /// Processes that the kernel killed at the memory limit.
    pub(crate) fn out_of_memory_kills(&self) -> u64 {
        ["memory.events", "memory.oom_control"]
            .iter()
            .find_map(|file| keyed(&fs::read_to_string(self.find(file)?).ok()?, "oom_kill"))
            .unwrap_or_default()
    }

    /// Removes the directories, waiting for killed processes to leave them. What cannot be removed is left to the
    /// next clean-up of this instance.
    pub(crate) fn remove(&self) {
        for dir in &self.dirs {
            remove_dir(dir);
        }
    }

    fn v2_dir(&self) -> Option<&Path> {
        self.dirs.iter().find(|dir| dir.join("cgroup.events").exists()).map(PathBuf::as_path)
    }

    fn cpu_us(&self) -> u64 {
        if let Some(nanoseconds) = self.number("cpuacct.usage") {
            return nanoseconds / 1000;
        }
        self.find("cpu.stat").and_then(|path| keyed(&fs::read_to_string(path).ok()?, "usage_usec")).unwrap_or_default()
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(file)).find(|path| path.exists())
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.find(file)?).ok()?.trim().parse().ok()
    }

    fn limit(&self, limits: &Limits) -> Result<Vec<Mechanism>, SetupError> {
        let mut enforced = Vec::new();
        if let Some(bytes) = limits.memory_bytes
            && (self.set("memory.max", bytes)? || self.set("memory.limit_in_bytes", bytes)?)
        {
            enforced.push(Mechanism::MemoryLimit);
        }
        let weight = limits.cpu_weight.clamp(1, 10_000);
        let mut cpu = self.set("cpu.weight", weight.into())? || self.set("cpu.shares", shares(weight))?;
        if let Some(percent) = limits.cpu_quota_percent {
            let quota_us = u64::from(percent.max(1)) * CPU_PERIOD_US / 100;
            cpu &= self.set_text("cpu.max", &format!("{quota_us} {CPU_PERIOD_US}"))?
                || self.set("cpu.cfs_quota_us", quota_us)?;
        }
        if cpu {
            enforced.push(Mechanism::CpuLimit);
        }
        if self.set("pids.max", limits.processes_max.into())? {
            enforced.push(Mechanism::ProcessLimit);
        }
        Ok(enforced)
    }

    fn set(&self, file: &str, value: u64) -> Result<bool, SetupError> {
        self.set_text(file, &value.to_string())
    }

    /// `false` where no directory has such a file.
    fn set_text(&self, file: &str, value: &str) -> Result<bool, SetupError> {
        let Some(path) = self.find(file) else { return Ok(false) };
        fs::write(&path, value).doing(|| format!("write {value} to {}", path.display()))?;
        Ok(true)
    }
}

/// Directories of dynos of this instance, in all trees.
pub(crate) fn dyno_dirs(instance: &str) -> io::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for tree in Hierarchy::detect()?.trees {
        let Ok(entries) = fs::read_dir(tree.base.join(instance_dir(instance))) else { continue };
        dirs.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    Ok(dirs)
}

/// Removes the directories that hold an instance's dynos, if they are empty.
pub(crate) fn remove_instance(instance: &str) -> io::Result<()> {
    for tree in Hierarchy::detect()?.trees {
        // It does not exist, or dynos are still in it: both leave it as it should be.
        drop(fs::remove_dir(tree.base.join(instance_dir(instance))));
    }
    Ok(())
}

/// Where the platform runs in a delegated v2 cgroup of its own, moves the calling process into the leaf
/// `supervisor`: only a cgroup without processes may pass controllers on to dynos below it.
pub(crate) fn enter_supervisor_leaf() -> io::Result<()> {
    for tree in Hierarchy::detect()?.trees.iter().filter(|tree| tree.is_delegated) {
        let leaf = tree.base.join(hierarchy::SUPERVISOR_LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Not delegated to this user after all: dynos then run without limits, which they report.
            Err(error) if is_denied(&error) => continue,
            result => result?,
        }
        fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())?;
    }
    Ok(())
}

/// Removes one cgroup directory; processes in it must have been killed.
pub(crate) fn remove_dir(dir: &Path) {
    for _attempt in 0..REMOVE_ATTEMPTS {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(REMOVE_PAUSE),
            _ => return,
        }
    }
}

/// Pids of the members of one directory.
pub(crate) fn members(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn instance_dir(instance: &str) -> String {
    format!("berth-{instance}")
}

fn make(tree: &Tree, parent: &Path, dir: &Path) -> io::Result<()> {
    for path in [parent, dir] {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A clean-up may remove the empty parent in between: once more from the start.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == dir => {
                fs::create_dir(parent)?;
                fs::create_dir(dir)?;
            }
            result => result?,
        }
    }
    if tree.is_v2 {
        tree.enable_controllers(parent);
    }
    Ok(())
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// v2's weight, 1 to 10,000 around 100, on v1's scale around 1024.
fn shares(weight: u16) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// The number behind `name` in a file of `name number` lines.
fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_proportions_on_v1() {
        assert_eq!((shares(100), shares(200), shares(1)), (1024, 2048, 10));
    }

    #[test]
    fn a_key_is_not_found_in_the_middle_of_another() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }
}
