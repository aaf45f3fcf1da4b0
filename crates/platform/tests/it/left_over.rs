//! Everything on the machine that carries a platform's name. After its end there must be nothing.
//!
//! A test that is killed cannot see to that. So each keeps a [`Note`] of its platform, and the next one removes what
//! belongs to notes that nobody keeps any more: nothing else, and so never what another run beside this one, or a
//! platform that is no test's, has on the machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::platform::kill;

/// Says whose an instance is, as long as its test lives.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    lock: File,
}

impl Note {
    /// Written before anything on the machine carries the instance's name.
    pub(crate) fn write(instance: &str, data: &Path) -> Self {
        let dir = notes();
        fs::create_dir_all(&dir).unwrap();
        // Nobody must find it before it is locked.
        let (hidden, path) = (dir.join(format!(".{instance}")), dir.join(instance));
        let lock = File::create(&hidden).unwrap();
        lock.lock().unwrap();
        fs::write(&hidden, data.to_str().unwrap()).unwrap();
        fs::rename(&hidden, &path).unwrap();
        Self { path, lock }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
        self.lock.unlock().ok();
    }
}

fn notes() -> PathBuf {
    std::env::temp_dir().join("berth-end-to-end/instances")
}

/// Removes what tests have left that were killed, and says so.
pub(crate) fn remove_what_killed_tests_left() {
    for path in fs::read_dir(notes()).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Some(instance) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        // Another test may be about to remove the same.
        let Ok(note) = File::open(&path) else { continue };
        if note.try_lock().is_err() {
            continue;
        }
        let Ok(data) = fs::read_to_string(&path) else { continue };
        let data = Path::new(&data);
        println!("removing what a test that was killed has left:\n{}", find(instance, data).join("\n"));
        remove(instance, data);
        // The directory that the test made for itself.
        if let Some(root) = data.parent().filter(|root| root.starts_with(std::env::temp_dir())) {
            Command::new("umount").arg("--lazy").arg(data).output().ok();
            fs::remove_dir_all(root).ok();
        }
        fs::remove_file(&path).ok();
    }
}

/// Ends and removes all that a platform has on the machine.
pub(crate) fn remove(instance: &str, data: &Path) {
    for _round in 0..50 {
        let mut pids = members(instance);
        pids.extend(processes(data).into_iter().map(|(pid, _command)| pid));
        if pids.is_empty() {
            break;
        }
        pids.into_iter().for_each(|pid| kill(pid, Signal::KILL));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let cleaned = shim::client::clean_up(&data.join("run"), instance, &[], &[]);
    println!("cleaned up: {cleaned:?}, {:?}", shim::host::remove(instance));
}

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

#[test]
fn what_a_killed_test_left_is_removed_and_nothing_of_a_live_one() {
    if crate::platform::skipped((!rustix::process::geteuid().is_root()).then_some("needs root")) {
        return;
    }
    let has_table = |instance: &str| {
        let tables = Command::new("nft").args(["list", "tables"]).output().unwrap().stdout;
        String::from_utf8_lossy(&tables).contains(&format!("berth_{instance}"))
    };
    let add_table = |instance: &str| {
        let added = Command::new("nft").args(["add", "table", "inet", &format!("berth_{instance}")]).status();
        assert!(added.unwrap().success());
    };
    let number = std::process::id() & 0x00ff_ffff;
    let (killed, live) = (format!("a{number:07x}"), format!("b{number:07x}"));
    let killed_root = tempfile::tempdir().unwrap().keep();
    let live_root = tempfile::tempdir().unwrap();
    let note = Note::write(&live, &live_root.path().join("data"));
    add_table(&live);
    // A killed test drops nothing: its note stays, and its lock goes with its process.
    let left = Note::write(&killed, &killed_root.join("data"));
    let (path, lock) = (left.path.clone(), left.lock.try_clone().unwrap());
    std::mem::forget(left);
    lock.unlock().unwrap();
    add_table(&killed);
    remove_what_killed_tests_left();
    // A test that starts meanwhile may be at it already.
    let is_gone = || !has_table(&killed) && !path.exists() && !killed_root.exists();
    crate::wait::wait_until("everything of the killed test is gone", is_gone);
    assert!(has_table(&live) && note.path.exists());
    shim::host::remove(&live).unwrap();
    assert!(!has_table(&live));
}
