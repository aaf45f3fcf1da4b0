//! Reads `settings.toml` and lays it over the defaults.

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use builder::build::BuildLimits;
use domain::dyno_size::{ByteCount, DynoSize, default_sizes, find};
use domain::ip_network::IpNetwork;
use domain::rate_limit::RateLimit;
use domain::time_limits::TimeLimits;
use jiff::Timestamp;
use reconciler::{AcmeConfig, BroughtCertificate};
use router::Bounds;
use tracing::warn;
use wire::routes::FrontPolicy;
use wire::settings::{ApiSettings, RouterProcessSettings, Settings};

use crate::{acme, fronts, router_role, router_settings};

const MIB: u64 = 1024 * 1024;

/// What an end takes besides what it waits for.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// Settings with every default filled in.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(crate) limits: TimeLimits,
    pub(crate) build_limits: BuildLimits,
    pub(crate) slug_bytes_max: u64,
    pub(crate) upload_bytes_max: u64,
    pub(crate) dyno_disk_bytes: u64,
    pub(crate) sizes: Vec<DynoSize>,
    pub(crate) fronts: FrontPolicy,
    /// Networks that are not public and may be sent to.
    pub(crate) delivery_networks: Vec<IpNetwork>,
    pub(crate) settings: Settings,
    pub(crate) push_bytes_max: u64,
    pub(crate) acme: AcmeConfig,
    /// Of one account's requests to the API.
    pub(crate) rate_limit: Option<RateLimit>,
    /// For the platform's own hosts.
    pub(crate) api_certificate: Option<BroughtCertificate>,
}

pub(crate) fn read(data_dir: &Path) -> Result<Effective> {
    effective(load(data_dir)?).with_context(|| format!("in {}", path(data_dir).display()))
}

/// What the router's process must know itself.
pub(crate) fn of_router(data_dir: &Path) -> Result<RouterProcessSettings> {
    let settings = load(data_dir)?.of_router_process();
    router_settings::apply(&settings, Bounds::default()).with_context(|| format!("in {}", path(data_dir).display()))?;
    Ok(settings)
}

/// Networks that are not public and may be connected to.
pub(crate) fn networks(texts: &[String]) -> Result<Vec<IpNetwork>> {
    let networks = texts.iter().map(|network| network.parse());
    networks.collect::<Result<_, _>>().context("deliveries.allowed_networks names no network")
}

/// How long the whole platform may take to end before it is killed.
pub(crate) fn stop_limit(data_dir: &Path) -> Result<Duration> {
    stop_limit_of(load(data_dir)?).with_context(|| format!("in {}", path(data_dir).display()))
}

/// First requests finish, then dynos end.
fn stop_limit_of(settings: Settings) -> Result<Duration> {
    let (_status_address, bounds) = router_settings::apply(&settings.of_router_process(), Bounds::default())?;
    Ok(bounds.drain.saturating_add(effective(settings)?.limits.exit).saturating_add(STOP_SLACK))
}

/// Who stands in front of the router.
pub(crate) fn fronts(data_dir: &Path) -> Result<FrontPolicy> {
    fronts::policy(&load(data_dir)?.router).with_context(|| format!("in {}", path(data_dir).display()))
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("settings.toml")
}

fn load(data_dir: &Path) -> Result<Settings> {
    let path = path(data_dir);
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("cannot read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn effective(settings: Settings) -> Result<Effective> {
    let mut limits = TimeLimits::default();
    let given = &settings.limits;
    for (field, seconds, name) in [
        (&mut limits.boot, given.boot_seconds, "boot_seconds"),
        (&mut limits.exit, given.exit_seconds, "exit_seconds"),
        (&mut limits.drain, given.drain_seconds, "drain_seconds"),
        (&mut limits.attach, given.attach_seconds, "attach_seconds"),
        (&mut limits.session_idle, given.session_idle_seconds, "session_idle_seconds"),
        (&mut limits.release_phase, given.release_phase_seconds, "release_phase_seconds"),
        (&mut limits.build, given.build_seconds, "build_seconds"),
        (&mut limits.memory_report, given.memory_report_seconds, "memory_report_seconds"),
        (&mut limits.restart_backoff_min, given.restart_backoff_min_seconds, "restart_backoff_min_seconds"),
        (&mut limits.restart_backoff_max, given.restart_backoff_max_seconds, "restart_backoff_max_seconds"),
    ] {
        let Some(seconds) = seconds else { continue };
        *field = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| !time.is_zero())
            .with_context(|| format!("limits.{name} must be a positive number of seconds, not {seconds}"))?;
    }
    let mut build_limits =
        BuildLimits { deadline_ms: limits.build.as_secs().saturating_mul(1000), ..BuildLimits::default() };
    build_limits.memory_bytes = given.build_memory_mib.map_or(build_limits.memory_bytes, |mib| mib * MIB);
    build_limits.disk_bytes = given.build_disk_mib.map_or(build_limits.disk_bytes, |mib| mib * MIB);
    let mut sizes = default_sizes();
    for (name, change) in &settings.sizes {
        let Some(known) = find(&sizes, name).map(|size| size.name.clone()) else {
            bail!("there is no dyno size {name:?}; sizes are named as Heroku names them, for example \"Standard-1X\"");
        };
        for size in sizes.iter_mut().filter(|size| size.name == known) {
            size.memory = change.memory_mib.map_or(size.memory, ByteCount::mebibytes);
            size.cpu_weight = change.cpu_weight.unwrap_or(size.cpu_weight).clamp(1, 10_000);
            size.cpu_quota_percent = change.cpu_quota_percent.or(size.cpu_quota_percent);
            size.processes_max = change.processes_max.unwrap_or(size.processes_max);
        }
    }
    Ok(Effective {
        delivery_networks: networks(&settings.deliveries.allowed_networks)?,
        limits,
        build_limits,
        slug_bytes_max: given.slug_mib.map_or(builder::slug::SLUG_BYTES_MAX, |mib| mib * MIB),
        upload_bytes_max: given.upload_mib.unwrap_or(2048) * MIB,
        dyno_disk_bytes: given.dyno_disk_mib.unwrap_or(2048) * MIB,
        sizes,
        fronts: fronts::policy(&settings.router)?,
        acme: acme::config(&settings.acme, &router_role::system_bundle())?,
        push_bytes_max: given.push_mib.unwrap_or(1024) * MIB,
        rate_limit: match settings.api.requests_per_hour {
            None => Some(RateLimit::default()),
            Some(requests) => NonZeroU32::new(requests).map(RateLimit::per_hour),
        },
        api_certificate: api_certificate(&settings.api)?,
        settings,
    })
}

/// The certificate of the platform's own hosts, if the operator has brought one.
fn api_certificate(settings: &ApiSettings) -> Result<Option<BroughtCertificate>> {
    let (certificate, key) = match (&settings.certificate_file, &settings.key_file) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate, key),
        _one => bail!("api.certificate_file and api.key_file belong together"),
    };
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let brought = BroughtCertificate::new(&read(certificate)?, &read(key)?, Timestamp::now()).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{}: {}", certificate.display(), faults.join("; "))
    })?;
    if brought.is_none() {
        warn!("the certificate in {} has expired, and nobody is shown it", certificate.display());
    }
    Ok(brought)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_what_they_name_and_nothing_else() {
        let text = "[limits]\nboot_seconds = 2.5\n[sizes.\"standard-1x\"]\nmemory_mib = 64\n";
        let effective = effective(toml::from_str(text).unwrap()).unwrap();
        assert_eq!(effective.limits, TimeLimits { boot: Duration::from_millis(2500), ..TimeLimits::default() });
        assert_eq!(find(&effective.sizes, "Standard-1X").unwrap().memory, ByteCount::mebibytes(64));
        assert_eq!(find(&effective.sizes, "Standard-2X").unwrap().memory, ByteCount::mebibytes(1024));
    }

    #[test]
    fn an_end_takes_as_long_as_requests_and_dynos_may_take_together() {
        let seconds = |text: &str| stop_limit_of(toml::from_str(text).unwrap()).unwrap().as_secs();
        assert_eq!(seconds(""), 75);
        assert_eq!(seconds("[limits]\nexit_seconds = 300\n[router.limits]\ndrain_seconds = 100"), 415);
    }

    #[test]
    fn accounts_have_herokus_rate_limit_unless_another_one_is_set() {
        let limit = |text: &str| effective(toml::from_str(text).unwrap()).unwrap().rate_limit;
        assert_eq!(limit(""), Some(RateLimit::DEFAULT));
        assert_eq!(limit("[api]\nrequests_per_hour = 9000"), NonZeroU32::new(9000).map(RateLimit::per_hour));
        assert_eq!(limit("[api]\nrequests_per_hour = 0"), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("[limits]\nboot_seconds = 0", "boot_seconds"),
            ("[limits]\nexit_seconds = -1", "exit_seconds"),
            ("[sizes.huge]", "huge"),
            ("[api]\ncertificate_file = \"/x\"", "belong together"),
        ] {
            let error = effective(toml::from_str(text).unwrap()).unwrap_err();
            assert!(error.to_string().contains(expect), "{error}");
        }
        assert!(toml::from_str::<Settings>("[limits]\nboot = 1").is_err(), "a misspelt key is not ignored");
    }
}
