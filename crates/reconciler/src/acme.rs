//! Certificates that are ordered from an authority for the domains of apps that want that.
//!
//! One task looks at everything whenever the store changes or something becomes due, asks [`domain::acme::due`] which
//! hosts to order for, and starts one [`Order`] for each. What it looks at is in the store, orders under way included,
//! so that the path after a crash and the usual path are one path.
//!
//! ```text
//!  store ─changes─► look ─► domain::acme::due ─► order: account, challenge, finalize ─► authority
//!                                                  │            │
//!                          store ◄── certificate ──┘            └─► board ─► main_loop ─► route table
//! ```

mod answer;
mod board;
mod http_client;
mod order;
mod tls_alpn;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::acme::{Attempt, ChallengeKind, HostView, Jitter, Outcome, Validity, due, quiet_for};
use domain::display_chain::display_chain;
use domain::hostname::Hostname;
use domain::id::AppId;
use jiff::{SignedDuration, Timestamp};
use store::app::App;
use store::custom_domain::Domain;
use store::{Store, StoreError};
use tokio::net::lookup_host;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::error;

pub(crate) use self::board::ChallengeBoard;
use self::order::Order;
use crate::log::PlatformLog;
use crate::main_loop::{StopMode, stopping};
use crate::platform_hosts::PlatformHosts;
use crate::router_link::RouterView;

/// The authority, and how it is to be shown that hosts lead here.
#[derive(Debug, Clone)]
pub struct AcmeConfig {
    /// The URL of its directory.
    pub directory: String,
    /// An e-mail address for its messages.
    pub contact: Option<String>,
    /// PEM: the authorities that its own certificate is checked with.
    pub ca_file: PathBuf,
    /// PEM: those that this machine trusts.
    pub system_ca_file: PathBuf,
    /// Tried in turn. Hosts whose DNS we hold, and wildcards, are shown by DNS whatever stands here.
    pub challenges: Vec<ChallengeKind>,
}

/// Writes of the store come in groups.
const SETTLE: Duration = Duration::from_millis(200);
/// How often is looked whether or not anything happened.
const LOOK_PERIOD: Duration = Duration::from_secs(60 * 60);

/// How long an answer about a host's record stands, and is waited for.
const RECORD_KEPT: SignedDuration = SignedDuration::from_mins(10);
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// What ends tell the store about a domain.
const STATUS_IN_PROGRESS: &str = "in-progress";
/// Heroku's client waits for exactly these words.
const STATUS_ISSUED: &str = "cert issued";
const STATUS_FAILING: &str = "failing";
const STATUS_FAILED: &str = "failed";

pub(crate) struct Manager {
    pub(crate) config: AcmeConfig,
    /// Of the platform: an app's own name is below it, and custom domains should lead there.
    pub(crate) domain: String,
    pub(crate) platform_hosts: PlatformHosts,
    pub(crate) store: Arc<Store>,
    pub(crate) log: PlatformLog,
    pub(crate) board: ChallengeBoard,
    pub(crate) router: watch::Receiver<RouterView>,
    /// Held while an account is looked up or made, so that one is made.
    pub(crate) account: Arc<Mutex<()>>,
    /// Held while a record stands in DNS.
    pub(crate) dns: Arc<Mutex<()>>,
    /// Which of the platform's hosts have a record, and when that was looked up.
    pub(crate) records: HashMap<Hostname, (Timestamp, bool)>,
}

/// One host whose certificate is managed.
struct Managed {
    host: Hostname,
    /// Whose it is; `None` for the platform's own.
    owner: Option<(App, Domain)>,
}

impl Managed {
    /// Lasting, and different for each host: from its domain's id, which was drawn at random, or from its name.
    fn jitter(&self) -> Jitter {
        let random = match &self.owner {
            Some((_app, domain)) => domain.id.uuid().as_fields().1,
            None => self.host.as_str().bytes().fold(0, |sum: u16, byte| sum.wrapping_mul(31).wrapping_add(byte.into())),
        };
        Jitter::new(random)
    }
}

impl Manager {
    /// Runs until the reconciler ends; orders under way are then left to the next server.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<StopMode>) {
        let mut changes = self.store.changes();
        let mut orders = JoinSet::new();
        if let Err(error) = self.tidy_up(Timestamp::now()).await {
            error!(error = display_chain(&error), "cannot end the orders of an earlier server");
        }
        loop {
            changes.mark_unchanged();
            let pause = match self.activate(&mut orders).await {
                Ok(pause) => pause,
                Err(error) => {
                    error!(error = display_chain(&error), "cannot look after certificates");
                    LOOK_PERIOD
                }
            };
            let settle = tokio::select! {
                () = sleep(pause) => Duration::ZERO,
                _changed = changes.changed() => SETTLE,
                Some(_ended) = orders.join_next(), if !orders.is_empty() => Duration::ZERO,
                () = stopping(&mut stop) => return,
            };
            sleep(settle).await;
        }
    }

    async fn tidy_up(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.interrupt_acme_orders(now).await?;
        self.store.forget_expired_certificates(now).await
    }

    /// Looks at everything, starts what is due, and says how long nothing else is.
    async fn activate(&mut self, orders: &mut JoinSet<()>) -> Result<Duration, StoreError> {
        let now = Timestamp::now();
        let managed = self.managed(now).await?;
        let is_managed = |host: &str| managed.iter().any(|one| one.owner.is_none() && one.host.as_str() == host);
        self.store.forget_platform_certificate_failure(|host| !is_managed(host)).await?;
        let attempts = self.store.acme_orders(now)?;
        let views = self.views(&managed, &attempts)?;
        let all: Vec<Attempt> = attempts.iter().map(|(_host, attempt)| *attempt).collect();
        for (Managed { owner, .. }, view) in managed.iter().zip(&views) {
            let Some((_app, domain)) = owner else { continue };
            // A domain that was removed and added again has a certificate already.
            if domain.acm_status.is_none() && view.certificate.is_some_and(|validity| validity.until > now) {
                self.store.acm_progress(domain.id, Some(STATUS_ISSUED.to_owned()), None, now).await?;
            }
        }
        for index in due(&views, &all, now) {
            let Managed { host, owner } = &managed[index];
            let number = self.store.begin_acme_order(host.clone(), now).await?;
            let target = owner.as_ref().map(|(app, _domain)| format!("{}.{}", app.name, self.domain));
            let order = Order {
                config: self.config.clone(),
                store: Arc::clone(&self.store),
                log: self.log.clone(),
                board: self.board.clone(),
                router: self.router.clone(),
                account: Arc::clone(&self.account),
                dns: Arc::clone(&self.dns),
                target,
                owner: owner.as_ref().map(|(app, domain)| (app.id, domain.id)),
                host: host.clone(),
                failures: views[index].failures(),
                number,
            };
            if let Some((_app, domain)) = owner {
                self.store.acm_progress(domain.id, Some(STATUS_IN_PROGRESS.to_owned()), None, now).await?;
            }
            orders.spawn(order.run());
        }
        Ok(quiet_for(&views, &all, now).map_or(LOOK_PERIOD, |quiet| quiet.clamp(Duration::from_secs(1), LOOK_PERIOD)))
    }

    async fn managed(&mut self, now: Timestamp) -> Result<Vec<Managed>, StoreError> {
        let apps = self.store.apps()?.into_iter().filter(|app| app.acm && app.destroyed_at.is_none());
        let apps: HashMap<AppId, App> = apps.map(|app| (app.id, app)).collect();
        let domains = self.store.all_domains()?.into_iter();
        let of_apps = domains.filter_map(|domain| {
            let app = apps.get(&domain.app)?.clone();
            Some(Managed { host: domain.hostname.clone(), owner: Some((app, domain)) })
        });
        let mut managed: Vec<Managed> = of_apps.collect();
        for host in self.platform_hosts.to_order(&self.store.dns_zones()?, now) {
            // Nobody need use all of them; asking the authority for what has no record would fail for ever.
            if self.platform_hosts.is_main(&host) || self.has_record(&host, now).await {
                managed.push(Managed { host, owner: None });
            }
        }
        Ok(managed)
    }

    /// Whether the DNS knows a host; asked again now and then.
    async fn has_record(&mut self, host: &Hostname, now: Timestamp) -> bool {
        if let Some((at, found)) = self.records.get(host)
            && now.duration_since(*at) < RECORD_KEPT
        {
            return *found;
        }
        let found = timeout(RECORD_TIMEOUT, lookup_host((host.as_str(), 443))).await;
        let found = found.ok().and_then(Result::ok).is_some_and(|mut addresses| addresses.next().is_some());
        self.records.insert(host.clone(), (now, found));
        found
    }

    fn views(&self, managed: &[Managed], attempts: &[(Hostname, Attempt)]) -> Result<Vec<HostView>, StoreError> {
        let certificates = self.store.managed_certificates()?.into_iter();
        // One from another authority serves until there is one from this, which is ordered at once.
        let ours = certificates.filter(|certificate| certificate.directory == self.config.directory);
        let ours: HashMap<Hostname, Validity> =
            ours.map(|one| (one.hostname, Validity { from: one.valid_from, until: one.valid_until })).collect();
        let mut attempted: HashMap<&Hostname, Vec<Attempt>> = HashMap::new();
        for (host, attempt) in attempts {
            attempted.entry(host).or_default().push(*attempt);
        }
        let view = |managed: &Managed| HostView {
            certificate: ours.get(&managed.host).copied(),
            attempts: attempted.get(&managed.host).cloned().unwrap_or_default(),
            asked_again_at: managed.owner.as_ref().and_then(|(app, _domain)| app.acm_refreshed_at),
            jitter: managed.jitter(),
        };
        Ok(managed.iter().map(view).collect())
    }
}

/// What people see of a failure.
const fn status_after(failures: usize) -> &'static str {
    if failures >= domain::acme::FAILED_AFTER { STATUS_FAILED } else { STATUS_FAILING }
}

/// Whether a failure counts as one of the host's.
const fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed)
}
