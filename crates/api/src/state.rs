//! What handlers share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::dyno_size::DynoSize;
use domain::id::{AccountId, AppId};
use domain::ip_network::IpNetwork;
use jiff::Timestamp;
use store::Store;
use telemetry::log_store::LogStore;
use uuid::Uuid;
use wire::platform_api::berth::{GarbageReport, RouterHealth};
use wire::routes::AppAdmission;

use crate::browser_login::BrowserLogins;
use crate::exec::Exec;
use crate::grants::Grants;
use crate::port_tunnel::PortTunnels;
use crate::rate_limiter::RateLimiter;
use crate::run_session::RunSessions;
use crate::url_signer::UrlSigner;

/// The installation as the API needs to know it.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    pub data_dir: PathBuf,
    pub instance: String,
    /// Apps answer at `<app>.<domain>`.
    pub domain: String,
    pub http_port: u16,
    /// Where the API answers for other machines.
    pub public_url: Option<String>,
    pub sizes: Vec<DynoSize>,
    /// The executable that git hooks call.
    pub berth_executable: PathBuf,
    /// Largest upload of a source or slug archive, in bytes.
    pub upload_bytes_max: u64,
    /// What is reduced on this machine, one sentence each; empty with full isolation.
    pub reduced: Vec<String>,
    pub full_isolation: bool,
    /// Largest pack of a `git push`, in bytes.
    pub push_bytes_max: u64,
    /// How long a session in a dyno may be silent.
    pub session_idle: Duration,
    /// Networks that are not public and that users may have connections made to.
    pub outgoing_networks: Vec<IpNetwork>,
    /// Where certificates are ordered, by the URL of its directory.
    pub acme_directory: String,
    /// Whether the operator has agreed to its terms.
    pub acme_terms_agreed: bool,
}

/// Nobody knows what the router does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the router is not connected")]
pub struct NoRouter;

/// Questions about the running platform that only its other parts can answer.
pub trait Platform: Send + Sync + std::fmt::Debug {
    fn router_health(&self) -> Option<RouterHealth>;
    /// What the router knows of an app's requests; `None` while it has none to know.
    fn admission(&self, app: AppId) -> Option<AppAdmission> {
        self.admission_of(app.uuid())
    }
    /// The same of a part of an app that has a route of its own.
    fn admission_of(&self, route: Uuid) -> Option<AppAdmission>;
    /// Until when the router holds an app's requests.
    ///
    /// # Errors
    /// The router cannot be asked.
    fn held_until_unix_ms(&self, app: AppId) -> Result<Option<u64>, NoRouter>;
    /// Until when the certificate is good that clients of the API are shown by the router.
    fn certificate_until(&self, now: Timestamp) -> Option<Timestamp>;
    /// Isolation mechanisms that are in force on running dynos.
    fn in_force(&self) -> Vec<String>;
    /// The argument vector that runs a command line in a dyno, as every other command of an app is run.
    fn shell_command(&self, line: &str) -> Vec<String>;
    /// What could be deleted, or was.
    fn garbage(&self, delete: bool) -> std::io::Result<GarbageReport>;
}

#[derive(Debug)]
pub struct ApiState {
    pub store: Arc<Store>,
    pub logs: Arc<LogStore>,
    pub config: ApiConfig,
    pub signer: UrlSigner,
    /// Requests of each account.
    pub requests: RateLimiter<AccountId>,
    /// Attempts to log in by browser, of each client.
    pub logins: RateLimiter<Option<IpNetwork>>,
    pub browser_logins: BrowserLogins,
    pub grants: Grants,
    pub platform: Arc<dyn Platform>,
    pub exec: Exec,
    pub run_sessions: RunSessions,
    pub port_tunnels: PortTunnels,
}

impl ApiState {
    /// The current time: handlers read the clock here and pass it on.
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The URL of an app for people.
    pub fn web_url(&self, app: &str) -> String {
        let port = if self.config.http_port == 80 { String::new() } else { format!(":{}", self.config.http_port) };
        format!("http://{app}.{}{port}/", self.config.domain)
    }

    /// Writes a line of the platform's into an app's log: `app[api]: Deploy 1a2b3c by ada@example.com`.
    pub fn log_api(&self, app: AppId, text: &str) {
        let line = telemetry::line::NewLine::api(self.now(), text);
        if let Err(error) = self.logs.append(app.uuid(), &[line]) {
            tracing::warn!(app.id = %app, %error, "cannot write to the app's log");
        }
    }

    /// Ends an output stream with a last line.
    pub(crate) fn end_output(&self, stream: Uuid, text: &str) {
        let line = telemetry::line::NewLine::platform(self.now(), "build", text);
        let now = u64::try_from(self.now().as_microsecond()).unwrap_or(0);
        if let Err(error) = self.logs.append(stream, &[line]).and_then(|()| self.logs.end(stream, now)) {
            tracing::warn!(%stream, %error, "cannot end an output stream");
        }
    }
}
