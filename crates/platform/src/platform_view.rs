//! Answers the API's questions about the running platform.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use api::state::{NoRouter, Platform};
use domain::id::AppId;
use jiff::Timestamp;
use reconciler::{PlatformHosts, RouterView};
use store::Store;
use tokio::sync::watch;
use uuid::Uuid;
use wire::platform_api::berth::{GarbageReport, RouterHealth};
use wire::routes::AppAdmission;
use wire::shim::Mechanism;

#[derive(Debug)]
pub(crate) struct PlatformView {
    pub(crate) data_dir: PathBuf,
    pub(crate) store: Arc<Store>,
    pub(crate) router: watch::Receiver<RouterView>,
    pub(crate) in_force: Arc<Mutex<BTreeSet<Mechanism>>>,
    pub(crate) hosts: PlatformHosts,
}

impl Platform for PlatformView {
    fn router_health(&self) -> Option<RouterHealth> {
        let view = self.router.borrow();
        view.connected.then(|| RouterHealth {
            pid: view.status.pid,
            generation: view.status.generation,
            requests_total: view.status.requests_total,
            connections: view.status.connections,
        })
    }

    fn admission_of(&self, route: Uuid) -> Option<AppAdmission> {
        let view = self.router.borrow();
        view.status.admission.iter().find(|admission| admission.app == route).cloned()
    }

    fn held_until_unix_ms(&self, app: AppId) -> Result<Option<u64>, NoRouter> {
        let view = self.router.borrow();
        if view.connected { Ok(view.held.get(&app.uuid()).copied()) } else { Err(NoRouter) }
    }

    fn certificate_until(&self, now: Timestamp) -> Option<Timestamp> {
        let managed = self.store.managed_certificates().unwrap_or_default();
        self.hosts.certificate_until(&managed, now)
    }

    fn in_force(&self) -> Vec<String> {
        let mechanisms = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let word = |mechanism: &Mechanism| {
            serde_json::to_value(mechanism).ok().and_then(|value| value.as_str().map(str::to_owned))
        };
        mechanisms.iter().filter_map(word).collect()
    }

    fn shell_command(&self, line: &str) -> Vec<String> {
        builder::runtime_environment::shell_command(line)
    }

    fn garbage(&self, delete: bool) -> io::Result<GarbageReport> {
        reconciler::garbage(&self.data_dir, &self.store, delete)
    }
}
