//! Everything on the machine that carries a platform's name. After its end there must be nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What exists of the platform with this instance id and this data directory.
pub(crate) fn find(instance: &str, data: &Path) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(processes(data).into_iter().map(|(pid, command)| format!("process {pid}: {command}")));
    found.extend(cgroups(instance).iter().map(|path| format!("cgroup {}", path.display())));
    let interfaces = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name());
    let interfaces = interfaces.filter_map(|name| name.into_string().ok());
    found.extend(
        interfaces.filter(|name| name.starts_with(&format!("b{instance}"))).map(|name| format!("interface {name}")),
    );
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap().stdout;
    let tables = String::from_utf8_lossy(&tables).into_owned();
    found.extend(tables.lines().filter(|line| line.contains(instance)).map(|line| format!("nft {line}")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = format!(" {}/", data.display());
    found.extend(mounts.lines().filter(|line| line.contains(&below)).map(|line| format!("mount {line}")));
    found
}

/// Processes that were started with this data directory: the platform's roles, its shims and their inits.
pub(crate) fn processes(data: &Path) -> Vec<(i32, String)> {
    let data = data.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let with_command = pids.map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " "))
    });
    with_command.filter(|(_pid, command)| command.contains(data)).collect()
}

/// Processes inside the dynos of this instance.
pub(crate) fn members(instance: &str) -> Vec<i32> {
    let files = cgroups(instance).into_iter().map(|path| path.join("cgroup.procs"));
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    let mut pids: Vec<i32> =
        texts.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The instance's directory in each cgroup tree, and those of its dynos.
fn cgroups(instance: &str) -> Vec<PathBuf> {
    let name = format!("berth-{instance}");
    let trees = ["", "memory", "cpu", "cpuacct", "pids", "unified"];
    let parents = trees.iter().map(|tree| Path::new("/sys/fs/cgroup").join(tree).join(&name));
    let mut found = Vec::new();
    for parent in parents.filter(|parent| parent.is_dir()) {
        let children = fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(children.filter(|path| path.is_dir()));
        found.push(parent);
    }
    found
}

/// The instance's processes with this command line.
pub(crate) fn running(instance: &str, command: &str) -> Vec<i32> {
    let line = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let is_wanted = |pid: &i32| String::from_utf8_lossy(&line(pid)).replace('\0', " ").trim() == command;
    members(instance).into_iter().filter(is_wanted).collect()
}
