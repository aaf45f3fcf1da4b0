//! A terminal for the process: made inside, from the sandbox's own `/dev/pts`, so that programs that ask for its name
//! find it there. Its other side goes out to the shim as a descriptor in a message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::tcsetwinsize;
use wire::shim::Terminal;

use crate::supervisor::winsize;

/// Makes the terminal, makes it the controlling one of this session, and sends its other side to the shim.
pub(super) fn open(size: Terminal, to_shim: &UnixStream) -> io::Result<OwnedFd> {
    let other = open_file("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    unlockpt(&other)?;
    let own = ioctl_tiocgptpeer(&other, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    tcsetwinsize(&own, winsize(size))?;
    ioctl_tiocsctty(&own)?;
    let descriptors = [other.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to_shim, &[IoSlice::new(b"t")], &mut message, SendFlags::empty())?;
    Ok(own)
}

/// Gets what [`open`] sent. The process has sent it before it executed its command, so it is there or never comes.
pub(super) fn receive(from_child: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(from_child, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _other => None,
    });
    let terminal = received.next().and_then(|mut descriptors| descriptors.next());
    terminal.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process did not send its terminal"))
}
