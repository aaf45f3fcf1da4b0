//! `berth run` with somebody at it: a one-off's standard streams over a WebSocket that may be cut and made again.
//!
//! ```text
//!  client ══ link (a WebSocket, replaced at will) ══► session (a task for each dyno) ══► attach.sock of the shim
//! ```
//!
//! The session holds the process, and what of its output the client has not acknowledged. A link that breaks is waited
//! for; meanwhile the process goes on until that is full. A client that closes its link leaves: the process is hung up
//! as if a terminal had been closed. Sessions live in memory: a server that restarts hangs their processes up.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use domain::access::Permission;
use domain::attach::TerminalSize;
use domain::id::DynoId;
use domain::replay::{OutOfStep, Replay, fresh};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use store::dyno::Dyno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use wire::run_session::{DATA_BYTES_MAX, FromClient, FromServer, INPUT_BYTES_MAX, MESSAGE_BYTES_MAX, OUTPUT_BYTES_MAX};
use wire::shim::{Request, Terminal};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::ground::{Ground, LOST};
use crate::idle::Idle;
use crate::one_off;
use crate::state::ApiState;

/// How long a session waits for its client after the network was cut.
const RESUME_MAX: Duration = Duration::from_secs(5 * 60);
/// A link on which nothing comes for this long is cut; the server asks for a sign of life more often.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const PING_PERIOD: Duration = Duration::from_secs(10);
/// How long a client that may no longer be here has to take what it is told.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages on their way between a link and its session, in each direction.
const MESSAGES_MAX: usize = 8;
/// Links that wait while the session is busy: a client makes one after the other.
const LINKS_MAX: usize = 4;

/// The sessions of a server.
#[derive(Debug, Default)]
pub struct RunSessions(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    links: HashMap<DynoId, mpsc::Sender<Link>>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resume {
    /// See [`wire::run_session::RECEIVED`].
    #[serde(default)]
    received: u64,
}

pub(crate) async fn connect(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, dyno)): Path<(String, String)>,
    Query(resume): Query<Resume>,
    upgrade: WebSocketUpgrade,
) -> ApiResult<Response> {
    let missing = || ApiError::not_found("dyno");
    let id = DynoId::parse(&dyno).ok_or_else(missing)?;
    let dyno = state.store.dyno(id)?.filter(|dyno| dyno.app == app.id).ok_or_else(missing)?;
    if dyno.attach.is_none() {
        return Err(ApiError::invalid(format!("{} was not started to be attached to.", dyno.name)));
    }
    let ground = Ground::of(&actor, app.id, Permission::Operate);
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (link, served) = Link::serve(socket, resume.received, ground.lost(&state));
        state.run_sessions.join(&state, dyno, link).await;
        served.await;
    }))
}

impl RunSessions {
    /// Gives a link to the session of its dyno, which the first link begins.
    async fn join(&self, state: &Arc<ApiState>, dyno: Dyno, link: Link) {
        let known = self.sessions().links.get(&dyno.id).cloned();
        let link = match known {
            // A session that has just ended takes no more.
            Some(links) => match links.send(link).await {
                Ok(()) => return,
                Err(mpsc::error::SendError(link)) => link,
            },
            None => link,
        };
        if link.received > 0 {
            let message = "The session is over: the server was restarted, or you were away for too long.".to_owned();
            drop(link.outgoing.send(FromServer::Failed { message }).await);
            return;
        }
        let (sender, receiver) = mpsc::channel(LINKS_MAX);
        drop(sender.try_send(link));
        let mut sessions = self.sessions();
        sessions.links.retain(|_dyno, links| !links.is_closed());
        while sessions.tasks.try_join_next().is_some() {}
        sessions.links.insert(dyno.id, sender);
        sessions.tasks.spawn(run(Arc::clone(state), dyno, receiver));
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes over a link. Its end without [`Event::Closed`] is a cut.
#[derive(Debug)]
enum Event {
    Message(FromClient),
    /// The client has left.
    Closed,
    /// The client may no longer be here.
    Lost,
}

/// The session's end of a WebSocket.
#[derive(Debug)]
struct Link {
    /// What the client has of the output.
    received: u64,
    incoming: mpsc::Receiver<Event>,
    outgoing: mpsc::Sender<FromServer>,
}

impl Link {
    /// Gives the session's end, and what serves the other one until either is gone. `lost` is over when the client may
    /// no longer be here.
    fn serve(socket: WebSocket, received: u64, lost: impl Future<Output = ()>) -> (Self, impl Future<Output = ()>) {
        let (events, incoming) = mpsc::channel(MESSAGES_MAX);
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        (Self { received, incoming, outgoing }, serve_socket(socket, events, messages, lost))
    }
}

async fn serve_socket(
    socket: WebSocket,
    events: mpsc::Sender<Event>,
    mut messages: mpsc::Receiver<FromServer>,
    lost: impl Future<Output = ()>,
) {
    let (mut to_client, mut from_client) = socket.split();
    let writing = async {
        let mut pings = tokio::time::interval(PING_PERIOD);
        loop {
            let sent = tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => to_client.send(Message::Binary(message.to_bytes().into())).await,
                    // The session has let go of this link: it is over, or has a newer one.
                    None => return drop(to_client.close().await),
                },
                _tick = pings.tick() => to_client.send(Message::Ping(Vec::new().into())).await,
            };
            if let Err(error) = sent {
                return debug!(%error, "a session's link is cut");
            }
        }
    };
    let reading = async {
        while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, from_client.next()).await {
            let event = match message {
                Message::Binary(bytes) => match FromClient::parse(&bytes) {
                    Ok(message) => Event::Message(message),
                    Err(error) => return debug!(%error, "a session's client cannot be understood"),
                },
                Message::Close(_) => Event::Closed,
                Message::Ping(_) | Message::Pong(_) | Message::Text(_) => continue,
            };
            if events.send(event).await.is_err() {
                // Nobody listens, but what is said may still be on its way.
                return pending().await;
            }
        }
    };
    let watching = async {
        lost.await;
        // The session says so, and ends.
        drop(events.send(Event::Lost).await);
        pending::<()>().await;
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
        () = watching => {}
    }
}

/// Attaches to the dyno and serves one link after the other.
async fn run(state: Arc<ApiState>, dyno: Dyno, mut links: mpsc::Receiver<Link>) {
    match one_off::attach(&state, &dyno).await {
        Ok(process) => Session::new(state, dyno, process).run(links).await,
        Err(message) => {
            while let Ok(link) = links.try_recv() {
                drop(link.outgoing.send(FromServer::Failed { message: message.clone() }).await);
            }
        }
    }
}

struct Session {
    state: Arc<ApiState>,
    dyno: Dyno,
    process: UnixStream,
    output: Replay,
    /// The process has closed its output.
    output_ended: bool,
    exit: Option<FromServer>,
    /// Input that has arrived and is not written yet.
    input: VecDeque<u8>,
    /// The offset behind the last byte of input that has arrived.
    arrived: u64,
    input_ended: bool,
    /// The link as it is now, taken apart.
    incoming: Option<mpsc::Receiver<Event>>,
    outgoing: Option<mpsc::Sender<FromServer>>,
    /// What goes out before output does.
    words: VecDeque<FromServer>,
    /// The offset behind the last byte of output that went out on this link.
    sent: u64,
    exit_sent: bool,
    /// Until when a client may come back.
    until: Instant,
    idle: Idle,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Session {
    fn new(state: Arc<ApiState>, dyno: Dyno, process: UnixStream) -> Self {
        let idle = Idle::begin(state.config.session_idle);
        Self {
            state,
            dyno,
            process,
            idle,
            output: Replay::new(OUTPUT_BYTES_MAX),
            output_ended: false,
            exit: None,
            input: VecDeque::new(),
            arrived: 0,
            input_ended: false,
            incoming: None,
            outgoing: None,
            words: VecDeque::new(),
            sent: 0,
            exit_sent: false,
            until: Instant::now() + RESUME_MAX,
        }
    }

    async fn run(mut self, mut links: mpsc::Receiver<Link>) {
        let exited = exited(Arc::clone(&self.state), self.dyno.id);
        tokio::pin!(exited);
        let mut bytes = vec![0; DATA_BYTES_MAX];
        loop {
            let (mut from_process, mut to_process) = self.process.split();
            let room = self.output.room().min(bytes.len());
            let has_exit = self.exit.is_some() && !self.exit_sent;
            let has_more = has_exit || !self.words.is_empty() || self.sent < self.output.end();
            let next = tokio::select! {
                // The session holds no sender: the server does, as long as it lives.
                Some(link) = links.recv() => { self.take(link); Next::GoOn }
                event = receive(&mut self.incoming) => self.hear(event).await,
                permit = reserve(self.outgoing.clone()), if has_more => {
                    match permit {
                        Some(permit) => drop(permit.send(self.next_word())),
                        None => self.cut(),
                    }
                    Next::GoOn
                }
                read = from_process.read(&mut bytes[..room]), if room > 0 && !self.output_ended => {
                    // A process that left some of its input unread resets the stream at its end.
                    match read.unwrap_or(0) {
                        0 => self.output_ended = true,
                        count => {
                            self.idle.end();
                            self.output.push(&bytes[..count]);
                        }
                    }
                    Next::GoOn
                }
                written = to_process.write(self.input.as_slices().0), if !self.input.is_empty() => {
                    self.written(written).await;
                    Next::GoOn
                }
                exit = &mut exited, if self.output_ended && self.exit.is_none() => { self.exit = Some(exit); Next::GoOn }
                () = sleep_until(self.until), if self.incoming.is_none() => Next::End,
                () = self.idle.passed() => self.end(self.idle.words()).await,
            };
            if next == Next::End {
                return;
            }
        }
    }

    /// Goes on over a new link; an older one is not worth waiting for.
    fn take(&mut self, link: Link) {
        self.words.clear();
        // What the client has needs no word of its own on the new link: where it has everything, none would come, and a
        // full store would wait for it for ever.
        let resumed = self.output.from(link.received, 0).and_then(|_rest| self.output.acknowledge(link.received));
        if resumed.is_err() {
            let message = "The client asks for output that it has said to have.".to_owned();
            drop(link.outgoing.try_send(FromServer::Failed { message }));
            return;
        }
        self.words.push_back(FromServer::Welcome { offset: self.arrived });
        // What told the client that there is room again may have been lost.
        self.words.push_back(FromServer::Received { offset: self.arrived - self.input.len() as u64 });
        (self.sent, self.exit_sent) = (link.received, false);
        (self.incoming, self.outgoing) = (Some(link.incoming), Some(link.outgoing));
    }

    fn cut(&mut self) {
        (self.incoming, self.outgoing) = (None, None);
        self.until = Instant::now() + RESUME_MAX;
    }

    async fn hear(&mut self, event: Option<Event>) -> Next {
        let heard = match event {
            None => {
                self.cut();
                Ok(())
            }
            Some(Event::Closed) => return Next::End,
            Some(Event::Lost) => return self.end(LOST.to_owned()).await,
            Some(Event::Message(message)) => self.obey(message).await,
        };
        match heard {
            Ok(()) => Next::GoOn,
            Err(error) => {
                debug!(%error, "a session's client is out of step");
                Next::End
            }
        }
    }

    /// Ends the session with a word for whoever is there.
    async fn end(&self, message: String) -> Next {
        if let Some(outgoing) = &self.outgoing {
            drop(timeout(FAREWELL, outgoing.send(FromServer::Failed { message })).await);
        }
        Next::End
    }

    async fn obey(&mut self, message: FromClient) -> Result<(), OutOfStep> {
        match message {
            FromClient::Received { offset } => self.output.acknowledge(offset)?,
            FromClient::Input { offset, bytes } => {
                let new = fresh(self.arrived, offset, &bytes)?;
                if self.input_ended || self.input.len() + new.len() > INPUT_BYTES_MAX {
                    return Err(OutOfStep { offset });
                }
                self.idle.end();
                self.arrived += new.len() as u64;
                self.input.extend(new);
            }
            FromClient::End { offset } => {
                if offset != self.arrived {
                    return Err(OutOfStep { offset });
                }
                self.input_ended = true;
                self.end_input_if_written().await;
            }
            FromClient::Resize(terminal) => {
                let size = TerminalSize::from_given(Some(terminal.rows.into()), Some(terminal.columns.into()));
                let terminal = Terminal { rows: size.rows, columns: size.columns };
                self.tell_shim(&Request::Resize { terminal }).await;
            }
            FromClient::Signal { signal } => self.tell_shim(&Request::Signal { signal }).await,
        }
        Ok(())
    }

    async fn tell_shim(&self, request: &Request) {
        let run_dir = self.state.config.data_dir.join("run").join(self.dyno.id.to_string());
        let told = async {
            shim::client::Connection::connect(&run_dir, &self.state.config.instance).await?.request(request).await
        };
        if let Err(error) = told.await {
            debug!(%error, "the shim of a session did not do what its client wants");
        }
    }

    async fn written(&mut self, written: std::io::Result<usize>) {
        match written {
            Ok(count) => drop(self.input.drain(..count)),
            // The process has closed its input; what is left for it is for nobody.
            Err(_closed) => self.input.clear(),
        }
        // One word is enough for all that was written since the last.
        let offset = self.arrived - self.input.len() as u64;
        match self.words.back_mut() {
            Some(FromServer::Received { offset: known }) => *known = offset,
            _other => self.words.push_back(FromServer::Received { offset }),
        }
        self.end_input_if_written().await;
    }

    async fn end_input_if_written(&mut self) {
        if self.input_ended && self.input.is_empty() {
            // It may have ended.
            drop(self.process.shutdown().await);
        }
    }

    /// What goes out next, where there is something.
    fn next_word(&mut self) -> FromServer {
        if let Some(word) = self.words.pop_front() {
            return word;
        }
        let offset = self.sent;
        let bytes = self.output.from(offset, DATA_BYTES_MAX).unwrap_or_default();
        if let (true, Some(exit)) = (bytes.is_empty(), &self.exit) {
            self.exit_sent = true;
            return exit.clone();
        }
        self.sent += bytes.len() as u64;
        FromServer::Output { offset, bytes }
    }
}

/// The next event of a link; never, where there is none.
async fn receive(incoming: &mut Option<mpsc::Receiver<Event>>) -> Option<Event> {
    match incoming {
        Some(incoming) => incoming.recv().await,
        None => pending().await,
    }
}

/// Room for one more message on a link; `None` when it is cut.
async fn reserve(outgoing: Option<mpsc::Sender<FromServer>>) -> Option<mpsc::OwnedPermit<FromServer>> {
    match outgoing {
        Some(outgoing) => outgoing.reserve_owned().await.ok(),
        None => pending().await,
    }
}

/// How the process ended, once that is recorded.
async fn exited(state: Arc<ApiState>, dyno: DynoId) -> FromServer {
    let ended = one_off::ended(&state, dyno).await;
    let ended = ended.map(|dyno| (dyno.exit_status, dyno.exit_reason));
    let (status, reason) = ended.unwrap_or((None, None));
    let reason = reason.unwrap_or_else(|| "unknown".to_owned());
    FromServer::Exited { status, reason }
}
