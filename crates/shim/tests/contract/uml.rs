//! The same tests on cgroup v2, in a virtual machine: user-mode Linux, whose root file system is this machine's, read-only.
//!
//! Continuous integration often has version 1 and users have version 2. The kernel comes as a package
//! (`user-mode-linux`), needs no virtualisation and boots in a few seconds. Programs start slowly in it, so only tests
//! that touch control groups or the kernel's guards run there.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{needs_root, skip};

const KERNEL: &str = "/usr/bin/linux.uml";
/// Many times what it takes on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);

const TESTS: [&str; 23] = [
    "endings::a_command_that_cannot_be_executed_is_named",
    "endings::a_deadline_ends_the_process",
    "endings::a_fork_bomb_is_contained",
    "endings::a_full_ephemeral_disk_ends_the_process",
    "endings::a_launch_that_cannot_enforce_what_is_required_fails_and_leaves_nothing",
    "endings::a_stop_lets_a_process_finish",
    "endings::a_stop_waits_for_the_children_of_a_shell_that_dies_first",
    "endings::a_tree_that_ignores_sigterm_is_killed_after_its_grace",
    "endings::exit_codes_and_signals_are_told_apart",
    "endings::running_out_of_memory_is_reported_as_such",
    "endings::what_is_in_force_is_told",
    "isolation::nothing_gets_out_of_a_sandbox_with_a_network_of_its_own",
    "limits::a_busy_process_gets_no_more_than_its_share",
    "limits::statistics_tell_what_a_process_uses",
    "limits::what_the_machine_offers_is_in_force",
    "logs::two_streams_and_the_shim_have_their_own_tags",
    "mounts::a_link_in_a_slug_cannot_move_a_mount_out_of_the_sandbox",
    "mounts::read_only_means_read_only_also_for_the_mapped_owner",
    "recovery::a_killed_shim_is_replaced_without_the_process_noticing",
    "recovery::a_second_shim_is_refused_while_the_first_serves",
    "recovery::an_end_that_no_shim_saw_is_still_known",
    "recovery::only_the_shim_itself_is_left_to_pid_1",
    "recovery::the_last_words_of_a_process_without_a_shim_are_kept",
];

/// What the virtual machine runs as PID 1. It cannot pass an exit code out, so what it prints is the result.
fn script(tests: &Path) -> String {
    format!(
        r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run/tmp
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /run; mkdir /run/tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Modules there; modprobe is often not installed, and finit_module is one system call (313).
cd /usr/lib/uml/modules/$(uname -r)/kernel
python3 -c 'import ctypes, os, sys
for name in sys.argv[1:]: assert ctypes.CDLL(None).syscall(313, os.open(name, os.O_RDONLY), b"", 0) == 0' \
    fs/overlayfs/overlay.ko drivers/net/veth.ko
{tests} --color never --exact --show-output --test-threads=1 {names} 2>&1
echo; echo left: $(ls -d /sys/fs/cgroup/berth-* /run/tmp/* 2>/dev/null); echo the end
echo o > /proc/sysrq-trigger; sleep 100
"#,
        tests = tests.display(),
        names = TESTS.join(" "),
    )
}

#[test]
fn cgroup_v2_limits_isolates_and_recovers() {
    let missing = (!Path::new(KERNEL).exists()).then_some("user-mode-linux is not installed");
    if skip("cgroup_v2_limits_isolates_and_recovers", needs_root().or(missing)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let init = dir.path().join("init");
    fs::write(&init, script(&std::env::current_exe().unwrap())).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let console = boot(&init, dir.path());

    assert!(console.contains("the end"), "the virtual machine did not come to its end:\n{console}");
    // Not test by test: messages of the kernel may stand in the middle of their lines.
    let passed = format!("test result: ok. {} passed; 0 failed", TESTS.len());
    assert!(console.contains(&passed), "not everything passed:\n{console}");
    assert!(!console.contains("skipped:"), "everything needed is there, and yet:\n{console}");
    assert!(console.lines().any(|line| line.trim_end() == "left:"), "something is left behind:\n{console}");
}

/// Builds the library without which the kernel's processes do not start on the newest processors.
fn register_library(dir: &Path) -> PathBuf {
    let library = dir.join("registers.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/uml_registers.c");
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(built.success(), "cc: {built}");
    library
}

/// Runs the virtual machine to its end and gives what it printed. Killed when it takes too long.
fn boot(init: &Path, dir: &Path) -> String {
    let console = dir.join("console");
    let mut kernel = Command::new(KERNEL)
        .args(["mem=768M", "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=fd:0,fd:1", "loglevel=1"])
        .arg(format!("init={}", init.display()))
        // Where it puts the file that is its memory, and its management socket.
        .env("TMPDIR", dir)
        .env("LD_PRELOAD", register_library(dir))
        .arg(format!("uml_dir={}", dir.display()))
        // End of file on the console would end it.
        .stdin(Stdio::from(File::open("/dev/zero").unwrap()))
        .stdout(File::create(&console).unwrap())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + BOOT_TIMEOUT;
    while kernel.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            // Its processes are processes here.
            let group = Pid::from_child(&kernel);
            kill_process_group(group, Signal::KILL).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut text = Vec::new();
    File::open(console).unwrap().read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).replace('\r', "")
}
