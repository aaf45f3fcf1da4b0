//! What `/metrics` and `/status` say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;
use wire::traffic::{AppPage, AppTraffic, Quantiles, StatusPage, TrafficSecond};

use crate::traffic_totals::{family, line};
use crate::worker::Shared;

/// Over how much time `/status` looks back.
const SECONDS: u64 = 60;

/// Prometheus' text format.
pub(crate) fn metrics(shared: &Shared) -> String {
    let mut text = String::new();
    let status = shared.status();
    for (name, kind, help, value) in [
        ("connections", "gauge", "Connections of clients.", status.connections),
        ("apps", "gauge", "Apps in the route table.", status.apps),
        ("table_generation", "gauge", "Generation of the route table in force.", status.generation),
        ("received_requests_total", "counter", "Requests of any kind.", status.requests_total),
        ("log_lines_dropped_total", "counter", "Lines that the request log lost.", status.log_lines_dropped_total),
    ] {
        family(&mut text, name, kind, help);
        line(&mut text, name, "", value);
    }
    let name = "connections_refused_total";
    family(&mut text, name, "counter", "Connections that were refused, or ended for what their clients did.");
    for refused in shared.refused() {
        line(&mut text, name, &format!("reason=\"{}\"", refused.reason.name()), refused.total());
    }
    let names = shared.table.names(shared.traffic.apps().into_iter());
    shared.traffic.render(&names, &mut text);
    text
}

/// The last minute, for people and scripts.
pub(crate) fn status(shared: &Shared) -> StatusPage {
    let seconds = shared.traffic.last(SECONDS);
    let apps: HashSet<Uuid> = seconds.iter().flat_map(|second| &second.apps).map(|app| app.app).collect();
    let names = shared.table.names(apps.into_iter());
    StatusPage { router: shared.status(), seconds: seconds.len() as u64, apps: pages(&seconds, &names) }
}

fn pages(seconds: &[Arc<TrafficSecond>], names: &HashMap<Uuid, String>) -> BTreeMap<String, AppPage> {
    let mut sums: HashMap<Uuid, AppTraffic> = HashMap::new();
    for second in seconds {
        // Of what is under way the last second counts, also where there is nothing any more.
        for sum in sums.values_mut() {
            (sum.in_flight, sum.queued, sum.connections) = (0, 0, 0);
        }
        for app in &second.apps {
            sums.entry(app.app).or_default().add(app);
        }
    }
    let page = |sum: &AppTraffic| AppPage {
        requests: sum.requests,
        statuses: sum.statuses,
        codes: sum.codes.clone(),
        request_bytes: sum.request_bytes,
        response_bytes: sum.response_bytes,
        in_flight: sum.in_flight,
        queued: sum.queued,
        connections: sum.connections,
        queue_ms: Quantiles::from(&sum.queue),
        connect_ms: Quantiles::from(&sum.connect),
        service_ms: Quantiles::from(&sum.service),
    };
    sums.iter().filter_map(|(app, sum)| Some((names.get(app)?.clone(), page(sum)))).collect()
}
