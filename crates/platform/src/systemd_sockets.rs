//! Listening sockets that systemd passes to a service (`sd_listen_fds`): they are open from descriptor 3 on.
//!
//! systemd keeps them while the service restarts, so no connection is refused meanwhile.

use std::net::TcpListener;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use rustix::process::{ForeignRawFd, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

const FIRST: ForeignRawFd = 3;

/// Those for HTTP, and those for TLS; `None` if this process was given none.
///
/// One is for TLS if the unit names it so (`FileDescriptorName=https`), or if it listens on this port.
pub(crate) fn take(https_port: Option<u16>) -> Result<Option<(Vec<TcpListener>, Vec<TcpListener>)>> {
    let variable = |name: &str| std::env::var(name).ok();
    let is_for_us = variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let Some(count) = variable("LISTEN_FDS").filter(|_count| is_for_us) else { return Ok(None) };
    let count: ForeignRawFd = count.parse().context("LISTEN_FDS is no number")?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let (mut http, mut https) = (Vec::new(), Vec::new());
    for number in FIRST..FIRST.saturating_add(count) {
        let listener = TcpListener::from(copy(number)?);
        let address = listener.local_addr().with_context(|| format!("descriptor {number} is no TCP socket"))?;
        let is_tls = match names.next() {
            Some("https") => true,
            Some("http") => false,
            _unnamed => https_port == Some(address.port()),
        };
        if is_tls { https.push(listener) } else { http.push(listener) }
    }
    if http.is_empty() && https.is_empty() {
        bail!("systemd passed no socket; name some in the unit's .socket file");
    }
    Ok(Some((http, https)))
}

/// A descriptor of this process whose number alone is known. The kernel checks that there is one.
fn copy(number: ForeignRawFd) -> Result<OwnedFd> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).context("cannot look at this process")?;
    pidfd_getfd(&this, number, PidfdGetfdFlags::empty())
        .with_context(|| format!("cannot take descriptor {number}, which LISTEN_FDS promises"))
}
