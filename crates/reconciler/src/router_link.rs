//! The connection to the router: pushes the table, hears what is in force and in flight.
//!
//! Level-triggered: it is given the table that should be in force and works until the router has it. Whether the router
//! restarted, or this server did, makes no difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use router::client::{ClientError, Pushed, RouterClient, TableUpdate};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;
use wire::routes::{AppRoute, CertificateRoute, ChallengeRoute, FrontPolicy, RouteTable, RouterStatus};

/// Apps' routes by app: what should be in force.
pub(crate) type Routes = BTreeMap<Uuid, AppRoute>;

/// Certificates by id: what should be in force.
pub(crate) type Certificates = BTreeMap<Uuid, CertificateRoute>;

/// Pause between attempts to reach a router that is not there.
const RETRY: Duration = Duration::from_millis(100);

/// How often requests in flight are counted while a dyno drains.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// How often the router's health is asked for.
const STATUS_POLL: Duration = Duration::from_secs(5);

/// What the router last said.
#[derive(Debug, Clone, Default)]
pub struct RouterView {
    pub connected: bool,
    pub status: RouterStatus,
    /// Apps whose requests every thread of the router holds, and until when, in milliseconds since the Unix epoch.
    pub held: Arc<BTreeMap<Uuid, u64>>,
    /// Dynos in the table that every thread of the router serves from.
    pub(crate) in_table: Arc<BTreeSet<Uuid>>,
    /// Requests under way, counted after that table came into force, of the dynos in `counted`.
    pub(crate) in_flight: Arc<HashMap<Uuid, u32>>,
    pub(crate) counted: Arc<BTreeSet<Uuid>>,
    /// Answers to challenges that every thread gives.
    pub(crate) challenges: Arc<Vec<ChallengeRoute>>,
}

/// What the link should do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) routes: Arc<Routes>,
    /// Dynos that drain: their requests are counted and their upgraded connections closed.
    pub(crate) draining: Arc<BTreeSet<Uuid>>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) challenges: Arc<Vec<ChallengeRoute>>,
    /// The same for as long as this server runs.
    pub(crate) fronts: Arc<FrontPolicy>,
}

impl Wanted {
    fn is_same_table(&self, other: &Self) -> bool {
        self.routes == other.routes && self.certificates == other.certificates && self.challenges == other.challenges
    }
}

/// Runs the link until `wanted` is closed.
pub(crate) async fn run(
    data_dir: PathBuf,
    instance: String,
    mut wanted: watch::Receiver<Option<Wanted>>,
    view: watch::Sender<RouterView>,
) {
    loop {
        // Before the first look at the store there is no table, and an empty one would take every app away.
        if wanted.wait_for(Option::is_some).await.is_err() {
            return;
        }
        match RouterClient::connect(&data_dir, &instance).await {
            Ok(client) => {
                info!(generation = client.generation_at_connect(), "Connected to the router");
                if let Err(error) = serve(client, &mut wanted, &view).await {
                    warn!(%error, "the connection to the router failed");
                }
                view.send_modify(|view| view.connected = false);
            }
            Err(_not_there_yet) => {}
        }
        if wanted.has_changed().is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn serve(
    mut client: RouterClient,
    wanted: &mut watch::Receiver<Option<Wanted>>,
    view: &watch::Sender<RouterView>,
) -> Result<(), ClientError> {
    let mut generation = client.generation_at_connect() + 1;
    let mut current = wanted.borrow_and_update().clone().unwrap_or_default();
    replace(&mut client, generation, &current).await?;
    let mut closed: BTreeSet<Uuid> = BTreeSet::new();
    let mut drain_poll = interval(DRAIN_POLL);
    drain_poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status_poll = interval(STATUS_POLL);
    report(&mut client, view, &current, &mut closed).await?;
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let next = wanted.borrow_and_update().clone().unwrap_or_default();
                if !next.is_same_table(&current) {
                    let update = difference(&current, &next, generation);
                    generation = update.generation;
                    if let Pushed::NeedWhole { generation: theirs } = client.push(update).await? {
                        generation = theirs.max(generation) + 1;
                        replace(&mut client, generation, &next).await?;
                    }
                }
                current = next;
                report(&mut client, view, &current, &mut closed).await?;
            }
            _now = drain_poll.tick(), if !current.draining.is_empty() => {
                report(&mut client, view, &current, &mut closed).await?;
            }
            _now = status_poll.tick() => {
                let status = client.status().await?;
                view.send_if_modified(|view| {
                    view.status = status;
                    view.connected = true;
                    false
                });
            }
        }
    }
}

async fn replace(client: &mut RouterClient, generation: u64, wanted: &Wanted) -> Result<(), ClientError> {
    let apps = wanted.routes.values().cloned().collect();
    let certificates = wanted.certificates.values().cloned().collect();
    let (fronts, challenges) = ((*wanted.fronts).clone(), (*wanted.challenges).clone());
    client.replace(RouteTable { generation, apps, certificates, fronts, challenges }).await
}

/// Publishes what is in force now, and ends the upgraded connections of dynos that drain, once.
async fn report(
    client: &mut RouterClient,
    view: &watch::Sender<RouterView>,
    current: &Wanted,
    closed: &mut BTreeSet<Uuid>,
) -> Result<(), ClientError> {
    closed.retain(|dyno| current.draining.contains(dyno));
    let closing: Vec<Uuid> = current.draining.difference(closed).copied().collect();
    if !closing.is_empty() {
        client.close_upgraded(closing.clone()).await?;
        closed.extend(closing);
    }
    let in_flight: HashMap<Uuid, u32> =
        if current.draining.is_empty() { HashMap::new() } else { client.in_flight().await?.into_iter().collect() };
    let in_table: BTreeSet<Uuid> =
        current.routes.values().flat_map(|route| &route.dynos).map(|dyno| dyno.dyno).collect();
    let held = current.routes.values().filter_map(|route| Some((route.app, route.admission.held_until_unix_ms?)));
    let held = held.collect();
    view.send_if_modified(|view| {
        let changed = !view.connected
            || *view.in_table != in_table
            || *view.in_flight != in_flight
            || view.counted != current.draining
            || view.challenges != current.challenges;
        view.connected = true;
        view.in_table = Arc::new(in_table);
        view.held = Arc::new(held);
        view.in_flight = Arc::new(in_flight);
        view.counted = Arc::clone(&current.draining);
        view.challenges = Arc::clone(&current.challenges);
        changed
    });
    Ok(())
}

fn difference(before: &Wanted, after: &Wanted, base: u64) -> TableUpdate {
    let (changed, removed) = changes(&before.routes, &after.routes);
    let (changed_certificates, removed_certificates) = changes(&before.certificates, &after.certificates);
    TableUpdate {
        base,
        generation: base + 1,
        changed,
        removed,
        changed_certificates,
        removed_certificates,
        fronts: None,
        challenges: (before.challenges != after.challenges).then(|| (*after.challenges).clone()),
    }
}

/// What is new or different, and what is gone.
fn changes<T: Clone + PartialEq>(before: &BTreeMap<Uuid, T>, after: &BTreeMap<Uuid, T>) -> (Vec<T>, Vec<Uuid>) {
    let changed = after.iter().filter(|(id, value)| before.get(id) != Some(*value));
    let removed = before.keys().filter(|id| !after.contains_key(id));
    (changed.map(|(_id, value)| value.clone()).collect(), removed.copied().collect())
}
