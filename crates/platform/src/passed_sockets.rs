//! Listening sockets on their way from the supervisor to a role.
//!
//! They go as messages over a Unix socket that the role gets as its standard input: any number of them, without a
//! descriptor that another child could inherit, and without `unsafe`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Gives the role's end. Everything is in it before the role begins: the kernel keeps what was sent.
pub(crate) fn send(listeners: &[TcpListener]) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for listener in listeners {
        let descriptors = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&ours, &[IoSlice::new(&[0])], &mut message, SendFlags::empty())?;
    }
    Ok(theirs)
}

/// Takes exactly `count` sockets.
///
/// # Errors
/// `UnexpectedEof` if fewer were sent.
pub(crate) fn receive(socket: impl AsFd, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(count);
    while listeners.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::CMSG_CLOEXEC)?;
        let before = listeners.len();
        for descriptors in message.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = descriptors {
                listeners.extend(descriptors.map(TcpListener::from));
            }
        }
        if received.bytes == 0 || listeners.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_in_order_and_missing_ones_are_an_error() {
        let listeners: Vec<TcpListener> = (0..5).map(|_n| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports = |listeners: &[TcpListener]| -> Vec<u16> {
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
        };
        let end = send(&listeners).unwrap();
        let received = receive(&end, 5).unwrap();
        assert_eq!(ports(&received), ports(&listeners));
        assert_eq!(receive(&end, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
