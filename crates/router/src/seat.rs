//! A client's connection as it counts: among all of the router, and among those of its client.
//!
//! It counts from the moment in which it is accepted, though its client may never say anything, until its socket is
//! closed: whoever holds sockets holds what others could have.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::places::ClientPlace;
use crate::worker::Shared;

pub(crate) struct Seat {
    shared: Arc<Shared>,
    /// Among those of its client; fronts have as many as they like.
    place: Option<ClientPlace>,
}

/// The client has as many connections as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Seat {
    pub(crate) fn take(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.note_connection();
        Self { shared: shared.clone(), place: None }
    }

    /// It is this client's.
    pub(crate) fn count_for(&mut self, client: IpAddr) -> Result<(), TooMany> {
        let place = self.shared.clients.enter(client, self.shared.bounds.client_connections_max);
        self.place = Some(place.ok_or(TooMany)?);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seat").field("place", &self.place).finish_non_exhaustive()
    }
}
