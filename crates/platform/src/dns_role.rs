//! `berth dns`: answers dynos' questions for names, where the machine's only resolver is on its own loopback.
//!
//! A process of its own, because names must resolve while the server is away.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shim::dns::{Forwarder, Upstreams};

use crate::arguments::DnsOptions;
use crate::server::log_to_stderr;

const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The server says here where dynos ask; below the data directory.
const GATEWAY_FILE: &str = "run/dns-gateway";

/// How often a forwarder that started before its server looks for that.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &DnsOptions) -> Result<()> {
    log_to_stderr();
    let listen = match (options.listen, &options.data_dir.data_dir) {
        (Some(listen), _) => listen,
        (None, Some(data_dir)) => SocketAddrV4::new(wait_for_gateway(&data_dir.join(GATEWAY_FILE)), DNS_PORT),
        (None, None) => anyhow::bail!("name the address with --listen, for example --listen 10.207.255.254:53"),
    };
    let upstreams = match options.upstream.as_slice() {
        [] => Upstreams::File(PathBuf::from(RESOLV_CONF)),
        fixed => Upstreams::Fixed(fixed.iter().copied().map(SocketAddr::from).collect()),
    };
    match Forwarder::bind(listen)?.serve(&upstreams)? {}
}

/// Whether this machine needs the forwarder: it names resolvers, but none that a dyno could reach.
pub(crate) fn is_needed() -> Result<bool> {
    let reachable = shim::host::nameservers().context("cannot read /etc/resolv.conf")?;
    Ok(rustix::process::geteuid().is_root() && reachable.is_empty())
}

/// Tells the forwarder where to listen.
pub(crate) fn announce(data_dir: &Path, gateway: Ipv4Addr) -> Result<()> {
    Ok(wire::state_file::write_bytes(&data_dir.join(GATEWAY_FILE), gateway.to_string().as_bytes())?)
}

fn wait_for_gateway(path: &Path) -> Ipv4Addr {
    loop {
        if let Some(gateway) = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return gateway;
        }
        std::thread::sleep(PAUSE);
    }
}
