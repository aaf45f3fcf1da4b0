//! Connections to dynos that can carry a request, of one worker thread.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::time::Instant;

use crate::config::Bounds;
use crate::dyno_io::DynoConnection;

/// By the dyno's serial number.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// HTTP/1: newest last.
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
    /// HTTP/2: all that are open, carrying requests or not.
    shared: RefCell<HashMap<u64, Vec<Idle>>>,
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
            let mut connection = match self.shared(serial, bounds) {
                Some(connection) => connection,
                None => {
                    let mut idle = self.idle.borrow_mut();
                    let of_dyno = idle.get_mut(&serial)?;
                    of_dyno.pop().filter(|idle| idle.since.elapsed() < bounds.dyno_idle)?.connection
                }
            };
            if !connection.is_closed() && connection.ready().await {
                return Some(connection);
            }
        }
    }

    /// Takes back an HTTP/1 connection whose request is over. HTTP/2 connections never left.
    pub(crate) fn put(&self, serial: u64, mut connection: DynoConnection, bounds: &Bounds) {
        if connection.is_closed() || connection.is_http2() {
            return;
        }
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        let of_dyno = idle.entry(connection.pool_key.unwrap_or(serial)).or_default();
        if of_dyno.len() < bounds.dyno_idle_connections_max {
            of_dyno.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Lets later requests use a new HTTP/2 connection, too.
    pub(crate) fn open(&self, serial: u64, connection: &DynoConnection) {
        if let Some(connection) = connection.share(usize::MAX - 1) {
            let idle = Idle { connection, since: Instant::now() };
            self.shared.borrow_mut().entry(serial).or_default().push(idle);
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, bounds: &Bounds) {
        self.idle.borrow_mut().retain(|_serial, of_dyno| {
            of_dyno.retain(|idle| idle.since.elapsed() < bounds.dyno_idle && !idle.connection.is_closed());
            !of_dyno.is_empty()
        });
        self.shared.borrow_mut().retain(|_serial, of_dyno| {
            of_dyno.retain_mut(|idle| {
                if !idle.connection.is_only_handle() {
                    idle.since = Instant::now();
                }
                idle.since.elapsed() < bounds.dyno_http2_idle && !idle.connection.is_closed()
            });
            !of_dyno.is_empty()
        });
    }

    fn shared(&self, serial: u64, bounds: &Bounds) -> Option<DynoConnection> {
        let mut shared = self.shared.borrow_mut();
        let of_dyno = shared.get_mut(&serial)?;
        of_dyno.retain(|idle| !idle.connection.is_closed());
        of_dyno.iter().find_map(|idle| idle.connection.share(bounds.dyno_streams_max))
    }
}
