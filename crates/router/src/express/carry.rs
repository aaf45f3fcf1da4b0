//! One request of the express lane from its app to a dyno, and the answer back to whoever asked.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use domain::error_code::ErrorCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::Record;
use super::dyno_stream::DynoStream;
use super::outgoing::Outgoing;
use super::recipient::{Left, Recipient};
use super::transfer::Transfer;
use crate::dyno::Slot;
use crate::dyno_io::{ConnectFailure, hear_out, open_stream};
use crate::orphans::Orphaned;
use crate::places::LeftPlace;
use crate::reach::{Connector, reach, reach_again};
use crate::reply::Problem;
use crate::worker::Worker;

/// Who had a dyno sooner than this has not waited for it, and nothing has changed meanwhile.
const AT_ONCE: Duration = Duration::from_micros(20);

/// When somebody who waited in vain may come again.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why an exchange brought no whole answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The reused connection was closed under the request before a byte of an answer came.
    Stale,
    /// Nothing was sent to the client yet: it is told.
    Problem(Problem),
    /// The answer is broken off, with this code in the log.
    BrokenOff(ErrorCode),
    /// The client left before the answer began: the dyno is still at work.
    Left,
}

/// Carries a request to its end.
///
/// # Errors
/// Nothing, or not all, of an answer went to the client.
pub(super) async fn carry<R: Recipient>(
    worker: &Rc<Worker>,
    client: &mut R,
    outgoing: &Outgoing,
    record: &mut Record<'_>,
) -> Result<(), Fault> {
    let limits = outgoing.app.view().limits;
    let connector = Streams { worker, idempotent: outgoing.idempotent };
    let reaching = reach(&outgoing.app, &worker.shared.bounds, &mut record.journey, &connector);
    let (slot, mut dyno) = unless_left(worker, client, reaching).await?.map_err(Fault::Problem)?;
    if record.journey.queue > AT_ONCE && !leads_to(worker, outgoing) {
        // Only the full path could follow. Who comes again goes there, and not where nobody is to go any more.
        return Err(Fault::Problem(Problem::shed(COME_AGAIN_AFTER)));
    }
    let mut slot = Some(slot);
    loop {
        let sending_at = Instant::now();
        let mut transfer = Transfer::new(worker, client, dyno, outgoing, limits);
        let ended = poll_fn(|cx| {
            let polled = transfer.poll(cx);
            if let Some(slot) = &slot
                && transfer.is_conversation()
            {
                slot.begin_conversation();
            }
            // The dyno is done with it, however long the client takes to read the rest.
            if transfer.answered_at.is_some()
                && let Some(slot) = slot.take()
            {
                give_back(worker, &slot, &mut transfer);
            }
            polled
        })
        .await;
        if transfer.status > 0 {
            record.status = transfer.status;
        }
        record.bytes = transfer.bytes;
        record.service = transfer.answered_at.unwrap_or_else(Instant::now) - sending_at;
        let (stream, is_sent, unwanted) = (transfer.take_stream(), transfer.is_sent(), transfer.unwanted());
        let fault = match ended {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        let (Some(held), Some(stream)) = (slot.take(), stream) else { return Err(fault) };
        match fault {
            Fault::Stale => {
                drop(stream);
                let (app, bounds) = (&outgoing.app, &worker.shared.bounds);
                let reaching = reach_again(app, bounds, &mut record.journey, &connector, &held);
                let (elsewhere, stream) = unless_left(worker, client, reaching).await?.map_err(Fault::Problem)?;
                (slot, dyno) = (Some(elsewhere.unwrap_or(held)), stream);
                continue;
            }
            Fault::Problem(problem) if problem.code != Some(ErrorCode::H12) => return Err(fault),
            Fault::BrokenOff(ErrorCode::H27 | ErrorCode::H28) if !held.is_conversation() => {
                spawn_local(hear_out(stream, Arc::new(held), unwanted));
                return Err(fault);
            }
            Fault::BrokenOff(_) => return Err(fault),
            Fault::Left | Fault::Problem(_) => {}
        }
        let orphaned = held.dyno.orphans.add(outgoing.method(), outgoing.target(), sending_at);
        spawn_local(see_out(stream, is_sent, held, orphaned, outgoing.app.places.leave()));
        return Err(fault);
    }
}

/// Whether the host of the request does not lead to another app than the one that it waited for.
fn leads_to(worker: &Worker, outgoing: &Outgoing) -> bool {
    worker.shared.table.app(outgoing.host()).is_none_or(|app| Arc::ptr_eq(&app, &outgoing.app))
}

/// Waits for `what`, unless the client leaves first.
async fn unless_left<R: Recipient, T>(
    worker: &Rc<Worker>,
    client: &mut R,
    what: impl Future<Output = T>,
) -> Result<T, Fault> {
    let mut what = pin!(what);
    poll_fn(|cx| {
        if let Poll::Ready(done) = what.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let mut scratch = worker.scratch.borrow_mut();
        client.poll_left(cx, &mut scratch).map(|Left| Err(Fault::Left))
    })
    .await
}

/// Gives sockets to dynos.
struct Streams<'a> {
    worker: &'a Rc<Worker>,
    idempotent: bool,
}

impl Connector for Streams<'_> {
    type Connection = DynoStream;

    async fn pooled(&self, slot: &Slot) -> Option<DynoStream> {
        let bounds = &self.worker.shared.bounds;
        let taken = self.worker.streams.take(slot.dyno.serial, bounds)?;
        if self.idempotent {
            return Some(taken);
        }
        // Lets the runtime look at the sockets once: a connection that the dyno has closed by now is found out before a
        // request goes down with it that could not be sent twice.
        self.worker.streams.put(slot.dyno.serial, taken.stream, bounds);
        tokio::task::yield_now().await;
        self.worker.streams.take(slot.dyno.serial, bounds)
    }

    async fn connect(&self, slot: &Slot, limit: Duration) -> Result<DynoStream, ConnectFailure> {
        open_stream(slot.dyno.address, limit).await.map(|stream| DynoStream { stream, reused: false })
    }
}

/// Returns a connection that can carry another request.
fn give_back<R: Recipient>(worker: &Worker, slot: &Slot, transfer: &mut Transfer<'_, R>) {
    if let Some(stream) = transfer.take_stream()
        && transfer.keep_dyno
    {
        worker.streams.put(slot.dyno.serial, stream, &worker.shared.bounds);
    }
}

/// Keeps a slot until the dyno has answered or closed: a worker that is still busy with a request that nobody waits
/// for is busy all the same. One that waits for the rest of it is told that there is none.
async fn see_out(mut stream: TcpStream, is_sent: bool, slot: Slot, orphaned: Orphaned, place: LeftPlace) {
    if !is_sent {
        // It may be gone already; then there is something to read.
        stream.shutdown().await.unwrap_or_default();
    }
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => break,
        }
    }
    drop(stream);
    drop(slot);
    drop(orphaned);
    drop(place);
}
