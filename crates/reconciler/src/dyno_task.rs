//! One task per living dyno: adopts or launches its process, watches it, carries out stops, and reports facts.
//!
//! The task keeps nothing that a new one could not find out: after a restart of the server it looks at the run
//! directory and goes on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::database_file::is_database_file;
use domain::display_chain::display_chain;
use domain::dyno::DynoState;
use domain::dyno_size::ByteCount;
use domain::id::{AppId, DynoId};
use domain::memory_quota::{MemoryVerdict, judge, usage_line};
use domain::secret::Secret;
use shim::client::{self, Connection, ConnectionError, Observed, OrphanSignal};
use store::health_check::HealthFinding;
use telemetry::ingest::{Ingest, RingTarget};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};
use uuid::Uuid;
use wire::shim::{Environment, Exit, ExitReason, LOG_DIR, Mechanism, Request, Response, Spec};

use crate::launch_plan::millis;
use crate::log::PlatformLog;
use crate::readiness::{self, Answer, Probe};

/// Times to try to recover a lost shim, and to connect to one that is there, before giving the dyno up.
const RECOVERIES_MAX: u32 = 3;
const CONNECTS_MAX: u32 = 50;
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How often a process without a shim is looked at.
const ORPHAN_PERIOD: Duration = Duration::from_millis(250);
/// In the run directory of a dyno that was warned of its database file.
const DATABASE_MARK: &str = "database-warned";

/// What `R12` probably means: most servers stop by themselves, uWSGI starts anew unless it is told otherwise.
const SIGTERM_HINT: &str = "The process went on after SIGTERM: it must handle the signal by finishing its work and \
                            exiting (uWSGI reloads on SIGTERM unless `die-on-term` is set)";

/// A fact about a dyno, for the main loop.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) dyno: DynoId,
    pub(crate) fact: Fact,
}

#[derive(Debug)]
pub(crate) enum Fact {
    /// Its process runs; these mechanisms hold it.
    Launched {
        in_force: Vec<Mechanism>,
    },
    Ready,
    /// What a check of its health has changed.
    Checked(HealthFinding),
    Exited {
        exit: Exit,
    },
    /// Its process runs, but no shim can be put over it again: it must be replaced.
    Unsupervised,
    /// Nothing is left of it and nobody knows how it ended: the machine restarted.
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Stop,
    /// `R10`: say what was seen, then kill.
    BootTimedOut,
    Kill,
}

/// What a task needs to know of its dyno.
pub(crate) struct DynoTask {
    pub(crate) dyno: DynoId,
    pub(crate) app: AppId,
    pub(crate) name: String,
    /// As stored when the task began.
    pub(crate) state: DynoState,
    pub(crate) run_dir: PathBuf,
    pub(crate) berth: PathBuf,
    pub(crate) instance: String,
    /// How to launch it if nothing of it exists yet.
    pub(crate) launch: Option<(Spec, Secret<Environment>)>,
    /// For web dynos.
    pub(crate) probe: Option<readiness::Target>,
    pub(crate) quota: Option<ByteCount>,
    pub(crate) boot: Duration,
    pub(crate) grace: Duration,
    pub(crate) memory_report: Duration,
    /// Streams that its output goes to; the first one is the one that counts.
    pub(crate) target: RingTarget,
    /// A stream that ends with it.
    pub(crate) output: Option<Uuid>,
    pub(crate) log: PlatformLog,
    pub(crate) ingest: Ingest,
    pub(crate) launches: Arc<Semaphore>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
}

impl DynoTask {
    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let fact = match self.start().await {
            Ok(()) => self.watch(&mut orders).await,
            Err(fact) => fact,
        };
        // Whoever cannot be supervised again serves until its successor does.
        let fact =
            if matches!(fact, Fact::Lost) && self.is_alive().await { self.outlive(&mut orders).await } else { fact };
        if let Fact::Exited { exit } = &fact {
            self.ingest.finish(self.dyno.uuid(), exit.last_log_sequence).await;
            self.tell_end(exit);
        } else {
            self.ingest.finish(self.dyno.uuid(), 0).await;
        }
        if let Some(output) = self.output {
            self.log.end(output);
        }
        self.report(fact);
    }

    /// Makes sure that the process runs under a shim. The error is how it ended.
    async fn start(&mut self) -> Result<(), Fact> {
        for _attempt in 0..=RECOVERIES_MAX {
            let observed = client::observe(&self.run_dir, &self.instance).await;
            match observed {
                Ok(Observed::Running(state)) => {
                    self.follow_log();
                    self.report(Fact::Launched { in_force: state.in_force });
                    return Ok(());
                }
                Ok(Observed::Ended(exit)) => {
                    self.follow_log();
                    return Err(Fact::Exited { exit });
                }
                Ok(Observed::ShimLost(_)) => self.recover().await,
                Ok(Observed::Gone) => match self.launch.take() {
                    Some((spec, environment)) if self.state == DynoState::Requested => {
                        return self.launch(spec, environment).await;
                    }
                    Some(_) | None => return Err(Fact::Lost),
                },
                Err(error) => {
                    warn!(dyno.id = %self.dyno, error = display_chain(&error), "cannot read a dyno's run directory");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        Err(Fact::Lost)
    }

    async fn recover(&self) {
        info!(dyno.id = %self.dyno, dyno.name = self.name, "Recovering a dyno whose shim was lost");
        if let Err(error) = client::recover(&self.berth, &self.run_dir).await {
            warn!(dyno.id = %self.dyno, error = display_chain(&error), "cannot recover a dyno");
        }
    }

    async fn launch(&self, spec: Spec, environment: Secret<Environment>) -> Result<(), Fact> {
        let launched = {
            // Too many launches at once make each of them slow.
            let _turn = self.launches.acquire().await;
            client::launch(&self.berth, &self.run_dir, &spec, environment.expose()).await
        };
        self.follow_log();
        match launched {
            Ok(state) => {
                self.report(Fact::Launched { in_force: state.in_force });
                Ok(())
            }
            Err(error) => {
                let text = display_chain(&error);
                warn!(dyno.id = %self.dyno, dyno.name = self.name, error = text, "cannot start a dyno");
                self.log.dyno(
                    self.app,
                    &self.name,
                    &format!("Error R99 (Platform error) -> Cannot start the process: {text}"),
                );
                if let Some(output) = self.output {
                    self.log.output(output, &format!(" !     Cannot start the process: {text}"));
                }
                Err(Fact::Exited { exit: not_started() })
            }
        }
    }

    async fn is_alive(&self) -> bool {
        matches!(client::observe(&self.run_dir, &self.instance).await, Ok(Observed::ShimLost(_)))
    }

    /// Waits for the end of a process that no shim can be put over: by itself, or because it is asked for.
    async fn outlive(&self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Fact {
        warn!(dyno.id = %self.dyno, dyno.name = self.name, "A dyno cannot be supervised again; replacing it");
        self.report(Fact::Unsupervised);
        let mut signal = None;
        while self.is_alive().await {
            tokio::select! {
                Some(order) = orders.recv() => signal = Some(match order {
                    Order::Stop => OrphanSignal::Terminate,
                    Order::BootTimedOut | Order::Kill => OrphanSignal::Kill,
                }),
                // It may be asked to end once; after its grace it is told to.
                () = sleep(self.grace), if matches!(signal, Some(OrphanSignal::Terminate)) => {
                    signal = Some(OrphanSignal::Kill);
                }
                () = sleep(ORPHAN_PERIOD), if signal.is_none() => continue,
            }
            if let Some(signal) = signal
                && let Err(error) = client::signal_orphan(&self.run_dir, &self.instance, self.dyno.uuid(), signal)
            {
                warn!(dyno.id = %self.dyno, error = display_chain(&error), "cannot end a process without a shim");
            }
        }
        Fact::Lost
    }

    fn follow_log(&self) {
        self.ingest.add(self.dyno.uuid(), &self.run_dir.join(LOG_DIR), self.target.clone());
    }

    /// Watches the process until it ends.
    async fn watch(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Fact {
        let mut recoveries = 0;
        let mut ready_needed = matches!(self.state, DynoState::Requested | DynoState::Starting);
        if self.state == DynoState::Stopping {
            // The server that sent the stop may have died before it arrived.
            ready_needed = false;
        }
        let mut stop_wanted = self.state == DynoState::Stopping;
        let mut database_seen = false;
        loop {
            let connection = match self.connect().await {
                Ok(connection) => connection,
                Err(fact) => return fact,
            };
            match self.serve(connection, orders, &mut ready_needed, &mut stop_wanted, &mut database_seen).await {
                Ended::Exit(exit) => return Fact::Exited { exit },
                Ended::Disconnected => {
                    recoveries += 1;
                    if recoveries > RECOVERIES_MAX {
                        return Fact::Lost;
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Fact> {
        for _attempt in 0..CONNECTS_MAX {
            match Connection::connect(&self.run_dir, &self.instance).await {
                Ok(connection) => return Ok(connection),
                Err(ConnectionError::Ended(exit)) => return Err(Fact::Exited { exit: *exit }),
                Err(_not_there) => {}
            }
            match client::observe(&self.run_dir, &self.instance).await {
                Ok(Observed::Ended(exit)) => return Err(Fact::Exited { exit }),
                Ok(Observed::Gone) => {
                    // Both are gone: what can still be known is recorded by a recovery.
                    self.recover().await;
                    if let Ok(Observed::Ended(exit)) = client::observe(&self.run_dir, &self.instance).await {
                        return Err(Fact::Exited { exit });
                    }
                    return Err(Fact::Lost);
                }
                Ok(Observed::ShimLost(_)) => self.recover().await,
                Ok(Observed::Running(_)) | Err(_) => {}
            }
            sleep(CONNECT_PAUSE).await;
        }
        Err(Fact::Lost)
    }

    async fn serve(
        &self,
        mut connection: Connection,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        ready_needed: &mut bool,
        stop_wanted: &mut bool,
        database_seen: &mut bool,
    ) -> Ended {
        if *stop_wanted && let Err(ended) = self.ask(&mut connection, &self.stop_request()).await {
            return ended;
        }
        let mut last_probe = Probe::NotListening;
        let ready = self.wait_until_ready(&mut last_probe);
        tokio::pin!(ready);
        let mut memory = interval(self.memory_report);
        memory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        memory.reset();
        loop {
            let event = tokio::select! {
                exited = connection.exited() => match exited {
                    Ok(exit) => return Ended::Exit(exit),
                    Err(ConnectionError::Ended(exit)) => return Ended::Exit(*exit),
                    Err(_lost) => return Ended::Disconnected,
                },
                Some(order) = orders.recv() => Event::Order(order),
                answer = &mut ready, if *ready_needed => Event::Ready(answer),
                _now = memory.tick(), if self.quota.is_some() => Event::Memory,
            };
            let asked = match event {
                Event::Ready(answer) => {
                    *ready_needed = false;
                    if let (Some(answer), Some(target)) = (answer, &self.probe)
                        && let Some(hint) = readiness::hint(&answer, &target.host)
                    {
                        self.log.dyno(self.app, &self.name, &hint);
                    }
                    self.report(Fact::Ready);
                    Ok(())
                }
                Event::Order(Order::Stop) => {
                    *ready_needed = false;
                    *stop_wanted = true;
                    self.ask(&mut connection, &self.stop_request()).await.map(|_response| ())
                }
                Event::Order(Order::Kill) => self.ask(&mut connection, &Request::Kill).await.map(|_response| ()),
                Event::Order(Order::BootTimedOut) => {
                    if *ready_needed {
                        *ready_needed = false;
                        self.explain_boot_timeout(&mut connection).await
                    } else {
                        Ok(())
                    }
                }
                Event::Memory => {
                    if !*database_seen {
                        *database_seen = self.warn_of_database().await;
                    }
                    self.check_memory(&mut connection).await
                }
            };
            if let Err(ended) = asked {
                return ended;
            }
        }
    }

    /// Gives the answer to the first answered probe; `None` for what is ready as soon as it runs.
    async fn wait_until_ready(&self, last_probe: &mut Probe) -> Option<Answer> {
        match &self.probe {
            None => None,
            Some(target) => readiness::wait(target, |probe| last_probe.clone_from(probe)).await,
        }
    }

    fn stop_request(&self) -> Request {
        Request::Stop { grace_ms: millis(self.grace) }
    }

    async fn ask(&self, connection: &mut Connection, request: &Request) -> Result<Response, Ended> {
        match connection.request(request).await {
            Ok(response) => Ok(response),
            Err(ConnectionError::Ended(exit)) => Err(Ended::Exit(*exit)),
            Err(error) => {
                warn!(dyno.id = %self.dyno, error = display_chain(&error), "a shim did not answer");
                Err(Ended::Disconnected)
            }
        }
    }

    async fn explain_boot_timeout(&self, connection: &mut Connection) -> Result<(), Ended> {
        let say = |text: &str| self.log.dyno(self.app, &self.name, text);
        say(&boot_timeout_line(self.boot));
        if let Response::Listening { addresses } = self.ask(connection, &Request::Listening).await?
            && let Some(target) = &self.probe
        {
            let port = target.address.port();
            say(&explain_listening(&addresses, port));
            if addresses.iter().any(|address| address.port() == port && !address.ip().is_loopback())
                && let Probe::NotHttp(why) = final_probe(target).await
            {
                say(&format!("The port is bound, but the process does not speak HTTP there: {why}."));
            }
        }
        say("Stopping process with SIGKILL");
        self.ask(connection, &Request::Kill).await.map(|_response| ())
    }

    async fn check_memory(&self, connection: &mut Connection) -> Result<(), Ended> {
        let Some(quota) = self.quota else { return Ok(()) };
        let Response::Statistics { statistics } = self.ask(connection, &Request::Statistics).await? else {
            return Ok(());
        };
        let used = ByteCount(statistics.memory_bytes);
        let say = |text: &str| self.log.dyno(self.app, &self.name, text);
        match judge(used, quota) {
            MemoryVerdict::WithinQuota => Ok(()),
            MemoryVerdict::Exceeded => {
                say(&usage_line(used, quota));
                say("Error R14 (Memory quota exceeded)");
                Ok(())
            }
            MemoryVerdict::VastlyExceeded => {
                say(&usage_line(used, quota));
                say("Error R15 (Memory quota vastly exceeded)");
                say("Stopping process with SIGKILL");
                self.ask(connection, &Request::Kill).await.map(|_response| ())
            }
        }
    }

    /// A database on the ephemeral disk looks like it works until the dyno restarts. Says so, if there is one; once,
    /// also when the server restarts meanwhile.
    async fn warn_of_database(&self) -> bool {
        let (run_dir, mark) = (self.run_dir.clone(), self.run_dir.join(DATABASE_MARK));
        if mark.exists() {
            return true;
        }
        let search = move || client::find_written(&run_dir, is_database_file);
        let Ok(Some(path)) = tokio::task::spawn_blocking(search).await else { return false };
        if let Err(error) = std::fs::File::create(&mark) {
            debug!(dyno.id = %self.dyno, %error, "cannot remember a warning");
        }
        let shown: String = path.to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect();
        self.log.dyno(
            self.app,
            &self.name,
            &format!(
                "Warning: this dyno writes the database file /app/{shown}, which is lost when the dyno restarts; \
                 use a database server, named by DATABASE_URL"
            ),
        );
        true
    }

    /// What the shim could not say itself.
    fn tell_end(&self, exit: &Exit) {
        let say = |text: &str| self.log.dyno(self.app, &self.name, text);
        match exit.reason {
            ExitReason::OutOfMemory => {
                if let Some(quota) = self.quota {
                    say(&usage_line(ByteCount(exit.memory_peak_bytes), quota));
                }
                say("Error R15 (Memory quota vastly exceeded)");
            }
            ExitReason::DiskFull => say("The process wrote more to its ephemeral disk than it may, and was stopped"),
            ExitReason::DeadlinePassed => say("The process ran longer than it may, and was stopped"),
            ExitReason::Unknown => say("The process ended, and nobody saw how: its supervisor was lost with it"),
            ExitReason::StopTimedOut => say(SIGTERM_HINT),
            ExitReason::Exited
            | ExitReason::Signalled
            | ExitReason::Stopped
            | ExitReason::Killed
            | ExitReason::NotStarted => {}
        }
        if exit.out_of_memory_kills > 0 && exit.reason != ExitReason::OutOfMemory {
            say("The kernel killed a process at the memory limit (R15)");
        }
    }

    fn report(&self, fact: Fact) {
        // The loop may be gone in a stop of the server: the run directory tells the next one.
        drop(self.reports.send(Report { dyno: self.dyno, fact }));
    }
}

enum Event {
    Order(Order),
    Ready(Option<Answer>),
    Memory,
}

enum Ended {
    Exit(Exit),
    Disconnected,
}

async fn final_probe(target: &readiness::Target) -> Probe {
    let mut seen = Probe::NotListening;
    let probing = readiness::wait(target, |probe| seen = probe.clone());
    drop(tokio::time::timeout(Duration::from_secs(3), probing).await);
    seen
}

fn boot_timeout_line(boot: Duration) -> String {
    let seconds = boot.as_secs_f64();
    format!("Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {seconds} seconds of launch")
}

/// Names what is wrong with the sockets that a process listens on, and the remedy.
fn explain_listening(addresses: &[SocketAddr], port: u16) -> String {
    let on_port: Vec<&SocketAddr> = addresses.iter().filter(|address| address.port() == port).collect();
    if let Some(local) = on_port.first().filter(|address| address.ip().is_loopback()) {
        return format!(
            "The process listens on {local} only, where nobody outside the dyno reaches it; bind 0.0.0.0:$PORT"
        );
    }
    if !on_port.is_empty() {
        return format!("The process listens on port {port} but has answered no request");
    }
    if addresses.is_empty() {
        return "The process listens on no port at all; a web process must bind 0.0.0.0:$PORT".to_owned();
    }
    let others: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("The process listens on {}, not on $PORT ({port}); read the port from the environment", others.join(", "))
}

fn not_started() -> Exit {
    Exit {
        protocol: wire::shim::PROTOCOL,
        reason: ExitReason::NotStarted,
        status: None,
        ended_at_unix_ms: 0,
        out_of_memory_kills: 0,
        cpu_us: 0,
        memory_peak_bytes: 0,
        last_log_sequence: 0,
    }
}

#[cfg(test)]
mod tests {
    use domain::time_limits::TimeLimits;

    use super::*;

    #[test]
    fn the_boot_timeout_is_herokus() {
        assert_eq!(
            boot_timeout_line(TimeLimits::default().boot),
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch"
        );
        assert!(boot_timeout_line(Duration::from_millis(2500)).contains("within 2.5 seconds of"));
    }

    fn check(addresses: &[&str], expect: &str) {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let text = explain_listening(&addresses, 5000);
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn a_boot_timeout_names_what_the_process_listens_on() {
        check(&[], "no port at all");
        check(&["127.0.0.1:5000"], "bind 0.0.0.0:$PORT");
        check(&["0.0.0.0:8080"], "0.0.0.0:8080, not on $PORT (5000)");
        check(&["0.0.0.0:5000"], "answered no request");
    }
}
