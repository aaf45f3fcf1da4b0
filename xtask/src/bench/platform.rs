//! A platform for one benchmark: the release build, its own data directory and ports. Dropped, nothing of it stays.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::processes;
use crate::root;

/// Pause between two looks at a condition.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// Every dyno stops within its grace period, however many there are.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// A /16 that nobody is likely to use, and as many requests as a benchmark makes.
const SETTINGS: &str = "[network]\nrange = \"10.230.0.0\"\n[api]\nrequests_per_hour = 0\n";

#[derive(Debug)]
pub(super) struct Platform {
    berth: PathBuf,
    home: TempDir,
    pub(super) http_port: u16,
    pub(super) api_port: u16,
    supervisor: Option<Child>,
}

impl Platform {
    /// Builds `berth` if needed and starts it with an empty data directory.
    pub(super) fn start() -> Result<Self> {
        let berth = release_build()?;
        let home = tempfile::Builder::new().prefix("berth-bench-").tempdir().context("cannot make a directory")?;
        // Dynos run as other users, who must be able to pass through.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711))?;
        fs::create_dir(home.path().join("data"))?;
        fs::write(home.path().join("data/settings.toml"), SETTINGS)?;
        let (http_port, api_port) = (free_port()?, free_port()?);
        let mut platform = Self { berth, home, http_port, api_port, supervisor: None };
        platform.up()?;
        Ok(platform)
    }

    /// `berth up`, until the API answers.
    pub(super) fn up(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.scratch().join("platform.log"))?;
        let mut command = self.command(&self.berth);
        command
            .args(["up", "--http-port", &self.http_port.to_string(), "--api-port", &self.api_port.to_string()])
            .arg("--data-dir")
            .arg(self.data())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().context("cannot start berth")?;
        self.supervisor = Some(child);
        wait("the API answers", Duration::from_secs(60), || self.try_berth(&["apps"]).ok())?;
        Ok(())
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let directory = self.berth.parent().map(|path| path.display().to_string()).unwrap_or_default();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("XDG_CONFIG_HOME", self.scratch().join("config"))
            .env("BERTH_HOST", format!("http://localhost:{}", self.api_port))
            // Git asks for `berth git:credentials`.
            .env("PATH", format!("{directory}:{path}"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            // It would win over the certificate that the repository's own configuration names.
            .env_remove("GIT_SSL_CAINFO")
            .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|key| (key, "bench")))
            .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|key| (key, "bench@localhost")))
            .stdin(Stdio::null());
        command
    }

    /// A command that must succeed, in a directory; what it printed.
    pub(super) fn run(&self, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.prepared(directory, program, arguments).output()?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("{program} {}: {}\n{text}", arguments.join(" "), output.status);
        }
        Ok(text)
    }

    /// The same, to be run by the caller.
    pub(super) fn prepared(&self, directory: &Path, program: &str, arguments: &[&str]) -> Command {
        let mut command = if program == "berth" { self.command(&self.berth) } else { self.command(program) };
        command.args(arguments).current_dir(directory);
        command
    }

    pub(super) fn berth(&self, arguments: &[&str]) -> Result<String> {
        self.run(self.scratch(), "berth", arguments)
    }

    fn try_berth(&self, arguments: &[&str]) -> Result<String> {
        let output = self.prepared(self.scratch(), "berth", arguments).output()?;
        if !output.status.success() {
            bail!("not yet");
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One visit to an app, on a connection of its own.
    pub(super) fn page(&self, app: &str) -> io::Result<(u16, String)> {
        get(self.http_port, &format!("{app}.localhost"))
    }

    /// Waits until an app's page contains a text.
    pub(super) fn wait_for_page(&self, app: &str, text: &str, patience: Duration) -> Result<()> {
        wait(&format!("{app} shows {text:?}"), patience, || {
            self.page(app).ok().filter(|(status, page)| *status == 200 && page.contains(text))
        })?;
        Ok(())
    }

    pub(super) fn data(&self) -> PathBuf {
        self.scratch().join("data")
    }

    /// A directory for the benchmark's own files.
    pub(super) fn scratch(&self) -> &Path {
        self.home.path()
    }

    fn instance(&self) -> Result<String> {
        Ok(fs::read_to_string(self.data().join("instance-id"))?.trim().to_owned())
    }

    /// The process of a role that runs once.
    pub(super) fn role(&self, role: &str) -> Result<u32> {
        let process = processes::naming(&self.data()).into_iter().find(|process| process.is_role(role));
        Ok(process.with_context(|| format!("no {role} runs"))?.pid)
    }

    /// Kills every process of the platform and of its dynos, as a power cut does.
    pub(super) fn pull_the_plug(&mut self) -> Result<()> {
        let instance = self.instance()?;
        if let Some(mut child) = self.supervisor.take() {
            child.kill()?;
            child.wait()?;
        }
        wait("every process is dead", STOP_TIMEOUT, || {
            let mut pids = processes::in_dynos(&instance);
            pids.extend(processes::naming(&self.data()).into_iter().map(|process| process.pid));
            for &pid in &pids {
                signal(pid, "KILL");
            }
            pids.is_empty().then_some(())
        })
    }

    /// Ctrl-C: every dyno stops, and nothing stays.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.supervisor.take() else { return Ok(()) };
        signal(child.id(), "INT");
        let status = wait("`berth up` ends", STOP_TIMEOUT, || child.try_wait().ok().flatten());
        if status.is_err() {
            self.supervisor = Some(child);
        }
        let left = processes::naming(&self.data());
        if !status?.success() || !left.is_empty() {
            bail!("the platform left {} processes behind", left.len());
        }
        Ok(())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            println!("the platform did not stop in order: {error:#}");
            let killed = self.pull_the_plug();
            // The next start removes what killed dynos left: cgroups, interfaces, mounts.
            let cleaned = killed.and_then(|()| self.up()).and_then(|()| self.stop());
            if let Err(error) = cleaned {
                println!("something stays behind: {error:#}");
            }
        }
    }
}

/// One `GET /`; the whole answer as text.
pub(super) fn get(port: u16, host: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("not an HTTP answer"))?, text))
}

/// Looks until there is a value.
pub(super) fn wait<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("not within {} s: {what}", patience.as_secs());
        }
        sleep(POLL);
    }
}

pub(super) fn signal(pid: u32, name: &str) {
    // It may have ended by itself.
    drop(Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status());
}

/// A port that is free now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

pub(super) fn release_build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BERTH_BENCH") {
        return std::path::absolute(path).context("BERTH_BENCH is not a path");
    }
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--package", "platform"])
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release/berth"))
}
