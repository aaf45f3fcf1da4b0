//! An upgraded connection: bytes both ways until either side, the idle limit or a deploy ends it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use domain::error_code::ErrorCode;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, timeout, timeout_at};

use crate::dyno::Slot;
use crate::request_log::Record;
use crate::websocket::{self, FrameTracker};
use crate::worker::Open;

/// Bytes that are read and not yet written, per direction: what is not taken is not read.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a tunnel holds in memory.
pub(crate) const HELD_BYTES: usize = 2 * BUFFER_BYTES;

pub(crate) struct Tunnel {
    /// Held, not read: the end of the router waits for it.
    pub(crate) _open: Open,
    pub(crate) slot: Arc<Slot>,
    pub(crate) record: Record,
    /// Without a byte in either direction for this long, it ends (`H15`).
    pub(crate) idle: Duration,
    pub(crate) websocket: bool,
    pub(crate) close_wait: Duration,
}

enum End {
    Eof,
    Idle,
    Asked,
}

pub(crate) async fn run(mut tunnel: Tunnel, client: OnUpgrade, dyno: OnUpgrade) {
    let (Ok(client), Ok(dyno)) = tokio::join!(client, dyno) else {
        tunnel.record.fail(ErrorCode::H27);
        return;
    };
    let mut sides = Sides::new(client, dyno);
    let end = sides.pump(&mut tunnel).await;
    if matches!(end, End::Idle) {
        tunnel.record.fail(ErrorCode::H15);
    }
    if tunnel.websocket && !matches!(end, End::Eof) {
        // Whoever does not answer in time is cut off.
        drop(timeout(tunnel.close_wait, sides.say_goodbye()).await);
    }
}

type Side = TokioIo<Upgraded>;

struct Sides {
    to_dyno: Direction,
    to_client: Direction,
}

struct Direction {
    from: ReadHalf<Side>,
    to: WriteHalf<Side>,
    /// Follows what was written to `to`.
    frames: FrameTracker,
    buffer: Box<[u8]>,
    /// What was read and is not yet written.
    unwritten: Range<usize>,
    /// Under TLS, what was written may still wait in records for the other side to take them.
    flushed: bool,
    read_ended: bool,
    ended: bool,
    bytes: u64,
}

impl Sides {
    fn new(client: Upgraded, dyno: Upgraded) -> Self {
        let (from_client, to_client) = split(TokioIo::new(client));
        let (from_dyno, to_dyno) = split(TokioIo::new(dyno));
        Self { to_dyno: Direction::new(from_client, to_dyno), to_client: Direction::new(from_dyno, to_client) }
    }

    async fn pump(&mut self, tunnel: &mut Tunnel) -> End {
        tunnel.slot.begin_conversation();
        let mut closing = tunnel.slot.dyno.closing();
        let mut deadline = Instant::now() + tunnel.idle;
        loop {
            if self.to_dyno.ended && self.to_client.ended {
                return End::Eof;
            }
            let step = async {
                tokio::select! {
                    moved = self.to_dyno.step(), if !self.to_dyno.ended => moved,
                    moved = self.to_client.step(), if !self.to_client.ended => moved,
                }
            };
            let moved = tokio::select! {
                biased;
                _asked = closing.wait_for(|closing| *closing) => return End::Asked,
                moved = timeout_at(deadline, step) => moved,
            };
            match moved {
                Err(_elapsed) => return End::Idle,
                Ok(Err(_closed)) => return End::Eof,
                Ok(Ok(())) => deadline = Instant::now() + tunnel.idle,
            }
            tunnel.record.set_bytes(self.to_dyno.bytes, self.to_client.bytes);
        }
    }

    /// Ends a WebSocket properly: what the dyno has begun to say is finished, then both sides are told "going away"
    /// and the client may answer.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        let to_client = &mut self.to_client;
        while !to_client.ended && to_client.in_frame() {
            to_client.step().await?;
        }
        to_client.to.write_all(&websocket::GOING_AWAY).await?;
        if !self.to_dyno.in_frame() {
            self.to_dyno.to.write_all(&websocket::GOING_AWAY_MASKED).await?;
            self.to_dyno.to.flush().await?;
        }
        to_client.to.flush().await?;
        // What the client says until its own close frame is not carried on: the dyno was told to go.
        let mut scrap = [0; 1024];
        let mut frames = std::mem::take(&mut self.to_dyno.frames);
        while !(frames.close_seen() && frames.at_boundary()) {
            let count = self.to_dyno.from.read(&mut scrap).await?;
            if count == 0 {
                break;
            }
            frames.push(&scrap[..count]);
        }
        to_client.to.shutdown().await
    }
}

impl Direction {
    fn new(from: ReadHalf<Side>, to: WriteHalf<Side>) -> Self {
        Self {
            from,
            to,
            frames: FrameTracker::default(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unwritten: 0..0,
            flushed: true,
            read_ended: false,
            ended: false,
            bytes: 0,
        }
    }

    /// Whether a frame of our own would land in the middle of another one.
    fn in_frame(&self) -> bool {
        !self.unwritten.is_empty() || !self.frames.at_boundary()
    }

    /// Reads, writes or flushes once. Cancel-safe, because each of these is.
    async fn step(&mut self) -> io::Result<()> {
        if !self.unwritten.is_empty() {
            self.flushed = false;
            let count = self.to.write(&self.buffer[self.unwritten.clone()]).await?;
            let written = self.unwritten.start..self.unwritten.start + count;
            self.frames.push(&self.buffer[written.clone()]);
            self.unwritten.start = written.end;
            self.bytes += count as u64;
        } else if self.read_ended {
            self.to.shutdown().await?;
            self.ended = true;
        } else {
            tokio::select! {
                biased;
                count = self.from.read(&mut self.buffer) => {
                    self.unwritten = 0..count?;
                    self.read_ended = self.unwritten.is_empty();
                }
                // While there is nothing else: what follows would take it along.
                flushed = self.to.flush(), if !self.flushed => {
                    flushed?;
                    self.flushed = true;
                }
            }
        }
        Ok(())
    }
}
