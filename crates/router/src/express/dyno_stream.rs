//! Sockets to dynos without anything around them, and the idle ones of a worker thread.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::Bounds;

#[derive(Debug)]
pub(super) struct DynoStream {
    pub(super) stream: TcpStream,
    /// It has carried a request before, so the dyno may be closing it at this very moment.
    pub(super) reused: bool,
}

/// Newest last, by the dyno's serial number.
#[derive(Debug, Default)]
pub(crate) struct StreamPool {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Instant,
}

impl StreamPool {
    /// Gives the socket that was used last: it is the least likely to be closed by the dyno.
    pub(super) fn take(&self, serial: u64, bounds: &Bounds) -> Option<DynoStream> {
        let mut idle = self.idle.borrow_mut();
        let of_dyno = idle.get_mut(&serial)?;
        loop {
            let Idle { stream, since } = of_dyno.pop()?;
            if since.elapsed() < bounds.dyno_idle && is_quiet(&stream) {
                return Some(DynoStream { stream, reused: true });
            }
        }
    }

    pub(super) fn put(&self, serial: u64, stream: TcpStream, bounds: &Bounds) {
        let mut idle = self.idle.borrow_mut();
        let of_dyno = idle.entry(serial).or_default();
        if of_dyno.len() < bounds.dyno_idle_connections_max {
            of_dyno.push(Idle { stream, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn sweep(&self, bounds: &Bounds) {
        self.idle.borrow_mut().retain(|_serial, of_dyno| {
            of_dyno.retain(|idle| idle.since.elapsed() < bounds.dyno_idle && is_quiet(&idle.stream));
            !of_dyno.is_empty()
        });
    }
}

/// Neither closed by the dyno nor with bytes that nobody asked for, as far as the runtime has heard.
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
