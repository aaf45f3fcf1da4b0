//! The control side: takes tables and questions from the server and answers them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::task::spawn_local;
use tracing::{debug, error, info, warn};
use wire::routes::{FromRouter, PROTOCOL, RouteTable, ToRouter};

use crate::admin_socket::Messages;
use crate::table::Change;
use crate::table_file::{TableFile, TableFileError};
use crate::worker::Shared;

/// Seconds of one app in one answer; whoever wants more asks again.
const TRAFFIC_APPS_MAX: usize = 20_000;

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) file: RefCell<TableFile>,
    pub(crate) instance: String,
}

/// Accepts servers until it is aborted.
pub(crate) async fn serve(control: Rc<Control>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => drop(spawn_local(converse(control.clone(), Messages::new(stream)))),
            Err(error) => {
                warn!(%error, "Cannot accept a server's connection; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(control: Rc<Control>, mut messages: Messages) {
    let mut greeted = false;
    loop {
        let message: ToRouter = match messages.receive().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return warn!(%error, "A server's message cannot be read; closing its connection"),
        };
        let answer = match (&message, greeted) {
            (ToRouter::Hello { .. }, _) | (_, true) => control.answer(message),
            _ => FromRouter::Refused { message: "say hello first".to_owned() },
        };
        greeted |= matches!(answer, FromRouter::Hello { .. });
        let refused = matches!(answer, FromRouter::Refused { .. });
        if let Err(error) = messages.send(&answer).await {
            return debug!(%error, "The server left before its answer");
        }
        if refused && !greeted {
            return;
        }
    }
}

impl Control {
    fn answer(&self, message: ToRouter) -> FromRouter {
        match message {
            ToRouter::Hello { protocol, instance } => self.greet(protocol, &instance),
            ToRouter::Update(ref update) => match self.shared.table.judge(update.base, update.generation) {
                Change::Applied => self.update(message),
                Change::NeedWhole => FromRouter::NeedWhole { generation: self.shared.table.generation() },
                Change::Old => self.refuse_old(update.generation),
            },
            ToRouter::Replace { table } => self.replace(table),
            ToRouter::InFlight => FromRouter::InFlight { dynos: self.shared.table.in_flight() },
            ToRouter::CloseUpgraded { dynos } => {
                self.shared.table.close_upgraded(&dynos);
                FromRouter::Done
            }
            ToRouter::Traffic { after } => {
                let seconds = self.shared.traffic.after(after, TRAFFIC_APPS_MAX);
                FromRouter::Traffic { seconds: seconds.iter().map(|second| (**second).clone()).collect() }
            }
            ToRouter::Status => FromRouter::Status { status: self.shared.status() },
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

    fn update(&self, message: ToRouter) -> FromRouter {
        let mut file = self.file.borrow_mut();
        report(file.append(&message));
        let ToRouter::Update(update) = message else { return FromRouter::Done };
        let generation = update.generation;
        if self.shared.table.update(update) != Change::Applied {
            return FromRouter::NeedWhole { generation: self.shared.table.generation() };
        }
        if file.is_large() {
            report(file.write_whole(&self.shared.table.snapshot()));
        }
        debug!(table.generation = generation, "Route table updated");
        FromRouter::Applied { generation }
    }

    fn replace(&self, table: RouteTable) -> FromRouter {
        let generation = table.generation;
        if self.shared.table.replace(table) != Change::Applied {
            return self.refuse_old(generation);
        }
        report(self.file.borrow_mut().write_whole(&self.shared.table.snapshot()));
        info!(table.generation = generation, "Route table replaced");
        FromRouter::Applied { generation }
    }

    fn refuse_old(&self, generation: u64) -> FromRouter {
        let current = self.shared.table.generation();
        FromRouter::Refused { message: format!("generation {generation} is not newer than {current}, now in force") }
    }
}

/// A table that cannot be stored serves all the same; the next start begins with an older one and asks for the whole.
fn report(stored: Result<(), TableFileError>) {
    if let Err(error) = stored {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        error!(%error, cause, "The route table is in force but not on disk");
    }
}
