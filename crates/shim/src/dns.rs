//! A DNS forwarder for hosts whose only resolver listens on loopback, where no dyno can reach it.
//!
//! ```text
//! dyno ──gateway:53──► forwarder (a process of its own) ──► 127.0.0.53:53
//! ```
//!
//! It changes nothing but the id of a query: no cache, no filter; the resolver behind it has both. It is a process of
//! its own, so that names resolve while the server restarts. Two threads, one for UDP and one for TCP, both with bounds
//! per dyno and in all: what is over them is dropped, and the dyno's resolver asks again.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use thiserror::Error;

mod tcp;
mod udp;
mod upstreams;

pub use upstreams::Upstreams;

#[derive(Debug, Error)]
#[error("cannot serve DNS on {listen}")]
pub struct DnsError {
    listen: SocketAddrV4,
    #[source]
    source: io::Error,
}

/// A forwarder that has its address and serves nobody yet.
#[derive(Debug)]
pub struct Forwarder {
    listen: SocketAddrV4,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Forwarder {
    /// Takes `listen` for datagrams and connections. The address need not exist yet.
    pub fn bind(listen: SocketAddrV4) -> Result<Self, DnsError> {
        let both = || Ok((bind_udp(listen)?, bind_tcp(listen)?));
        let (udp, tcp) = both().map_err(|source| DnsError { listen, source })?;
        Ok(Self { listen, udp, tcp })
    }

    /// Serves until the process ends.
    pub fn serve(self, upstreams: &Upstreams) -> Result<Infallible, DnsError> {
        let Self { listen, udp, tcp } = self;
        let serve = || {
            let follower = || upstreams.clone().follow(SocketAddr::from(listen));
            let for_tcp = follower();
            thread::Builder::new().name("dns-tcp".to_owned()).spawn(move || tcp::serve(&tcp, for_tcp))?;
            udp::serve(udp, follower())
        };
        serve().map_err(|source| DnsError { listen, source })
    }
}

fn bind_udp(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ip_freebind(&socket, true)?;
    bind(&socket, &address)?;
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ip_freebind(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 64)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Waits for events, or for `timeout` if there is one. An error is like a timeout: the sockets are looked at anyway.
fn wait(polled: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    poll(polled, timeout.as_ref()).ok();
}
