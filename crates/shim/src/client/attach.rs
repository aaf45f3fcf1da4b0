//! The standard streams of a process that waits for a client.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use tokio::net::UnixStream;
use wire::shim::ATTACH_SOCKET;

/// Attaches to the process in `run_dir`, which only one client can do, once.
///
/// What is written is its input, what is read its output. Ending the writing side ends its input; dropping the stream
/// hangs it up. The other side closes when the process has ended and its output is read.
///
/// # Errors
/// Not found as long as the process has not been started, and again when somebody has attached.
pub async fn attach(run_dir: &Path) -> io::Result<UnixStream> {
    // Through a descriptor, because the path of a socket has room for 108 bytes only.
    let dir = File::open(run_dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{ATTACH_SOCKET}", dir.as_raw_fd())).await
}
