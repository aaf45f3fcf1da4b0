//! `settings.toml` in the data directory: what an operator may change. Everything is optional.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub limits: LimitSettings,
    /// By the size's name: `[sizes."Standard-1X"]`.
    pub sizes: BTreeMap<String, SizeSettings>,
    pub network: NetworkSettings,
    pub router: RouterSettings,
    pub acme: AcmeSettings,
    pub deliveries: DeliverySettings,
    pub api: ApiSettings,
}

/// Time limits in seconds, fractions allowed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    pub boot_seconds: Option<f64>,
    pub exit_seconds: Option<f64>,
    pub drain_seconds: Option<f64>,
    pub attach_seconds: Option<f64>,
    pub session_idle_seconds: Option<f64>,
    pub release_phase_seconds: Option<f64>,
    pub build_seconds: Option<f64>,
    pub memory_report_seconds: Option<f64>,
    pub restart_backoff_min_seconds: Option<f64>,
    pub restart_backoff_max_seconds: Option<f64>,
    pub build_memory_mib: Option<u64>,
    pub build_disk_mib: Option<u64>,
    pub slug_mib: Option<u64>,
    pub upload_mib: Option<u64>,
    pub dyno_disk_mib: Option<u64>,
    pub push_mib: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizeSettings {
    pub memory_mib: Option<u64>,
    /// cgroup v2's scale, 1 to 10,000.
    pub cpu_weight: Option<u16>,
    /// Hundredths of one core.
    pub cpu_quota_percent: Option<u32>,
    pub processes_max: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// First address of the dynos' /16: `10.207.0.0`.
    pub range: Option<std::net::Ipv4Addr>,
    /// TCP ports of this machine that dynos may reach.
    pub host_ports: Vec<u16>,
    /// Private networks that dynos may reach, as `192.168.7.0/24`.
    pub allowed_networks: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterSettings {
    /// Fronts by name: `cloudflare`, `cloudfront`, `alb`, `nlb`.
    pub fronts: Vec<String>,
    /// Refuse what did not come through one of the fronts.
    pub only_fronts: bool,
    /// Fronts that have no name here, or more about those that have: `[[router.front]]`.
    pub front: Vec<FrontSettings>,
    /// Where `/metrics` and `/status` answer over TCP; loopback only.
    pub status_address: Option<SocketAddr>,
    pub limits: RouterLimitSettings,
}

impl Settings {
    /// What the router's process must know itself: the rest goes through the route table.
    pub fn of_router_process(&self) -> RouterProcessSettings {
        RouterProcessSettings {
            status_address: self.router.status_address,
            limits: self.router.limits.clone(),
            allowed_networks: self.deliveries.allowed_networks.clone(),
        }
    }
}

/// The supervisor hands these to the router, which may not read the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterProcessSettings {
    pub status_address: Option<SocketAddr>,
    pub limits: RouterLimitSettings,
    /// Private networks that requests may be passed on to.
    pub allowed_networks: Vec<String>,
}

/// Bounds of the router itself: `[router.limits]`. Seconds, fractions allowed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterLimitSettings {
    /// Connections of clients, all together.
    pub connections_max: Option<usize>,
    /// Requests and upgraded connections of one app.
    pub app_requests_max: Option<usize>,
    /// What is kept in memory of uploads and answers whose other side does not take them, all together.
    pub memory_mib: Option<usize>,
    /// How long a router that ends lets requests finish.
    pub drain_seconds: Option<f64>,
    /// From the first byte of a request's head to its last.
    pub head_seconds: Option<f64>,
    /// Heads of one client address that are on their way for more than a second.
    pub client_slow_heads_max: Option<usize>,
    /// The least that a client moves in a minute in which it is waited for; 0 is no such limit.
    pub client_minute_bytes_min: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FrontSettings {
    pub name: String,
    /// Instead of the preset's.
    pub networks: Vec<String>,
    pub client_header: Option<String>,
    pub proxy_protocol: Option<bool>,
    /// Where it ends TLS, if its PROXY headers do not tell.
    pub tls_ports: Option<Vec<u16>>,
    pub secret_header: Option<String>,
    /// A file that holds the value; only root need be able to read it.
    pub secret_file: Option<std::path::PathBuf>,
    /// PEM: who signed the client certificate that it must show.
    pub client_ca_file: Option<std::path::PathBuf>,
}

/// Where certificates are ordered for apps that want that.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcmeSettings {
    /// The operator has read the authority's terms of service and agrees. Nothing is ordered without.
    pub terms_agreed: bool,
    /// An e-mail address for the authority's messages.
    pub contact: Option<String>,
    /// The URL of the authority's directory, instead of Let's Encrypt's.
    pub directory: Option<String>,
    /// PEM: the authorities that the directory's own certificate is checked with, instead of the machine's.
    pub ca_file: Option<std::path::PathBuf>,
    /// Ways to show that a host leads here, in the order in which they are tried: `http-01`, `tls-alpn-01`.
    pub challenges: Option<Vec<String>>,
}

/// The Platform API: `[api]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// Requests of one account, both at once and in an hour; 0 is no limit.
    pub requests_per_hour: Option<u32>,
    /// PEM: the certificate that clients of the platform's own hosts are shown, with its intermediates, and its key.
    pub certificate_file: Option<std::path::PathBuf>,
    pub key_file: Option<std::path::PathBuf>,
}

/// What is sent to other people's servers, fetched from them and passed on to them for users.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliverySettings {
    /// Private networks that may be connected to, as `192.168.7.0/24`.
    pub allowed_networks: Vec<String>,
    /// A PEM file with authorities of one's own; a relative path begins in the data directory.
    pub ca_file: Option<std::path::PathBuf>,
}
