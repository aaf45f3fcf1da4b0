//! What sessions in one-offs wait for: that the process has begun, and that its end is recorded.
//!
//! Hundreds may wait at once while the store tells of every change of anything. So nobody looks at each of them: who
//! has waited for a moment looks again after a moment, who has waited for long after a while ([`Looks`]).

use std::time::Duration;

use domain::id::DynoId;
use store::dyno::Dyno;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use crate::state::ApiState;

/// How long a dyno may take from its request until it can be attached to.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after the last output the exit status may take to be recorded.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the dyno runs, and attaches to it. The error is for people.
pub(crate) async fn attach(state: &ApiState, dyno: &Dyno) -> Result<UnixStream, String> {
    let run_dir = state.config.data_dir.join("run").join(dyno.id.to_string());
    let looks = Looks::begin();
    loop {
        if let Ok(process) = shim::client::attach(&run_dir).await {
            return Ok(process);
        }
        let now = state.store.dyno(dyno.id).ok().flatten();
        if !now.is_some_and(|dyno| dyno.state.is_alive()) {
            return Err(format!("{} could not be started; the app's log says why.", dyno.name));
        }
        if looks.waited() > START_TIMEOUT {
            return Err(format!("{} has not started in time, or somebody else is attached to it.", dyno.name));
        }
        sleep(looks.pause()).await;
    }
}

/// Waits until the end of a dyno whose output has ended is recorded; `None` where that does not happen.
pub(crate) async fn ended(state: &ApiState, dyno: DynoId) -> Option<Dyno> {
    let mut changes = state.store.changes();
    let looks = Looks::begin();
    let ended = async {
        loop {
            let now = state.store.dyno(dyno).ok().flatten()?;
            if !now.state.is_alive() {
                return Some(now);
            }
            changes.changed().await.ok()?;
            sleep(looks.pause()).await;
            changes.mark_unchanged();
        }
    };
    timeout(END_TIMEOUT, ended).await.ok().flatten()
}

/// When somebody who waits looks again: at most a sixteenth later than would have been possible.
#[derive(Debug, Clone, Copy)]
struct Looks {
    since: Instant,
}

impl Looks {
    const PAUSE_MIN: Duration = Duration::from_millis(2);
    const PAUSE_MAX: Duration = Duration::from_millis(250);

    fn begin() -> Self {
        Self { since: Instant::now() }
    }

    fn waited(self) -> Duration {
        self.since.elapsed()
    }

    fn pause(self) -> Duration {
        (self.waited() / 16).clamp(Self::PAUSE_MIN, Self::PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_long_looks_seldom_and_is_hardly_late() {
        let looks = Looks::begin();
        let mut count = 0;
        while looks.waited() < Duration::from_secs(10) {
            sleep(looks.pause()).await;
            count += 1;
        }
        assert!(looks.waited() < Duration::from_secs(11));
        assert!(count < 150, "{count}");
    }
}
