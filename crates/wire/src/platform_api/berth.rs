//! Resources that only Berth has, under `/berth/…`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BuildCreate, ConfigVarsUpdate, Dyno, DynoCreate, IdName};

/// `GET /berth/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub instance: String,
    /// `full`, or `development` without root: no promise between apps.
    pub mode: String,
    /// What is reduced and why, one sentence each.
    pub reduced: Vec<String>,
    /// Isolation in force, as the sandbox reports it.
    pub in_force: Vec<String>,
    pub data_dir: String,
    pub domain: String,
    pub http_port: u16,
    /// Where the API answers for other machines, if it does.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Until when the certificate is good that clients are shown there; none without one.
    #[serde(default)]
    pub api_certificate_until: Option<String>,
    /// Why the last order of one failed; none if it did not.
    #[serde(default)]
    pub api_certificate_failure: Option<String>,
    pub apps: u64,
    pub dynos: u64,
    pub router: Option<RouterHealth>,
    pub disk_free_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHealth {
    pub pid: u32,
    pub generation: u64,
    pub requests_total: u64,
    pub connections: u64,
}

/// `GET /berth/apps/{app}/releases/{release}`: what Heroku's three status words cannot say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProgress {
    pub id: Uuid,
    pub version: u64,
    /// `held`, `pending`, `preparing`, `rolling_out`, `serving`, `superseded`, `failed`.
    pub state: String,
    /// Why it failed, with the last log lines of the dyno that did not become ready.
    pub failure: Option<String>,
}

/// `GET /berth/apps/{app}/builds/{build}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProgress {
    pub id: Uuid,
    /// `pending`, `succeeded`, `failed`, `canceled`.
    pub status: String,
    pub failure: Option<String>,
    pub release: Option<Uuid>,
    pub release_version: Option<u64>,
}

/// `POST /berth/apps/{app}/builds`: a build whose release may wait for `releases:resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBuildCreate {
    #[serde(flatten)]
    pub build: BuildCreate,
    pub hold: bool,
}

/// `POST /berth/apps/{app}/releases/{release}/rollback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rollback {
    /// Run the release phase of the old code, too.
    #[serde(default)]
    pub release_phase: bool,
}

/// `PATCH /berth/apps/{app}/config-vars`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigChange {
    pub vars: ConfigVarsUpdate,
    /// Run the release phase with the changed config vars.
    #[serde(default)]
    pub release_phase: bool,
}

/// `POST /berth/apps/{app}/runs`: a one-off dyno of any release that was built, whose output can be followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCreate {
    #[serde(flatten)]
    pub dyno: DynoCreate,
    /// `v12`, a number or an id; the serving release if absent.
    #[serde(default)]
    pub release: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub dyno: Dyno,
    /// Plain text, ends when the process has ended.
    pub output_stream_url: String,
}

/// `GET /berth/apps/{app}/runs/{dyno}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    pub id: Uuid,
    pub name: String,
    /// `requested`, `starting`, `up`, `stopping`, `exited`.
    pub state: String,
    pub exit_status: Option<i32>,
    /// As the sandbox says it: `exited`, `signalled`, `out_of_memory`, `unknown`, …
    pub exit_reason: Option<String>,
}

/// `GET /berth/gc` shows, `POST /berth/gc` deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageReport {
    pub items: Vec<GarbageItem>,
    pub bytes_total: u64,
    pub deleted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageItem {
    /// `slug`, `source`, `build`, `cache`, `output`, `runtime`.
    pub kind: String,
    pub path: String,
    pub bytes: u64,
    pub reason: String,
}

/// `GET /berth/apps/{app}/concurrency`, and the answer to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Only `web` gets requests.
    pub process_type: String,
    /// Requests that one dyno may have at once; `None` leaves it to the router to learn.
    pub declared: Option<u32>,
    /// What the router has learned, where nothing is declared and a dyno was busy.
    pub learned: Option<u32>,
    pub in_flight: u32,
    pub queued: u32,
}

/// `PATCH /berth/apps/{app}/concurrency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyUpdate {
    pub process_type: String,
    pub concurrency: Option<u32>,
}

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub id: Uuid,
    pub email: String,
    /// May do everything.
    pub administrator: bool,
    pub created_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonInvite {
    pub email: String,
    #[serde(default)]
    pub administrator: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonUpdate {
    pub administrator: bool,
}

/// Without its text where it is printed for debugging.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    #[serde(flatten)]
    pub person: Person,
    /// To be given where a token is asked for, once.
    pub invitation: String,
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("person", &self.person).finish_non_exhaustive()
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: String,
    pub account: Uuid,
    /// The address of the account.
    pub email: String,
    pub action: String,
    pub target: String,
    pub origin: String,
}

/// A code was shown for an app: until then the token that showed it may change the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreAuthorization {
    pub app: IdName,
    pub created_at: String,
    pub expires_at: String,
}

/// What an authenticator app is given, once. Without the secret where it is printed for debugging.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoFactorSecret {
    /// Base 32.
    pub secret: String,
    /// `otpauth://…`, for a QR code.
    pub url: String,
}

impl std::fmt::Debug for TwoFactorSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TwoFactorSecret")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoFactorCode {
    pub code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoFactorState {
    pub enabled: bool,
}
