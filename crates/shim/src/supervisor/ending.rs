//! How a process comes to its end, decided without touching it: when to signal, and what to call the result.
//!
//! ```text
//! running ──stop, deadline, disk full──► terminating (SIGTERM sent) ──grace passed──► killed
//!    └──────────────────────────kill────────────────────────────────────────────────────▲
//! ```

use wire::shim::ExitReason;

/// Why the shim ends the process. The first cause names the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Stop,
    Deadline,
    DiskFull,
    Kill,
}

/// Progress towards the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    None,
    Terminating { cause: Cause, since_ms: u64, kill_at_ms: u64 },
    Killed { cause: Cause, timed_out: bool },
}

/// What the caller must do after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    Terminate,
    /// The grace of `grace_ms` has passed.
    KillAfterGrace {
        grace_ms: u64,
    },
    Kill,
}

impl Ending {
    /// Asks for an end within `grace_ms`. A later request can only shorten the grace.
    pub(crate) fn terminate(&mut self, cause: Cause, now_ms: u64, grace_ms: u64) -> Action {
        let kill_at_ms = now_ms.saturating_add(grace_ms);
        match self {
            Self::None => {
                *self = Self::Terminating { cause, since_ms: now_ms, kill_at_ms };
                Action::Terminate
            }
            Self::Terminating { kill_at_ms: planned, .. } => {
                *planned = kill_at_ms.min(*planned);
                Action::Nothing
            }
            Self::Killed { .. } => Action::Nothing,
        }
    }

    /// Asks for an end at once.
    pub(crate) fn kill(&mut self) -> Action {
        match *self {
            Self::None => *self = Self::Killed { cause: Cause::Kill, timed_out: false },
            Self::Terminating { cause, .. } => {
                // Somebody did not want to wait; the process did not overrun its grace.
                let cause = if cause == Cause::Stop { Cause::Kill } else { cause };
                *self = Self::Killed { cause, timed_out: false };
            }
            Self::Killed { .. } => {}
        }
        Action::Kill
    }

    /// Looks whether the grace has passed.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Action {
        match *self {
            Self::Terminating { cause, since_ms, kill_at_ms } if now_ms >= kill_at_ms => {
                *self = Self::Killed { cause, timed_out: true };
                Action::KillAfterGrace { grace_ms: kill_at_ms.saturating_sub(since_ms) }
            }
            Self::None | Self::Terminating { .. } | Self::Killed { .. } => Action::Nothing,
        }
    }

    pub(crate) const fn kill_at_ms(&self) -> Option<u64> {
        match self {
            Self::Terminating { kill_at_ms, .. } => Some(*kill_at_ms),
            Self::None | Self::Killed { .. } => None,
        }
    }

    /// Names the result. `wait_status` is what `wait` gave for the app; none if nobody could see it.
    pub(crate) fn result(&self, wait_status: Option<i32>, out_of_memory_kills: u64) -> (ExitReason, Option<i32>) {
        const KILLED: i32 = 128 + libc::SIGKILL;
        let status = wait_status
            .map(|raw| if libc::WIFSIGNALED(raw) { 128 + libc::WTERMSIG(raw) } else { libc::WEXITSTATUS(raw) });
        let signalled = wait_status.is_some_and(|raw| libc::WIFSIGNALED(raw));
        let reason = match *self {
            Self::Terminating { cause: Cause::Stop, .. } => ExitReason::Stopped,
            Self::Killed { cause: Cause::Stop, .. } => ExitReason::StopTimedOut,
            Self::Terminating { cause: Cause::Deadline, .. } | Self::Killed { cause: Cause::Deadline, .. } => {
                ExitReason::DeadlinePassed
            }
            Self::Terminating { cause: Cause::DiskFull, .. } | Self::Killed { cause: Cause::DiskFull, .. } => {
                ExitReason::DiskFull
            }
            Self::Terminating { cause: Cause::Kill, .. } | Self::Killed { cause: Cause::Kill, .. } => {
                ExitReason::Killed
            }
            // A shell passes its child's SIGKILL on as 137; PID 1 killed by the kernel leaves no status at all.
            Self::None if out_of_memory_kills > 0 && status.is_none_or(|status| status == KILLED) => {
                ExitReason::OutOfMemory
            }
            Self::None if signalled => ExitReason::Signalled,
            Self::None if status.is_some() => ExitReason::Exited,
            Self::None => ExitReason::Unknown,
        };
        let was_killed = matches!(self, Self::Killed { .. }) || reason == ExitReason::OutOfMemory;
        (reason, status.or(was_killed.then_some(KILLED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXITED_3: i32 = 3 << 8;

    #[test]
    fn a_stop_within_its_grace_is_not_a_kill() {
        let mut ending = Ending::None;
        assert_eq!(ending.terminate(Cause::Stop, 100, 30), Action::Terminate);
        assert_eq!(ending.tick(129), Action::Nothing);
        assert_eq!(ending.result(Some(libc::SIGTERM), 0), (ExitReason::Stopped, Some(143)));
        assert_eq!(ending.tick(130), Action::KillAfterGrace { grace_ms: 30 });
        assert_eq!(ending.result(None, 0), (ExitReason::StopTimedOut, Some(137)));
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let mut ending = Ending::None;
        ending.terminate(Cause::Stop, 0, 30);
        assert_eq!(ending.terminate(Cause::Stop, 5, 60), Action::Nothing);
        assert_eq!(ending.kill_at_ms(), Some(30));
        ending.terminate(Cause::Stop, 5, 10);
        assert_eq!(ending.kill_at_ms(), Some(15));
        assert_eq!(ending.kill(), Action::Kill);
        assert_eq!(ending.result(None, 0).0, ExitReason::Killed);
    }

    fn check(ending: Ending, wait_status: Option<i32>, kills: u64, expect: (ExitReason, Option<i32>)) {
        assert_eq!(ending.result(wait_status, kills), expect, "{ending:?} {wait_status:?} {kills}");
    }

    #[test]
    fn results_are_named_after_their_cause() {
        let deadline = Ending::Killed { cause: Cause::Deadline, timed_out: true };
        check(Ending::None, Some(EXITED_3), 0, (ExitReason::Exited, Some(3)));
        check(Ending::None, Some(EXITED_3), 2, (ExitReason::Exited, Some(3)));
        check(Ending::None, Some(libc::SIGSEGV), 0, (ExitReason::Signalled, Some(139)));
        check(Ending::None, Some(libc::SIGKILL), 1, (ExitReason::OutOfMemory, Some(137)));
        check(Ending::None, Some(137 << 8), 1, (ExitReason::OutOfMemory, Some(137)));
        check(Ending::None, None, 1, (ExitReason::OutOfMemory, Some(137)));
        check(Ending::None, None, 0, (ExitReason::Unknown, None));
        check(deadline, None, 0, (ExitReason::DeadlinePassed, Some(137)));
    }
}
