//! The settings that the router's process has itself, laid over its defaults.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use router::Bounds;
use wire::settings::RouterProcessSettings;

const MIB: usize = 1024 * 1024;

/// Where it tells its status over TCP, and its bounds.
pub(crate) fn apply(settings: &RouterProcessSettings, mut bounds: Bounds) -> Result<(Option<SocketAddr>, Bounds)> {
    if let Some(address) = settings.status_address.filter(|address| !address.ip().is_loopback()) {
        bail!("router.status_address must be one of this machine alone, such as 127.0.0.1:9191, not {address}");
    }
    let given = &settings.limits;
    bounds.client_slow_heads_max = given.client_slow_heads_max.unwrap_or(bounds.client_slow_heads_max);
    bounds.client_pace.bytes = given.client_minute_bytes_min.unwrap_or(bounds.client_pace.bytes);
    for (bound, number, unit, name) in [
        (&mut bounds.connections_max, given.connections_max, 1, "connections_max"),
        (&mut bounds.app_requests_max, given.app_requests_max, 1, "app_requests_max"),
        (&mut bounds.held_bytes_max, given.memory_mib, MIB, "memory_mib"),
    ] {
        let Some(number) = number else { continue };
        if number == 0 {
            bail!("router.limits.{name} must be 1 at least");
        }
        *bound = number.saturating_mul(unit);
    }
    for (bound, seconds, name) in [
        (&mut bounds.drain, given.drain_seconds, "drain_seconds"),
        (&mut bounds.head, given.head_seconds, "head_seconds"),
    ] {
        let Some(seconds) = seconds else { continue };
        *bound = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| !time.is_zero())
            .with_context(|| format!("router.limits.{name} must be a positive number of seconds, not {seconds}"))?;
    }
    Ok((settings.status_address, bounds))
}

#[cfg(test)]
mod tests {
    use wire::settings::Settings;

    use super::*;

    #[test]
    fn limits_change_what_they_name() {
        let (_address, bounds) = applied("[router.limits]\ndrain_seconds = 300\nclient_minute_bytes_min = 0").unwrap();
        assert_eq!(bounds.client_pace.bytes, 0);
        assert_eq!((bounds.drain, bounds.lame_duck), (Duration::from_secs(300), Bounds::default().lame_duck));
        let (_address, bounds) = applied("[router.limits]\nmemory_mib = 64\nconnections_max = 500").unwrap();
        assert_eq!((bounds.held_bytes_max, bounds.connections_max), (64 << 20, 500));
        for limit in ["drain_seconds", "connections_max", "app_requests_max", "memory_mib"] {
            let error = applied(&format!("[router.limits]\n{limit} = 0")).unwrap_err();
            assert!(error.to_string().contains(&format!("router.limits.{limit}")), "{error}");
        }
    }

    fn applied(text: &str) -> Result<(Option<SocketAddr>, Bounds)> {
        let settings: Settings = toml::from_str(text).unwrap();
        apply(&settings.of_router_process(), Bounds::default())
    }

    #[test]
    fn the_status_is_told_to_this_machine_only() {
        let (address, _bounds) = applied("[router]\nstatus_address = \"127.0.0.1:9191\"").unwrap();
        assert_eq!(address, Some("127.0.0.1:9191".parse().unwrap()));
        let error = applied("[router]\nstatus_address = \"0.0.0.0:9191\"").unwrap_err();
        assert!(error.to_string().contains("status_address"), "{error}");
    }
}
