//! A timer that is set anew for every request without telling the runtime each time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Costs the runtime something only when a deadline comes before the one that it knows, or when that one passes.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn later_and_earlier_deadlines_are_both_kept() {
        let mut timer = Timer::default();
        let begun = Instant::now();
        for seconds in [10, 30, 31, 32] {
            let deadline = begun + Duration::from_secs(seconds);
            poll_fn(|cx| timer.poll(cx, deadline)).await;
            assert_eq!(begun.elapsed().as_secs(), seconds);
        }
        // One that is far away is given up for a near one.
        let far = Instant::now() + Duration::from_secs(90);
        let polled = poll_fn(|cx| Poll::Ready(timer.poll(cx, far))).await;
        assert!(polled.is_pending());
        let near = Instant::now() + Duration::from_secs(5);
        poll_fn(|cx| timer.poll(cx, near)).await;
        assert!(Instant::now() < near + Duration::from_secs(1));
    }
}
