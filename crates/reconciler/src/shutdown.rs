//! The end of the loop when every dyno is to stop with it.

use std::time::Duration;

use domain::display_chain::display_chain;
use domain::dyno::{DynoEvent, DynoKind};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use crate::dyno_task::{Order, Report};
use crate::main_loop::{MainLoop, Message, StopMode};

impl MainLoop {
    /// Stops every dyno and waits for their ends; kills them as soon as that is asked for.
    pub(crate) async fn drain(
        &mut self,
        reports: &mut mpsc::UnboundedReceiver<Report>,
        stop: &mut watch::Receiver<StopMode>,
    ) {
        let dynos = match self.store.all_dynos() {
            Ok(dynos) => dynos,
            Err(error) => {
                error!(error = display_chain(&error), "cannot list the dynos to stop");
                return;
            }
        };
        for dyno in dynos.iter().filter(|dyno| dyno.state.is_alive() && self.orders.contains_key(&dyno.id)) {
            if let Err(error) = self.store.advance_dyno(dyno.id, DynoEvent::StopSent, Timestamp::now()).await {
                warn!(error = display_chain(&error), "cannot record a stop");
            }
            self.order(dyno.id, if dyno.kind == DynoKind::Build { Order::Kill } else { Order::Stop });
        }
        let deadline = Instant::now() + self.config.limits.exit + Duration::from_secs(5);
        let mut killed = false;
        while !self.orders.is_empty() {
            tokio::select! {
                Some(report) = reports.recv() => self.handle(Message::Report(report)).await,
                () = kill_wanted(stop), if !killed => {
                    killed = true;
                    for dyno in &dynos {
                        self.order(dyno.id, Order::Kill);
                    }
                }
                () = sleep_until(deadline) => {
                    warn!("some dynos did not stop in time; the next start finds them");
                    return;
                }
            }
        }
    }
}

/// Waits for the second, less patient stop; for ever if it never comes.
async fn kill_wanted(stop: &mut watch::Receiver<StopMode>) {
    if stop.wait_for(|mode| *mode == StopMode::Kill).await.is_err() {
        std::future::pending::<()>().await;
    }
}
