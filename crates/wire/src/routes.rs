//! The route table and the router's admin socket.
//!
//! The router listens, the server connects. The server sends one [`ToRouter::Update`] per change; the router answers
//! [`FromRouter::Applied`] once every thread serves from that generation, or [`FromRouter::NeedWhole`] if it does not
//! have the base, after which the server sends the whole table.

use std::net::SocketAddr;
use std::time::Duration;

use domain::routing::{self, PageUrls, RoutingSettings};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::secret_text;
use crate::traffic::TrafficSecond;

pub const PROTOCOL: u32 = 1;

/// The name of the admin socket in the data directory.
pub const ROUTER_SOCKET: &str = "router/admin.sock";

/// The rings of the router's request log in the data directory. One router writes one of them, the first that is free:
/// while an old one finishes its requests beside its successor, they are two.
pub const ROUTER_LOGS: [&str; 3] = ["router/log", "router/log-2", "router/log-3"];

/// And of the one where it answers `/metrics` and `/status` over HTTP.
pub const STATUS_SOCKET: &str = "router/status.sock";

/// Where the server takes requests for the platform's own hosts from the router: what the router says about their
/// clients is believed there, and nobody but the router's user may connect.
pub const SERVER_SOCKET: &str = "router/server.sock";

/// Everything the router serves from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RouteTable {
    pub generation: u64,
    pub apps: Vec<AppRoute>,
    #[serde(default)]
    pub certificates: Vec<CertificateRoute>,
    #[serde(default)]
    pub fronts: FrontPolicy,
    #[serde(default)]
    pub challenges: Vec<ChallengeRoute>,
}

/// Who stands between clients and the router, and is believed about them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FrontPolicy {
    pub fronts: Vec<FrontRoute>,
    /// Requests that did not come through one of them are refused.
    pub only: bool,
    /// Where no front is, whatever the fronts' networks say: other people's code runs there.
    pub never: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FrontRoute {
    /// As in messages: `cloudflare`.
    pub name: String,
    /// Where it comes from, as `10.0.0.0/8`.
    pub networks: Vec<String>,
    /// The header with the client's address alone. Without one, `X-Forwarded-For` is read from the right.
    pub client_header: Option<String>,
    /// Its connections begin with the PROXY protocol. Then its requests are the client's own, and not believed.
    pub proxy_protocol: bool,
    /// With that: the ports of its own at which it ends TLS, which the PROXY protocol need not tell.
    pub tls_ports: Vec<u16>,
    /// What it adds to each request to show that it is this one, and not somebody else's at the same provider.
    pub secret: Option<FrontSecret>,
    /// PEM: the authorities of the certificate that it shows over TLS for the same purpose. Its requests over plain HTTP
    /// are then refused.
    pub client_ca: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontSecret {
    pub header: String,
    #[serde(with = "secret_text")]
    pub value: Secret<String>,
}

/// How requests for one app's hosts are handled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRoute {
    pub app: Uuid,
    pub name: String,
    /// The app whose log its requests stand in, where this is only the part of that app's hosts which has not moved in
    /// yet. Otherwise its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_for: Option<Uuid>,
    /// Lower case, without port. The first one is used as `Host` of probes.
    pub hosts: Vec<String>,
    pub availability: Availability,
    pub dynos: Vec<DynoRoute>,
    #[serde(default)]
    pub limits: RequestLimits,
    #[serde(default)]
    pub edge: EdgeSettings,
    #[serde(default)]
    pub admission: AdmissionSettings,
}

/// How an app's requests wait for its dynos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdmissionSettings {
    /// Longest wait for a slot while the queue stands under overload, else `H11`.
    pub queue_target_ms: u64,
    /// What was learned earlier about how many requests a dyno works on at once, where no concurrency is declared.
    pub workers_hint: Option<u32>,
    /// Until then requests are held, in milliseconds since the Unix epoch.
    pub held_until_unix_ms: Option<u64>,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self { queue_target_ms: 500, workers_hint: None, held_until_unix_ms: None }
    }
}

/// What the router does for an app between client and dyno. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgeSettings {
    /// Requests over plain HTTP are sent to the same address over HTTPS.
    pub https_only: bool,
    /// `Strict-Transport-Security`, on answers over HTTPS that have none from the app.
    pub hsts: Option<Hsts>,
    /// What those of its dynos speak that do not say. `H2c` if any does, or will: then every request is ready for both.
    pub dyno_protocol: DynoProtocol,
    /// Responses that gain from it are compressed for clients that take it. An app whose pages hold secrets beside what
    /// an attacker can put there must not want this (BREACH).
    pub compression: bool,
    /// A client's requests go to the dyno that answered its first one, as long as that can take them.
    pub session_affinity: bool,
    /// Where requests go instead of to dynos, as `https://old-host.example`: with the app's own host, so that its
    /// domains can lead here before the app does.
    pub upstream: Option<String>,
    /// Requests are for the platform's own server and go to its [`SERVER_SOCKET`] instead of to dynos.
    pub to_server: bool,
    /// Longer request bodies are refused with 413. `None` is no limit.
    pub request_bytes_max: Option<u64>,
    /// Shown instead of the router's own page under maintenance (`H80`), to those who ask for HTML.
    pub maintenance_page: Option<Page>,
    /// Shown instead of the router's own pages for other errors of the app or the platform.
    pub error_page: Option<Page>,
}

/// A page of the app's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// At most [`domain::routing::PAGE_BYTES_MAX`]; a longer one is not shown.
    Html(String),
    /// Shown in a frame, as on Heroku: browsers fetch it from there.
    Url(String),
}

impl Page {
    /// HTML of the app's own counts more than an address: whoever has both has set it by hand.
    fn of(html: Option<&String>, url: Option<&String>) -> Option<Self> {
        html.cloned().map(Self::Html).or_else(|| url.cloned().map(Self::Url))
    }
}

impl EdgeSettings {
    /// Whether requests go somewhere else than to dynos.
    pub fn is_elsewhere(&self) -> bool {
        self.to_server || self.upstream.is_some()
    }

    /// What an app's settings and config vars come to at the router.
    pub fn new(settings: &RoutingSettings, urls: &PageUrls) -> Self {
        Self {
            https_only: settings.https_only,
            hsts: settings.hsts.map(Hsts::from),
            dyno_protocol: settings.dyno_protocol.into(),
            compression: settings.compression,
            session_affinity: settings.session_affinity,
            upstream: None,
            to_server: false,
            request_bytes_max: settings.request_bytes_max,
            maintenance_page: Page::of(settings.maintenance_page.as_ref(), urls.maintenance.as_ref()),
            error_page: Page::of(settings.error_page.as_ref(), urls.error.as_ref()),
        }
    }
}

impl From<routing::Hsts> for Hsts {
    fn from(hsts: routing::Hsts) -> Self {
        let routing::Hsts { max_age, include_subdomains, preload } = hsts;
        Self { max_age_seconds: max_age.as_secs(), include_subdomains, preload }
    }
}

impl From<Hsts> for routing::Hsts {
    fn from(hsts: Hsts) -> Self {
        let Hsts { max_age_seconds, include_subdomains, preload } = hsts;
        Self { max_age: Duration::from_secs(max_age_seconds), include_subdomains, preload }
    }
}

impl From<routing::DynoProtocol> for DynoProtocol {
    fn from(protocol: routing::DynoProtocol) -> Self {
        match protocol {
            routing::DynoProtocol::Http1 => Self::Http1,
            routing::DynoProtocol::H2c => Self::H2c,
        }
    }
}

impl From<DynoProtocol> for routing::DynoProtocol {
    fn from(protocol: DynoProtocol) -> Self {
        match protocol {
            DynoProtocol::Http1 => Self::Http1,
            DynoProtocol::H2c => Self::H2c,
        }
    }
}

impl From<&RoutingSettings> for RequestLimits {
    fn from(settings: &RoutingSettings) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            first_byte_ms: ms(settings.timeout),
            idle_ms: ms(settings.idle_timeout),
            boot_wait_ms: ms(settings.boot_wait),
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DynoProtocol {
    #[default]
    Http1,
    /// HTTP/2 without TLS and without asking first, as gRPC servers do. Upgrades (WebSocket) do not exist there.
    H2c,
}

/// What browsers are told about plain HTTP (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    pub max_age_seconds: u64,
    #[serde(default)]
    pub include_subdomains: bool,
    #[serde(default)]
    pub preload: bool,
}

/// A certificate with its key, and the hosts that it is presented for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRoute {
    pub certificate: Uuid,
    /// Lower case; `*.shop.example` stands for one label. An exact host wins over a wildcard.
    pub hosts: Vec<String>,
    /// PEM: the certificate itself first, then its intermediates.
    pub chain: String,
    /// PEM.
    #[serde(with = "secret_text")]
    pub key: Secret<String>,
    /// Presented to clients that name no host, or one that no certificate is for.
    #[serde(default)]
    pub fallback: bool,
}

/// What a certificate authority that asks whether a host leads here is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeRoute {
    /// Lower case.
    pub host: String,
    pub answer: ChallengeAnswer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChallengeAnswer {
    /// For `http-01`: the contents of `/.well-known/acme-challenge/<token>`.
    Http { token: String, key_authorization: String },
    /// For `tls-alpn-01`: the certificate for whoever speaks `acme-tls/1`, and its key; both PEM.
    TlsAlpn {
        chain: String,
        #[serde(with = "secret_text")]
        key: Secret<String>,
    },
}

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TableUpdate {
    /// Must be the generation in force.
    pub base: u64,
    /// Greater than `base`.
    pub generation: u64,
    pub changed: Vec<AppRoute>,
    pub removed: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_certificates: Vec<CertificateRoute>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_certificates: Vec<Uuid>,
    /// `None` leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fronts: Option<FrontPolicy>,
    /// `None` leaves them as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenges: Option<Vec<ChallengeRoute>>,
}

/// Why there are dynos to send requests to, or none: it decides between waiting and which error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Some dyno is in the table.
    Serving,
    /// None is ready yet, but one is starting: wait (up to 75 s, then `H20`).
    Starting,
    /// All have crashed: `H10`.
    Crashed,
    /// `web` is scaled to zero: `H14`.
    Stopped,
    /// No code was ever released: `H81`.
    Blank,
    /// `H80`.
    Maintenance,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoRoute {
    pub dyno: Uuid,
    /// As in logs: `web.1`.
    pub name: String,
    pub address: SocketAddr,
    /// Requests it may have at once; `None` until it is declared or learned.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// Its share of the app's requests: only how it compares with those of the app's other dynos counts.
    #[serde(default = "DynoRoute::weight_usual", skip_serializing_if = "DynoRoute::has_usual_weight")]
    pub weight: u32,
    /// What it speaks, where that is not [`EdgeSettings::dyno_protocol`]: while an app changes it, dynos of both kinds
    /// serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<DynoProtocol>,
}

impl DynoRoute {
    /// Of a dyno whose size says nothing else, as in tables that were written when dynos had no weights.
    pub const WEIGHT_USUAL: u32 = 100;

    const fn weight_usual() -> u32 {
        Self::WEIGHT_USUAL
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it")]
    const fn has_usual_weight(weight: &u32) -> bool {
        *weight == Self::WEIGHT_USUAL
    }
}

/// Heroku's request time limits, as settings of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestLimits {
    /// From the last byte of the request to the first byte of the response, else `H12`.
    pub first_byte_ms: u64,
    /// Between any two bytes after that, else `H15` or `H28`.
    pub idle_ms: u64,
    /// For a connection to a dyno, else `H19`.
    pub connect_ms: u64,
    /// How long a request waits for a dyno that is starting, else `H20`.
    pub boot_wait_ms: u64,
    /// How long the other side may say nothing in the middle of an answer, and both sides of an upgraded connection,
    /// where that is not `idle_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_ms: Option<u64>,
}

impl RequestLimits {
    /// As long as an answer that has begun may pause.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.unwrap_or(self.idle_ms))
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { first_byte_ms: 30_000, idle_ms: 55_000, connect_ms: 5_000, boot_wait_ms: 75_000, silence_ms: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToRouter {
    /// First on every connection.
    Hello {
        protocol: u32,
        instance: String,
    },
    Update(TableUpdate),
    Replace {
        table: RouteTable,
    },
    /// Requests and upgraded connections now under way, per dyno, also of dynos that have left the table.
    InFlight,
    /// Ends the upgraded connections of these dynos (WebSocket close, then the socket).
    CloseUpgraded {
        dynos: Vec<Uuid>,
    },
    Status,
    /// Another router is about to serve in this one's place. From here on this one takes no table but from that router,
    /// and writes none; if that router leaves without [`ToRouter::Retire`], everything is as before.
    TakeOver,
    /// It serves. This one finishes its requests and ends.
    Retire,
    /// What was counted in the seconds behind this one; 0 asks for all that are kept. To follow, ask again each second.
    Traffic {
        after: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromRouter {
    Hello {
        protocol: u32,
        instance: String,
        generation: u64,
    },
    Applied {
        generation: u64,
    },
    NeedWhole {
        generation: u64,
    },
    InFlight {
        dynos: Vec<(Uuid, u32)>,
        /// How many of these have become conversations, which a limit that is learned does not count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conversations: Vec<(Uuid, u32)>,
    },
    Status {
        status: RouterStatus,
    },
    /// Answers [`ToRouter::TakeOver`]: the table on disk is what is in force here.
    Yielded,
    /// Oldest first; not all at once if there is much.
    Traffic {
        seconds: Vec<TrafficSecond>,
    },
    Done,
    Refused {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RouterStatus {
    pub pid: u32,
    pub generation: u64,
    pub threads: u32,
    pub apps: u64,
    pub connections: u64,
    pub requests_total: u64,
    pub log_lines_dropped_total: u64,
    /// Apps with requests that wait, or whose dynos have been at their limit.
    #[serde(default)]
    pub admission: Vec<AppAdmission>,
    /// Dynos in the table with requests that their clients have given up longer ago than twice the app's first-byte
    /// timeout, and that have no answer yet.
    #[serde(default)]
    pub stuck: Vec<StuckDyno>,
}

/// A dyno that works on what nobody waits for any more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StuckDyno {
    pub dyno: Uuid,
    /// Places that are held for such requests.
    pub held: u32,
    /// Requests that it may have at once.
    pub limit: u32,
    /// The oldest of them, oldest first.
    pub requests: Vec<StuckRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StuckRequest {
    pub method: String,
    /// Without its query, cut if long.
    pub path: String,
    /// Since it was sent.
    pub seconds: u64,
}

impl StuckRequest {
    /// How many of a dyno are told of.
    pub const TOLD_MAX: usize = 10;
    pub const PATH_CHARS_MAX: usize = 200;
}

/// What the router knows of one app's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppAdmission {
    pub app: Uuid,
    pub in_flight: u32,
    pub queued: u32,
    /// The newest are served first, the oldest refused.
    pub overloaded: bool,
    /// Requests that a dyno works on at once, as far as was learned; `None` where that is declared.
    pub workers: Option<u32>,
    /// Mean time to an answer at that number.
    pub latency_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_tables_still_parse() {
        let table: RouteTable = serde_json::from_str(include_str!("../testdata/route-table-1.json")).unwrap();
        assert_eq!(table.generation, 7);
        assert_eq!(table.apps[0].limits, RequestLimits::default());
        assert_eq!((table.apps[0].dynos[0].concurrency, table.apps[0].dynos[0].weight), (None, 100));
    }

    #[test]
    fn a_weight_is_written_where_it_is_not_the_usual_one() {
        let table: RouteTable = serde_json::from_str(include_str!("../testdata/route-table-1.json")).unwrap();
        let usual = table.apps[0].dynos[0].clone();
        assert!(!serde_json::to_string(&usual).unwrap().contains("weight"));
        let heavy = DynoRoute { weight: 200, ..usual };
        let written = serde_json::to_string(&heavy).unwrap();
        assert_eq!(serde_json::from_str::<DynoRoute>(&written).unwrap(), heavy);
    }

    #[test]
    fn released_updates_still_parse_and_keys_do_not_show() {
        let update: ToRouter = serde_json::from_str(include_str!("../testdata/route-update-1.json")).unwrap();
        assert!(matches!(update, ToRouter::Update(TableUpdate { base: 7, generation: 8, .. })), "{update:?}");
        let update: ToRouter = serde_json::from_str(include_str!("../testdata/route-update-2.json")).unwrap();
        let ToRouter::Update(update) = &update else { panic!("{update:?}") };
        assert_eq!(update.changed_certificates[0].key.expose(), "-----BEGIN PRIVATE KEY-----");
        assert!(!format!("{update:?}").contains("PRIVATE KEY"));
        let written = serde_json::to_string(update).unwrap();
        assert_eq!(serde_json::from_str::<TableUpdate>(&written).unwrap(), *update);
    }

    #[test]
    fn released_questions_and_answers_still_parse() {
        for line in include_str!("../testdata/to-router-1.jsonl").lines() {
            let message: ToRouter = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
        }
        for line in include_str!("../testdata/from-router-1.jsonl").lines() {
            let message: FromRouter = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
        }
    }

    #[test]
    fn the_default_limits_are_herokus() {
        let limits = RequestLimits::default();
        assert_eq!((limits.first_byte_ms, limits.idle_ms), (30_000, 55_000));
        assert_eq!((limits.connect_ms, limits.boot_wait_ms), (5_000, 75_000));
        assert_eq!(RequestLimits::from(&RoutingSettings::default()), limits);
    }

    #[test]
    fn an_app_that_sets_nothing_has_nothing_done_to_it() {
        let edge = EdgeSettings::new(&RoutingSettings::default(), &PageUrls::default());
        assert_eq!(edge, EdgeSettings::default());
    }

    #[test]
    fn a_page_of_the_apps_own_counts_more_than_an_address() {
        let settings = RoutingSettings { error_page: Some("<p>".to_owned()), ..RoutingSettings::default() };
        let url = || Some("https://a.example/".to_owned());
        let edge = EdgeSettings::new(&settings, &PageUrls { maintenance: url(), error: url() });
        assert_eq!(edge.error_page, Some(Page::Html("<p>".to_owned())));
        assert_eq!(edge.maintenance_page, Some(Page::Url("https://a.example/".to_owned())));
    }
}
