//! How long a session may be silent: nobody has written, and nothing was written to them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::duration_text;
use tokio::time::{Instant, sleep_until};

/// When bytes last went one way or the other.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    last: Mutex<Instant>,
}

impl Idle {
    pub(crate) fn begin(limit: Duration) -> Self {
        Self { limit, last: Mutex::new(Instant::now()) }
    }

    /// Some have, just now.
    pub(crate) fn end(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Over when none have for the whole time.
    pub(crate) async fn passed(&self) {
        loop {
            let until = *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.limit;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// What somebody is told whose session ends so.
    pub(crate) fn words(&self) -> String {
        let limit = duration_text::show(self.limit);
        format!("This session is over: nothing was written in it, by you or to you, for {limit}.")
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_is_idle_when_nothing_was_written_for_long_enough() {
        let idle = Idle::begin(Duration::from_secs(3600));
        for _hour in 0..5 {
            sleep(Duration::from_secs(3599)).await;
            idle.end();
        }
        let begin = Instant::now();
        let busy = async {
            sleep(Duration::from_secs(1800)).await;
            idle.end();
        };
        tokio::join!(busy, idle.passed());
        assert_eq!(begin.elapsed().as_secs(), 5400);
        timeout(Duration::ZERO, idle.passed()).await.unwrap();
        assert!(idle.words().contains("for 1h"), "{}", idle.words());
    }
}
