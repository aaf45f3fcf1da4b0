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
use jiff::Timestamp;
use store::app::App;
use store::custom_domain::Domain;
use store::{Store, StoreError};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

pub(crate) use self::board::ChallengeBoard;
use self::order::Order;
use crate::log::PlatformLog;
use crate::main_loop::{StopMode, stopping};
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
    pub(crate) store: Arc<Store>,
    pub(crate) log: PlatformLog,
    pub(crate) board: ChallengeBoard,
    pub(crate) router: watch::Receiver<RouterView>,
    /// Held while an account is looked up or made, so that one is made.
    pub(crate) account: Arc<Mutex<()>>,
    /// Held while a record stands in DNS.
    pub(crate) dns: Arc<Mutex<()>>,
}

/// One domain whose certificate is managed.
struct Managed {
    app: App,
    domain: Domain,
}

impl Manager {
    /// Runs until the reconciler ends; orders under way are then left to the next server.
    pub(crate) async fn run(self, mut stop: watch::Receiver<StopMode>) {
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
    async fn activate(&self, orders: &mut JoinSet<()>) -> Result<Duration, StoreError> {
        let now = Timestamp::now();
        let managed = self.managed()?;
        let attempts = self.store.acme_orders(now)?;
        let views = self.views(&managed, &attempts)?;
        let all: Vec<Attempt> = attempts.iter().map(|(_host, attempt)| *attempt).collect();
        for (Managed { domain, .. }, view) in managed.iter().zip(&views) {
            // A domain that was removed and added again has a certificate already.
            if domain.acm_status.is_none() && view.certificate.is_some_and(|validity| validity.until > now) {
                self.store.acm_progress(domain.id, Some(STATUS_ISSUED.to_owned()), None, now).await?;
            }
        }
        for index in due(&views, &all, now) {
            let Managed { app, domain } = &managed[index];
            let number = self.store.begin_acme_order(domain.hostname.clone(), now).await?;
            let order = Order {
                config: self.config.clone(),
                store: Arc::clone(&self.store),
                log: self.log.clone(),
                board: self.board.clone(),
                router: self.router.clone(),
                account: Arc::clone(&self.account),
                dns: Arc::clone(&self.dns),
                target: format!("{}.{}", app.name, self.domain),
                app: app.id,
                host: domain.hostname.clone(),
                domain: domain.id,
                failures: views[index].failures(),
                number,
            };
            self.store.acm_progress(domain.id, Some(STATUS_IN_PROGRESS.to_owned()), None, now).await?;
            orders.spawn(order.run());
        }
        Ok(quiet_for(&views, now).map_or(LOOK_PERIOD, |quiet| quiet.clamp(Duration::from_secs(1), LOOK_PERIOD)))
    }

    fn managed(&self) -> Result<Vec<Managed>, StoreError> {
        let apps = self.store.apps()?.into_iter().filter(|app| app.acm && app.destroyed_at.is_none());
        let apps: HashMap<AppId, App> = apps.map(|app| (app.id, app)).collect();
        let domains = self.store.all_domains()?.into_iter();
        Ok(domains.filter_map(|domain| Some(Managed { app: apps.get(&domain.app)?.clone(), domain })).collect())
    }

    fn views(&self, managed: &[Managed], attempts: &[(Hostname, Attempt)]) -> Result<Vec<HostView>, StoreError> {
        let certificates = self.store.managed_certificates()?.into_iter();
        // One from another authority serves until there is one from this, which is ordered at once.
        let ours = certificates.filter(|certificate| certificate.directory == self.config.directory);
        let ours: HashMap<Hostname, Validity> =
            ours.map(|one| (one.hostname, Validity { from: one.valid_from, until: one.valid_until })).collect();
        let view = |Managed { app, domain }: &Managed| HostView {
            certificate: ours.get(&domain.hostname).copied(),
            attempts: attempts_for(&domain.hostname, attempts),
            asked_again_at: app.acm_refreshed_at,
            jitter: jitter(domain),
        };
        Ok(managed.iter().map(view).collect())
    }
}

fn attempts_for(host: &Hostname, attempts: &[(Hostname, Attempt)]) -> Vec<Attempt> {
    attempts.iter().filter(|(other, _attempt)| other == host).map(|(_host, attempt)| *attempt).collect()
}

/// Lasting, and different for each domain: from its id, which was drawn at random.
fn jitter(domain: &Domain) -> Jitter {
    let (_first, random, ..) = domain.id.uuid().as_fields();
    Jitter::new(random)
}

/// What people see of a failure.
const fn status_after(failures: usize) -> &'static str {
    if failures >= domain::acme::FAILED_AFTER { STATUS_FAILED } else { STATUS_FAILING }
}

/// Whether a failure counts as one of the host's.
const fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed)
}
