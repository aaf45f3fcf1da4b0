//! Descriptors that go from one process to another, in a message over a Unix stream.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The most that one message carries.
const DESCRIPTORS_MAX: usize = 3;

/// Sends bytes, of which there must be some, and descriptors with the first of them.
pub(crate) fn send(to: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !message.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut message, SendFlags::empty())?;
    (&*to).write_all(bytes.get(sent..).unwrap_or_default())
}

/// Reads once; no bytes are the end.
pub(crate) fn receive(from: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _other => None,
    });
    Ok((received.bytes, descriptors.flatten().collect()))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn descriptors_come_with_the_first_byte() {
        let (from, to) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        send(&to, b"hello", &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let mut bytes = [0; 16];
        let (count, mut descriptors) = receive(&from, &mut bytes).unwrap();
        assert_eq!((&bytes[..count], descriptors.len()), (&b"hello"[..], 1));
        UnixStream::from(descriptors.remove(0)).write_all(b"there").unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there");
        drop(to);
        assert_eq!(receive(&from, &mut bytes).unwrap().0, 0);
    }
}
