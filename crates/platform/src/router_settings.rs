//! The settings that the router's process has itself, laid over its defaults.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use router::Bounds;
use wire::settings::RouterProcessSettings;

/// Where it tells its status over TCP, and its bounds.
pub(crate) fn apply(settings: &RouterProcessSettings, bounds: Bounds) -> Result<(Option<SocketAddr>, Bounds)> {
    if let Some(address) = settings.status_address.filter(|address| !address.ip().is_loopback()) {
        bail!("router.status_address must be one of this machine alone, such as 127.0.0.1:9191, not {address}");
    }
    Ok((settings.status_address, bounds))
}

#[cfg(test)]
mod tests {
    use wire::settings::Settings;

    use super::*;

    fn applied(text: &str) -> Result<(Option<SocketAddr>, Bounds)> {
        let settings: Settings = toml::from_str(text).unwrap();
        apply(&settings.router.of_process(), Bounds::default())
    }

    #[test]
    fn the_status_is_told_to_this_machine_only() {
        let (address, _bounds) = applied("[router]\nstatus_address = \"127.0.0.1:9191\"").unwrap();
        assert_eq!(address, Some("127.0.0.1:9191".parse().unwrap()));
        let error = applied("[router]\nstatus_address = \"0.0.0.0:9191\"").unwrap_err();
        assert!(error.to_string().contains("status_address"), "{error}");
    }
}
