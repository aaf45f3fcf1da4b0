//! The dyno's link to its host: a veth pair, routed, with one address and no shared network.
//!
//! Every host end carries the same gateway address, so nothing inside depends on which host interface it got, and the
//! host needs one route per dyno. There is no bridge: two dynos have no common link to attack each other on.

use std::io;
use std::net::Ipv4Addr;

use crate::netlink::{Netlink, disable_ipv6};

const INSIDE: &str = "eth0";

/// Makes the pair and sets up the host's end. Called in the host's network namespace.
pub(super) fn wire_host(host_interface: &str, address: Ipv4Addr, gateway: Ipv4Addr, pid: i32) -> io::Result<()> {
    let netlink = Netlink::open()?;
    match netlink.add_veth(host_interface, INSIDE, pid) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            // Of an earlier dyno with this address whose shim could not clean up: addresses are given out once.
            netlink.delete_link(host_interface)?;
            netlink.add_veth(host_interface, INSIDE, pid)?;
        }
        result => result?,
    }
    let index = netlink.index_of(host_interface)?;
    // Else the host would answer on a link-local IPv6 address of this interface.
    disable_ipv6(host_interface)?;
    netlink.add_address(index, gateway)?;
    netlink.set_up(index)?;
    netlink.add_host_route(index, address, gateway)
}

/// Sets up the inner end. Called in the dyno's network namespace, with `/proc` still writable.
pub(super) fn wire_inside(address: Ipv4Addr, gateway: Ipv4Addr) -> io::Result<()> {
    let netlink = Netlink::open()?;
    netlink.set_up(netlink.index_of("lo")?)?;
    let index = netlink.index_of(INSIDE)?;
    disable_ipv6(INSIDE)?;
    netlink.add_address(index, address)?;
    netlink.set_up(index)?;
    netlink.add_default_route(index, gateway)
}
