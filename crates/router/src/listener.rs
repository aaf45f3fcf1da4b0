//! Listening sockets: opened once per worker thread, and accepted from without ever giving up.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::spawn_local;
use tracing::warn;

use crate::config::Listen;
use crate::seat::Seat;
use crate::worker::{Speaks, Stage, Worker, serve};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4_096;
/// How long accepting pauses when there are no descriptors left, or enough connections.
const PAUSE: Duration = Duration::from_millis(20);

/// A listening socket of one thread.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) speaks: Speaks,
    /// Whoever gave it has it, too: what waits in its queue when this router ends is accepted by another one.
    shared: bool,
}

/// Opens the same place once for each of `threads`.
pub(crate) fn open(listen: &Listen, speaks: Speaks, threads: usize) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(threads);
    let mut address = match listen {
        Listen::Address(address) => *address,
        Listen::Inherited(listener) => {
            for _thread in 0..threads {
                let socket = listener.try_clone()?;
                socket.set_nonblocking(true)?;
                listeners.push(Listener { socket, speaks, shared: true });
            }
            return Ok(listeners);
        }
    };
    for _thread in 0..threads {
        let socket = bind(address)?;
        // Port 0 is drawn for the first thread only.
        address = socket.local_addr()?;
        listeners.push(Listener { socket, speaks, shared: false });
    }
    Ok(listeners)
}

/// Several sockets may be bound to the address at a time.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the router begins to end, then takes what the kernel has accepted for it alone and closes the listener.
pub(crate) async fn accept(worker: Rc<Worker>, listener: Listener) {
    let Listener { socket, speaks, shared } = listener;
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "Cannot use a listening socket"),
    };
    let mut stage = worker.stage.clone();
    loop {
        if shared && *stage.borrow() > Stage::Serving {
            return;
        }
        if worker.shared.connections.load(Ordering::Relaxed) >= worker.shared.bounds.connections_max {
            tokio::time::sleep(PAUSE).await;
            if *stage.borrow() > Stage::Serving {
                return;
            }
            continue;
        }
        let accepted = tokio::select! {
            biased;
            // With SO_REUSEPORT, what stands in a closed listener's backlog is reset: take it first.
            accepted = listener.accept() => accepted,
            _ending = stage.wait_for(|stage| *stage > Stage::Serving) => return,
        };
        match accepted {
            Ok((stream, _peer)) => {
                // Counted before the next one is accepted.
                let seat = Seat::take(&worker.shared);
                drop(spawn_local(serve(worker.clone(), stream, seat, speaks)));
            }
            Err(error) if is_about_the_connection(&error) => {}
            Err(error) => {
                warn!(%error, "Cannot accept connections; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Errors of a connection that went away before it was accepted, as opposed to a lack of descriptors or memory.
fn is_about_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
