//! Idle connections to dynos, of one worker thread.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::time::Instant;

use crate::config::Bounds;
use crate::dyno_io::DynoConnection;

/// Newest last, by the dyno's serial number.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: DynoConnection,
    since: Instant,
}

impl Pool {
    /// Gives the connection that was used last: it is the least likely to be closed by the dyno.
    pub(crate) async fn take(&self, serial: u64, bounds: &Bounds) -> Option<DynoConnection> {
        loop {
            let mut connection = {
                let mut idle = self.idle.borrow_mut();
                let of_dyno = idle.get_mut(&serial)?;
                of_dyno.pop().filter(|idle| idle.since.elapsed() < bounds.dyno_idle)?.connection
            };
            if !connection.sender.is_closed() && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    pub(crate) fn put(&self, serial: u64, mut connection: DynoConnection, bounds: &Bounds) {
        if connection.sender.is_closed() {
            return;
        }
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        let of_dyno = idle.entry(serial).or_default();
        if of_dyno.len() < bounds.dyno_idle_connections_max {
            of_dyno.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, bounds: &Bounds) {
        self.idle.borrow_mut().retain(|_serial, of_dyno| {
            of_dyno.retain(|idle| idle.since.elapsed() < bounds.dyno_idle && !idle.connection.sender.is_closed());
            !of_dyno.is_empty()
        });
    }
}
