//! What happens when connections run out: those that ask for nothing make room for those that do.
//!
//! A connection may be idle for long while there is room. The less there is, the shorter: whoever has been idle for
//! longest goes first, and in the end every answer is the last one on its connection. So the clients of one app, however
//! many, do not keep those of another out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::worker::{Shared, Stage};

/// Room is short when less than this part is left, and next to nothing when less than that one is.
const SHORT: usize = 8;
const VERY_SHORT: usize = 32;

/// An app may have so many requests however little room there is.
const APP_REQUESTS_MIN: usize = 16;

/// Time that a client always has to ask for something.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// How often idle connections look whether they must go.
const PERIOD: Duration = Duration::from_millis(250);

impl Shared {
    fn room(&self) -> usize {
        self.bounds.connections_max.saturating_sub(self.connections.load(Ordering::Relaxed))
    }

    /// Another connection was counted.
    pub(crate) fn note_connection(&self) {
        if self.room() < self.bounds.connections_max / SHORT {
            self.crowded.notify_one();
        }
    }

    /// How long a connection may be idle that otherwise may be so for `idle`.
    pub(crate) fn idle(&self, idle: Duration) -> Duration {
        allowed(idle, self.room(), self.bounds.connections_max / SHORT)
    }

    /// The same for a connection that has been idle since then.
    pub(crate) fn is_idle_for_too_long(&self, since: Instant, idle: Duration) -> bool {
        let allowed = self.idle(idle);
        allowed < idle && since.elapsed() >= allowed
    }

    /// Whether connections end with their next answer.
    pub(crate) fn ends_connections(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.room() <= self.bounds.connections_max / VERY_SHORT
    }

    /// How much of the router an app that wants more may have: never more than it leaves to the others.
    pub(crate) fn app_requests_max(&self) -> usize {
        let for_dynos = self.bounds.dyno_connections_max.saturating_sub(self.table.requests());
        self.bounds.app_requests_max.min(self.room().min(for_dynos).max(APP_REQUESTS_MIN))
    }
}

fn allowed(idle: Duration, room: usize, short: usize) -> Duration {
    if room >= short {
        return idle;
    }
    let part = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (idle / part(short) * part(room)).max(IDLE_MIN).min(idle)
}

/// Wakes idle connections while room is short, until it is dropped.
pub(crate) async fn look_after(shared: &Arc<Shared>, stage: &watch::Sender<Stage>) {
    loop {
        shared.crowded.notified().await;
        while shared.room() < shared.bounds.connections_max / SHORT {
            // They wait for a change of it; that there is none, they find out themselves.
            stage.send_modify(|_same| {});
            sleep(PERIOD).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_room_the_shorter_a_connection_may_be_idle() {
        let seconds = |room| allowed(Duration::from_secs(90), room, 2_500).as_secs();
        assert_eq!([20_000, 2_500, 1_250, 250, 25, 0].map(seconds), [90, 90, 45, 9, 1, 1]);
        assert_eq!(allowed(Duration::from_millis(300), 0, 2_500), Duration::from_millis(300));
    }
}
