//! The route table in force, shared by all threads.
//!
//! A request reads it without a lock: one map from host to [`App`], one view inside that. Changes come one at a time
//! from the control thread and are in force for every thread when [`Table::update`] returns: the map and the views are
//! swapped atomically, and a dyno that left is marked so that even a request that holds the old view cannot take it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use uuid::Uuid;
use wire::routes::{
    AdmissionSettings, AppAdmission, AppRoute, Availability, DynoProtocol, DynoRoute, RouteTable, StuckDyno,
    TableUpdate,
};

use crate::active_apps::ActiveApps;
use crate::app::{App, AppView, Gauges};
use crate::certificates::Certificates;
use crate::challenges::Challenges;
use crate::config::Bounds;
use crate::dyno::Dyno;
use crate::front::Fronts;
use crate::host_map::HostMap;
use crate::in_flight::InFlight;
use crate::upstream;

#[derive(Debug, Default)]
pub(crate) struct Table {
    hosts: HostMap<Arc<App>>,
    certificates: Arc<Certificates>,
    challenges: Arc<Challenges>,
    fronts: ArcSwap<Fronts>,
    state: Mutex<State>,
    active_apps: Arc<ActiveApps>,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    routes: BTreeMap<Uuid, AppRoute>,
    apps: HashMap<Uuid, Arc<App>>,
    /// All dynos in the table, and those that left it while they had requests.
    dynos: HashMap<DynoKey, Arc<Dyno>>,
    /// Those of them that left.
    departed: Vec<DynoKey>,
}

type DynoKey = (Uuid, SocketAddr);

/// What became of a change that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Applied,
    /// The base is not what is in force here: the whole table is needed.
    NeedWhole,
    /// Not newer than what is in force.
    Old,
}

impl Table {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let active_apps = Arc::new(ActiveApps::new(bounds.clone()));
        Self { active_apps, ..Self::default() }
    }

    /// The apps that there is something to decide about now.
    pub(crate) fn active_apps(&self) -> Arc<ActiveApps> {
        self.active_apps.clone()
    }

    /// What is known of the apps' requests.
    pub(crate) fn admission(&self) -> Vec<AppAdmission> {
        self.lock().apps.values().filter_map(|app| app.admission()).collect()
    }

    /// The dynos with requests that are long without an answer and without a client.
    pub(crate) fn stuck(&self) -> Vec<StuckDyno> {
        let apps: Vec<Arc<App>> = self.lock().apps.values().cloned().collect();
        apps.iter().flat_map(|app| app.stuck()).collect()
    }

    /// `host` in lower case, without port.
    pub(crate) fn app(&self, host: &str) -> Option<Arc<App>> {
        self.hosts.get(host)
    }

    pub(crate) const fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    pub(crate) const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    pub(crate) fn fronts(&self) -> Arc<Fronts> {
        self.fronts.load_full()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Requests of all apps that are under way.
    pub(crate) fn requests(&self) -> usize {
        self.active_apps.held.requests()
    }

    /// The apps with anything under way, without a lock; with what is under way for hosts that have not moved in yet.
    pub(crate) fn gauges(&self) -> HashMap<Uuid, Gauges> {
        // Each is seen as often as it has hosts.
        let mut parts = HashMap::new();
        self.hosts.for_each(|app| {
            if let Some(of_part) = app.gauges() {
                parts.insert(app.id, (app.logged_for, of_part));
            }
        });
        let mut gauges: HashMap<Uuid, Gauges> = HashMap::new();
        for (app, Gauges { in_flight, queued, connections }) in parts.into_values() {
            let sum = gauges.entry(app).or_default();
            sum.in_flight += in_flight;
            sum.queued += queued;
            sum.connections += connections;
        }
        gauges
    }

    /// The names of those of these apps that are in the table.
    pub(crate) fn names(&self, apps: impl Iterator<Item = Uuid>) -> HashMap<Uuid, String> {
        let state = self.lock();
        apps.filter_map(|id| Some((id, state.routes.get(&id)?.name.clone()))).collect()
    }

    pub(crate) fn app_count(&self) -> usize {
        self.lock().apps.len()
    }

    /// The table as it could be written to disk.
    pub(crate) fn snapshot(&self) -> RouteTable {
        let state = self.lock();
        RouteTable {
            generation: state.generation,
            apps: state.routes.values().cloned().collect(),
            certificates: self.certificates.snapshot(),
            fronts: self.fronts.load().policy.clone(),
            challenges: self.challenges.snapshot(),
        }
    }

    /// What [`Table::update`] would answer.
    pub(crate) fn judge(&self, base: u64, generation: u64) -> Change {
        let current = self.generation();
        match () {
            () if generation <= current => Change::Old,
            () if base != current => Change::NeedWhole,
            () => Change::Applied,
        }
    }

    pub(crate) fn update(&self, update: TableUpdate) -> Change {
        let judged = self.judge(update.base, update.generation);
        if judged == Change::Applied {
            // First: a host that an app gets now must not be answered with another one's certificate.
            self.certificates.update(update.changed_certificates, &update.removed_certificates);
            if let Some(policy) = update.fronts {
                self.fronts.store(Arc::new(Fronts::new(policy)));
            }
            if let Some(challenges) = update.challenges {
                self.challenges.replace(challenges);
            }
            self.apply(update.generation, update.changed, &update.removed);
        }
        judged
    }

    /// Puts a whole table in force, unless it is older than the present one.
    pub(crate) fn replace(&self, table: RouteTable) -> Change {
        if table.generation < self.generation() {
            return Change::Old;
        }
        let present: HashSet<Uuid> = table.apps.iter().map(|route| route.app).collect();
        let removed: Vec<Uuid> = self.lock().routes.keys().filter(|id| !present.contains(id)).copied().collect();
        self.certificates.replace(table.certificates);
        self.fronts.store(Arc::new(Fronts::new(table.fronts)));
        self.challenges.replace(table.challenges);
        self.apply(table.generation, table.apps, &removed);
        Change::Applied
    }

    /// In-flight requests per dyno, also of dynos that have left the table.
    pub(crate) fn in_flight(&self) -> InFlight {
        let mut counts = InFlight::default();
        for dyno in self.lock().dynos.values() {
            counts.add(dyno.id, dyno.in_flight_here());
        }
        counts
    }

    /// Whether any dyno has anything in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.lock().dynos.values().any(|dyno| dyno.in_flight() > 0)
    }

    /// Sets what the router that this one took over from has in flight.
    pub(crate) fn set_elsewhere(&self, there: &InFlight) {
        let state = self.lock();
        let mut changed = false;
        for dyno in state.dynos.values() {
            changed |= dyno.set_elsewhere(there.of(dyno.id));
        }
        if changed {
            state.apps.values().for_each(App::slot_freed);
        }
    }

    pub(crate) fn close_upgraded(&self, dynos: &[Uuid]) {
        self.lock().dynos.values().filter(|dyno| dynos.contains(&dyno.id)).for_each(|dyno| dyno.close_upgraded());
    }

    pub(crate) fn close_all_upgraded(&self) {
        self.lock().dynos.values().for_each(|dyno| dyno.close_upgraded());
    }

    /// Costs what the change is large, not what the table is.
    fn apply(&self, generation: u64, changed: Vec<AppRoute>, removed: &[Uuid]) {
        let mut state = self.lock();
        let before: Vec<AppRoute> = {
            let ids = changed.iter().map(|route| &route.app).chain(removed);
            ids.filter_map(|id| state.routes.get(id).cloned()).collect()
        };
        let present: HashSet<DynoKey> = changed.iter().flat_map(dyno_keys).collect();
        let mut gone: BTreeSet<(String, Uuid)> =
            before.iter().flat_map(|route| route.hosts.iter().map(|host| (host.clone(), route.app))).collect();
        let mut new = Vec::new();
        for route in changed {
            for host in &route.hosts {
                if !gone.remove(&(host.clone(), route.app)) {
                    new.push((host.clone(), route.app));
                }
            }
            state.apply_app(route, &self.active_apps);
        }
        if !gone.is_empty() || !new.is_empty() {
            let of_apps = new.into_iter().filter_map(|(host, id)| Some((host, state.apps.get(&id)?.clone())));
            // Another app may have it by now.
            self.hosts.change(gone, |present, app| present.id == *app, of_apps);
        }
        // After the hosts: requests that waited for an app that goes look where their host leads now.
        for id in removed {
            state.remove_app(*id);
        }
        state.generation = generation;
        let departed = std::mem::take(&mut state.departed);
        let left = departed.into_iter().chain(before.iter().flat_map(dyno_keys)).filter(|key| !present.contains(key));
        for key in left {
            match state.dynos.get(&key) {
                Some(dyno) if dyno.in_flight() > 0 => state.departed.push(key),
                Some(_idle) => drop(state.dynos.remove(&key)),
                None => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply_app(&mut self, route: AppRoute, active_apps: &Arc<ActiveApps>) {
        let mut dynos: Vec<Arc<Dyno>> =
            route.dynos.iter().map(|dyno| self.dyno(dyno, route.edge.dyno_protocol)).collect();
        let (limits, edge) = (route.limits, route.edge.clone());
        let mut availability = route.availability;
        if edge.is_elsewhere() {
            // The place behind the router takes the dynos' place in everything but where it is.
            dynos = vec![self.dyno(&upstream::stand_in(route.app, &edge), DynoProtocol::Http1)];
            availability = match availability {
                Availability::Maintenance => Availability::Maintenance,
                _ => Availability::Serving,
            };
        }
        let view = AppView { availability: Some(availability), dynos, limits, edge, admission: route.admission };
        match self.apps.get(&route.app).cloned() {
            Some(app) => switch(&app, view),
            None => {
                let logged_for = route.logged_for.unwrap_or(route.app);
                let app = App::new(route.app, logged_for, view, active_apps.clone());
                self.apps.insert(route.app, Arc::new(app));
            }
        }
        self.routes.insert(route.app, route);
    }

    fn remove_app(&mut self, id: Uuid) {
        self.routes.remove(&id);
        if let Some(app) = self.apps.remove(&id) {
            let last = app.view();
            let (limits, edge) = (last.limits, last.edge.clone());
            let admission = AdmissionSettings::default();
            switch(&app, AppView { availability: None, dynos: Vec::new(), limits, edge, admission });
        }
    }

    /// The dyno as it is known already, with its count, or a new one; marked as being in the table.
    fn dyno(&mut self, route: &DynoRoute, protocol: DynoProtocol) -> Arc<Dyno> {
        let dyno = self.dynos.entry((route.dyno, route.address)).or_insert_with(|| Arc::new(Dyno::new(route))).clone();
        dyno.enter(route, protocol);
        dyno
    }
}

/// The dynos that a route leads to.
fn dyno_keys(route: &AppRoute) -> Vec<DynoKey> {
    if route.edge.is_elsewhere() {
        let stand_in = upstream::stand_in(route.app, &route.edge);
        return vec![(stand_in.dyno, stand_in.address)];
    }
    route.dynos.iter().map(|dyno| (dyno.dyno, dyno.address)).collect()
}

/// Replaces an app's view, then closes the dynos that left to new requests, then looks at those that wait.
fn switch(app: &Arc<App>, view: AppView) {
    let before = app.view();
    let stay: Vec<u64> = view.dynos.iter().map(|dyno| dyno.serial).collect();
    app.set_view(view);
    before.dynos.iter().filter(|dyno| !stay.contains(&dyno.serial)).for_each(|dyno| dyno.remove());
    app.slot_freed();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use proptest::prelude::*;
    use wire::routes::EdgeSettings;

    use super::*;
    use crate::config::Bounds;

    /// Generation `k` holds one app with one dyno, whose id is `k`.
    fn route(generation: u64) -> AppRoute {
        let dyno = DynoRoute {
            dyno: Uuid::from_u128(u128::from(generation)),
            name: "web.1".to_owned(),
            address: "127.0.0.1:1".parse().unwrap(),
            concurrency: None,
            weight: DynoRoute::WEIGHT_USUAL,
            protocol: None,
        };
        AppRoute {
            app: Uuid::nil(),
            name: "shop".to_owned(),
            logged_for: None,
            hosts: vec!["shop.example".to_owned()],
            availability: Availability::Serving,
            dynos: vec![dyno],
            limits: Default::default(),
            edge: EdgeSettings::default(),
            admission: AdmissionSettings::default(),
        }
    }

    fn update(base: u64) -> TableUpdate {
        let generation = base + 1;
        TableUpdate { base, generation, changed: vec![route(generation)], ..TableUpdate::default() }
    }

    /// What an acknowledgement promises: a pick that begins after an update returned never gives a dyno that the
    /// update removed, however the two interleave on other threads.
    #[test]
    fn no_pick_gives_a_dyno_that_an_applied_update_removed() {
        const UPDATES: u64 = 20_000;
        let table = Table::default();
        table.update(update(0));
        let applied = AtomicU64::new(1);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let pickers: Vec<_> = (0..3)
                .map(|_picker| {
                    scope.spawn(|| {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                        let bounds = Bounds::default();
                        let mut picks = 0_u64;
                        while !stop.load(Ordering::SeqCst) {
                            let begun_after = applied.load(Ordering::SeqCst);
                            let app = table.app("shop.example").unwrap();
                            let picked = runtime.block_on(app.pick(&[], None, &bounds)).unwrap();
                            let dyno = picked.slot.dyno.id.as_u128();
                            assert!(dyno >= u128::from(begun_after), "picked {dyno} after update {begun_after}");
                            picks += 1;
                        }
                        picks
                    })
                })
                .collect();
            for generation in 2..=UPDATES {
                assert_eq!(table.update(update(generation - 1)), Change::Applied);
                applied.store(generation, Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
            for picker in pickers {
                assert!(picker.join().unwrap() > 0);
            }
        });
        assert!(table.in_flight().0.values().all(|count| count.requests == 0));
    }

    #[test]
    fn a_wildcard_is_one_label_and_an_exact_host_wins() {
        let table = Table::default();
        let app = |id: u128, host: &str| AppRoute {
            app: Uuid::from_u128(id),
            hosts: vec![host.to_owned()],
            dynos: Vec::new(),
            ..route(1)
        };
        let changed = vec![app(1, "*.shop.example"), app(2, "www.shop.example")];
        table.update(TableUpdate { base: 0, generation: 1, changed, ..TableUpdate::default() });
        let found = |host: &str| table.app(host).map(|app| app.id.as_u128());
        assert_eq!(found("www.shop.example"), Some(2));
        assert_eq!(found("api.shop.example"), Some(1));
        assert_eq!(found("a.b.shop.example"), None);
        assert_eq!(found("shop.example"), None);
        let removed = vec![Uuid::from_u128(2)];
        table.update(TableUpdate { base: 1, generation: 2, removed, ..TableUpdate::default() });
        assert_eq!(found("www.shop.example"), Some(1));
    }

    #[test]
    fn a_dyno_that_left_with_requests_is_reported_until_they_end() {
        let table = Table::default();
        table.update(update(0));
        let app = table.app("shop.example").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let picked = runtime.block_on(app.pick(&[], None, &Bounds::default())).unwrap();
        table.update(update(1));
        let first = Uuid::from_u128(1);
        assert_eq!(table.in_flight().of(first).requests, 1);
        drop(picked);
        assert_eq!(table.in_flight().0[&first].requests, 0);
        table.update(update(2));
        assert!(!table.in_flight().0.contains_key(&first));
    }

    proptest! {
        /// Whatever the changes are, the table is what it would be if it had been made at once.
        #[test]
        fn changes_add_up_to_the_whole(changes in proptest::collection::vec(
            (0_u128..5, proptest::option::of((proptest::collection::btree_set(0_u8..12, 0..4), 0_u128..4))), 0..40,
        )) {
            let table = Table::default();
            let mut routes: BTreeMap<u128, AppRoute> = BTreeMap::new();
            for (base, (id, change)) in (0..).zip(changes) {
                let mut update = TableUpdate { base, generation: base + 1, ..TableUpdate::default() };
                match change {
                    Some((hosts, dyno)) => {
                        // No host is of two apps at a time: the server sees to that.
                        let taken = |host: &String| routes.iter().any(|(other, route)| *other != id && route.hosts.contains(host));
                        let hosts = hosts.iter().map(|host| format!("{host}.example")).filter(|host| !taken(host)).collect();
                        let mut changed = route(0);
                        changed.app = Uuid::from_u128(id);
                        changed.hosts = hosts;
                        changed.dynos[0].dyno = Uuid::from_u128(100 * id + dyno);
                        routes.insert(id, changed.clone());
                        update.changed.push(changed);
                    }
                    None => {
                        routes.remove(&id);
                        update.removed.push(Uuid::from_u128(id));
                    }
                }
                prop_assert_eq!(table.update(update), Change::Applied);
                for host in (0..12).map(|host| format!("{host}.example")) {
                    let expect = routes.values().find(|route| route.hosts.contains(&host)).map(|route| route.app);
                    prop_assert_eq!(table.app(&host).map(|app| app.id), expect, "{}", host);
                }
                let dynos: BTreeSet<Uuid> = table.in_flight().0.into_keys().collect();
                let expect: BTreeSet<Uuid> = routes.values().map(|route| route.dynos[0].dyno).collect();
                prop_assert_eq!(dynos, expect);
            }
        }
    }
}
