//! The body of `berth shim --visit <run-dir>`: the helper of somebody who comes to a dyno that runs.
//!
//! ```text
//! server ──spawn──► helper (outside, waits)                 visitor (inside, as little as the app)
//!    Visit ─────────► opens namespaces, environment
//!                     clone3(INTO_CGROUP) ────────────────► joins, drops everything, opens a terminal or a connection
//!    ◄── Entered ◄──── what was opened, as descriptors ◄──── becomes the program
//!    Signal ────────► kill
//!    ◄── Ended ◄────── exit status
//! ```
//!
//! A process of its own for each visit: entering namespaces needs one thread, and a shim that was started by an older
//! release is no hindrance. The environment comes out of the memfd that the dyno's init holds.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, chdir, geteuid, kill_process_group, setsid, waitid,
};
use wire::frame;
use wire::shim::{Environment, STATE_FILE, State, Visit, VisitReply, VisitRequest};
use wire::state_file;

use crate::cgroup::Cgroups;
use crate::descriptor_passing;
use crate::error::{Doing as _, SetupError, display_chain};
use crate::process_ref;
use crate::sandbox::visitor::{self, Ends, Streams, Visitor};
use crate::sandbox::{self, Namespaces};
use crate::supervisor::{here, read_spec, take_stdin};
use crate::sys::{self, Side};

/// How long the visitor may take until it has begun: a slow name server, not a hang.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command that was hung up may take to end.
const HANGUP_GRACE: Duration = Duration::from_secs(10);

/// Serves the visit that comes over standard input, a socket. Call it before any thread is started.
pub fn run(run_dir: &Path) -> ExitCode {
    // Without the socket there is nobody to tell.
    let Ok(control) = take_stdin().map(UnixStream::from) else { return ExitCode::FAILURE };
    let served = start(run_dir, &control).and_then(|started| started.serve(&control));
    let Err(error) = served else { return ExitCode::SUCCESS };
    // The server has gone: then it does not wait for this either.
    drop(frame::write(&mut &control, &VisitReply::Refused { message: display_chain(&error) }));
    ExitCode::FAILURE
}

/// A visitor that has begun.
struct Started {
    pid: Pid,
    pidfd: OwnedFd,
}

fn start(run_dir: &Path, control: &UnixStream) -> Result<Started, SetupError> {
    chdir(run_dir).doing(|| format!("enter the run directory {}", run_dir.display()))?;
    setsid().doing(|| "start a session".to_owned())?;
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE] {
        sys::ignore_signal(signal);
    }
    let visit: Visit = frame::read(&mut &*control)
        .map_err(|error| SetupError::Refused(display_chain(&error)))?
        .ok_or_else(|| SetupError::Refused("nobody said what the visit is for".to_owned()))?;
    let spec = read_spec()?;
    let state: State = state_file::read(&here(STATE_FILE))
        .map_err(|error| SetupError::Refused(display_chain(&error)))?
        .ok_or_else(|| SetupError::Refused("the dyno has not started yet".to_owned()))?;
    let same_boot = process_ref::boot_id().is_ok_and(|boot_id| boot_id == state.boot_id);
    if !same_boot || process_ref::open(state.init).is_none() {
        return Err(SetupError::Refused("the dyno has ended".to_owned()));
    }
    let environment = environment(&state, &visit)?;
    let rooted = geteuid().is_root();
    let namespaces = Namespaces::open(&spec, &state, rooted)?;
    let cgroups = Cgroups::reopen(state.cgroups);
    let visitor = Visitor {
        spec: &spec,
        rooted,
        cgroups: &cgroups,
        namespaces: &namespaces,
        environment: &environment,
        visit: &visit,
        filters: visitor::filters(),
    };
    launch(&visitor, control)
}

fn launch(visitor: &Visitor<'_>, control: &UnixStream) -> Result<Started, SetupError> {
    let pair = || UnixStream::pair().doing(|| "make a socket pair".to_owned());
    let ((report, child_report), (passage, child_passage)) = (pair()?, pair()?);
    let (streams, mut given) = streams(visitor.visit)?;
    let target = visitor.cgroups.clone_target();
    visitor.namespaces.enter_for_children()?;
    let ends = Ends { report: child_report, passage: child_passage, streams };
    let cloned = sys::clone3(0, target.as_ref().map(OwnedFd::as_fd)).doing(|| "fork".to_owned())?;
    let (pid, pidfd) = match cloned {
        Side::Child => visitor::enter(visitor, &ends),
        Side::Parent(child) => child,
    };
    // Else the other sides of them would never end.
    drop(ends);
    let begun = begun(visitor.visit, &report, &passage).and_then(|made| {
        given.extend(made);
        let descriptors: Vec<BorrowedFd<'_>> = given.iter().map(|one| one.as_fd()).collect();
        let reply = frame::encode(&VisitReply::Entered).map_err(|error| SetupError::Refused(display_chain(&error)))?;
        descriptor_passing::send(control, &reply, &descriptors).doing(|| "tell the server".to_owned())
    });
    match begun {
        Ok(()) => Ok(Started { pid, pidfd }),
        Err(error) => {
            sandbox::kill_and_reap(&pidfd);
            Err(error)
        }
    }
}

/// The visitor's ends, and ours, of what can be made outside.
fn streams(visit: &Visit) -> Result<(Streams, Vec<OwnedFd>), SetupError> {
    match visit {
        Visit::Command { terminal: None, .. } => {
            let pipe = || pipe_with(PipeFlags::CLOEXEC).doing(|| "make a pipe".to_owned());
            let ((input, our_input), (our_output, output), (our_errors, errors)) = (pipe()?, pipe()?, pipe()?);
            Ok((Streams::Pipes([input, output, errors]), vec![our_input, our_output, our_errors]))
        }
        Visit::Files => {
            let (theirs, ours) = UnixStream::pair().doing(|| "make a socket pair".to_owned())?;
            Ok((Streams::Files(theirs), vec![ours.into()]))
        }
        Visit::Command { .. } | Visit::Connect { .. } => Ok((Streams::None, Vec::new())),
    }
}

/// Waits until the visitor has begun, and gives what it made inside.
fn begun(visit: &Visit, report: &UnixStream, passage: &UnixStream) -> Result<Option<OwnedFd>, SetupError> {
    report.set_read_timeout(Some(START_TIMEOUT)).doing(|| "set a time limit".to_owned())?;
    let mut said = String::new();
    io::Read::read_to_string(&mut &*report, &mut said)
        .doing(|| format!("begin within {} s", START_TIMEOUT.as_secs()))?;
    if !said.is_empty() {
        return Err(SetupError::Refused(said.trim_end().to_owned()));
    }
    let makes = matches!(visit, Visit::Command { terminal: Some(_), .. } | Visit::Connect { .. });
    makes.then(|| visitor::receive(passage)).transpose()
}

impl Started {
    /// Waits for the end, and passes on what the server sends meanwhile.
    fn serve(self, control: &UnixStream) -> Result<(), SetupError> {
        let mut kill_at: Option<Instant> = None;
        let mut hung_up = false;
        loop {
            let wait_ms = kill_at.map(|at| i64::try_from(at.saturating_duration_since(Instant::now()).as_millis()));
            let timeout = wait_ms.map(|ms| {
                let ms = ms.unwrap_or(i64::MAX);
                Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
            });
            let mut polled = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            if !hung_up {
                polled.push(PollFd::new(control, PollFlags::IN));
            }
            // Interrupted, it is as if the time had passed.
            poll(&mut polled, timeout.as_ref()).ok();
            let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            if ready.first() == Some(&true) {
                let status = self.reap();
                return frame::write(&mut &*control, &VisitReply::Ended { status })
                    .map_err(|error| SetupError::Refused(display_chain(&error)));
            }
            if ready.get(1) == Some(&true) {
                match frame::read(&mut &*control) {
                    Ok(Some(VisitRequest::Signal { signal })) => self.signal(signal),
                    Ok(None) | Err(_) => {
                        hung_up = true;
                        self.signal(libc::SIGHUP);
                        kill_at = Some(Instant::now() + HANGUP_GRACE);
                    }
                }
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                self.signal(libc::SIGKILL);
                kill_at = None;
            }
        }
    }

    /// To the visitor's process group, which it leads. It fails only if all of it has ended.
    fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            kill_process_group(self.pid, signal).ok();
        }
    }

    fn reap(&self) -> i32 {
        let waited = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
        let as_a_shell =
            |ended: WaitIdStatus| ended.terminating_signal().map(|signal| 128 + signal).or_else(|| ended.exit_status());
        waited.and_then(as_a_shell).unwrap_or(NO_STATUS)
    }
}

/// Where the end was not seen: never a success.
const NO_STATUS: i32 = 255;

/// The dyno's own environment with what the visit adds, for a program.
fn environment(state: &State, visit: &Visit) -> Result<Environment, SetupError> {
    let Visit::Command { environment: added, .. } = visit else { return Ok(Environment::new()) };
    let holders = [state.init.pid, state.shim.pid];
    let memfd = holders.into_iter().find_map(environment_memfd).ok_or_else(|| {
        SetupError::Refused("the dyno's environment is not known any more; restart it and try again".to_owned())
    })?;
    let mut environment = sandbox::read_environment(&memfd)?;
    environment.extend(added.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(environment)
}

/// The memfd that a launch handed over, in a process that keeps it.
fn environment_memfd(pid: i32) -> Option<OwnedFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let is_it = |path: &Path| {
        fs::read_link(path).is_ok_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"/memfd:environment"))
    };
    let path = entries.flatten().map(|entry| entry.path()).find(|path| is_it(path))?;
    File::open(path).ok().map(OwnedFd::from)
}
