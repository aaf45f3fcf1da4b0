//! `berth router`: the data plane alone, and how `berth up` prepares it.
//!
//! The supervisor binds the ports and keeps them: while a router that crashed is started again, connections wait in the
//! kernel's backlog and none is refused. As root it also gives the router a user of its own, without any capability.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use router::{Bounds, Listen, RouterConfig};
use wire::routes::ROUTER_LOGS;

use crate::arguments::{PlatformOptions, RouterOptions};
use crate::data_dir::DataDir;
use crate::orphans::Orphans;
use crate::server::log_to_stderr;
use crate::{passed_sockets, router_settings, settings, systemd_sockets};

/// The router's user, just below the uids of apps. It needs no name.
pub(crate) const ROUTER_UID: u32 = 399_998;

/// Where Debian keeps the authorities that the machine trusts.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(crate) fn run(options: &RouterOptions) -> Result<()> {
    log_to_stderr();
    let data_dir = match (&options.instance, &options.platform.data_dir.data_dir) {
        (Some(instance), Some(_path)) if options.in_working_directory => {
            DataDir { path: PathBuf::from("."), instance: instance.clone() }
        }
        (Some(instance), Some(path)) => DataDir { path: path.clone(), instance: instance.clone() },
        (_, _) => DataDir::open(&options.platform.data_dir)?,
    };
    let platform = &options.platform;
    let settings = match &options.settings {
        Some(json) => serde_json::from_str(json).context("cannot read --settings")?,
        None => settings::of_router(&data_dir.path)?,
    };
    let (status_address, bounds) = router_settings::apply(&settings, Bounds::default())?;
    let inherited = |sockets: Vec<TcpListener>| -> Vec<Listen> { sockets.into_iter().map(Listen::Inherited).collect() };
    let (http, https) = match (options.inherited_listeners, systemd_sockets::take(platform.https_port)?) {
        (0, Some((http, https))) => (inherited(http), inherited(https)),
        (0, None) => {
            (own(platform, platform.http_port), platform.https_port.map_or_else(Vec::new, |port| own(platform, port)))
        }
        (plain, _) => {
            let mut http = passed_sockets::receive(io::stdin(), plain + options.inherited_tls_listeners)
                .context("cannot take the listening sockets over")?;
            let https = http.split_off(plain.min(http.len()));
            (inherited(http), inherited(https))
        }
    };
    let config = RouterConfig {
        data_dir: data_dir.path,
        instance: data_dir.instance,
        http,
        https,
        https_port: platform.https_port,
        http2_without_tls: true,
        ca_file: system_bundle(),
        upstream_networks: settings::networks(&settings.allowed_networks)?,
        threads: None,
        status_address,
        bounds,
    };
    Ok(router::run(config)?)
}

/// The authorities that this machine trusts, in PEM.
pub(crate) fn system_bundle() -> PathBuf {
    std::env::var_os("SSL_CERT_FILE").map_or_else(|| SYSTEM_BUNDLE.into(), PathBuf::from)
}

/// What the router serves on.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) http: Vec<TcpListener>,
    pub(crate) https: Vec<TcpListener>,
}

/// Binds the ports, or takes them over from a router that is about to end.
pub(crate) fn bind(options: &PlatformOptions, orphans: &Orphans) -> Result<Listeners> {
    let http = bind_port(options, orphans, options.http_port, "--http-port")?;
    let https = options.https_port.map(|port| bind_port(options, orphans, port, "--https-port")).transpose()?;
    Ok(Listeners { http, https: https.unwrap_or_default() })
}

fn bind_port(options: &PlatformOptions, orphans: &Orphans, port: u16, flag: &str) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses(options, port) {
        match orphans.listener(address).map_or_else(|| TcpListener::bind(address), Ok) {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6.
            Err(error) if !listeners.is_empty() && error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot listen on {address}; is the port in use? Choose another with {flag}")
                });
            }
        }
    }
    Ok(listeners)
}

/// Prepares the directory of a router with a user of its own. `false` where we may not give it one.
pub(crate) fn hand_over(data_dir: &Path) -> io::Result<bool> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    // The server looks into these, too, and must not be the one who makes them.
    for log in ROUTER_LOGS {
        fs::create_dir_all(data_dir.join(log))?;
    }
    give(&data_dir.join("router"), ROUTER_UID)?;
    Ok(true)
}

fn give(path: &Path, uid: u32) -> io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if data.uid() != uid {
        lchown(path, Some(uid), Some(uid))?;
    }
    if data.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid)?;
        }
    }
    Ok(())
}

/// `localhost` is for this machine only; any other domain is for everybody.
fn addresses(options: &PlatformOptions, port: u16) -> Vec<SocketAddr> {
    if options.domain == "localhost" {
        vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
    } else {
        vec![(Ipv6Addr::UNSPECIFIED, port).into()]
    }
}

fn own(options: &PlatformOptions, port: u16) -> Vec<Listen> {
    addresses(options, port).into_iter().map(Listen::Address).collect()
}
