//! Without root: everything works as far as it can, and what is reduced is said.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::http::Connection;
use crate::left_over;
use crate::platform::skipped;
use crate::turn::Turn;
use crate::wait::wait_until;

/// Nobody: a user without rights, on every machine.
const NOBODY: u32 = 65_534;

struct Unprivileged {
    root: tempfile::TempDir,
    berth: PathBuf,
    api_port: u16,
    http_port: u16,
    supervisor: Child,
    _turn: Turn,
}

impl Unprivileged {
    fn start() -> Self {
        let turn = Turn::take();
        let [http_port, api_port] = turn.ports();
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        // The one that was built may be in a directory that only root can enter.
        let berth = root.path().join("berth");
        fs::copy(env!("CARGO_BIN_EXE_berth"), &berth).unwrap();
        let log = fs::File::create(root.path().join("log")).unwrap();
        let supervisor = command(root.path(), &berth, api_port)
            .args(["up", "--http-port", &http_port.to_string(), "--api-port", &api_port.to_string()])
            .arg("--data-dir")
            .arg(root.path().join("data"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let platform = Self { root, berth, api_port, http_port, supervisor, _turn: turn };
        wait_until("the API answers", || platform.berth(&["apps"]).status.success());
        platform
    }

    fn berth(&self, arguments: &[&str]) -> Output {
        command(self.root.path(), &self.berth, self.api_port).args(arguments).output().unwrap()
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.berth(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.supervisor);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        wait_until("`berth up` ends", || self.supervisor.try_wait().unwrap().is_some());
        let data = self.root.path().join("data");
        wait_until("nothing is left", || left_over::processes(&data).is_empty());
        let run_directories =
            fs::read_dir(data.join("run")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
        assert_eq!(run_directories.count(), 0, "run directories are left");
    }
}

fn command(root: &Path, berth: &Path, api_port: u16) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups", "--"])
        .arg(berth)
        .env("HOME", root)
        .env("XDG_CONFIG_HOME", root.join("config"))
        .env("BERTH_HOST", format!("http://localhost:{api_port}"))
        .env_remove("BERTH_API_KEY")
        .current_dir(root)
        .stdin(Stdio::null());
    command
}

#[test]
fn without_root_apps_run_and_what_is_reduced_is_said() {
    let needs = (!rustix::process::geteuid().is_root()).then_some("needs root, to become somebody without rights");
    if skipped(needs) {
        return;
    }
    let platform = Unprivileged::start();
    let status = platform.must(&["status"]);
    assert!(status.contains("development"), "{status}");
    assert!(status.contains("no promise between apps"), "{status}");

    platform.must(&["create", "plain"]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/python-web");
    let copied = platform.root.path().join("source");
    fs::create_dir(&copied).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copied.join(entry.file_name())).unwrap();
    }
    platform.must(&["deploy", "source", "--app", "plain"]);
    let mut connection = Connection::open(platform.http_port).unwrap();
    let answer = connection.request("GET", "/", &[("Host", "plain.localhost")], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    // What the router says about clients is believed on its socket: apps must not come near, though they are the same
    // user here.
    let socket = platform.root.path().join("data/router/server.sock");
    assert!(socket.exists());
    let seen = platform.berth(&["run", "--app", "plain", "--", &format!("test -e {}", socket.display())]);
    assert_eq!(seen.status.code(), Some(1), "{seen:?}");

    let ran = platform.berth(&["run", "--app", "plain", "--", "exit 7"]);
    assert_eq!(ran.status.code(), Some(7));
    platform.stop();
}
