//! What a shim is told to run: spec and environment of one dyno. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use builder::dirs::{DataDirs, Layout};
use builder::runtime_environment::{runtime_environment, shell_command};
use domain::config::ConfigVars;
use domain::dyno::{DynoKind, DynoName};
use domain::dyno_size::{self, DynoSize, default_web_concurrency};
use domain::id::DynoId;
use domain::memory_quota::HARD_LIMIT_FACTOR;
use domain::secret::Secret;
use wire::build::Manifest;
use wire::shim::{Environment, Identity, Limits, LogLimits, Mount, Network, PROTOCOL, Spec, Terminal};

use crate::config::{DynoNetwork, ReconcilerConfig};
use crate::routes;

/// Everything that decides what one dyno runs.
#[derive(Debug)]
pub(crate) struct DynoPlan<'a> {
    pub(crate) dyno: DynoId,
    pub(crate) name: &'a DynoName,
    pub(crate) kind: DynoKind,
    pub(crate) command: &'a str,
    pub(crate) size: &'a str,
    pub(crate) slot: u32,
    pub(crate) uid: u32,
    pub(crate) slug_sha256: &'a str,
    pub(crate) manifest: &'a Manifest,
    pub(crate) config: &'a ConfigVars,
    /// Of a one-off, laid over the config vars.
    pub(crate) extra_env: &'a ConfigVars,
    pub(crate) attach: Option<domain::attach::Attach>,
    pub(crate) time_to_live_s: Option<u32>,
}

/// How long a one-off may run that was given no time of its own (Heroku's).
const ONE_OFF_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Open files of one process. Heroku allows 10,000 on common runtime dynos.
const OPEN_FILES_MAX: u32 = 10_000;

/// Gives the spec and the environment, which holds secrets and goes to the shim through memory only.
pub(crate) fn launch(plan: &DynoPlan<'_>, config: &ReconcilerConfig) -> (Spec, Secret<Environment>) {
    let dirs = DataDirs::new(&config.data_dir);
    let layout = Layout::default();
    let size = size_or_smallest(&config.sizes, plan.size);
    let runtime = runtime_environment(plan.manifest, &dirs, &layout, &config.berth);

    let mut environment: Environment = runtime.defaults;
    let exposed = |vars: &ConfigVars| -> BTreeMap<String, String> {
        vars.iter().map(|(key, value)| (key.to_string(), value.expose().clone())).collect()
    };
    environment.extend(exposed(plan.config));
    environment.extend(exposed(plan.extra_env));
    environment.entry("WEB_CONCURRENCY".to_owned()).or_insert_with(|| default_web_concurrency(size.memory).to_string());
    environment.insert("DYNO".to_owned(), plan.name.to_string());
    environment.insert("PORT".to_owned(), routes::port(&config.network, plan.slot).to_string());

    let mut mounts = vec![
        Mount::Overlay {
            lower: dirs.slugs().join(plan.slug_sha256).join(builder::slug::TREE),
            target: layout.app.clone(),
        },
        Mount::Scratch { target: PathBuf::from("/tmp") },
    ];
    mounts.extend(runtime.mounts);
    let spec = Spec {
        protocol: PROTOCOL,
        instance: config.instance.clone(),
        dyno: plan.dyno.uuid(),
        name: plan.name.to_string(),
        hostname: hostname(plan.dyno),
        command: shell_command(plan.command),
        working_dir: layout.app.clone(),
        identity: identity(plan.uid, &layout),
        mounts,
        limits: Limits {
            memory_bytes: Some(size.memory.0.saturating_mul(HARD_LIMIT_FACTOR)),
            cpu_weight: size.cpu_weight,
            cpu_quota_percent: size.cpu_quota_percent,
            processes_max: size.processes_max,
            open_files_max: OPEN_FILES_MAX,
            disk_bytes: Some(config.dyno_disk_bytes),
        },
        network: network(config, plan.slot, plan.name.process_type.is_web()),
        log: LogLimits::default(),
        stop_grace_ms: millis(config.limits.exit),
        deadline_ms: deadline(plan, config).map(millis),
        required: Vec::new(),
        attach: plan.attach.map(|attach| wire::shim::Attach {
            terminal: match attach {
                domain::attach::Attach::Terminal(size) => Some(Terminal { rows: size.rows, columns: size.columns }),
                domain::attach::Attach::Pipes => None,
            },
            wait_ms: millis(config.limits.attach),
        }),
    };
    (spec, Secret::new(environment))
}

fn deadline(plan: &DynoPlan<'_>, config: &ReconcilerConfig) -> Option<Duration> {
    match plan.kind {
        DynoKind::ReleasePhase => Some(config.limits.release_phase),
        DynoKind::OneOff => {
            Some(plan.time_to_live_s.map_or(ONE_OFF_MAX, |seconds| Duration::from_secs(seconds.into())))
        }
        DynoKind::Formation | DynoKind::Build => None,
    }
}

/// The network of a process with this slot.
pub(crate) fn network(config: &ReconcilerConfig, slot: u32, serves: bool) -> Network {
    match &config.network {
        DynoNetwork::Isolated { range, gateway, nameservers } => {
            let address = Ipv4Addr::from(u32::from(*range).wrapping_add(slot));
            Network::Isolated {
                address,
                gateway: *gateway,
                host_interface: shim::host::host_interface(&config.instance, address),
                nameservers: nameservers.clone(),
            }
        }
        DynoNetwork::Host { .. } => Network::Host { port: serves.then(|| routes::port(&config.network, slot)) },
    }
}

/// The host's end of the link of a dyno with this slot, where dynos have links.
pub(crate) fn host_interface(config: &ReconcilerConfig, slot: u32) -> Option<String> {
    match network(config, slot, false) {
        Network::Isolated { host_interface, .. } => Some(host_interface),
        Network::Host { .. } => None,
    }
}

pub(crate) fn identity(uid: u32, layout: &Layout) -> Identity {
    Identity { uid, gid: uid, user_name: format!("u{uid}"), home: layout.app.clone() }
}

/// Unique on the machine and short: an app that logs its host name shows which dyno it was.
pub(crate) fn hostname(dyno: DynoId) -> String {
    dyno.to_string()
}

pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A size whose name the operator has removed since must not stop an app from starting.
pub(crate) fn size_or_smallest(sizes: &[DynoSize], name: &str) -> DynoSize {
    let smallest = || sizes.iter().min_by_key(|size| size.memory);
    dyno_size::find(sizes, name).or_else(smallest).cloned().unwrap_or_else(|| dyno_size::default_sizes().remove(0))
}
