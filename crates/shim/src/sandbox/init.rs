//! PID 1 of the sandbox: finishes the set-up from the inside, starts the app, forwards signals and reaps.
//!
//! PID 1 has no default actions: an app in its place would ignore SIGTERM unless it handles it, and collect zombies.
//! Init ends with the app and takes everything else in the namespace with it; after a forwarded SIGTERM it waits until
//! the last process has left by itself, because the app is often a shell that dies first.

use std::ffi::{CString, c_int};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::io::{ioctl_fionread, pwrite};
use rustix::process::{Pid, WaitOptions, chdir, setsid, wait};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::sethostname;
use wire::shim::{Environment, Mechanism, Network};

use super::{Descriptors, Plan, Reporter, Standard, landlock, network, privileges, root, terminal};
use crate::error::{Doing as _, SetupError};
use crate::sys::{self, Side};

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What init exits with if there is no status to pass on: as a shell does where a command cannot be executed.
const NOT_STARTED: c_int = 126;
/// Pauses between two looks whether output has been read: a shim that lives reads it at once, a successor may take long.
const OUTPUT_PAUSE_MIN: Duration = Duration::from_millis(1);
const OUTPUT_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Body of the child of `clone3`.
pub(super) fn enter(plan: &Plan<'_>, channel: UnixStream, descriptors: Descriptors, terminals: UnixStream) -> ! {
    let mut reporter = Reporter { channel: File::from(OwnedFd::from(channel)) };
    // A panic must not unwind into the code of the shim, of which this is a copy.
    let code = catch_unwind(AssertUnwindSafe(|| match run(plan, &mut reporter, &descriptors, &terminals) {
        Ok(code) => code,
        Err(error) => {
            reporter.failed(&error);
            NOT_STARTED
        }
    }));
    sys::exit_now(code.unwrap_or(NOT_STARTED))
}

fn run(
    plan: &Plan<'_>,
    reporter: &mut Reporter,
    descriptors: &Descriptors,
    terminals: &UnixStream,
) -> Result<c_int, SetupError> {
    let spec = plan.spec;
    if !plan.rooted {
        await_shim(reporter, b'm')?;
    }
    let mut keep = vec![
        reporter.channel.as_raw_fd(),
        terminals.as_raw_fd(),
        descriptors.environment.as_raw_fd(),
        descriptors.null.as_raw_fd(),
        descriptors.stdout.as_raw_fd(),
        descriptors.stderr.as_raw_fd(),
        descriptors.status.as_raw_fd(),
    ];
    if let Standard::Pipes { input, output } = &descriptors.standard {
        keep.extend([input.as_raw_fd(), output.as_raw_fd()]);
    }
    plan.cgroups.join()?;
    let new_root = root::build(plan, reporter)?;
    sethostname(spec.hostname.as_bytes()).doing(|| "set the host name".to_owned())?;
    await_shim(reporter, b'g')?;
    // From here on /proc/self/cgroup shows the process at the root of its cgroups.
    sys::unshare_cgroup().doing(|| "make a cgroup namespace".to_owned())?;
    if let Network::Isolated { address, gateway, .. } = &spec.network {
        network::wire_inside(*address, *gateway).doing(|| "set up the network inside the sandbox".to_owned())?;
    }
    new_root.seal()?;
    privileges::limit(spec)?;
    privileges::drop_all(spec, plan.rooted)?;
    sys::close_all_but(&keep).doing(|| "close inherited descriptors".to_owned())?;
    if let Network::Host { port } = spec.network
        && landlock::restrict(port).map_err(|error| SetupError::Refused(format!("cannot apply Landlock: {error}")))?
    {
        reporter.in_force(Mechanism::Landlock);
    }
    if let Some(filters) = &plan.filters {
        filters.apply()?;
        reporter.in_force(Mechanism::Seccomp);
    }
    sys::block_signals().doing(|| "block signals".to_owned())?;
    reporter.in_force(Mechanism::NoNewPrivileges);
    let app = match sys::fork().doing(|| "fork".to_owned())? {
        Side::Child => {
            let Err(error) = exec(plan, descriptors, terminals);
            reporter.failed(&error);
            sys::exit_now(NOT_STARTED)
        }
        Side::Parent(app) => app,
    };
    // Else whoever launched the shim would wait for the end of its pipes as long as the dyno lives.
    let null = &descriptors.null;
    let closed = dup2_stdin(null).and_then(|()| dup2_stdout(null)).and_then(|()| dup2_stderr(null));
    closed.doing(|| "let go of the standard streams".to_owned())?;
    let keep = [
        descriptors.status.as_raw_fd(),
        descriptors.stdout.as_raw_fd(),
        descriptors.stderr.as_raw_fd(),
        // For visitors, also when the shim has been lost. The app cannot look into this process.
        descriptors.environment.as_raw_fd(),
    ];
    sys::close_all_but(&keep).doing(|| "close inherited descriptors".to_owned())?;
    let status = reap(app);
    // Read only by a shim that is not the parent; the exit code below tells the other one nearly as much.
    pwrite(&descriptors.status, &status.to_ne_bytes(), 0).ok();
    outlast_output([&descriptors.stdout, &descriptors.stderr]);
    Ok(if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) })
}

/// Waits for one byte from the shim. If the shim has gone, so must this process.
fn await_shim(reporter: &mut Reporter, expected: u8) -> Result<(), SetupError> {
    let mut byte = [0];
    reporter.channel.read_exact(&mut byte).doing(|| "read from the shim".to_owned())?;
    if byte == [expected] { Ok(()) } else { Err(SetupError::Refused("the shim is out of step".to_owned())) }
}

/// Becomes the app.
fn exec(
    plan: &Plan<'_>,
    descriptors: &Descriptors,
    terminals: &UnixStream,
) -> Result<std::convert::Infallible, SetupError> {
    let spec = plan.spec;
    setsid().doing(|| "start a session".to_owned())?;
    match &descriptors.standard {
        Standard::Log => set_standard(&descriptors.null, &descriptors.stdout, &descriptors.stderr)?,
        Standard::Pipes { input, output } => set_standard(input, output, output)?,
        Standard::Terminal(size) => {
            let own = terminal::open(*size, terminals).doing(|| "make a terminal".to_owned())?;
            set_standard(&own, &own, &own)?;
        }
    }
    become_program(&spec.working_dir, &spec.command, &read_environment(&descriptors.environment)?)
}

/// Replaces this process by the program, with a clean signal state.
pub(super) fn become_program(
    working_dir: &Path,
    command: &[String],
    environment: &Environment,
) -> Result<std::convert::Infallible, SetupError> {
    chdir(working_dir).doing(|| format!("enter {}", working_dir.display()))?;
    let program = command.first().map(String::as_str).unwrap_or_default();
    let arguments = command.iter().map(|text| c_string(text)).collect::<Result<Vec<_>, _>>()?;
    let variables =
        environment.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect::<Result<Vec<_>, _>>()?;
    sys::reset_signals().doing(|| "reset signals".to_owned())?;
    let path = environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for candidate in candidates(program, path) {
        let error = sys::execve(&c_string(&candidate)?, &arguments, &variables);
        // As a shell: a file that may not be executed is the better message than one that is not there.
        if error.kind() != io::ErrorKind::NotFound {
            failure = error;
        }
    }
    Err(SetupError::System { doing: format!("execute {program}"), source: failure })
}

pub(super) fn set_standard(input: &OwnedFd, output: &OwnedFd, error: &OwnedFd) -> Result<(), SetupError> {
    dup2_stdin(input).doing(|| "set standard input".to_owned())?;
    dup2_stdout(output).doing(|| "set standard output".to_owned())?;
    dup2_stderr(error).doing(|| "set standard error".to_owned())
}

fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{program}")).collect()
}

pub(crate) fn read_environment(memfd: &OwnedFd) -> Result<Environment, SetupError> {
    let read = || {
        let mut file = File::from(memfd.try_clone()?);
        file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = read().doing(|| "read the environment".to_owned())?;
    // The error of the parser could quote a secret.
    serde_json::from_slice(&bytes).map_err(|_error| SetupError::Refused("the environment is not JSON".to_owned()))
}

fn c_string(text: &str) -> Result<CString, SetupError> {
    CString::new(text)
        .map_err(|_error| SetupError::Refused("a command or an environment variable contains a zero byte".to_owned()))
}

/// Serves as PID 1 until the app, or after SIGTERM everything, has ended. Gives the app's wait status.
fn reap(app: Pid) -> c_int {
    let mut app_status = None;
    let mut stopping = false;
    loop {
        let Ok(signal) = sys::wait_for_signal() else { continue };
        if signal.number != libc::SIGCHLD {
            // A signal from inside is meant for an ordinary PID 1, which would ignore it.
            if signal.from_outside {
                stopping |= signal.number == libc::SIGTERM;
                sys::signal_everyone(signal.number);
            }
            continue;
        }
        let none_left = loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == app => app_status = Some(status.as_raw()),
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        match app_status {
            Some(status) if none_left || !stopping => return status,
            // Cannot happen: the app is our child until it is reaped.
            None if none_left => return NOT_STARTED << 8,
            _ => {}
        }
    }
}

/// Waits until a shim has read everything. A FIFO that nobody holds open forgets what is in it, and the shim may have
/// been killed: then this process keeps the last words of the app for its successor.
fn outlast_output(fifos: [&OwnedFd; 2]) {
    let waits = || fifos.iter().any(|fifo| ioctl_fionread(fifo).is_ok_and(|bytes| bytes > 0));
    if !waits() {
        return;
    }
    // As the kernel would at the end of PID 1. What still writes would keep this process for ever.
    sys::signal_everyone(libc::SIGKILL);
    while wait(WaitOptions::empty()).is_ok() {}
    let mut pause = OUTPUT_PAUSE_MIN;
    while waits() {
        thread::sleep(pause);
        pause = (pause * 2).min(OUTPUT_PAUSE_MAX);
    }
}
