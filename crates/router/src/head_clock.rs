//! How long the head of a request may take: by itself, and beside other slow heads of the same client.
//!
//! Who sends a head byte by byte (Slowloris) holds a connection without ever asking for anything. The idle limit does
//! not see that; the limit here is on the whole head. As long as that runs, a client address may have some slow heads
//! at a time, but not thousands.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Bounds;
use crate::places::{ClientPlace, ClientPlaces};
use crate::timer::Timer;

/// A head that takes no longer counts as nothing special.
const SLOW_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct HeadClock {
    client: IpAddr,
    limit: Duration,
    slow_max: usize,
    slow_heads: Arc<ClientPlaces>,
    begun: Option<Instant>,
    slow: Option<ClientPlace>,
    timer: Timer,
}

impl HeadClock {
    /// `slow_heads` are those of all connections.
    pub(crate) fn new(client: IpAddr, slow_heads: &Arc<ClientPlaces>, bounds: &Bounds) -> Self {
        Self {
            client,
            limit: bounds.head,
            slow_max: bounds.client_slow_heads_max,
            slow_heads: slow_heads.clone(),
            begun: None,
            slow: None,
            timer: Timer::default(),
        }
    }

    /// However many slow heads there are: they are not one client's.
    pub(crate) fn of_many_clients(self) -> Self {
        Self { slow_max: usize::MAX, ..self }
    }

    /// Some of a head has come, and it is not complete. Its time runs from the first such call on.
    pub(crate) fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    pub(crate) fn end(&mut self) {
        (self.begun, self.slow) = (None, None);
    }

    /// Ready when the head has taken too long; never if none has begun.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(begun) = self.begun else { return Poll::Pending };
        if self.slow.is_none() {
            ready!(self.timer.poll(cx, begun + SLOW_AFTER.min(self.limit)));
            self.slow = self.slow_heads.enter(self.client, self.slow_max);
            if self.slow.is_none() {
                return Poll::Ready(());
            }
        }
        self.timer.poll(cx, begun + self.limit)
    }
}
