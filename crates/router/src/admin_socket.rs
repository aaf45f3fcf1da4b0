//! The router's admin socket: where it is, and how messages go over it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use wire::frame::{self, Decoder, FrameError};

const READ_BYTES: usize = 64 * 1024;

/// Listens in the data directory, replacing the socket of a router that is gone.
pub(crate) fn listen(data_dir: &Path, name: &str) -> io::Result<UnixListener> {
    let path = data_dir.join(name);
    fs::create_dir_all(parent(&path))?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_dir, short) = short_path(&path)?;
    UnixListener::bind(short)
}

/// For whoever has no runtime.
pub(crate) fn connect_blocking(data_dir: &Path, name: &str) -> io::Result<std::os::unix::net::UnixStream> {
    let (_dir, short) = short_path(&data_dir.join(name))?;
    std::os::unix::net::UnixStream::connect(short)
}

pub(crate) async fn connect(data_dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_dir, short) = short_path(&data_dir.join(name))?;
    UnixStream::connect(short).await
}

/// A name of at most 108 bytes for a socket with a longer path: it goes through a descriptor of its directory, which
/// must stay open until the name is used.
fn short_path(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let dir = rustix::fs::open(parent(path), OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok((dir, short))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// One end of a connection over which whole messages go.
#[derive(Debug)]
pub(crate) struct Messages {
    stream: UnixStream,
    decoder: Decoder,
}

impl Messages {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), FrameError> {
        Ok(self.stream.write_all(&frame::encode(message)?).await?)
    }

    /// `None` means that the other end closed.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(Some(message));
            }
            let count = self.stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            self.decoder.push(&buffer[..count]);
        }
    }
}
