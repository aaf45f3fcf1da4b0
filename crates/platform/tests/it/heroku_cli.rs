//! The real `heroku` command line client, unmodified, with a home of its own, against a platform of the test's own.
//!
//! Installed once from npm into the build directory, without its install scripts; later runs need no network.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::platform::{TestPlatform, skipped};
use crate::wait::{wait_for, wait_until, wait_within};

/// An RSA key in plain JavaScript takes tens of seconds on a machine that has other work.
const LONG_PATIENCE: Duration = Duration::from_secs(300);

/// What a command of the client's left.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    /// Standard output, without a last line break.
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn both(&self) -> String {
        format!("{}\n{}", self.out, self.err)
    }

    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> &Self {
        assert!(self.both().contains(text), "no {text:?} in:\n{}", self.both());
        self
    }

    /// The same for a text that the client broke into lines of its own.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        let words = self.words();
        assert!(words.contains(text), "no {text:?} in:\n{words}");
        self
    }

    /// What was said, without the client's own line breaks.
    pub(crate) fn words(&self) -> String {
        self.both().replace('›', " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.both()))
    }
}

/// Whether the calling test cannot have the client.
pub(crate) fn no_heroku_cli() -> bool {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    if skipped((!has("node") || !has("npm")).then_some("needs node and npm")) {
        return true;
    }
    installed();
    false
}

impl TestPlatform {
    /// A platform for the client; `None` skips the test.
    pub(crate) fn for_heroku() -> Option<Self> {
        Self::for_heroku_with("")
    }

    /// The same with these lines in the section `[limits]` of its settings.
    pub(crate) fn for_heroku_with(limits: &str) -> Option<Self> {
        if no_heroku_cli() { None } else { Self::with_limits(limits) }
    }

    /// The client, ready to run with these arguments, its environment as our own command would set it.
    pub(crate) fn heroku_command(&self, arguments: &[&str]) -> Command {
        let home = self.scratch().join("home");
        fs::create_dir_all(&home).unwrap();
        let host = format!("http://localhost:{}", self.api_port);
        let mut command = Command::new(installed());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &home)
            .env("TERM", "xterm")
            .env("HEROKU_HOST", &host)
            .env("HEROKU_API_KEY", &self.token)
            .env("HEROKU_PARTICLEBOARD_URL", &host)
            .env("HEROKU_STATUS_HOST", &host)
            .env("HEROKU_LOGIN_HOST", &host)
            .env("HEROKU_BUILDPACK_REGISTRY_URL", &host)
            .env("HEROKU_DATA_HOST", "localhost")
            .env("HEROKU_GIT_HOST", format!("localhost:{}", self.api_port))
            .env("HEROKU_SKIP_NEW_VERSION_CHECK", "true")
            .env("HEROKU_DISABLE_AUTOUPDATE", "1")
            .env("DISABLE_TELEMETRY", "true")
            .env("HEROKU_COLOR", "0")
            .env("NODE_EXTRA_CA_CERTS", self.data().join("ca/ca.pem"))
            .current_dir(&home)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn heroku_run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.heroku_command(arguments))
    }

    /// Runs a command line, split at its spaces, that must succeed.
    #[track_caller]
    pub(crate) fn heroku(&self, line: &str) -> Ran {
        let ran = self.heroku_run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "heroku {line}:\n{}", ran.both());
        ran
    }

    /// Runs a command line that must fail, and gives what it said.
    #[track_caller]
    pub(crate) fn heroku_fails(&self, line: &str) -> Ran {
        let ran = self.heroku_run(&line.split(' ').collect::<Vec<_>>());
        assert!(ran.code.is_some_and(|code| code != 0), "heroku {line}:\n{}", ran.both());
        ran
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The executable of the client, installed by whoever comes first.
pub(crate) fn installed() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/heroku-client");
        let installed = ran(Command::new(script).arg(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null()));
        assert_eq!(installed.code, Some(0), "cannot install the heroku client:\n{}", installed.both());
        installed.out.into()
    })
}

/// Runs a command that asks questions, on a terminal, and answers them: a word of each question, and the answer.
pub(crate) fn answered(command: &mut Command, answers: &[(&str, &str)]) -> Ran {
    let mut terminal = Terminal::start(command);
    let mut before = 0;
    for (question, answer) in answers {
        terminal.asks(question, before);
        before = terminal.text().len();
        terminal.types(&format!("{answer}\r"));
    }
    terminal.ends()
}

/// A command that goes on, and what it has printed so far.
pub(crate) struct Running {
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("The client said:\n{}", self.text());
        }
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), Arc::clone(&seen));
        collect(child.stderr.take().unwrap(), Arc::clone(&seen));
        Self { child, seen }
    }

    pub(crate) fn waits_for(&self, text: &str) {
        wait_until(&format!("{text:?} in the output of the client"), || self.text().contains(text));
    }

    /// The same for what the client does after it has made a key, by itself and slowly.
    pub(crate) fn waits_long_for(&self, text: &str) {
        wait_within(&format!("{text:?} in the output of the client"), LONG_PATIENCE, || {
            self.text().contains(text).then_some(())
        });
    }

    /// What was printed, without the sequences that colour it and move the cursor.
    pub(crate) fn text(&self) -> String {
        let bytes = self.seen.lock().unwrap().clone();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut parts = text.split("\x1b[");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
            plain.push_str(&part[end..]);
        }
        plain
    }

    /// Waits for its own end.
    pub(crate) fn ends(mut self) -> Ran {
        let status = wait_for("the client ends", || self.child.try_wait().unwrap());
        // Whoever collects what it printed shares it as long as there may be more.
        wait_until("what the client printed last", || Arc::strong_count(&self.seen) == 1);
        Ran { code: status.code(), out: self.text(), err: String::new() }
    }

    /// Ends it, and the client that it may have started, which would keep its ports.
    pub(crate) fn end(mut self) {
        // On a terminal it shares the group of the test, and its end is the client's, too.
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A command on a terminal of its own.
pub(crate) struct Terminal {
    running: Option<Running>,
    keyboard: File,
}

impl Terminal {
    pub(crate) fn start(command: &mut Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let screen = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).unwrap();
        command.stdin(screen.try_clone().unwrap()).stdout(screen.try_clone().unwrap()).stderr(screen);
        let child = command.spawn().unwrap();
        // The test's own copies of the terminal would keep its end from being seen.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let keyboard = File::from(keyboard);
        let seen = Arc::new(Mutex::new(Vec::new()));
        collect(keyboard.try_clone().unwrap(), Arc::clone(&seen));
        Self { running: Some(Running { child, seen }), keyboard }
    }

    pub(crate) fn waits_for(&self, text: &str) {
        self.running.as_ref().unwrap().waits_for(text);
    }

    pub(crate) fn waits_long_for(&self, text: &str) {
        self.running.as_ref().unwrap().waits_long_for(text);
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// As a window does that is dragged.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.keyboard, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let pid = self.running.as_ref().unwrap().child.id().cast_signed();
        // It is not the terminal's own session, which the kernel would tell.
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::WINCH)
            .unwrap();
    }

    pub(crate) fn text(&self) -> String {
        self.running.as_ref().unwrap().text()
    }

    /// Waits for a question behind what was seen before, and until nothing follows it for a moment: what is typed before
    /// the client reads is lost.
    fn asks(&self, question: &str, before: usize) {
        let mut last = (0, Instant::now());
        wait_until(&format!("the question {question:?}"), || {
            let text = self.text();
            if text.len() != last.0 {
                last = (text.len(), Instant::now());
            }
            let new = text.get(before..).unwrap_or("").to_lowercase();
            !new.is_empty() && new.contains(question) && last.1.elapsed() > Duration::from_millis(700)
        });
    }

    pub(crate) fn ends(mut self) -> Ran {
        self.running.take().unwrap().ends()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}

fn collect(mut from: impl Read + Send + 'static, seen: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // A terminal whose last user has left reads as an error.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            seen.lock().unwrap().extend(&buffer[..count]);
        }
    });
}
