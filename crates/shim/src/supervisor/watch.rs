//! The shim's life: one loop over the process's output, its end, and what clients ask, until the process is over.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use wire::shim::{EXIT_FILE, Exit, ExitReason, Mount, Network, PROTOCOL, Request, Response, Spec, State, Statistics};
use wire::state_file::{self, StateFileError};

use super::attach::{Attach, Demand};
use super::control::Control;
use super::ending::{Action, Cause, Ending};
use super::log::{LogPump, now_us};
use crate::cgroup::Cgroups;
use crate::disk::allocated_bytes;
use crate::listening::listening;
use crate::sandbox::LAYERS_DIR;

/// Shortest time between two looks at the disk; a slow look makes it longer, to stay below 2 % of a processor.
const DISK_INTERVAL_MS: u64 = 2_000;
const DISK_PAUSE_FACTOR: u64 = 50;

/// A running process with everything that a shim holds of it.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) spec: Spec,
    pub(crate) state: State,
    pub(crate) pidfd: OwnedFd,
    pub(crate) status: OwnedFd,
    pub(crate) cgroups: Cgroups,
    pub(crate) log: LogPump,
    pub(crate) control: Control,
    pub(crate) ending: Ending,
    pub(crate) attach: Option<Attach>,
}

impl Watch {
    /// Serves until the process has ended, and records how.
    pub(crate) fn run(mut self) -> Result<Exit, StateFileError> {
        let clock = Instant::now();
        let now_ms = || u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut disk = Disk { bytes: 0, next_look_ms: 0 };
        let mut deadline_ms = self.deadline_in_ms();
        // Set when the process has ended: until then its last output may wait for its client.
        let mut delivery_ms: Option<u64> = None;
        loop {
            let now = now_ms();
            let action = self.ending.tick(now);
            self.act(action);
            if deadline_ms.is_some_and(|deadline| now >= deadline) {
                deadline_ms = None;
                let limit_s = self.spec.deadline_ms.unwrap_or_default() / 1000;
                self.log.say(&format!("Process exceeded its time limit of {limit_s} seconds"));
                let action = self.ending.terminate(Cause::Deadline, now, self.spec.stop_grace_ms);
                self.act(action);
            }
            if let Some(limit) = self.spec.limits.disk_bytes
                && now >= disk.next_look_ms
                && disk.look(now, &self.spec, &now_ms) > limit
            {
                let (used, limit) = (disk.bytes >> 20, limit >> 20);
                self.log.say(&format!("Ephemeral disk quota exceeded: {used} MiB of {limit} MiB used"));
                let action = self.ending.terminate(Cause::DiskFull, now, self.spec.stop_grace_ms);
                self.act(action);
                disk.next_look_ms = u64::MAX;
            }
            let disk_look_ms = self.spec.limits.disk_bytes.map(|_limit| disk.next_look_ms);
            let attach_ms = self.attach.as_ref().and_then(Attach::wake_ms);
            let wakes = [self.ending.kill_at_ms(), deadline_ms, disk_look_ms, attach_ms, delivery_ms];
            let wake_ms = wakes.into_iter().flatten().min();
            let ready = self.wait(wake_ms.map(|wake| wake.saturating_sub(now_ms())), delivery_ms.is_none());
            if ready.output {
                self.log.pump();
            }
            self.serve_attached(now_ms());
            if ready.ended && delivery_ms.is_none() {
                let now = now_ms();
                delivery_ms = Some(self.attach.as_ref().map_or(now, |attach| match self.ending {
                    Ending::None => attach.delivery_until_ms(now),
                    // Whoever stopped it does not wait for a client that has not come.
                    _asked if !attach.is_attached() => now,
                    _asked => attach.delivery_until_ms(now),
                }));
            }
            if let Some(until) = delivery_ms
                && (now_ms() >= until || self.attach.as_ref().is_none_or(Attach::is_delivered))
            {
                return self.finish();
            }
            if ready.clients {
                self.serve(now_ms(), disk.bytes);
            }
        }
    }

    /// Waits for anything to happen. What is ready is told in groups: each of them is cheap to look at whole.
    ///
    /// The end of a process that is not `alive` any more is no news.
    fn wait(&self, timeout_ms: Option<u64>, alive: bool) -> Ready {
        let output = self.log.descriptors().count();
        let end = if alive { PollFlags::IN } else { PollFlags::empty() };
        let clients: Vec<BorrowedFd<'_>> = self.control.descriptors().collect();
        let attached = self.attach.iter().flat_map(Attach::interests);
        let mut polled: Vec<PollFd<'_>> = self
            .log
            .descriptors()
            .map(|descriptor| (descriptor, PollFlags::IN))
            .chain(std::iter::once((self.pidfd.as_fd(), end)))
            .chain(clients.iter().map(|client| (*client, PollFlags::IN)))
            .chain(attached)
            .map(|(descriptor, flags)| PollFd::from_borrowed_fd(descriptor, flags))
            .collect();
        let timeout = timeout_ms.map(|milliseconds| {
            let milliseconds = i64::try_from(milliseconds.min(3_600_000)).unwrap_or_default();
            Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 }
        });
        // Interrupted, it is as if the time had passed.
        poll(&mut polled, timeout.as_ref()).ok();
        let any = |polled: &[PollFd<'_>]| polled.iter().any(|one| !one.revents().is_empty());
        Ready {
            output: any(polled.get(..output).unwrap_or_default()),
            ended: any(polled.get(output..=output).unwrap_or_default()),
            clients: any(polled.get(output + 1..=output + clients.len()).unwrap_or_default()),
        }
    }

    /// Moves bytes between the process and its client, and does what follows from it.
    fn serve_attached(&mut self, now_ms: u64) {
        let Some(attach) = &mut self.attach else { return };
        match attach.serve(now_ms) {
            Demand::Nothing => {}
            Demand::HangUp => {
                self.log.say("Client connection closed. Sending SIGHUP to all processes");
                // It fails only if init has ended already.
                pidfd_send_signal(&self.pidfd, Signal::HUP).ok();
            }
            Demand::Detached => self.log.say(
                "Error R16 (Detached) -> An attached process is not responding to SIGHUP after its external \
                 connection was closed.",
            ),
            Demand::NeverAttached => {
                self.log.say("Error R13 (Attach error) -> Failed to attach to process");
                let action = self.ending.kill();
                self.act(action);
            }
        }
    }

    fn serve(&mut self, now_ms: u64, disk_bytes: u64) {
        self.control.accept();
        let Self { spec, state, pidfd, cgroups, log, control, ending, attach, .. } = self;
        control.serve(|request| {
            let mut act = |action| perform(action, pidfd, cgroups, log);
            match request {
                Request::Hello { instance, .. } if instance != spec.instance => {
                    Response::Refused { message: format!("this dyno belongs to instance {}", spec.instance) }
                }
                Request::Hello { .. } => {
                    Response::Hello { protocol: PROTOCOL, instance: spec.instance.clone(), dyno: spec.dyno }
                }
                Request::State => Response::State { state: state.clone() },
                Request::Statistics => {
                    Response::Statistics { statistics: Statistics { disk_bytes, ..cgroups.statistics() } }
                }
                Request::Listening => {
                    let shared = matches!(spec.network, Network::Host { .. });
                    let uid = shared.then_some(super::outside_uid(spec));
                    Response::Listening { addresses: listening(state.init.pid, uid) }
                }
                Request::Signal { signal: libc::SIGKILL } | Request::Kill => {
                    act(ending.kill());
                    Response::Done
                }
                Request::Signal { signal } => send_signal(pidfd, signal),
                Request::Stop { grace_ms } => {
                    act(ending.terminate(Cause::Stop, now_ms, grace_ms));
                    Response::Done
                }
                Request::Resize { terminal } if attach.as_ref().is_some_and(|attach| attach.resize(terminal)) => {
                    Response::Done
                }
                Request::Resize { .. } => Response::Refused { message: "the process has no terminal".to_owned() },
            }
        });
    }

    fn act(&mut self, action: Action) {
        perform(action, &self.pidfd, &self.cgroups, &mut self.log);
    }

    /// How long the process may still run, counted from its launch, also by a shim that came later.
    fn deadline_in_ms(&self) -> Option<u64> {
        let ran_ms = (now_us() / 1000).saturating_sub(self.state.launched_at_unix_ms);
        self.spec.deadline_ms.map(|deadline| deadline.saturating_sub(ran_ms))
    }

    /// The process is over: reads the rest of its output, writes the exit record, tells the clients.
    fn finish(mut self) -> Result<Exit, StateFileError> {
        // Reaps init; fails in a shim that is not its parent.
        let waited = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
        let as_wait_status =
            |ended: WaitIdStatus| ended.terminating_signal().or_else(|| ended.exit_status().map(|code| code << 8));
        let wait_status = read_status(&self.status).or_else(|| waited.and_then(as_wait_status));
        let exit = exit_record(&mut self.log, &self.cgroups, self.ending, wait_status);
        state_file::write(&super::run_dir::here(EXIT_FILE), &exit)?;
        self.control.farewell(&Response::Exited { exit: exit.clone() });
        super::clean_up(&self.spec, &self.cgroups);
        Ok(exit)
    }
}

/// Finishes the log of an ended process and describes its end.
pub(crate) fn exit_record(log: &mut LogPump, cgroups: &Cgroups, ending: Ending, wait_status: Option<i32>) -> Exit {
    log.drain();
    let statistics = cgroups.statistics();
    let (reason, status) = ending.result(wait_status, statistics.out_of_memory_kills);
    if let Some(status) = status {
        log.say(&format!("Process exited with status {status}"));
    }
    Exit {
        protocol: PROTOCOL,
        reason,
        status,
        ended_at_unix_ms: now_us() / 1000,
        out_of_memory_kills: statistics.out_of_memory_kills,
        cpu_us: statistics.cpu_us,
        memory_peak_bytes: statistics.memory_peak_bytes,
        last_log_sequence: log.last_sequence(),
    }
}

struct Ready {
    output: bool,
    ended: bool,
    clients: bool,
}

struct Disk {
    bytes: u64,
    next_look_ms: u64,
}

impl Disk {
    /// Measures all that the process can write: its layers, and what is mounted writable for it.
    fn look(&mut self, now_ms: u64, spec: &Spec, clock: &impl Fn() -> u64) -> u64 {
        let writable = spec.mounts.iter().filter_map(|mount| match mount {
            Mount::Writable { source, .. } => Some(source.as_path()),
            Mount::ReadOnly { .. } | Mount::Overlay { .. } | Mount::Scratch { .. } => None,
        });
        self.bytes = writable.chain([Path::new(LAYERS_DIR)]).map(allocated_bytes).fold(0, u64::saturating_add);
        let took_ms = clock().saturating_sub(now_ms);
        self.next_look_ms = now_ms + took_ms + DISK_INTERVAL_MS.max(took_ms.saturating_mul(DISK_PAUSE_FACTOR));
        self.bytes
    }
}

/// What init left about the app, or nothing if it could not.
pub(crate) fn read_status(status: &OwnedFd) -> Option<i32> {
    let file = fs::File::from(status.try_clone().ok()?);
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(i32::from_ne_bytes(bytes))
}

fn perform(action: Action, pidfd: &OwnedFd, cgroups: &Cgroups, log: &mut LogPump) {
    match action {
        Action::Nothing => {}
        Action::Terminate => {
            log.say("Stopping all processes with SIGTERM");
            // Init passes it on to every process of the sandbox. It fails only if init has ended already.
            pidfd_send_signal(pidfd, Signal::TERM).ok();
        }
        Action::KillAfterGrace { grace_ms } => {
            log.say(&exit_timeout_line(grace_ms));
            log.say("Stopping process with SIGKILL");
            kill(pidfd, cgroups);
        }
        Action::Kill => {
            log.say("Stopping process with SIGKILL");
            kill(pidfd, cgroups);
        }
    }
}

/// Without PID 1 the kernel ends every process of a PID namespace.
fn kill(pidfd: &OwnedFd, cgroups: &Cgroups) {
    cgroups.kill();
    pidfd_send_signal(pidfd, Signal::KILL).ok();
}

fn send_signal(pidfd: &OwnedFd, signal: i32) -> Response {
    // PID 1 passes on what it receives; it can never receive SIGSTOP without stopping itself.
    let refused = || Response::Refused { message: format!("signal {signal} cannot be sent to a sandbox") };
    if signal == libc::SIGSTOP {
        return refused();
    }
    match Signal::from_named_raw(signal).map(|signal| pidfd_send_signal(pidfd, signal)) {
        Some(Ok(())) => Response::Done,
        Some(Err(_)) | None => refused(),
    }
}

fn exit_timeout_line(grace_ms: u64) -> String {
    format!("Error R12 (Exit timeout) -> Process failed to exit within {} of SIGTERM", seconds(grace_ms))
}

/// `30 seconds`, `1 second`, `0.25 seconds`.
fn seconds(milliseconds: u64) -> String {
    match (milliseconds / 1000, milliseconds % 1000) {
        (1, 0) => "1 second".to_owned(),
        (whole, 0) => format!("{whole} seconds"),
        (whole, part) => format!("{} seconds", format!("{whole}.{part:03}").trim_end_matches('0')),
    }
}

/// The record of a process that could not be started.
pub(crate) fn not_started(last_log_sequence: u64) -> Exit {
    Exit {
        protocol: PROTOCOL,
        reason: ExitReason::NotStarted,
        status: None,
        ended_at_unix_ms: now_us() / 1000,
        out_of_memory_kills: 0,
        cpu_us: 0,
        memory_peak_bytes: 0,
        last_log_sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_timeout_is_herokus() {
        assert_eq!(
            exit_timeout_line(30_000),
            "Error R12 (Exit timeout) -> Process failed to exit within 30 seconds of SIGTERM"
        );
        assert!(exit_timeout_line(250).contains("within 0.25 seconds of"));
    }
}
