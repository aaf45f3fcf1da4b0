//! Processes of the machine, from `/proc`: who they are, what memory and CPU they use.

use std::fs;
use std::path::Path;

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its arguments, separated by spaces.
    pub(super) command: String,
}

impl Process {
    /// Whether it is `berth ROLE`.
    pub(super) fn is_role(&self, role: &str) -> bool {
        self.command.split(' ').nth(1) == Some(role)
    }
}

/// Processes whose arguments name this directory: the platform's roles, its shims and their inits.
pub(super) fn naming(directory: &Path) -> Vec<Process> {
    let needle = directory.display().to_string();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let processes = pids.filter_map(|pid| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some(Process { pid, command: String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ") })
    });
    processes.filter(|process| process.command.contains(&needle)).collect()
}

/// Processes in the dynos of the platform with this instance id.
pub(super) fn in_dynos(instance: &str) -> Vec<u32> {
    let mut pids = Vec::new();
    for tree in ["", "memory", "pids", "unified"] {
        let parent = Path::new("/sys/fs/cgroup").join(tree).join(format!("berth-{instance}"));
        for directory in fs::read_dir(parent).into_iter().flatten().flatten() {
            let text = fs::read_to_string(directory.path().join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Memory that is this process's alone, and its share of what it has in common with others, in MiB.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) private: f64,
    pub(super) proportional: f64,
}

/// Reads `smaps_rollup`; nothing for a process that is gone.
pub(super) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    Memory { private: field("Private_Clean:") + field("Private_Dirty:"), proportional: field("Pss:") }
}

/// CPU time that a process and the children it waited for have used, in seconds.
pub(super) fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything.
    let after = text.rsplit_once(')').map_or("", |(_name, rest)| rest);
    let ticks: f64 = after.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<f64>().ok()).sum();
    // Linux shows ticks of a hundredth of a second on every architecture.
    ticks / 100.0
}
