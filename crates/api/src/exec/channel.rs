//! A visit to the dyno, and the bytes between it and the client: over a channel of SSH here, over anything else that is
//! an [`Output`] and fills an [`InputQueue`](super::input_queue::InputQueue).

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{ChannelOpenFailure, ChannelWriteHalf, Sig};
use shim::client::{VisitStream, VisitStreams, Visiting};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::debug;
use wire::shim::Visit;

use super::input_queue::{Input, Inputs};
use super::place::{End, Place, notice};
use crate::idle::Idle;

/// Bytes on the way at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Extended data of this kind is what a program writes to its standard error (RFC 4254, 5.2).
const ERRORS: u32 = 1;
/// A program has ended when nothing more has come from it for so long: what it left behind may hold its output open.
const LAST_OUTPUT_PAUSE: Duration = Duration::from_millis(250);
/// What a client is told where there is no exit code.
const NO_STATUS: u32 = 255;
/// What a terminal takes for the end of its input.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// Where what comes out of a visit goes.
pub(super) trait Output: Sync {
    /// How long it outlives a program on a terminal whose client has not said that its input has ended.
    const FAREWELL: Duration;

    /// Sends so many bytes on; `false` when the client has gone.
    fn send(&self, source: Source, bytes: Bytes) -> impl Future<Output = bool> + Send;
}

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A program's standard output, a terminal, a connection, files.
    Output,
    /// A program's standard error.
    Errors,
}

impl Output for ChannelWriteHalf<Msg> {
    /// Compat: without a terminal of its own, the `heroku` client says so by a byte 0x04 a moment after the first output,
    /// and dies of it where the channel has ended by then.
    const FAREWELL: Duration = Duration::from_millis(250);

    async fn send(&self, source: Source, bytes: Bytes) -> bool {
        let sent = match source {
            Source::Output => self.data_bytes(bytes).await,
            Source::Errors => self.extended_data_bytes(ERRORS, bytes).await,
        };
        sent.is_ok()
    }
}

/// Runs a visit that a client asked for in a channel of its own, and closes the channel. `cut` says why its connection is
/// about to end.
pub(super) async fn run(
    place: Place,
    visit: Visit,
    output: ChannelWriteHalf<Msg>,
    inputs: Inputs,
    cut: watch::Receiver<Option<String>>,
) {
    let is_command = matches!(visit, Visit::Command { .. });
    let has_terminal = matches!(visit, Visit::Command { terminal: Some(_), .. });
    match place.visit(&visit).await {
        Ok((visiting, streams)) => {
            let ended = async {
                let status = carry(visiting, streams, &output, inputs, &place.idle, is_command).await;
                conclusion(&place, status, is_command).await
            };
            let ended = tokio::select! {
                ended = ended => ended,
                why = word(cut) => Some((NO_STATUS, Some(why))),
            };
            if let Some((status, word)) = ended {
                if let Some(word) = word {
                    // Compat: in a shell, the `heroku` client reads nothing else.
                    let source = if has_terminal { Source::Output } else { Source::Errors };
                    output.send(source, notice(&word).into()).await;
                }
                drop(output.exit_status(status).await);
            }
        }
        Err(error) => {
            let text = format!(" !    {}\r\n", domain::display_chain::display_chain(&error));
            drop(output.extended_data_bytes(ERRORS, text).await);
            drop(output.exit_status(NO_STATUS).await);
        }
    }
    // The client may have gone, and the channel with it.
    drop(output.eof().await);
    drop(output.close().await);
}

/// Over when a connection is about to end.
async fn word(mut cut: watch::Receiver<Option<String>>) -> String {
    let why = cut.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
    match why {
        Some(why) => why,
        // It has ended.
        None => pending().await,
    }
}

/// The exit code that the client is told, and a word of ours before it; `None` for one that has gone.
async fn conclusion(place: &Place, status: Option<u32>, is_command: bool) -> Option<(u32, Option<String>)> {
    match (status, is_command) {
        (Some(status), _) => Some(match place.end_of(status).await {
            End::Own { status, note } => (status, note),
            End::WithDyno { why } => (NO_STATUS, Some(why)),
        }),
        (None, true) => None,
        // Files are served until the client wants no more; `scp` asks how that ended, too.
        (None, false) => {
            let why = place.departure(false).await;
            Some((if why.is_some() { NO_STATUS } else { 0 }, why))
        }
    }
}

/// Connects from the dyno to where the client wants, and only then takes the channel.
pub(super) async fn connect(
    place: Place,
    host: String,
    port: u16,
    reply: ChannelOpenHandle,
    output: ChannelWriteHalf<Msg>,
    inputs: Inputs,
) {
    let visit = Visit::Connect { host, port };
    match place.visit(&visit).await {
        Ok((visiting, streams)) => {
            reply.accept().await;
            carry(visiting, streams, &output, inputs, &place.idle, false).await;
            drop(output.eof().await);
            drop(output.close().await);
        }
        Err(error) => {
            debug!(%error, "a session cannot connect");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

/// Carries bytes both ways until there are no more, or the program has ended; `None` when the client has gone first.
pub(super) async fn carry<O: Output>(
    mut visiting: Visiting,
    streams: VisitStreams,
    output: &O,
    inputs: Inputs,
    idle: &Idle,
    is_command: bool,
) -> Option<u32> {
    let (source, errors, sink) = match streams {
        VisitStreams::One(stream) => {
            let stream = Arc::new(stream);
            (Arc::clone(&stream), None, stream)
        }
        VisitStreams::Pipes { input, output, errors } => (Arc::new(output), Some(errors), Arc::new(input)),
    };
    let has_terminal = is_command && errors.is_none();
    let (progress, input_ended) = (Notify::new(), Notify::new());
    let progress = Progress { notify: &progress, idle };
    let feeding = feed(&inputs, sink, has_terminal, &input_ended, idle);
    let draining = async {
        let errors = async {
            if let Some(errors) = &errors {
                drain(errors, output, Source::Errors, progress).await;
            }
        };
        tokio::join!(drain(&source, output, Source::Output, progress), errors);
    };
    tokio::pin!(feeding, draining);
    let (mut status, mut drained) = (None, false);
    while !drained || (is_command && status.is_none()) {
        tokio::select! {
            () = &mut draining, if !drained => drained = true,
            () = &mut feeding => return None,
            signal = inputs.next_signal() => {
                // It may have ended just now.
                drop(visiting.signal(signal).await);
            }
            ended = visiting.ended(), if is_command && status.is_none() => {
                status = Some(ended.ok().and_then(|status| u32::try_from(status).ok()).unwrap_or(NO_STATUS));
            }
            () = silence(progress.notify), if status.is_some() => drained = true,
        }
    }
    if has_terminal {
        drop(
            timeout(O::FAREWELL, async {
                tokio::select! { () = feeding => {}, () = input_ended.notified() => {} }
            })
            .await,
        );
    }
    status
}

/// Who is told that something has come.
#[derive(Clone, Copy)]
struct Progress<'a> {
    notify: &'a Notify,
    idle: &'a Idle,
}

/// Over when nothing has come for a while.
async fn silence(progress: &Notify) {
    while timeout(LAST_OUTPUT_PAUSE, progress.notified()).await.is_ok() {}
}

async fn drain(stream: &VisitStream, output: &impl Output, source: Source, progress: Progress<'_>) {
    let mut bytes = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if !output.send(source, Bytes::copy_from_slice(&bytes[..count])).await {
            return;
        }
        progress.notify.notify_one();
        progress.idle.end();
    }
}

/// Hands over what the client sends. Over when the client has gone, and only then.
async fn feed(inputs: &Inputs, sink: Arc<VisitStream>, has_terminal: bool, ended: &Notify, idle: &Idle) {
    let mut sink = Some(sink);
    while let Some(input) = inputs.next().await {
        let data_bytes = if let Input::Bytes(bytes) = &input { Some(bytes.len()) } else { None };
        match (input, &sink) {
            (Input::Bytes(bytes), to) => {
                idle.end();
                let written = match to {
                    Some(to) => to.write_all(&bytes).await.is_ok(),
                    None => true,
                };
                if bytes.last() == END_OF_TRANSMISSION.last() {
                    ended.notify_one();
                }
                // A program that reads no more goes on all the same: its output is what counts.
                sink = sink.filter(|_sink| written);
            }
            (Input::End, Some(to)) if has_terminal => {
                // It may have ended.
                drop(to.write_all(END_OF_TRANSMISSION).await);
                ended.notify_one();
            }
            (Input::End, _) => {
                if let Some(to) = sink.take() {
                    to.end();
                }
            }
            (Input::Resize(terminal), Some(to)) => to.resize(terminal),
            (Input::Resize(_), None) => {}
        }
        inputs.written(data_bytes);
    }
}

/// Of the signals that RFC 4254 (6.10) names.
pub(super) fn signal_number(signal: &Sig) -> Option<i32> {
    Some(match signal {
        Sig::ABRT => 6,
        Sig::ALRM => 14,
        Sig::FPE => 8,
        Sig::HUP => 1,
        Sig::ILL => 4,
        Sig::INT => 2,
        Sig::KILL => 9,
        Sig::PIPE => 13,
        Sig::QUIT => 3,
        Sig::SEGV => 11,
        Sig::TERM => 15,
        Sig::USR1 => 10,
        Sig::Custom(_) => return None,
    })
}
