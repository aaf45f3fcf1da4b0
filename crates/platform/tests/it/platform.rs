//! One platform for one test: `berth up` with a data directory, ports and a network of its own.

use std::fs::{self, OpenOptions};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use uuid::Uuid;

use crate::left_over::{self, Note};
use crate::turn::Turn;
use crate::wait::{PATIENCE, wait_for, wait_until, wait_within};

pub(crate) const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// Drain, grace period of the dynos, and the end of the server.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Tests ask again and again where people wait.
const NO_RATE_LIMIT: &str = "[api]\nrequests_per_hour = 0\n";

/// Limits that tests need not wait for. A test that is about one of them sets it itself.
const SHORT_LIMITS: &str = "exit_seconds = 5\ndrain_seconds = 10\n";

#[derive(Debug)]
pub(crate) struct TestPlatform {
    domain: String,
    pub(crate) http_port: u16,
    pub(crate) api_port: u16,
    pub(crate) https_port: u16,
    pub(crate) token: String,
    supervisor: Option<Child>,
    root: TempDir,
    disk: Option<PathBuf>,
    turn: Turn,
    /// Kept until everything else is gone.
    _note: Note,
}

impl TestPlatform {
    /// A platform that is up; `None` where the machine cannot have one, which skips the test.
    pub(crate) fn start() -> Option<Self> {
        Self::with_limits("")
    }

    /// With these lines in the section `[limits]` of its settings, and what follows them.
    pub(crate) fn with_limits(limits: &str) -> Option<Self> {
        Self::launch("localhost", limits, None)
    }

    /// For everybody, not for this machine alone: its apps are below a domain.
    pub(crate) fn below(domain: &str) -> Option<Self> {
        Self::below_with(domain, "")
    }

    /// The same with more settings, as in [`Self::with_limits`].
    pub(crate) fn below_with(domain: &str, limits: &str) -> Option<Self> {
        Self::launch(domain, limits, None)
    }

    /// With a file system of its own of this size as its data directory.
    pub(crate) fn on_a_small_disk(mebibytes: u32) -> Option<Self> {
        Self::launch("localhost", "", Some(mebibytes))
    }

    fn launch(domain: &str, limits: &str, disk_mebibytes: Option<u32>) -> Option<Self> {
        if skipped((!rustix::process::geteuid().is_root()).then_some("needs root")) {
            return None;
        }
        let turn = Turn::take();
        left_over::remove_what_killed_tests_left();
        let [http_port, api_port, https_port] = turn.ports();
        let root = tempfile::tempdir().unwrap();
        // Dynos run as other users, who must be able to pass through.
        fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let data = root.path().join("data");
        fs::create_dir(&data).unwrap();
        if let Some(size) = disk_mebibytes {
            let options = format!("size={size}m,mode=711");
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&data).status();
            assert!(mounted.unwrap().success());
        }
        let keep: String = SHORT_LIMITS
            .lines()
            .filter(|line| !limits.contains(line.split(' ').next().unwrap()))
            .collect::<Vec<_>>()
            .join("\n");
        let api = if limits.contains("[api]") { "" } else { NO_RATE_LIMIT };
        let settings = format!("{api}[network]\nrange = \"{}\"\n[limits]\n{keep}\n{limits}\n", turn.network());
        fs::write(data.join("settings.toml"), settings).unwrap();
        let instance = Uuid::new_v4().simple().to_string()[..8].to_owned();
        let note = Note::write(&instance, &data);
        fs::write(data.join("instance-id"), &instance).unwrap();
        let disk = disk_mebibytes.map(|_size| data);
        let mut platform = Self {
            domain: domain.to_owned(),
            http_port,
            api_port,
            https_port,
            token: String::new(),
            supervisor: None,
            root,
            disk,
            turn,
            _note: note,
        };
        platform.up();
        platform.token = platform.make_token();
        Some(platform)
    }

    /// The router without anybody who could tell it what to serve.
    pub(crate) fn start_router_alone(&self) -> Child {
        let starts = || self.log().matches("Serving from the stored route table").count();
        let before = starts();
        // A killed process has its sockets until the last of its threads is gone. One that cannot have them ends.
        wait_for("a router that listens", || {
            let mut router = self.command("router").spawn().unwrap();
            let mut has_ended = || router.try_wait().unwrap().is_some();
            wait_until("the router listens, or ends", || starts() > before || has_ended());
            (!has_ended()).then_some(router)
        })
    }

    fn command(&self, role: &str) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(BERTH);
        command
            .args([role, "--domain", &self.domain])
            .args(["--http-port", &self.http_port.to_string(), "--api-port", &self.api_port.to_string()])
            .args(["--https-port", &self.https_port.to_string()])
            .arg("--data-dir")
            .arg(self.data())
            .env("XDG_CONFIG_HOME", self.root.path().join("config"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    /// Starts `berth up` and waits until the API answers and the router is connected.
    pub(crate) fn up(&mut self) {
        self.up_with(&[]);
    }

    pub(crate) fn up_with(&mut self, options: &[&str]) {
        assert!(self.supervisor.is_none(), "the platform is up already");
        let ups = |platform: &Self| platform.log().matches("Berth is up.\n").count();
        let before = ups(self);
        let child = self.command("up").args(options).spawn().unwrap();
        self.supervisor = Some(child);
        wait_until("the platform is up", || {
            let ended = self.supervisor.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "`berth up` ended: {ended:?}");
            // Until the supervisor knows it too, the end of a role is the end of the start.
            self.is_connected() && ups(self) > before
        });
    }

    /// What a second `berth up` says while the first one lives.
    pub(crate) fn up_again(&self) -> String {
        let output = self.command("up").stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes every run directory one of another boot, as after a restart of the machine.
    pub(crate) fn change_boot_ids(&self) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let directories = fs::read_dir(self.data().join("run")).unwrap().map(|entry| entry.unwrap().path());
        let states: Vec<PathBuf> = directories.map(|dir| dir.join("state.json")).filter(|path| path.exists()).collect();
        assert!(!states.is_empty(), "nothing ran");
        for path in states {
            let state = fs::read_to_string(&path).unwrap();
            assert!(state.contains(boot.trim()));
            fs::write(&path, state.replace(boot.trim(), "another-boot")).unwrap();
        }
    }

    /// Ctrl-C, and again once a line has been logged for the app `shop`.
    pub(crate) fn interrupt_twice(&mut self, between: &str) -> ExitStatus {
        let mut child = self.supervisor.take().expect("the platform is up");
        kill(pid_of(&child), Signal::INT);
        self.logged("shop", between);
        kill(pid_of(&child), Signal::INT);
        wait_within("`berth up` ends", STOP_PATIENCE, || child.try_wait().unwrap())
    }

    /// Ctrl-C: requests finish, dynos stop, nothing stays.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        self.end(Signal::INT)
    }

    /// What a service manager does: the dynos stay.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.supervisor.take().expect("the platform is up");
        kill(pid_of(&child), signal);
        wait_within("`berth up` ends", STOP_PATIENCE, || child.try_wait().unwrap())
    }

    /// Kills every process of the platform and of its dynos at once, as a power cut does.
    pub(crate) fn pull_the_plug(&mut self) {
        let mut child = self.supervisor.take().expect("the platform is up");
        child.kill().unwrap();
        child.wait().unwrap();
        self.kill_all();
    }

    /// Kills `berth up` alone: server and router live on, and nobody restarts them.
    pub(crate) fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().expect("the platform is up");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn kill_all(&self) {
        let instance = self.instance();
        wait_until("all processes are dead", || {
            let mut pids = left_over::members(&instance);
            pids.extend(left_over::processes(&self.data()).into_iter().map(|(pid, _command)| pid));
            for &pid in &pids {
                kill(pid, Signal::KILL);
            }
            pids.is_empty()
        });
    }

    /// Has `berth up` become the executable that is on disk now.
    pub(crate) fn hang_up(&self) {
        kill(pid_of(self.supervisor.as_ref().expect("the platform is up")), Signal::HUP);
    }

    /// The process of a role: `server`, `router`, `shim`; the first of several.
    pub(crate) fn role(&self, role: &str) -> Option<i32> {
        self.all_of_role(role).first().copied()
    }

    pub(crate) fn all_of_role(&self, role: &str) -> Vec<i32> {
        let processes = left_over::processes(&self.data());
        let is_role = |command: &str| command.split(' ').nth(1) == Some(role);
        processes.into_iter().filter(|(_pid, command)| is_role(command)).map(|(pid, _command)| pid).collect()
    }

    pub(crate) fn kill_role(&self, role: &str) -> i32 {
        let pid = self.role(role).unwrap_or_else(|| panic!("no {role} runs"));
        kill(pid, Signal::KILL);
        pid
    }

    /// An address of the dynos' network that no dyno has.
    pub(crate) fn free_address(&self) -> IpAddr {
        self.turn.network().replace(".0.0", ".200.1").parse().unwrap()
    }

    /// Free ports for what belongs to the test.
    pub(crate) fn more_ports<const COUNT: usize>(&self) -> [u16; COUNT] {
        self.turn.ports()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A directory for the test's own files.
    pub(crate) fn scratch(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn instance(&self) -> String {
        fs::read_to_string(self.data().join("instance-id")).unwrap().trim().to_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.root.path().join("platform.log")
    }

    fn check_nothing_is_left(&self) {
        let (instance, data) = (self.instance(), self.data());
        let mut found = Vec::new();
        // The kernel takes a network apart when it has time for it.
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            found = left_over::find(&instance, &data);
            if found.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.remove_everything();
        panic!("left behind:\n{}\n\nthe platform's log:\n{}", found.join("\n"), self.log());
    }

    /// After a failure: the assertion is the message, but the machine must be clean for the next test.
    fn remove_everything(&self) {
        remove_everything(&self.data());
    }
}

/// Ends and removes all that a platform with this data directory has left on the machine.
pub(crate) fn remove_everything(data: &Path) {
    let Ok(instance) = fs::read_to_string(data.join("instance-id")) else { return };
    left_over::remove(instance.trim(), data);
}

impl Drop for TestPlatform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the platform's log:\n{}", self.log());
            if let Some(mut child) = self.supervisor.take() {
                child.kill().and_then(|()| child.wait()).ok();
            }
            self.remove_everything();
        } else {
            if self.supervisor.is_some() {
                let status = self.interrupt();
                if !status.success() {
                    self.remove_everything();
                    panic!("`berth up` ended with {status}\n{}", self.log());
                }
            }
            self.check_nothing_is_left();
        }
        if let Some(disk) = &self.disk {
            Command::new("umount").arg("--lazy").arg(disk).status().ok();
        }
    }
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    // It may have ended by itself.
    kill_process(Pid::from_raw(pid).unwrap(), signal).ok();
}

fn pid_of(child: &Child) -> i32 {
    child.id().cast_signed()
}

/// Says that the calling test is skipped, if there is a reason. With `CI=true` only the skips listed in
/// `tests/skips.txt` are allowed.
#[must_use]
pub(crate) fn skipped(reason: Option<&str>) -> bool {
    let Some(reason) = reason else { return false };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?").rsplit("::").next().unwrap_or("?").to_owned();
    println!("skipped: {test}: {reason}");
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/skips.txt");
        let listed = fs::read_to_string(list).unwrap_or_default();
        let known = listed.lines().any(|line| line.starts_with(&format!("{test}:")));
        assert!(known, "{test} was skipped but is not listed in tests/skips.txt: {reason}");
    }
    true
}
