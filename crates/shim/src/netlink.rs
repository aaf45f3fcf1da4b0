//! As much rtnetlink as one veth pair needs. Starting the `ip` program instead would cost more than the whole launch.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with};

const VETH_INFO_PEER: u16 = 1;
const RTNH_F_ONLINK: u32 = 4;
/// One byte wide in these messages.
const AF_INET: u8 = 2;
/// `struct ifinfomsg` and `struct rtmsg` in bytes.
const IFINFOMSG_BYTES: usize = 16;

/// A socket to the kernel's network configuration, of the network namespace that it was made in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        // `None` is protocol 0, NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// Makes a pair: `name` here, `peer_name` in the network namespace of `peer_pid`.
    pub(crate) fn add_veth(&self, name: &str, peer_name: &str, peer_pid: i32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        message.bytes.extend([0; IFINFOMSG_BYTES]);
        message.name(name);
        message.nested(libc::IFLA_LINKINFO, |message| {
            message.attribute(libc::IFLA_INFO_KIND, b"veth");
            message.nested(libc::IFLA_INFO_DATA, |message| {
                message.nested(VETH_INFO_PEER, |message| {
                    message.bytes.extend([0; IFINFOMSG_BYTES]);
                    message.name(peer_name);
                    message.attribute(libc::IFLA_NET_NS_PID, &peer_pid.to_ne_bytes());
                });
            });
        });
        self.request(message)
    }

    /// Removes a link and with it the other end of a pair. That there is none is no error.
    pub(crate) fn delete_link(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_DELLINK, 0);
        message.bytes.extend([0; IFINFOMSG_BYTES]);
        message.name(name);
        match self.request(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    pub(crate) fn set_up(&self, index: u32) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0);
        let up = libc::IFF_UP.cast_unsigned();
        message.bytes.extend([0; 4]);
        message.bytes.extend(index.to_ne_bytes());
        message.bytes.extend(up.to_ne_bytes());
        message.bytes.extend(up.to_ne_bytes());
        self.request(message)
    }

    /// Gives the interface `address/32`.
    pub(crate) fn add_address(&self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        message.bytes.extend([AF_INET, 32, 0, libc::RT_SCOPE_UNIVERSE]);
        message.bytes.extend(index.to_ne_bytes());
        message.attribute(libc::IFA_LOCAL, &address.octets());
        message.attribute(libc::IFA_ADDRESS, &address.octets());
        self.request(message)
    }

    /// Routes `address/32` out of the interface; answers carry `source`.
    pub(crate) fn add_host_route(&self, index: u32, address: Ipv4Addr, source: Ipv4Addr) -> io::Result<()> {
        let mut message = Message::route(32, libc::RT_SCOPE_LINK, 0);
        message.attribute(libc::RTA_DST, &address.octets());
        message.attribute(libc::RTA_PREFSRC, &source.octets());
        message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.request(message)
    }

    /// Routes everything to `gateway`, which is on the link although no prefix says so.
    pub(crate) fn add_default_route(&self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = Message::route(0, libc::RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
        message.attribute(libc::RTA_GATEWAY, &gateway.octets());
        message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.request(message)
    }

    pub(crate) fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(&self.socket, name)?)
    }

    /// Sends one message and waits for its acknowledgement.
    fn request(&self, message: Message) -> io::Result<()> {
        send(&self.socket, &message.finish(), SendFlags::empty())?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let ((answer, _rest), _length) = recv(&self.socket, &mut buffer, RecvFlags::empty())?;
        // `struct nlmsghdr`, then in an acknowledgement the negative errno.
        let code = answer.get(16..20).and_then(|bytes| bytes.first_chunk::<4>());
        match code.map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "short answer from the kernel")),
        }
    }
}

/// Not netlink, but always done with it: else the host would answer on a link-local address of the interface.
pub(crate) fn disable_ipv6(interface: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1") {
        // The kernel has no IPv6 at all.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// One request under construction: `struct nlmsghdr`, a fixed header, attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).cast_unsigned();
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(u16::try_from(flags).unwrap_or_default()).to_ne_bytes());
        Self { bytes }
    }

    fn route(prefix_bits: u8, scope: u8, flags: u32) -> Self {
        let mut message = Self::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        let table = libc::RT_TABLE_MAIN;
        let header = [AF_INET, prefix_bits, 0, 0, table, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST];
        message.bytes.extend(header);
        message.bytes.extend(flags.to_ne_bytes());
        message
    }

    fn name(&mut self, name: &str) {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.attribute(libc::IFLA_IFNAME, &value);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.bytes.extend_from_slice(value));
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend(kind.to_ne_bytes());
        content(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}
