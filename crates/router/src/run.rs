//! Starts the router's threads, and ends them.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{error, info, warn};
use wire::routes::{ROUTER_SOCKET, STATUS_SOCKET};

use crate::admin_socket;
use crate::config::{Bounds, Listen, RouterConfig};
use crate::control::{self, Control, Handover};
use crate::crowd;
use crate::listener::{self, Listener};
use crate::log_thread;
use crate::places::ClientPlaces;
use crate::predecessor::{Predecessor, PredecessorError};
use crate::refused::{Reason, Refused};
use crate::status_thread::{self, StatusSockets};
use crate::table::Table;
use crate::table_file::{TableFile, TableFileError};
use crate::ticket_keys::TicketKeys;
use crate::tls::{self, Handshakes};
use crate::traffic::TALLIES_MAX;
use crate::traffic_totals::TrafficTotals;
use crate::worker::{self, Shared, Speaks, Stage};

#[derive(Debug, Error)]
pub enum RouterError {
    #[error("cannot listen on {listen}")]
    Listen {
        listen: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the admin socket in {data_dir}")]
    AdminSocket {
        data_dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the status socket")]
    StatusSocket(#[source] io::Error),
    #[error("cannot open the request log")]
    RequestLog(#[source] io::Error),
    #[error("cannot open the route table")]
    Table(#[source] TableFileError),
    #[error("cannot take over from the router before")]
    Predecessor(#[from] PredecessorError),
    #[error("cannot set TLS up")]
    Tls(#[source] rustls::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// The body of `berth router`: serves until SIGTERM, SIGINT or another router that takes over, then drains. A second
/// signal ends it at once.
pub fn run(mut config: RouterConfig) -> Result<(), RouterError> {
    let descriptors = raise_descriptor_limit();
    config.bounds.connections_max = connections_max(config.bounds.connections_max, descriptors);
    config.bounds.dyno_connections_max =
        config.bounds.dyno_connections_max.min(dyno_connections_max(config.bounds.connections_max, descriptors));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(RouterError::Thread)?;
    let signals = runtime.block_on(async { Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)) });
    let (mut terminate, mut interrupt) = signals.map_err(RouterError::Signals)?;
    let mut router = Router::start(config)?;
    runtime.block_on(async {
        let mut any = async || {
            tokio::select! {
                _signal = terminate.recv() => {}
                _signal = interrupt.recv() => {}
            }
        };
        tokio::select! {
            () = any() => info!("Draining: no new connections, requests under way may finish"),
            () = router.retired() => info!("Another router serves now; requests under way may finish"),
        }
        tokio::select! {
            () = router.drain() => info!("Drained"),
            () = any() => info!("Stopping at once"),
        }
    });
    // Threads that are still at work end with the process.
    Ok(())
}

/// Takes as many descriptors as this process may have, and says how many: the usual soft limit of 1,024 is for programs
/// that `select`. `None` is no limit.
fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, descriptors = limit.current, "Cannot raise the limit of open descriptors");
            limit.current
        }
    }
}

/// As many as are wanted, or as there are descriptors for: half of those are for connections to dynos. Without one for
/// that, no request of any app could be served, while connections that ask for nothing have the rest.
fn connections_max(wanted: usize, descriptors: Option<u64>) -> usize {
    let half = descriptors.map_or(usize::MAX, |count| usize::try_from(count / 2).unwrap_or(usize::MAX));
    if half < wanted {
        warn!(wanted, connections = half, "There are too few descriptors for the connections that the router may have");
    }
    wanted.min(half)
}

/// As many as there are descriptors left for: a client over HTTP/2 can ask for a hundred things at a time over one
/// connection, and each may need one to a dyno.
fn dyno_connections_max(connections_max: usize, descriptors: Option<u64>) -> usize {
    /// Listening sockets, logs, files.
    const OWN: usize = 64;
    let all = descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    all.saturating_sub(connections_max).saturating_sub(OWN)
}

/// A running router.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    bounds: Bounds,
    handed_on: watch::Receiver<Handover>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Router {
    /// Loads the last table from disk and serves from it at once, whether or not there is a server.
    pub fn start(config: RouterConfig) -> Result<Self, RouterError> {
        let RouterConfig {
            data_dir,
            instance,
            http,
            https,
            https_port,
            http2_without_tls,
            ca_file,
            upstream_networks,
            threads,
            status_address,
            bounds,
        } = config;
        let threads = threads.or_else(|| thread::available_parallelism().ok()).map_or(1, Into::into);
        let router_dir = data_dir.join("router");
        let (log, log_thread) = log_thread::start(&data_dir).map_err(RouterError::RequestLog)?;
        let mut of_threads: Vec<Vec<Listener>> = (0..threads).map(|_thread| Vec::new()).collect();
        let plain = http.into_iter().map(|listen| (listen, Speaks::Http));
        for (listen, speaks) in plain.chain(https.into_iter().map(|listen| (listen, Speaks::Tls))) {
            let opened = listener::open(&listen, speaks, threads)
                .map_err(|source| RouterError::Listen { listen: describe(&listen), source })?;
            of_threads.iter_mut().zip(opened).for_each(|(of_thread, listener)| of_thread.push(listener));
        }
        let tcp = status_address.map(listener::bind).transpose().map_err(RouterError::StatusSocket)?;
        let table = Table::new(&bounds);
        let tickets = TicketKeys::open(&router_dir);
        let shown = tls::Shown { certificates: table.certificates().clone(), challenges: table.challenges().clone() };
        let tls = Arc::new(tls::configuration(shown, tickets).map_err(RouterError::Tls)?);
        // What could fail for a reason outside has not: whoever serves now may hand over.
        let mut predecessor = Predecessor::find(&data_dir, &instance)?;
        if let Some(predecessor) = &mut predecessor {
            predecessor.take_over()?;
        }
        let file = TableFile::open(&router_dir, &table).map_err(RouterError::Table)?;
        info!(table.generation = table.generation(), "Serving from the stored route table");
        if let Some(predecessor) = &mut predecessor {
            table.set_elsewhere(&predecessor.in_flight()?);
        }
        let socket = |name| {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            let _guard = runtime.enter();
            admin_socket::listen(&data_dir, name)?.into_std()
        };
        let cannot_open = |source| RouterError::AdminSocket { data_dir: data_dir.clone(), source };
        let admin = socket(ROUTER_SOCKET).map_err(cannot_open)?;
        let sockets = StatusSockets { unix: socket(STATUS_SOCKET).map_err(RouterError::StatusSocket)?, tcp };
        let (tallies, handed_over) = mpsc::channel(TALLIES_MAX);
        let shared = Arc::new(Shared {
            data_dir: data_dir.clone(),
            table,
            bounds: bounds.clone(),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
            log: log.clone(),
            tallies,
            traffic: TrafficTotals::default(),
            tls,
            ca_file,
            upstream_networks,
            upstream_tls: OnceLock::new(),
            handshakes: Handshakes::default(),
            clients: ClientPlaces::new(Reason::ClientConnections).into(),
            slow_heads: ClientPlaces::new(Reason::SlowHeads).into(),
            floods: Refused::new(Reason::Http2Flood),
            headerless: Refused::new(Reason::NoProxyHeader),
            https_port,
            http2_without_tls,
            draining: AtomicBool::new(false),
            has_successor: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            crowded: Notify::new(),
            requests_total: AtomicU64::new(0),
        });
        let stage = watch::Sender::new(Stage::Serving);
        // Until the worker threads have ended.
        let (stop_others, stopped) = watch::channel(());
        let until_stopped = |mut stopped: watch::Receiver<()>| async move { drop(stopped.changed().await) };
        let (active_apps, admission_stopped) = (shared.table.active_apps(), until_stopped(stopped.clone()));
        let (of_crowd, crowd_stage) = (shared.clone(), stage.clone());
        let admission = spawn("admission", move |runtime| {
            runtime.block_on(async move {
                tokio::select! {
                    () = active_apps.look_after() => {}
                    () = crowd::look_after(&of_crowd, &crowd_stage) => {}
                    () = admission_stopped => {}
                }
            });
        })?;
        let mut workers = Vec::new();
        for (index, listeners) in of_threads.into_iter().enumerate() {
            let (shared, stage) = (shared.clone(), stage.subscribe());
            workers.push(spawn(&format!("worker-{index}"), move |runtime| {
                runtime.block_on(worker::run(shared, listeners, stage));
            })?);
        }
        if let Some(predecessor) = &mut predecessor {
            predecessor.retire()?;
            info!("Took over from the router before, which finishes its requests");
        }
        let handover = watch::Sender::new(Handover::None);
        let handed_on = handover.subscribe();
        let (of_control, control_stopped) = (shared.clone(), until_stopped(stopped.clone()));
        let control = spawn("control", move |runtime| {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::UnixListener::from_std(admin) else { return };
                let predecessor = predecessor.and_then(|predecessor| match predecessor.into_client() {
                    Ok(client) => Some(client),
                    Err(error) => {
                        error!(%error, "No connection to the router before; it may still send requests: end it");
                        None
                    }
                });
                let control = Control {
                    shared: of_control,
                    file: file.into(),
                    instance,
                    data_dir,
                    handover,
                    predecessor: predecessor.into(),
                };
                tokio::select! {
                    () = control::serve(Rc::new(control), listener) => {}
                    () = control_stopped => {}
                }
            });
        })?;
        let (of_status, status_stopped, status_stage) = (shared.clone(), until_stopped(stopped), stage.subscribe());
        let status = spawn("status", move |runtime| {
            runtime.block_on(async move {
                tokio::select! {
                    () = status_thread::run(of_status, handed_over, sockets, status_stage) => {}
                    () = status_stopped => {}
                }
            });
        })?;
        let (ending, ended) = oneshot::channel();
        thread::Builder::new()
            .name("router-end".to_owned())
            .spawn(move || {
                let join = |handle: JoinHandle<()>| {
                    let name = handle.thread().name().unwrap_or_default().to_owned();
                    if handle.join().is_err() {
                        error!(name, "A thread of the router panicked; this is a bug");
                    }
                };
                workers.into_iter().for_each(join);
                drop(stop_others);
                [control, admission, status].into_iter().for_each(join);
                log.end();
                join(log_thread);
                ending.send(()).unwrap_or_default();
            })
            .map_err(RouterError::Thread)?;
        Ok(Self { shared, stage, bounds, handed_on, ended: Some(ended) })
    }

    /// Waits until another router has taken over; then this one is to [`Router::drain`].
    pub async fn retired(&mut self) {
        // Without anybody who could take over there is nothing to wait for.
        if self.handed_on.wait_for(|handover| *handover == Handover::Retired).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the router without failing a request: no new connections, health 503, `Connection: close`, then the end of
    /// idle connections and upgraded ones, then whatever requests finish within the drain limit.
    pub async fn drain(&mut self) {
        let has_successor = *self.handed_on.borrow() == Handover::Retired;
        self.shared.has_successor.store(has_successor, Ordering::Relaxed);
        self.shared.draining.store(true, Ordering::Relaxed);
        self.stage.send_replace(Stage::LameDuck);
        tokio::time::sleep(self.bounds.lame_duck).await;
        self.shared.table.close_all_upgraded();
        self.stage.send_replace(Stage::Draining);
        if let Some(ended) = self.ended.take() {
            ended.await.unwrap_or_default();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce(&LocalRuntime) + Send + 'static) -> Result<JoinHandle<()>, RouterError> {
    let (started, result) = std::sync::mpsc::channel();
    let main = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => {
            started.send(Ok(())).unwrap_or_default();
            body(&runtime);
        }
        Err(error) => started.send(Err(error)).unwrap_or_default(),
    };
    let handle = thread::Builder::new().name(name.to_owned()).spawn(main).map_err(RouterError::Thread)?;
    result.recv().unwrap_or(Ok(())).map_err(RouterError::Thread)?;
    Ok(handle)
}

fn describe(listen: &Listen) -> String {
    match listen {
        Listen::Address(address) => address.to_string(),
        Listen::Inherited(listener) => {
            listener.local_addr().map_or_else(|_error| "an inherited socket".to_owned(), |address| address.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_dynos() {
        assert_eq!(connections_max(20_000, Some(4_096)), 2_048);
        assert_eq!(connections_max(20_000, Some(1 << 20)), 20_000);
        assert_eq!(connections_max(20_000, None), 20_000);
        assert_eq!(dyno_connections_max(2_048, Some(4_096)), 1_984);
        assert_eq!(dyno_connections_max(20_000, Some(1 << 20)), 1_028_512);
        assert!(dyno_connections_max(20_000, None) > 1 << 40);
        assert_eq!(dyno_connections_max(32, Some(64)), 0);
    }
}
