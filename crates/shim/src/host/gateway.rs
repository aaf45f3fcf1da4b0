//! The gateway's address on an interface of its own.
//!
//! Every dyno's link carries it too, but where it serves DNS it must exist before the first dyno and after the last one.
//! It is a veth pair with both ends here: every machine that can run dynos can make one, which is not so for a dummy
//! interface, and unlike an address on `lo` it has a name that tells whose it is.

use std::io;
use std::net::Ipv4Addr;

use crate::netlink::{Netlink, disable_ipv6};

fn names(instance: &str) -> [String; 2] {
    // Not of the form of a dyno's link, which ends in digits.
    [format!("b{instance}gw"), format!("b{instance}gx")]
}

/// Doing it again changes nothing.
pub(super) fn add(instance: &str, gateway: Ipv4Addr) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let [name, peer] = names(instance);
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    match netlink.add_veth(&name, &peer, own) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        result => result?,
    }
    for name in [&name, &peer] {
        disable_ipv6(name)?;
        netlink.set_up(netlink.index_of(name)?)?;
    }
    netlink.add_address(netlink.index_of(&name)?, gateway)
}

pub(super) fn remove(instance: &str) -> io::Result<()> {
    let [name, _peer] = names(instance);
    Netlink::open()?.delete_link(&name)
}
