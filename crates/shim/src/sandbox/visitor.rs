//! The inside of a visit: a process that joins a running sandbox, becomes as little as the app is, and does one thing.
//!
//! It is a child of a helper outside, in the process namespace of the sandbox: with PID 1 it ends, too.

use std::ffi::c_int;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{chdir, setsid, umask};
use wire::shim::{Environment, Network, Spec, Visit};

use super::init::{become_program, set_standard};
use super::namespaces::Namespaces;
use super::{landlock, privileges, seccomp, sftp, terminal};
use crate::cgroup::Cgroups;
use crate::descriptor_passing;
use crate::error::{Doing as _, SetupError, display_chain};
use crate::sys;

/// How long one address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ADDRESSES_MAX: usize = 3;
/// What a visitor exits with that could not do its thing: as a shell does where a command cannot be executed.
const NOT_STARTED: c_int = 126;

pub(crate) struct Visitor<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) rooted: bool,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) namespaces: &'a Namespaces,
    /// The dyno's own, with the visit's laid over it.
    pub(crate) environment: &'a Environment,
    pub(crate) visit: &'a Visit,
    pub(crate) filters: Option<seccomp::Filters>,
}

/// What the visitor gets from the helper.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Closed when all is well; else one line says what is not.
    pub(crate) report: UnixStream,
    /// Takes descriptors that are made inside.
    pub(crate) passage: UnixStream,
    pub(crate) streams: Streams,
}

#[derive(Debug)]
pub(crate) enum Streams {
    /// Made inside.
    None,
    Pipes([OwnedFd; 3]),
    Files(UnixStream),
}

/// Compiles what the visitor applies; `None` on a machine type for which there are no tables.
pub(crate) fn filters() -> Option<seccomp::Filters> {
    seccomp::compile()
}

/// Gets what the visitor made inside.
pub(crate) fn receive(passage: &UnixStream) -> Result<OwnedFd, SetupError> {
    terminal::receive(passage).doing(|| "get what was opened inside the dyno".to_owned())
}

/// Body of the child.
pub(crate) fn enter(visitor: &Visitor<'_>, ends: &Ends) -> ! {
    // A panic must not unwind into the code of the helper, of which this is a copy.
    let code = catch_unwind(AssertUnwindSafe(|| match run(visitor, ends) {
        Ok(()) => 0,
        Err(error) => {
            drop(writeln!(&ends.report, "{}", display_chain(&error).replace('\n', " ")));
            NOT_STARTED
        }
    }));
    sys::exit_now(code.unwrap_or(NOT_STARTED))
}

fn run(visitor: &Visitor<'_>, ends: &Ends) -> Result<(), SetupError> {
    let spec = visitor.spec;
    setsid().doing(|| "start a session".to_owned())?;
    umask(Mode::from_raw_mode(0o022));
    visitor.cgroups.join()?;
    privileges::limit(spec)?;
    visitor.namespaces.enter()?;
    privileges::drop_all(spec, visitor.rooted)?;
    let mut keep = vec![ends.report.as_raw_fd(), ends.passage.as_raw_fd()];
    match &ends.streams {
        Streams::None => {}
        Streams::Pipes(pipes) => keep.extend(pipes.iter().map(|pipe| pipe.as_raw_fd())),
        Streams::Files(stream) => keep.push(stream.as_raw_fd()),
    }
    sys::close_all_but(&keep).doing(|| "close inherited descriptors".to_owned())?;
    if let Network::Host { port } = spec.network {
        landlock::restrict(port).map_err(|error| SetupError::Refused(format!("cannot apply Landlock: {error}")))?;
    }
    if let Some(filters) = &visitor.filters {
        filters.apply()?;
    }
    match visitor.visit {
        Visit::Command { command, terminal, .. } => {
            match (&ends.streams, terminal) {
                (Streams::Pipes([input, output, errors]), _) => set_standard(input, output, errors)?,
                (_, Some(size)) => {
                    let own = terminal::open(*size, &ends.passage).doing(|| "make a terminal".to_owned())?;
                    set_standard(&own, &own, &own)?;
                }
                (_, None) => return Err(SetupError::Refused("a command needs a terminal or pipes".to_owned())),
            }
            become_program(&spec.working_dir, command, visitor.environment).map(|never| match never {})
        }
        Visit::Connect { host, port } => {
            let connected = connect(host, *port)?;
            descriptor_passing::send(&ends.passage, b"c", &[connected.as_fd()])
                .doing(|| "pass a connection on".to_owned())
        }
        Visit::Files => {
            let Streams::Files(stream) = &ends.streams else {
                return Err(SetupError::Refused("there is nobody to serve files to".to_owned()));
            };
            chdir(&spec.working_dir).doing(|| format!("enter {}", spec.working_dir.display()))?;
            ends.report.shutdown(Shutdown::Both).doing(|| "report".to_owned())?;
            sftp::serve(stream).doing(|| "serve files".to_owned())
        }
    }
}

/// Names are looked up as the app would.
fn connect(host: &str, port: u16) -> Result<TcpStream, SetupError> {
    let doing = || format!("connect to {host}:{port} from the dyno");
    let mut failure = None;
    for address in (host, port).to_socket_addrs().doing(doing)?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| std::io::ErrorKind::NotFound.into())).doing(doing)
}
