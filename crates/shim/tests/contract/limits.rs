//! Limits and accounting, on whichever version of cgroups the machine has.

use std::fs;
use std::path::Path;

use wire::shim::{Mechanism, Request, Response, State};

use crate::harness::{Dyno, eventually, needs_root, skip};

/// The controllers that this machine offers, told from the files themselves: the version, and whether all are there.
fn offered() -> Option<Mechanism> {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let all = |has: &dyn Fn(&str) -> bool| ["cpu", "memory", "pids"].into_iter().all(has);
    if all(&|name| v2.split_whitespace().any(|controller| controller == name)) {
        return Some(Mechanism::CgroupV2);
    }
    all(&|name| Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists()).then_some(Mechanism::CgroupV1)
}

fn needs_controllers() -> Option<&'static str> {
    needs_root().or_else(|| offered().is_none().then_some("this machine does not offer all cgroup controllers"))
}

/// A file of the process's cgroups.
fn read(state: &State, file: &str) -> Option<String> {
    state.cgroups.iter().find_map(|dir| fs::read_to_string(dir.join(file)).ok())
}

#[tokio::test]
async fn what_the_machine_offers_is_in_force() {
    if skip("what_the_machine_offers_is_in_force", needs_controllers()) {
        return;
    }
    let mut dyno = Dyno::shell("cat /proc/self/cgroup; exec sleep 1000");
    dyno.spec.limits.cpu_quota_percent = Some(150);
    let expected =
        [offered().unwrap(), Mechanism::MemoryLimit, Mechanism::CpuLimit, Mechanism::ProcessLimit, Mechanism::Seccomp];
    dyno.spec.required = expected.to_vec();
    let state = dyno.launch().await.unwrap();
    let number = |names: [&str; 2]| names.iter().find_map(|name| read(&state, name)).unwrap().trim().to_owned();
    assert_eq!(number(["memory.max", "memory.limit_in_bytes"]), (128 << 20).to_string());
    assert_eq!(number(["pids.max", "pids.max"]), "64");
    assert!(["150000 100000", "150000"].contains(&number(["cpu.max", "cpu.cfs_quota_us"]).as_str()));
    for dir in &state.cgroups {
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        assert!(members.lines().any(|pid| pid == state.init.pid.to_string()), "{} has {members:?}", dir.display());
        assert!(!members.lines().any(|pid| pid == state.shim.pid.to_string()), "the shim is a member");
    }
    // Its cgroups are the roots of what it sees: nothing of the host's tree is told.
    dyno.says(":/").await;
    let paths: Vec<String> = dyno.lines("out").iter().map(|line| line.rsplit(':').next().unwrap().to_owned()).collect();
    let told = paths.iter().filter(|path| path.contains("berth")).count();
    assert_eq!(told, 0, "{paths:?}");
    dyno.ask(Request::Kill).await;
    dyno.exit().await;
}

#[tokio::test]
async fn a_busy_process_gets_no_more_than_its_share() {
    if skip("a_busy_process_gets_no_more_than_its_share", needs_controllers()) {
        return;
    }
    let mut dyno = Dyno::shell("while :; do :; done");
    dyno.spec.limits.cpu_quota_percent = Some(20);
    let state = dyno.launch().await.unwrap();
    let throttled = || {
        let stat = read(&state, "cpu.stat")?;
        let count: u64 = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "))?.parse().unwrap();
        (count > 3).then_some(())
    };
    eventually("throttling", throttled).await;
    dyno.ask(Request::Kill).await;
    assert!(dyno.exit().await.cpu_us > 0);
}

#[tokio::test]
async fn statistics_tell_what_a_process_uses() {
    if skip("statistics_tell_what_a_process_uses", needs_controllers()) {
        return;
    }
    let script = "import time; held = b'x' * (40 << 20); print('ready', flush=True); time.sleep(1000)";
    let dyno = Dyno::command(&["/usr/bin/python3", "-c", script]);
    dyno.launch().await.unwrap();
    dyno.says("ready").await;
    let Response::Statistics { statistics } = dyno.ask(Request::Statistics).await else { panic!() };
    assert!((40 << 20..100 << 20).contains(&statistics.memory_bytes), "{statistics:?}");
    assert!(statistics.memory_peak_bytes >= statistics.memory_bytes, "{statistics:?}");
    assert_eq!(statistics.processes, 2, "{statistics:?}");
    assert!(statistics.cpu_us > 0, "{statistics:?}");
    dyno.ask(Request::Kill).await;
    assert!(dyno.exit().await.memory_peak_bytes >= 40 << 20);
}
