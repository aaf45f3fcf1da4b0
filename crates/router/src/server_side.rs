//! The way to the platform's own server, which serves the platform's hosts: a socket that only the router may reach, so
//! that what it says about a client (`forward`) is believed there and nowhere else.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wire::routes::{DynoProtocol, SERVER_SOCKET};

use crate::admin_socket;
use crate::config::Bounds;
use crate::dyno_io::{ConnectFailure, DynoConnection, over};

/// Between two looks for a server that is being exchanged.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Connects. A server that is away for a moment is waited for: it is exchanged whenever its settings or its executable
/// change, and who asks it something meanwhile need not know.
pub(crate) async fn connect(
    data_dir: &Path,
    limit: Duration,
    bounds: &Bounds,
) -> Result<DynoConnection, ConnectFailure> {
    let deadline = Instant::now() + limit;
    loop {
        match admin_socket::connect(data_dir, SERVER_SOCKET).await {
            Ok(stream) => return over(stream, DynoProtocol::Http1, bounds).await,
            Err(error) if !is_away(&error) => return Err(ConnectFailure::Local(error)),
            Err(_away) if Instant::now() >= deadline => return Err(ConnectFailure::Refused),
            Err(_away) => sleep(LOOK_PAUSE).await,
        }
    }
}

/// There is no socket, nobody listens on it, or whoever does is about to end and takes nobody any more.
fn is_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock)
}
