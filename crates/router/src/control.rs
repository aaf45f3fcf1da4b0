//! The control side: takes tables and questions from the server and answers them, and hands over to a successor.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};
use wire::routes::{FromRouter, PROTOCOL, ROUTER_SOCKET, RouteTable, TableUpdate, ToRouter};

use crate::admin_socket::{self, Messages};
use crate::client::{ClientError, Pushed, RouterClient};
use crate::in_flight::InFlight;
use crate::predecessor::ANSWER_MAX;
use crate::table::Change;
use crate::table_file::{TableFile, TableFileError};
use crate::worker::Shared;

/// Seconds of one app in one answer; whoever wants more asks again.
const TRAFFIC_APPS_MAX: usize = 20_000;

/// How old the counts of the router before may be.
const FOLLOW_PERIOD: Duration = Duration::from_millis(20);

const PAUSE: Duration = Duration::from_millis(100);

/// Whether another router takes this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handover {
    None,
    /// A successor prepares: no server is listened to, and no table written.
    Yielded,
    /// It serves, and this router ends.
    Retired,
}

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) file: RefCell<TableFile>,
    pub(crate) instance: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) handover: watch::Sender<Handover>,
    /// The router that this one took over from, until it has ended. Changes of the table hold it, so that they reach
    /// that one in the same order.
    pub(crate) predecessor: Mutex<Option<RouterClient>>,
}

/// Accepts servers until it is aborted.
pub(crate) async fn serve(control: Rc<Control>, mut listener: UnixListener) {
    let _following = spawn_local(control.clone().follow_predecessor());
    let mut handover = control.handover.subscribe();
    loop {
        tokio::select! {
            () = accept(&control, &listener) => {}
            _asked = handover.wait_for(|handover| *handover != Handover::None) => {}
        }
        // The successor gives the socket's name to one of its own.
        drop(listener);
        drop(handover.wait_for(|handover| *handover == Handover::None).await);
        info!("The router that was about to take over has left; going on");
        listener = loop {
            match admin_socket::listen(&control.data_dir, ROUTER_SOCKET) {
                Ok(listener) => break listener,
                Err(error) => {
                    warn!(%error, "Cannot open the admin socket; trying again");
                    sleep(PAUSE).await;
                }
            }
        };
    }
}

async fn accept(control: &Rc<Control>, listener: &UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => drop(spawn_local(converse(control.clone(), Messages::new(stream)))),
            Err(error) => {
                warn!(%error, "Cannot accept a server's connection; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Goes on as before when the successor leaves before it has begun to serve.
struct Succession<'a>(&'a Control);

impl Drop for Succession<'_> {
    fn drop(&mut self) {
        self.0.handover.send_if_modified(|handover| {
            let left = *handover == Handover::Yielded;
            if left {
                *handover = Handover::None;
            }
            left
        });
    }
}

async fn converse(control: Rc<Control>, mut messages: Messages) {
    let mut greeted = false;
    let mut succession = None;
    let mut handover = control.handover.subscribe();
    loop {
        let received = tokio::select! {
            received = messages.receive() => received,
            // A server connects to the successor.
            _asked = handover.wait_for(|handover| *handover != Handover::None), if succession.is_none() => return,
        };
        let message: ToRouter = match received {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return warn!(%error, "A server's message cannot be read; closing its connection"),
        };
        let answer = match (&message, greeted) {
            (ToRouter::TakeOver, true) => {
                info!("Another router takes over");
                control.handover.send_replace(Handover::Yielded);
                succession = Some(Succession(&control));
                FromRouter::Yielded
            }
            (ToRouter::Retire, true) if succession.is_some() => {
                control.handover.send_replace(Handover::Retired);
                FromRouter::Done
            }
            (ToRouter::Hello { .. }, _) | (_, true) => control.answer(message).await,
            _ => FromRouter::Refused { message: "say hello first".to_owned() },
        };
        greeted |= matches!(answer, FromRouter::Hello { .. });
        let refused = matches!(answer, FromRouter::Refused { .. });
        if let Err(error) = messages.send(&answer).await {
            return debug!(%error, "The server left before its answer");
        }
        control.fold_log();
        if refused && !greeted {
            return;
        }
    }
}

impl Control {
    async fn answer(&self, message: ToRouter) -> FromRouter {
        match message {
            ToRouter::Hello { protocol, instance } => self.greet(protocol, &instance),
            ToRouter::Update(update) => self.update(update).await,
            ToRouter::Replace { table } => self.replace(table).await,
            ToRouter::InFlight => self.in_flight().await.into(),
            ToRouter::CloseUpgraded { dynos } => {
                self.shared.table.close_upgraded(&dynos);
                let mut predecessor = self.predecessor.lock().await;
                if let Some(client) = &mut *predecessor
                    && let Err(cause) = limited(client.close_upgraded(dynos)).await
                {
                    self.lose_predecessor(&mut predecessor, cause);
                }
                FromRouter::Done
            }
            ToRouter::Status => FromRouter::Status { status: self.shared.status() },
            ToRouter::Traffic { after } => {
                let seconds = self.shared.traffic.after(after, TRAFFIC_APPS_MAX);
                FromRouter::Traffic { seconds: seconds.iter().map(|second| (**second).clone()).collect() }
            }
            ToRouter::TakeOver | ToRouter::Retire => {
                FromRouter::Refused { message: "this is for a router that takes over".to_owned() }
            }
        }
    }

    fn greet(&self, protocol: u32, instance: &str) -> FromRouter {
        if protocol != PROTOCOL {
            return FromRouter::Refused { message: format!("this router speaks protocol {PROTOCOL}, not {protocol}") };
        }
        if instance != self.instance {
            return FromRouter::Refused { message: format!("this router belongs to instance {}", self.instance) };
        }
        let generation = self.shared.table.generation();
        FromRouter::Hello { protocol: PROTOCOL, instance: self.instance.clone(), generation }
    }

    async fn update(&self, update: TableUpdate) -> FromRouter {
        let mut predecessor = self.predecessor.lock().await;
        let table = &self.shared.table;
        match table.judge(update.base, update.generation) {
            Change::Applied => {}
            Change::NeedWhole => return FromRouter::NeedWhole { generation: table.generation() },
            Change::Old => return self.refuse_old(update.generation),
        }
        let generation = update.generation;
        let message = ToRouter::Update(update);
        self.store(|file| file.append(&message));
        let ToRouter::Update(update) = message else { return FromRouter::Done };
        let copy = predecessor.is_some().then(|| update.clone());
        if table.update(update) != Change::Applied {
            return FromRouter::NeedWhole { generation: table.generation() };
        }
        if let (Some(client), Some(update)) = (&mut *predecessor, copy)
            && let Err(cause) = limited(pass_on(client, update, || table.snapshot())).await
        {
            self.lose_predecessor(&mut predecessor, cause);
        }
        debug!(table.generation = generation, "Route table updated");
        FromRouter::Applied { generation }
    }

    async fn replace(&self, table: RouteTable) -> FromRouter {
        let mut predecessor = self.predecessor.lock().await;
        let generation = table.generation;
        if self.shared.table.replace(table) != Change::Applied {
            return self.refuse_old(generation);
        }
        self.store(|file| file.write_whole(&self.shared.table.snapshot()));
        if let Some(client) = &mut *predecessor
            && let Err(cause) = limited(client.replace(self.shared.table.snapshot())).await
        {
            self.lose_predecessor(&mut predecessor, cause);
        }
        info!(table.generation = generation, "Route table replaced");
        FromRouter::Applied { generation }
    }

    fn refuse_old(&self, generation: u64) -> FromRouter {
        let current = self.shared.table.generation();
        FromRouter::Refused { message: format!("generation {generation} is not newer than {current}, now in force") }
    }

    /// Folds the log of the table into its base when it has grown: after an answer, because it takes longer than a change
    /// may.
    fn fold_log(&self) {
        let table = &self.shared.table;
        self.store(|file| if file.is_large() { file.write_whole(&table.snapshot()) } else { Ok(()) });
    }

    /// A table that cannot be stored serves all the same; the next start begins with an older one and asks for the
    /// whole. Once there is a successor, the files are that one's.
    fn store(&self, write: impl FnOnce(&mut TableFile) -> Result<(), TableFileError>) {
        if *self.handover.borrow() != Handover::None {
            return;
        }
        if let Err(error) = write(&mut self.file.borrow_mut()) {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            error!(%error, cause, "The route table is in force but not on disk");
        }
    }

    /// Here and in the router before.
    async fn in_flight(&self) -> InFlight {
        let mut counts = self.shared.table.in_flight();
        let mut predecessor = self.predecessor.lock().await;
        let Some(client) = &mut *predecessor else { return counts };
        match limited(client.in_flight_there()).await {
            Ok(there) => counts.add_all(there),
            Err(cause) => self.lose_predecessor(&mut predecessor, cause),
        }
        counts
    }

    /// Keeps counting what the router before has in flight, until it has ended.
    async fn follow_predecessor(self: Rc<Self>) {
        loop {
            {
                let mut predecessor = self.predecessor.lock().await;
                let Some(client) = &mut *predecessor else { return };
                match limited(client.in_flight_there()).await {
                    Ok(there) => self.shared.table.set_elsewhere(&there),
                    Err(cause) => return self.lose_predecessor(&mut predecessor, cause),
                }
            }
            sleep(FOLLOW_PERIOD).await;
        }
    }

    fn lose_predecessor(&self, predecessor: &mut Option<RouterClient>, cause: Option<ClientError>) {
        match cause {
            Some(cause) => {
                let detail = std::error::Error::source(&cause).map(ToString::to_string).unwrap_or_default();
                debug!(%cause, detail, "No more connection to the router before");
                info!("The router before has ended");
            }
            None => error!("The router before does not answer any more; it may still send requests: end it"),
        }
        *predecessor = None;
        self.shared.table.set_elsewhere(&InFlight::default());
    }
}

/// `None` is an answer that does not come.
async fn limited<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, Option<ClientError>> {
    match timeout(ANSWER_MAX, answer).await {
        Ok(answer) => answer.map_err(Some),
        Err(_elapsed) => Err(None),
    }
}

async fn pass_on(
    client: &mut RouterClient,
    update: TableUpdate,
    whole: impl FnOnce() -> RouteTable,
) -> Result<(), ClientError> {
    match client.push(update).await? {
        Pushed::Applied => Ok(()),
        Pushed::NeedWhole { .. } => client.replace(whole()).await,
    }
}
