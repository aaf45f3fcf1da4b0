//! A terminal for the process: made inside, from the sandbox's own `/dev/pts`, so that programs that ask for its name
//! find it there. Its other side goes out to the shim as a descriptor in a message.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::tcsetwinsize;
use wire::shim::Terminal;

use crate::descriptor_passing;
use crate::supervisor::winsize;

/// Makes the terminal, makes it the controlling one of this session, and sends its other side to the shim.
pub(super) fn open(size: Terminal, to_shim: &UnixStream) -> io::Result<OwnedFd> {
    let other = open_file("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    unlockpt(&other)?;
    let own = ioctl_tiocgptpeer(&other, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    tcsetwinsize(&own, winsize(size))?;
    ioctl_tiocsctty(&own)?;
    descriptor_passing::send(to_shim, b"t", &[other.as_fd()])?;
    Ok(own)
}

/// Gets what [`open`] sent. The process has sent it before it executed its command, so it is there or never comes.
pub(super) fn receive(from_child: &UnixStream) -> io::Result<OwnedFd> {
    let (_count, mut descriptors) = descriptor_passing::receive(from_child, &mut [0])?;
    descriptors.pop().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process did not send its terminal"))
}
