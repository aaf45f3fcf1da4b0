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
    search(app, bounds, journey, connector, true, None).await
}

/// The same for a request whose kept connection to a dyno was closed under it: over a new one, to the same dyno if that
/// is still there. `None` for the slot is the one that it has.
pub(crate) async fn reach_again<C: Connector>(
    app: &Arc<App>,
    bounds: &Bounds,
    journey: &mut Journey,
    connector: &C,
    slot: &Slot,
) -> Result<(Option<Slot>, C::Connection), Problem> {
    let connecting_at = Instant::now();
    let limit = Duration::from_millis(app.view().limits.connect_ms);
    let connected = connector.connect(slot, limit).await;
    journey.connected(slot, connecting_at.elapsed());
    let failure = match connected {
        Ok(connection) => {
            slot.connected();
            return Ok((None, connection));
        }
        Err(failure) => failure,
    };
    let failed = Some(note(app, bounds, journey, slot, failure)?);
    let reached = search(app, bounds, journey, connector, false, failed).await;
    reached.map(|(slot, connection)| (Some(slot), connection))
}

/// Whether the last attempt took too long, and why it failed.
type Failed = (bool, Option<&'static str>);

async fn search<C: Connector>(
    app: &Arc<App>,
    bounds: &Bounds,
    journey: &mut Journey,
    connector: &C,
    is_first: bool,
    mut failed: Option<Failed>,
) -> Result<(Slot, C::Connection), Problem> {
    let mut only_half_open = is_first;
    while journey.tried.len() < bounds.connect_attempts_max && (failed.is_none() || app.may_retry()) {
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
        // A request is sent a second time only, so not over a connection that may be closed under it, too.
        if is_first
            && !slot.is_scout()
            && let Some(connection) = connector.pooled(&slot).await
        {
            journey.connected(&slot, connecting_at.elapsed());
            slot.begin();
            return Ok((slot, connection));
        }
        let limit = Duration::from_millis(app.view().limits.connect_ms);
        let connected = connector.connect(&slot, limit).await;
        journey.connected(&slot, connecting_at.elapsed());
        match connected {
            Ok(connection) => {
                slot.connected();
                slot.begin();
                return Ok((slot, connection));
            }
            Err(failure) => failed = Some(note(app, bounds, journey, &slot, failure)?),
        }
    }
    let dynos = app.view().dynos.len();
    let Some((timed_out, cause)) = failed else { return Err(Problem::code(ErrorCode::H99)) };
    Err(Problem { cause, ..Problem::code(connect_failure_code(only_half_open, timed_out, dynos)) })
}

/// A dyno has not taken a connection.
fn note(
    app: &App,
    bounds: &Bounds,
    journey: &mut Journey,
    slot: &Slot,
    failure: ConnectFailure,
) -> Result<Failed, Problem> {
    let failed = match failure {
        ConnectFailure::Local(error) => return Err(local_failure(&error)),
        ConnectFailure::Refused => (false, None),
        ConnectFailure::Unusable(cause) => (false, Some(cause)),
        ConnectFailure::TimedOut => (true, None),
    };
    if !app.view().edge.to_server {
        // There is one server: whoever comes to it finds out for themselves whether it is back.
        slot.refused(bounds.quarantine);
    }
    journey.tried.push(slot.dyno.serial);
    Ok(failed)
}

fn local_failure(error: &std::io::Error) -> Problem {
    warn!(%error, "Cannot make a connection to a dyno, for a reason on this machine");
    Problem::code(ErrorCode::H99)
}
