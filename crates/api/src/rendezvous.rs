//! Where `heroku run` attaches: TLS on the API port, a secret on the first line, then the bytes of the process.
//!
//! ```text
//!  client                                     server                               shim
//!    attach.<dyno>.<holder>.<expiry>.<signature>\r\n ──►  waits until the dyno runs ──► attach.sock
//!    ◄── rendezvous\r\n, in a record of its own: the client throws its first read away
//!    ◄───────────────────────── bytes both ways ─────────────────────────────────────►
//! ```
//!
//! Compat: the client looks for its exit marker in single reads, so the marker is never cut (`MarkerGuard`); it says
//! that its input has ended by one byte 0x04, which a terminal understands and a pipe does not ([`PipeInput`]).

use std::io;
use std::time::Duration;

use domain::access::Permission;
use domain::attach::Attach;
use domain::id::DynoId;
use store::dyno::Dyno;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::error::ApiResult;
use crate::ground::{Ground, Holder, LOST};
use crate::idle::Idle;
use crate::marker_guard::{MARKER, MarkerGuard};
use crate::one_off;
use crate::origin::Origin;
use crate::state::ApiState;

/// What the secret begins with. No method of HTTP does: that is how the two are told apart.
pub(crate) const FIRST_BYTE: u8 = b'a';
const PREFIX: &str = "attach.";

/// How long after the answer somebody may come to attach.
const URL_VALID: Duration = Duration::from_secs(60);

/// How long the line with the secret may take, and its longest form in bytes.
const SECRET_TIMEOUT: Duration = Duration::from_secs(30);
const SECRET_BYTES_MAX: usize = 512;

/// What stands for an exit status that was not recorded in time.
const UNKNOWN_STATUS: i32 = 255;

/// Bytes on the way at once, in each direction. Less than a TLS record: what is written at once arrives at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// Compat: the client reads this and throws it away.
const GREETING: &[u8] = b"rendezvous\r\n";

/// Compat: what the client sends when its own input has ended.
const END_OF_INPUT: u8 = 4;

/// A byte 0x04 that is the last one for so long was the end of the input.
const END_OF_INPUT_PAUSE: Duration = Duration::from_millis(150);

/// How long the connection outlives a process whose client has not said that its input has ended.
///
/// Compat: the client says so a moment after it has connected, and dies of it where the connection has ended by then.
const FAREWELL: Duration = Duration::from_millis(250);

/// The URL of a dyno's standard streams: a secret for one minute.
pub(crate) fn url(state: &ApiState, origin: &Origin, dyno: DynoId, holder: Holder) -> String {
    let token = state.signer.token(&subject(dyno, holder), URL_VALID, state.now());
    format!("rendezvous://{}/{PREFIX}{dyno}.{holder}.{token}", origin.authority_with_port())
}

fn subject(dyno: DynoId, holder: Holder) -> String {
    format!("attach/{dyno}/{holder}")
}

/// Serves one connection whose first byte is [`FIRST_BYTE`].
pub(crate) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &ApiState) {
    let secret = match timeout(SECRET_TIMEOUT, secret_line(&mut stream)).await {
        Ok(Ok(secret)) => secret,
        Ok(Err(error)) => return debug!(%error, "somebody who came to attach left"),
        Err(_elapsed) => return,
    };
    let attached = match dyno_of(state, &secret) {
        Ok(Some((dyno, ground))) => one_off::attach(state, &dyno).await.map(|process| (dyno, ground, process)),
        Ok(None) => Err("This address to attach to is not valid or no longer so; run the command again.".to_owned()),
        Err(error) => Err(error.message),
    };
    let served = match attached {
        Ok((dyno, ground, process)) => exchange(stream, process, state, &dyno, &ground).await,
        Err(message) => refuse(stream, &message).await,
    };
    if let Err(error) = served {
        debug!(%error, "an attached session ended early");
    }
}

async fn secret_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    // Byte by byte: what follows the line is input of the process.
    loop {
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            break;
        }
        line.push(byte);
        if line.len() > SECRET_BYTES_MAX {
            return Err(io::Error::other("the secret is too long"));
        }
    }
    String::from_utf8(line).map(|text| text.trim_end().to_owned()).map_err(io::Error::other)
}

/// The dyno that a secret is for, and what whoever shows it may do there.
fn dyno_of(state: &ApiState, secret: &str) -> ApiResult<Option<(Dyno, Ground)>> {
    let Some((dyno, rest)) = secret.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) else {
        return Ok(None);
    };
    let Some((holder, token)) = rest.split_once('.') else { return Ok(None) };
    let (Some(dyno), Some(holder)) = (DynoId::parse(dyno), Holder::parse(holder)) else { return Ok(None) };
    if !state.signer.check_token(&subject(dyno, holder), token, state.now()) {
        return Ok(None);
    }
    let Some(dyno) = state.store.dyno(dyno)? else { return Ok(None) };
    let ground = Ground { holder, app: dyno.app, permission: Permission::Operate };
    ground.check(state)?;
    Ok(Some((dyno, ground)))
}

async fn refuse(mut stream: impl AsyncWrite + Unpin, message: &str) -> io::Result<()> {
    greet(&mut stream).await?;
    stream.write_all(format!(" !    {message}\r\n").as_bytes()).await?;
    stream.shutdown().await
}

async fn greet(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(GREETING).await?;
    stream.flush().await
}

/// Carries bytes both ways until the process has ended or the client has gone. Dropping the process's side, which
/// both ends do, hangs it up if it is still there.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    process: UnixStream,
    state: &ApiState,
    dyno: &Dyno,
    ground: &Ground,
) -> io::Result<()> {
    greet(&mut stream).await?;
    let idle = Idle::begin(state.config.session_idle);
    let over = async {
        tokio::select! {
            () = ground.lost(state) => LOST.to_owned(),
            () = idle.passed() => idle.words(),
        }
    };
    tokio::pin!(over);
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (mut from_process, mut to_process) = process.into_split();
    let mut guard = MarkerGuard::default();
    let mut input = PipeInput { is_pipe: dyno.attach == Some(Attach::Pipes), held: false };
    let (mut client_bytes, mut process_bytes) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut input_ended = false;
    loop {
        tokio::select! {
            read = from_process.read(&mut process_bytes) => {
                // A process that left some of its input unread resets the stream at its end.
                let count = read.unwrap_or(0);
                idle.end();
                let pieces = if count == 0 { guard.finish() } else { guard.push(&process_bytes[..count]) };
                for piece in pieces {
                    to_client.write_all(&piece).await?;
                    to_client.flush().await?;
                }
                if count == 0 {
                    if !guard.seen && let Some(marker) = missing_marker(state, dyno).await {
                        to_client.write_all(&marker).await?;
                        to_client.flush().await?;
                    }
                    if !input_ended {
                        drop(timeout(FAREWELL, end_of_input(&mut from_client, &mut client_bytes)).await);
                    }
                    return to_client.shutdown().await;
                }
            }
            read = from_client.read(&mut client_bytes) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                idle.end();
                input_ended |= client_bytes[..count].last() == Some(&END_OF_INPUT);
                let bytes = input.take(&client_bytes[..count]);
                // A process that reads no more goes on all the same: its output is what counts.
                if let Err(error) = to_process.write_all(&bytes).await {
                    debug!(%error, "a process has closed its input");
                }
            }
            why = &mut over => {
                let mut last = format!("\r\n !    {why}\r\n").into_bytes();
                if asks_for_marker(dyno) {
                    last.extend(marker(UNKNOWN_STATUS));
                }
                let told = async {
                    to_client.write_all(&last).await?;
                    to_client.shutdown().await
                };
                return timeout(FAREWELL, told).await?;
            }
            () = sleep(END_OF_INPUT_PAUSE), if input.held => {
                input.held = false;
                to_process.shutdown().await?;
            }
        }
    }
}

/// Reads what nobody needs any more, up to the end of the client's input or of the client.
async fn end_of_input(from_client: &mut (impl AsyncRead + Unpin), bytes: &mut [u8]) {
    while let Ok(count) = from_client.read(bytes).await {
        if count == 0 || bytes[..count].last() == Some(&END_OF_INPUT) {
            return;
        }
    }
}

/// The marker that the command itself never came to, because its shell exited or was killed before.
///
/// Compat: without one the client fails in a way that tells nothing. It knows nothing of the status that we know.
async fn missing_marker(state: &ApiState, dyno: &Dyno) -> Option<Vec<u8>> {
    asks_for_marker(dyno).then_some(())?;
    let ended = one_off::ended(state, dyno.id).await;
    Some(marker(ended.and_then(|dyno| dyno.exit_status).unwrap_or(UNKNOWN_STATUS)))
}

fn asks_for_marker(dyno: &Dyno) -> bool {
    std::str::from_utf8(MARKER).is_ok_and(|marker| dyno.command.contains(marker))
}

fn marker(status: i32) -> Vec<u8> {
    [MARKER, status.to_string().as_bytes(), b"\r\n"].concat()
}

/// Finds the end of the input of a process without a terminal, which the client can say only within the bytes.
struct PipeInput {
    is_pipe: bool,
    /// A last 0x04 that waits for what follows it: more bytes, and it was one of them; nothing, and it was the end.
    held: bool,
}

impl PipeInput {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut taken = if std::mem::take(&mut self.held) { vec![END_OF_INPUT] } else { Vec::new() };
        taken.extend_from_slice(bytes);
        if self.is_pipe && taken.last() == Some(&END_OF_INPUT) {
            taken.pop();
            self.held = true;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_end_of_transmission_waits_for_what_follows_it() {
        let mut input = PipeInput { is_pipe: true, held: false };
        assert_eq!(input.take(b"a\x04b"), b"a\x04b");
        assert_eq!((input.take(b"c\x04"), input.held), (b"c".to_vec(), true));
        assert_eq!((input.take(b"d"), input.held), (b"\x04d".to_vec(), false));
        let mut terminal = PipeInput { is_pipe: false, held: false };
        assert_eq!((terminal.take(b"\x04"), terminal.held), (b"\x04".to_vec(), false));
    }
}
