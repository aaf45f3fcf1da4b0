//! Starts one process the way the server does, and fails the test if anything of it is left over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shim::client::{self, Connection, LaunchError};
use tempfile::TempDir;
use uuid::Uuid;
use wire::segment::SegmentReader;
use wire::shim::{
    Environment, Exit, Identity, LOG_DIR, Limits, LogLimits, Mount, Network, PROTOCOL, Request, Response, Spec, State,
};

pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_berth-shim");
pub(crate) const UID: u32 = 412_345;
/// Nothing in these tests takes longer on an idle machine than a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One run directory and its process.
pub(crate) struct Dyno {
    pub(crate) spec: Spec,
    pub(crate) environment: Environment,
    root: TempDir,
}

impl Dyno {
    /// A shell that runs `script` in a sandbox with a network of its own and small limits.
    pub(crate) fn shell(script: &str) -> Self {
        Self::command(&["/bin/sh", "-c", script])
    }

    pub(crate) fn command(command: &[&str]) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Unique for this run on this machine: a test must not meet what another run left behind.
        let instance = format!("{:08x}", (std::process::id() << 8) ^ number ^ 0xe000_0000);
        let spec = Spec {
            protocol: PROTOCOL,
            instance,
            dyno: Uuid::new_v4(),
            name: "web.1".to_owned(),
            hostname: "dyno-host".to_owned(),
            command: command.iter().map(|&part| part.to_owned()).collect(),
            working_dir: PathBuf::from("/"),
            identity: Identity { uid: UID, gid: UID, user_name: "app".to_owned(), home: PathBuf::from("/app") },
            mounts: Vec::new(),
            limits: Limits {
                memory_bytes: Some(128 << 20),
                cpu_weight: 100,
                cpu_quota_percent: None,
                processes_max: 64,
                open_files_max: 1024,
                disk_bytes: None,
            },
            network: Network::Host { port: None },
            log: LogLimits::default(),
            stop_grace_ms: 30_000,
            deadline_ms: None,
            required: Vec::new(),
            attach: None,
        };
        let environment = Environment::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        Self { spec, environment, root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn mount(mut self, mount: Mount) -> Self {
        self.spec.mounts.push(mount);
        self
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.path().join(self.spec.dyno.to_string())
    }

    pub(crate) async fn launch(&self) -> Result<State, LaunchError> {
        client::launch(Path::new(EXE), &self.run_dir(), &self.spec, &self.environment).await
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::connect(&self.run_dir(), &self.spec.instance).await.unwrap()
    }

    pub(crate) async fn ask(&self, request: Request) -> Response {
        self.connect().await.request(&request).await.unwrap()
    }

    /// Waits for the exit record.
    pub(crate) async fn exit(&self) -> Exit {
        let path = self.run_dir().join(wire::shim::EXIT_FILE);
        eventually("the exit record", || wire::state_file::read::<Exit>(&path).unwrap()).await
    }

    /// Launches, waits for the end and gives the output with it.
    pub(crate) async fn run(&self) -> (Exit, Vec<String>) {
        self.launch().await.unwrap();
        let exit = self.exit().await;
        (exit, self.lines("out"))
    }

    /// The lines of one tag so far.
    pub(crate) fn lines(&self, tag: &str) -> Vec<String> {
        let mut reader = SegmentReader::new(&self.run_dir().join(LOG_DIR), 0);
        let mut lines = Vec::new();
        loop {
            let batch = reader.read().unwrap();
            if batch.records.is_empty() {
                return lines;
            }
            let wanted = batch.records.iter().filter(|record| record.tag == tag);
            lines.extend(wanted.map(|record| String::from_utf8_lossy(&record.text).into_owned()));
        }
    }

    /// Waits until a line contains `text`.
    pub(crate) async fn says(&self, text: &str) -> String {
        eventually(text, || self.lines("out").into_iter().find(|line| line.contains(text))).await
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let name = format!("berth-{}", self.spec.instance);
        ["", "memory", "cpu", "cpuacct", "pids", "unified"]
            .iter()
            .map(|tree| Path::new("/sys/fs/cgroup").join(tree).join(&name))
            .collect()
    }

    fn left_over(&self) -> Option<String> {
        for dir in self.cgroups().iter().map(|parent| parent.join(self.spec.dyno.to_string())) {
            if dir.exists() {
                return Some(format!("cgroup {}", dir.display()));
            }
        }
        if let Network::Isolated { host_interface, .. } = &self.spec.network
            && Path::new("/sys/class/net").join(host_interface).exists()
        {
            return Some(format!("interface {host_interface}"));
        }
        let run_dir = self.run_dir().display().to_string();
        if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&run_dir) {
            return Some("a mount".to_owned());
        }
        shim_processes(&run_dir).first().map(|pid| format!("process {pid}"))
    }
}

impl Drop for Dyno {
    fn drop(&mut self) {
        let run_dir = self.run_dir();
        if std::thread::panicking() {
            // The failed assertion is the message; only do not leave the process running.
            for pid in shim_processes(&run_dir.display().to_string()) {
                kill(pid);
            }
            if let Ok(Some(state)) = wire::state_file::read::<State>(&run_dir.join(wire::shim::STATE_FILE)) {
                kill(state.init.pid);
            }
            client::clean_up(self.root.path(), &self.spec.instance, &[], &[]).ok();
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(thing) = self.left_over() {
            assert!(Instant::now() < deadline, "left behind: {thing}");
            std::thread::sleep(Duration::from_millis(10));
        }
        for parent in self.cgroups() {
            drop(fs::remove_dir(parent));
        }
    }
}

/// Processes that were started with this run directory as an argument: shims, and inits that are forks of them.
pub(crate) fn shim_processes(run_dir: &str) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.split(|&byte| byte == 0).any(|argument| argument == run_dir.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}

pub(crate) fn kill(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).ok();
}

/// Whether a process is gone, or a zombie that PID 1 has not looked at yet.
pub(crate) fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Waits for a value, with a deadline.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Skips the calling test if `reason` says so. With `CI=true` only the skips listed in `tests/skips.txt` are allowed.
#[must_use]
pub(crate) fn skip(test: &str, reason: Option<&str>) -> bool {
    let Some(reason) = reason else { return false };
    println!("skipped: {test}: {reason}");
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/skips.txt");
        let listed = fs::read_to_string(list).unwrap_or_default();
        let known = listed.lines().any(|line| line.starts_with(&format!("{test}:")));
        assert!(known, "{test} was skipped but is not listed in tests/skips.txt: {reason}");
    }
    true
}

pub(crate) fn needs_root() -> Option<&'static str> {
    (!rustix::process::geteuid().is_root()).then_some("needs root")
}
