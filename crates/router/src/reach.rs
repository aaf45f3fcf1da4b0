//! From an app to a dyno of it that has a free slot and takes a connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use crate::admission::{Refusal, connect_failure_code};
use crate::app::{App, Picked};
use crate::config::Bounds;
use crate::dyno::{Dyno, Slot};
use crate::dyno_io::ConnectFailure;
use crate::reply::Problem;
use domain::error_code::ErrorCode;

/// Makes connections of one kind.
pub(crate) trait Connector {
    type Connection;

    /// A connection that is open already.
    async fn pooled(&self, slot: &Slot) -> Option<Self::Connection>;

    async fn connect(&self, slot: &Slot, limit: Duration) -> Result<Self::Connection, ConnectFailure>;
}

/// What a request has been through before it was sent.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    pub(crate) queue: Duration,
    pub(crate) connect: Duration,
    /// The last one that was tried.
    pub(crate) dyno: Option<Arc<Dyno>>,
    tried: Vec<u64>,
    /// The dyno that the client's session is on.
    wanted: Option<Uuid>,
}

impl Journey {
    pub(crate) fn to(wanted: Option<Uuid>) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub(crate) fn connected(&mut self, slot: &Slot, took: Duration) {
        self.dyno = Some(slot.dyno.clone());
        self.connect += took;
    }
}

/// Finds a dyno that has a free slot and takes a connection. A dyno that refuses one is left alone for a while.
pub(crate) async fn reach<C: Connector>(
    app: &Arc<App>,
    bounds: &Bounds,
    journey: &mut Journey,
    connector: &C,
) -> Result<(Slot, C::Connection), Problem> {
    let mut only_half_open = true;
    let mut failed = None;
    while journey.tried.len() < bounds.connect_attempts_max {
        let asked_at = Instant::now();
        let picked = app.pick(&journey.tried, journey.wanted, bounds).await;
        let connecting_at = Instant::now();
        journey.queue += connecting_at - asked_at;
        let Picked { slot, half_open } = match picked {
            Ok(picked) => picked,
            Err(Refusal::AllTried) => break,
            Err(Refusal::NoSuchApp) => return Err(Problem::NO_SUCH_APP),
            Err(Refusal::Code(code)) => return Err(Problem::code(code)),
            Err(Refusal::Shed { retry_after }) => return Err(Problem::shed(retry_after)),
        };
        // Dynos that this very request sent into quarantine do not count.
        only_half_open &= half_open;
        if let Some(connection) = connector.pooled(&slot).await {
            journey.connected(&slot, connecting_at.elapsed());
            return Ok((slot, connection));
        }
        let limit = Duration::from_millis(app.view().limits.connect_ms);
        let connected = connector.connect(&slot, limit).await;
        journey.connected(&slot, connecting_at.elapsed());
        let (timed_out, cause) = match connected {
            Ok(connection) => {
                slot.dyno.end_quarantine();
                return Ok((slot, connection));
            }
            Err(ConnectFailure::Local(error)) => return Err(local_failure(&error)),
            Err(ConnectFailure::Refused) => (false, None),
            Err(ConnectFailure::Unusable(cause)) => (false, Some(cause)),
            Err(ConnectFailure::TimedOut) => (true, None),
        };
        if !app.view().edge.to_server {
            // There is one server: whoever comes to it finds out for themselves whether it is back.
            slot.dyno.quarantine(bounds.quarantine);
        }
        journey.tried.push(slot.dyno.serial);
        failed = Some((timed_out, cause));
        if !app.may_retry() {
            break;
        }
    }
    let dynos = app.view().dynos.len();
    let Some((timed_out, cause)) = failed else { return Err(Problem::code(ErrorCode::H99)) };
    Err(Problem { cause, ..Problem::code(connect_failure_code(only_half_open, timed_out, dynos)) })
}

pub(crate) fn local_failure(error: &std::io::Error) -> Problem {
    warn!(%error, "Cannot make a connection to a dyno, for a reason on this machine");
    Problem::code(ErrorCode::H99)
}
