//! The installation as the reconciler needs to know it.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use builder::build::BuildLimits;
use builder::host::Host;
use domain::dyno_size::DynoSize;
use domain::ip_network::IpNetwork;
use domain::time_limits::TimeLimits;
use wire::routes::FrontPolicy;

use crate::acme::AcmeConfig;
use crate::platform_hosts::PlatformHosts;

#[derive(Debug, Clone)]
pub struct ReconcilerConfig {
    pub data_dir: PathBuf,
    /// Eight hex digits.
    pub instance: String,
    /// Apps answer at `<app>.<domain>`.
    pub domain: String,
    /// The executable that runs shims and builds.
    pub berth: PathBuf,
    pub network: DynoNetwork,
    pub sizes: Vec<DynoSize>,
    pub limits: TimeLimits,
    pub build_limits: BuildLimits,
    pub host: Host,
    /// Largest slug archive in bytes.
    pub slug_bytes_max: u64,
    /// Ephemeral disk of one dyno in bytes.
    pub dyno_disk_bytes: u64,
    /// Who stands in front of the router.
    pub fronts: Arc<FrontPolicy>,
    /// Networks that are not public and that sources may be fetched from.
    pub outgoing_networks: Arc<[IpNetwork]>,
    /// Where certificates are ordered; `None` until its terms are agreed to.
    pub acme: Option<AcmeConfig>,
    pub platform_hosts: PlatformHosts,
}

/// Where dynos get their addresses.
#[derive(Debug, Clone)]
pub enum DynoNetwork {
    /// A namespace per dyno, with an address from this /16.
    Isolated { range: Ipv4Addr, gateway: Ipv4Addr, nameservers: Vec<Ipv4Addr> },
    /// The host's own network: a port per dyno, counted from this one.
    Host { first_port: u16 },
}

/// The port that every dyno of an isolated network is told to bind.
pub(crate) const DYNO_PORT: u16 = 5000;

impl ReconcilerConfig {
    pub(crate) fn run_dir(&self, dyno: domain::id::DynoId) -> PathBuf {
        self.data_dir.join("run").join(dyno.to_string())
    }
}
