//! The shim's protocol: the spec it is started with, the files it leaves in its run directory, and its control socket.
//!
//! A run directory `run/<dyno>/` holds
//!
//! | file | writer | meaning |
//! | --- | --- | --- |
//! | `spec.json` | server, before the launch | what to run; holds no config values |
//! | `state.json` | shim, once the process runs | pids with start times, what the sandbox enforces |
//! | `exit.json` | shim, before it cleans up | how it ended; its presence means that the dyno is over |
//! | `ctl.sock` | shim listens | [`Request`] and [`Response`] as frames |
//! | `attach.sock` | shim listens, until a client came | the standard streams of a process with [`Spec::attach`] |
//! | `log/` | shim | [`crate::segment`] files with the output of the process |
//! | `out.fifo`, `err.fifo` | process, shim | opened read-write, so that the process survives the death of its shim |
//!
//! The environment, which holds secrets, goes to the shim as JSON in an inherited memfd, never to a file or an argument.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Grows by one when an old peer could misunderstand a message. Fields may be added without that.
pub const PROTOCOL: u32 = 1;

pub const SPEC_FILE: &str = "spec.json";
pub const STATE_FILE: &str = "state.json";
pub const EXIT_FILE: &str = "exit.json";
pub const CONTROL_SOCKET: &str = "ctl.sock";
pub const LOG_DIR: &str = "log";
pub const ATTACH_SOCKET: &str = "attach.sock";

/// What the environment memfd contains.
pub type Environment = BTreeMap<String, String>;

/// Everything a shim needs to run one process, except its environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub protocol: u32,
    /// Eight hex digits that mark every host-global name (cgroup, veth, nft table) of this installation.
    pub instance: String,
    pub dyno: Uuid,
    /// As in logs: `web.1`, `run.4821`, `release.12`, `build`.
    pub name: String,
    pub hostname: String,
    /// Argument vector. A Procfile line becomes `["/bin/sh", "-c", line]` (with profile scripts sourced before it).
    pub command: Vec<String>,
    /// Inside the sandbox.
    pub working_dir: PathBuf,
    pub identity: Identity,
    /// In order. The host's userland (`/usr`, a generated minimal `/etc`, `/dev`, `/proc`) is always there, read-only.
    pub mounts: Vec<Mount>,
    pub limits: Limits,
    pub network: Network,
    pub log: LogLimits,
    /// Time from SIGTERM to SIGKILL when a stop names none.
    pub stop_grace_ms: u64,
    /// The shim kills the process after this time (builds, release phases, one-offs).
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// What must be enforced, else the launch fails. Everything else is enforced where possible and recorded.
    #[serde(default)]
    pub required: Vec<Mechanism>,
    /// Its standard streams are for a client, not for the log.
    #[serde(default)]
    pub attach: Option<Attach>,
}

/// How a client meets the process's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Pipes without one.
    #[serde(default)]
    pub terminal: Option<Terminal>,
    /// The process is killed (`R13`) if nobody has attached within this time.
    pub wait_ms: u64,
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    pub rows: u16,
    pub columns: u16,
}

/// The user that the process runs as. Without root the shim maps it onto the calling user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The name in the generated `/etc/passwd`.
    pub user_name: String,
    /// The home directory in it; `HOME` itself comes with the environment.
    pub home: PathBuf,
}

/// One mount inside the sandbox. Missing mount points are made; targets are absolute and may not contain `..`.
///
/// Files on disk belong to whoever wrote them for the platform. The mount is *idmapped* so that this owner appears as
/// the sandbox's uid, and what the sandbox writes belongs to that owner outside. Where idmapping is not possible
/// (kernel, file system, no root) the shim falls back to a plain bind and records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mount {
    ReadOnly {
        source: PathBuf,
        target: PathBuf,
    },
    /// Writable, idmapped: the sandbox's uid writes as the owner of `source`.
    Writable {
        source: PathBuf,
        target: PathBuf,
    },
    /// `lower` read-only below a private writable layer on disk in the run directory; gone with the dyno.
    Overlay {
        lower: PathBuf,
        target: PathBuf,
    },
    /// An empty private writable directory on disk in the run directory; gone with the dyno.
    Scratch {
        target: PathBuf,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The kernel's limit in bytes (twice the quota of the dyno size).
    pub memory_bytes: Option<u64>,
    /// cgroup v2's scale, 1 to 10,000; converted for v1.
    pub cpu_weight: u16,
    /// Hundredths of one core.
    #[serde(default)]
    pub cpu_quota_percent: Option<u32>,
    pub processes_max: u32,
    pub open_files_max: u32,
    /// Bytes that writable layers and scratch directories may hold, together, before the dyno is stopped.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Network {
    /// A network namespace of its own with one routed address, `<address>/32`, and a default route to `gateway`.
    Isolated {
        address: Ipv4Addr,
        gateway: Ipv4Addr,
        /// The host's end of the veth pair, at most 15 bytes: unique per instance and address.
        host_interface: String,
        nameservers: Vec<Ipv4Addr>,
    },
    /// The host's network; only `port` may be bound where Landlock can say so.
    Host { port: Option<u16> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLimits {
    pub segment_bytes: u64,
    pub segments_max: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { segment_bytes: 8 * 1024 * 1024, segments_max: 3 }
    }
}

/// A piece of isolation that can be in force or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    CgroupV1,
    CgroupV2,
    MemoryLimit,
    CpuLimit,
    ProcessLimit,
    NetworkNamespace,
    MountNamespace,
    PidNamespace,
    UserNamespace,
    /// A uid of the app's own, shared with no other app.
    OwnUid,
    Seccomp,
    Landlock,
    IdmappedMounts,
    NoNewPrivileges,
}

/// `state.json`: written once the process runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub protocol: u32,
    pub boot_id: String,
    pub shim: ProcessRef,
    /// PID 1 of the sandbox as the host sees it.
    pub init: ProcessRef,
    pub launched_at_unix_ms: u64,
    /// On `CLOCK_MONOTONIC`, just before init was cloned: from here on it is the sandbox that takes time.
    #[serde(default)]
    pub cloned_at_monotonic_ns: Option<u64>,
    pub in_force: Vec<Mechanism>,
    /// cgroup directories of the process, one per controller on v1, for recovery and removal.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
}

/// A pid that cannot be confused with a later process of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    pub start_ticks: u64,
}

/// `exit.json`, and the last event on the control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub protocol: u32,
    pub reason: ExitReason,
    /// The process's exit code, if it exited; 128 + signal if a signal ended it, as a shell counts.
    pub status: Option<i32>,
    pub ended_at_unix_ms: u64,
    #[serde(default)]
    pub out_of_memory_kills: u64,
    #[serde(default)]
    pub cpu_us: u64,
    #[serde(default)]
    pub memory_peak_bytes: u64,
    /// Sequence number of the last log record, so that a reader knows when it has them all.
    pub last_log_sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    Exited,
    Signalled,
    /// The kernel killed it at the memory limit.
    OutOfMemory,
    /// Ended within the grace period after a stop.
    Stopped,
    /// Did not end within the grace period and was killed (`R12`).
    StopTimedOut,
    Killed,
    DeadlinePassed,
    /// Wrote more to its ephemeral disk than it may.
    DiskFull,
    /// The launch failed inside the sandbox: the command cannot be executed.
    NotStarted,
    /// The shim was lost and its successor could not learn how the process ended. Never a success.
    Unknown,
}

/// The line that `berth shim` prints on stdout once the process runs, or could not be started. Then it closes stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LaunchReply {
    Running { state: State },
    Failed { message: String },
}

/// From the server to the shim. One [`Response`] follows each, in order; [`Response::Exited`] may come at any time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// First on every connection.
    Hello {
        protocol: u32,
        instance: String,
    },
    State,
    Statistics,
    /// Every TCP socket that listens inside the sandbox's network.
    Listening,
    /// To every process in the sandbox.
    Signal {
        signal: i32,
    },
    /// SIGTERM to every process, SIGKILL after the grace period. Idempotent; a later one can only shorten the grace.
    Stop {
        grace_ms: u64,
    },
    Kill,
    /// Gives the terminal of an attached process another size.
    Resize {
        terminal: Terminal,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Response {
    Hello {
        protocol: u32,
        instance: String,
        dyno: Uuid,
    },
    State {
        state: State,
    },
    Statistics {
        statistics: Statistics,
    },
    Listening {
        addresses: Vec<SocketAddr>,
    },
    Done,
    Refused {
        message: String,
    },
    /// Not an answer: the process is over, `exit.json` is written, the shim is about to leave.
    Exited {
        exit: Exit,
    },
}

/// What somebody who comes to a running dyno wants there: the first message to a helper that enters its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Visit {
    /// Runs a program beside the app's, with the dyno's environment and `environment` laid over it.
    Command {
        command: Vec<String>,
        environment: Environment,
        /// Three pipes without one.
        #[serde(default)]
        terminal: Option<Terminal>,
    },
    /// Connects to a TCP port as the app would.
    Connect { host: String, port: u16 },
    /// Reads and writes files as the app would, by the SFTP protocol.
    Files,
}

/// What the helper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VisitReply {
    /// The descriptors of what runs now come with it: a terminal, or input, output and errors, or one stream.
    Entered,
    Refused {
        message: String,
    },
    /// As a shell counts: the exit code, or 128 + signal.
    Ended {
        status: i32,
    },
}

/// What can be told to the helper of a command that runs. To end the connection hangs the command up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VisitRequest {
    /// To the command's process group.
    Signal { signal: i32 },
}

/// Resource use of one dyno now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Statistics {
    pub cpu_us: u64,
    /// Anonymous + shared + swap: what counts against the quota.
    pub memory_bytes: u64,
    /// Page cache, not counted.
    pub memory_cache_bytes: u64,
    pub memory_swap_bytes: u64,
    pub memory_peak_bytes: u64,
    pub out_of_memory_kills: u64,
    pub processes: u64,
    pub disk_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the first release must parse for ever: do not edit the golden file, add another.
    #[test]
    fn released_messages_still_parse() {
        let spec: Spec = serde_json::from_str(include_str!("../testdata/shim-spec-1.json")).unwrap();
        assert_eq!(spec.name, "web.1");
        assert_eq!(spec.mounts.len(), 4);
        let state: State = serde_json::from_str(include_str!("../testdata/shim-state-1.json")).unwrap();
        assert_eq!(state.init.pid, 4243);
        let exit: Exit = serde_json::from_str(include_str!("../testdata/shim-exit-1.json")).unwrap();
        assert_eq!(exit.reason, ExitReason::StopTimedOut);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let request: Request = serde_json::from_str(r#"{"kind":"stop","grace_ms":5,"later":true}"#).unwrap();
        assert_eq!(request, Request::Stop { grace_ms: 5 });
    }
}
