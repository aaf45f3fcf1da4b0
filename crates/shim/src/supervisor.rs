//! The body of `berth shim <run-dir>`: starts one process in a sandbox and stays with it until it has ended.
//!
//! One thread, no tokio, nothing of the environment of the server. The environment of the process comes as a memfd on
//! standard input; one [`LaunchReply`] goes to standard output, which is then closed.
//!
//! A shim that was killed is replaced by `berth shim --recover <run-dir>`: the process holds its FIFOs open itself and is
//! found by pid and start time, so it never notices.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs as files;
use rustix::process::{WaitOptions, chdir, geteuid, setsid, umask, waitpid};
use rustix::stdio::dup2_stdout;
use wire::shim::{ATTACH_SOCKET, EXIT_FILE, LaunchReply, Network, PROTOCOL, STATE_FILE, Spec, State};
use wire::state_file;

use crate::cgroup::Cgroups;
use crate::error::{Doing as _, SetupError, display_chain};
use crate::netlink::Netlink;
use crate::process_ref;
use crate::sandbox::{self, Descriptors, LAYERS_DIR, ROOT_DIR, Standard, Started};
use crate::sys::{self, Side};

mod attach;
mod budget;
mod control;
mod ending;
mod log;
mod pending;
mod run_dir;
mod watch;

use attach::{Attach, ProcessEnds, Streams};
use control::Control;
use ending::Ending;
use log::{FIFOS, LogPump};
use run_dir::{STATUS_FILE, lock, open_status, write_state};
use watch::Watch;

pub(crate) use attach::winsize;
pub(crate) use run_dir::{here, read_spec, take_stdin};

/// What a shim is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Start the process of a new run directory.
    Launch,
    /// Take over the process of a shim that was killed.
    Recover,
}

/// Runs a shim for `run_dir`. Returns at once in the process that was started, and in the shim itself, which has left
/// its caller's session, when the process is over. Call it before any thread is started.
pub fn run(run_dir: &Path, mode: Mode) -> ExitCode {
    match detach(run_dir) {
        Ok(Side::Parent(_)) => return ExitCode::SUCCESS,
        Ok(Side::Child) => {}
        Err(error) => return reply(&failed(&error)),
    }
    let watch = match mode {
        Mode::Launch => launch(),
        Mode::Recover => recover(),
    };
    match watch {
        Ok(watch) => {
            reply(&LaunchReply::Running { state: watch.state.clone() });
            sys::trim_heap();
            // Without an exit record the server takes the shim for lost, which is then the truth.
            watch.run().map_or(ExitCode::FAILURE, |_exit| ExitCode::SUCCESS)
        }
        Err(error) => reply(&failed(&error)),
    }
}

/// Makes the caller's copy independent: own session, no controlling terminal, the run directory as working directory.
fn detach(run_dir: &Path) -> Result<Side<()>, SetupError> {
    chdir(run_dir).doing(|| format!("enter the run directory {}", run_dir.display()))?;
    if let Side::Parent(middle) = sys::fork().doing(|| "fork".to_owned())? {
        // It forks and ends at once. Unreaped it would be a zombie that PID 1 inherits, and in a container PID 1 is
        // often a program that does not expect children. Its status means nothing: the shim itself replies.
        waitpid(Some(middle), WaitOptions::empty()).ok();
        return Ok(Side::Parent(()));
    }
    setsid().doing(|| "start a session".to_owned())?;
    // A session leader could get a controlling terminal by opening one.
    if let Side::Parent(_) = sys::fork().doing(|| "fork".to_owned())? {
        return Ok(Side::Parent(()));
    }
    umask(files::Mode::from_raw_mode(0o077));
    // Only the end of its process ends a shim. A machine that shuts down signals the process as well.
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        sys::ignore_signal(signal);
    }
    Ok(Side::Child)
}

fn launch() -> Result<Watch, SetupError> {
    let environment = take_stdin()?;
    lock()?;
    let spec = read_spec()?;
    let result = launch_spec(&spec, environment);
    if result.is_err() {
        // For whoever looks at the run directory later, after the reply is forgotten.
        drop(state_file::write(&here(EXIT_FILE), &watch::not_started(0)));
    }
    result
}

fn launch_spec(spec: &Spec, environment: OwnedFd) -> Result<Watch, SetupError> {
    let owner = geteuid().is_root().then_some((spec.identity.uid, spec.identity.gid));
    log::make_fifos(owner).doing(|| "make the FIFOs for the output".to_owned())?;
    let status = open_status()?;
    let control = Control::listen().doing(|| "listen on the control socket".to_owned())?;
    let log = LogPump::open(&spec.log).doing(|| "open the log".to_owned())?;
    let (cgroups, limited) = Cgroups::create(&spec.instance, spec.dyno, &spec.limits)?;
    let result = start(spec, environment, &status, &cgroups).and_then(|mut started| {
        started.in_force.extend(limited);
        started.in_force.sort_unstable();
        started.in_force.dedup();
        let state = record_state(spec, &started, &cgroups);
        if state.is_err() {
            sandbox::kill_and_reap(&started.pidfd);
        }
        Ok((state?, started.pidfd, started.attach))
    });
    match result {
        Ok((state, pidfd, attach)) => {
            Ok(Watch { spec: spec.clone(), state, pidfd, status, cgroups, log, control, ending: Ending::None, attach })
        }
        Err(error) => {
            clean_up(spec, &cgroups);
            Err(error)
        }
    }
}

/// What was started, and the way to its standard streams.
struct Launched {
    pid: rustix::process::Pid,
    pidfd: OwnedFd,
    in_force: Vec<wire::shim::Mechanism>,
    cloned_at_monotonic_ns: u64,
    attach: Option<Attach>,
}

fn start(spec: &Spec, environment: OwnedFd, status: &OwnedFd, cgroups: &Cgroups) -> Result<Launched, SetupError> {
    let [(out, _), (err, _)] = FIFOS;
    let open = |name| log::open_for_process(name).doing(|| format!("open {name}"));
    let (standard, pipes) = standard_streams(spec)?;
    // Held to the end, for visitors: where there is no root, nobody may look for it in init.
    std::mem::forget(environment.try_clone().doing(|| "keep the environment".to_owned())?);
    let descriptors = Descriptors {
        environment,
        null: File::open("/dev/null").doing(|| "open /dev/null".to_owned())?.into(),
        stdout: open(out)?,
        stderr: open(err)?,
        status: status.try_clone().doing(|| "duplicate a descriptor".to_owned())?,
        standard,
    };
    let Started { pid, pidfd, in_force, cloned_at_monotonic_ns, terminal } =
        sandbox::start(spec, cgroups, descriptors)?;
    let streams = terminal.map(|terminal| Streams::Terminal(File::from(terminal))).or(pipes);
    let listen = |(streams, attach): (Streams, wire::shim::Attach)| Attach::listen(streams, attach.wait_ms);
    let attach = streams.zip(spec.attach).map(listen).transpose().doing(|| "listen on the attach socket".to_owned());
    match attach {
        Ok(attach) => Ok(Launched { pid, pidfd, in_force, cloned_at_monotonic_ns, attach }),
        Err(error) => {
            sandbox::kill_and_reap(&pidfd);
            Err(error)
        }
    }
}

/// Where the standard streams of the process come from, and the shim's ends of pipes.
fn standard_streams(spec: &Spec) -> Result<(Standard, Option<Streams>), SetupError> {
    let Some(attach) = spec.attach else { return Ok((Standard::Log, None)) };
    if let Some(size) = attach.terminal {
        return Ok((Standard::Terminal(size), None));
    }
    let (streams, ProcessEnds { input, output }) = Streams::pipes().doing(|| "make pipes".to_owned())?;
    Ok((Standard::Pipes { input, output }, Some(streams)))
}

/// Writes `state.json`, or refuses a process that is less protected than its spec demands.
fn record_state(spec: &Spec, started: &Launched, cgroups: &Cgroups) -> Result<State, SetupError> {
    let missing: Vec<_> = spec.required.iter().filter(|mechanism| !started.in_force.contains(mechanism)).collect();
    if !missing.is_empty() {
        return Err(SetupError::Refused(format!("this machine cannot enforce what is required: {missing:?}")));
    }
    let reference = |pid| process_ref::reference(pid).doing(|| "read the start time of a process".to_owned());
    let state = State {
        protocol: PROTOCOL,
        boot_id: process_ref::boot_id().doing(|| "read the boot id".to_owned())?,
        shim: reference(rustix::process::getpid())?,
        init: reference(started.pid)?,
        launched_at_unix_ms: log::now_us() / 1000,
        cloned_at_monotonic_ns: Some(started.cloned_at_monotonic_ns),
        in_force: started.in_force.clone(),
        cgroups: cgroups.dirs().to_vec(),
    };
    write_state(&state)?;
    Ok(state)
}

fn recover() -> Result<Watch, SetupError> {
    drop(take_stdin()?);
    lock()?;
    let spec = read_spec()?;
    let state: State = state_file::read(&here(STATE_FILE))
        .map_err(|error| SetupError::Refused(display_chain(&error)))?
        .ok_or_else(|| SetupError::Refused("the process never ran: there is no state.json".to_owned()))?;
    if Path::new(EXIT_FILE).exists() {
        // Its shim may have been killed before it could clean up.
        clean_up(&spec, &Cgroups::reopen(state.cgroups));
        return Err(SetupError::Refused("the process has ended and its end is recorded".to_owned()));
    }
    let same_boot = process_ref::boot_id().is_ok_and(|boot_id| boot_id == state.boot_id);
    let pidfd = process_ref::open(state.init).filter(|_pidfd| same_boot);
    let cgroups = Cgroups::reopen(state.cgroups.clone());
    let status = open_status()?;
    let Some(pidfd) = pidfd else {
        record_missed_end(&spec, &cgroups, &status)?;
        return Err(SetupError::Refused("the process had ended before its shim could be replaced".to_owned()));
    };
    let control = Control::listen().doing(|| "listen on the control socket".to_owned())?;
    let log = LogPump::open(&spec.log).doing(|| "open the log".to_owned())?;
    let shim =
        process_ref::reference(rustix::process::getpid()).doing(|| "read the start time of a process".to_owned())?;
    let state = State { shim, ..state };
    write_state(&state)?;
    // The ends of a terminal or of pipes went with the shim that was lost: the process has been hung up.
    Ok(Watch { spec, state, pidfd, status, cgroups, log, control, ending: Ending::None, attach: None })
}

/// Records the end of a process that ended while it had no shim: its status as far as init could leave it.
fn record_missed_end(spec: &Spec, cgroups: &Cgroups, status: &OwnedFd) -> Result<(), SetupError> {
    let mut log = LogPump::open(&spec.log).doing(|| "open the log".to_owned())?;
    let exit = watch::exit_record(&mut log, cgroups, Ending::None, watch::read_status(status));
    state_file::write(&here(EXIT_FILE), &exit).map_err(|error| SetupError::Refused(display_chain(&error)))?;
    clean_up(spec, cgroups);
    Ok(())
}

/// Removes what a process leaves on the host. Its log and its records stay.
fn clean_up(spec: &Spec, cgroups: &Cgroups) {
    if let Network::Isolated { host_interface, .. } = &spec.network {
        // It goes with its namespace too, but later.
        drop(Netlink::open().and_then(|netlink| netlink.delete_link(host_interface)));
    }
    cgroups.kill();
    cgroups.remove();
    // What cannot be removed now goes with the run directory.
    drop(fs::remove_dir_all(LAYERS_DIR));
    drop(fs::remove_dir(ROOT_DIR));
    log::remove_fifos();
    drop(fs::remove_file(ATTACH_SOCKET));
    drop(fs::remove_file(STATUS_FILE));
}

/// The process's user as the host sees it.
fn outside_uid(spec: &Spec) -> u32 {
    let caller = geteuid();
    if caller.is_root() { spec.identity.uid } else { caller.as_raw() }
}

fn failed(error: &SetupError) -> LaunchReply {
    LaunchReply::Failed { message: display_chain(error) }
}

/// Prints the one line that the caller waits for, and lets go of its pipes.
fn reply(reply: &LaunchReply) -> ExitCode {
    let write = || -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        io::stdout().write_all(&line)?;
        io::stdout().flush()?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        dup2_stdout(null.as_fd())?;
        Ok(rustix::stdio::dup2_stderr(null.as_fd())?)
    };
    // Nobody waits any more: the shim goes on all the same, its state file tells what it does.
    let written = write();
    match reply {
        LaunchReply::Running { .. } => written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        LaunchReply::Failed { .. } => ExitCode::FAILURE,
    }
}
