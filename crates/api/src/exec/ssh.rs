//! The SSH server. Each connection is one session in one dyno; each of its channels is a visit there.
//!
//! What a client sends is queued for the visit and never waited for: the same loop carries what the visit gives, and a
//! program that writes before it reads on would stand still for ever. The window slows the client instead: while a
//! queue is long, it may send a few bytes at a time only. The library does not hold clients to their windows; one that
//! sends more than a queue holds is cut off.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey, PublicKeyBase64 as _};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, run_stream};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, MethodKind, MethodSet, Pty, Sig, SshId,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;
use wire::shim::{Terminal, Visit};

use super::channel;
use super::credentials::{Credentials, VISITS_MAX};
use super::input_queue::{Input, InputQueue, input_queue};
use super::place::Place;
use super::{command, still_open, terminal};
use crate::ground::{Ground, LOST};
use crate::idle::Idle;
use crate::listen::stopped;
use crate::peer::Peer;
use crate::state::ApiState;

/// What a client begins with: `SSH-2.0-…`. No method of HTTP that this server knows does.
pub(crate) const FIRST_BYTE: u8 = b'S';

/// How long a client may take until it is let in.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const LOGIN_ATTEMPTS_MAX: usize = 4;
/// How long what runs has to say why the connection ends.
const FAREWELL: Duration = Duration::from_millis(250);

/// Bytes that a client may send ahead, for each channel.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// The same while a queue is long. The library asks for more once half of it is used.
const WINDOW_BYTES_SLOW: u32 = 8;
/// A queue is long from here on.
const QUEUE_BYTES_LONG: usize = 1024 * 1024;
/// How long the whole connection waits for a long queue, each time that its client sends more.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// What the sessions of a server share.
#[derive(Debug)]
pub struct Exec {
    config: Arc<Config>,
    pub(super) credentials: Credentials,
}

impl Exec {
    /// `host_key` is the secret that clients know this server by.
    pub fn new(host_key: &[u8; 32]) -> Self {
        let config = Config {
            server_id: SshId::Standard("SSH-2.0-Berth".into()),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keys: vec![PrivateKey::from(Ed25519Keypair::from_seed(host_key))],
            window_size: WINDOW_BYTES,
            max_auth_attempts: LOGIN_ATTEMPTS_MAX,
            // Sessions have a bound of their own, with a word for whoever is there.
            inactivity_timeout: None,
            ..Config::default()
        };
        Self { config: Arc::new(config), credentials: Credentials::default() }
    }

    /// As in `known_hosts`: type and key.
    pub(super) fn public_key(&self) -> String {
        let key = self.config.keys.first().map(PrivateKey::public_key);
        key.map_or_else(String::new, |key| format!("{} {}", key.algorithm().as_str(), key.public_key_base64()))
    }
}

/// Serves one connection whose first byte is [`FIRST_BYTE`].
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: &Peer,
    state: &Arc<ApiState>,
    mut stop: watch::Receiver<bool>,
) {
    let (entered, mut has_entered) = watch::channel(None);
    let (cut, is_cut) = watch::channel(None);
    let client = Client {
        state: Arc::clone(state),
        place: None,
        entered,
        terminals: HashMap::new(),
        opened: HashMap::new(),
        queues: HashMap::new(),
        visits: JoinSet::new(),
        cut: is_cut,
    };
    let running = match timeout(LOGIN_TIMEOUT, run_stream(Arc::clone(&state.exec.config), stream, client)).await {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => return debug!(%peer, %error, "no SSH with a client"),
        Err(_elapsed) => return debug!(%peer, "a client did not begin to speak SSH in time"),
    };
    let handle = running.handle();
    tokio::pin!(running);
    let refused = async {
        // The sender lives as long as the connection.
        let entered = timeout(LOGIN_TIMEOUT, has_entered.wait_for(Option::is_some));
        let entered: Option<Entered> = entered.await.ok().and_then(|entered| entered.ok()?.clone());
        let Some(Entered { ground, idle }) = entered else { return "You did not log in in time.".to_owned() };
        tokio::select! {
            () = ground.lost(state) => LOST.to_owned(),
            () = idle.passed() => idle.words(),
        }
    };
    let reason = tokio::select! {
        ended = &mut running => {
            if let Err(error) = ended {
                debug!(%peer, %error, "an SSH connection ended early");
            }
            return;
        }
        reason = refused => reason,
        () = stopped(&mut stop) => "The server restarts; try again in a moment.".to_owned(),
    };
    // Not every client shows why it is disconnected: what it runs says so, too.
    cut.send_replace(Some(reason.clone()));
    if timeout(FAREWELL, &mut running).await.is_ok() {
        return;
    }
    // It may be gone by now.
    drop(handle.disconnect(Disconnect::ByApplication, reason, "en".to_owned()).await);
    drop(timeout(Duration::from_secs(2), running).await);
}

/// What a connection rests on that was let in.
#[derive(Debug, Clone)]
struct Entered {
    ground: Ground,
    idle: Arc<Idle>,
}

/// The other end of one connection.
struct Client {
    state: Arc<ApiState>,
    /// Where it has been let in to.
    place: Option<Place>,
    entered: watch::Sender<Option<Entered>>,
    /// What was asked for before the command.
    terminals: HashMap<ChannelId, (String, Terminal)>,
    /// Channels in which nothing runs yet.
    opened: HashMap<ChannelId, ChannelWriteHalf<Msg>>,
    /// What clients send goes here.
    queues: HashMap<ChannelId, InputQueue>,
    visits: JoinSet<()>,
    /// Why the connection is about to end, once it is.
    cut: watch::Receiver<Option<String>>,
}

impl Client {
    /// What a session of this name and key is good for.
    fn known(&self, user: &str, key: &PublicKey) -> Option<(Place, Ground)> {
        let session = self.state.exec.credentials.session(user, Some(&key.public_key_base64()), self.state.now())?;
        match still_open(&self.state, &session) {
            Ok(dyno) => Some((Place::new(&self.state, dyno), session.ground)),
            Err(error) => {
                debug!(error = error.message, "a session is not open any more");
                None
            }
        }
    }

    /// Where the visits of this connection go.
    fn place(&self) -> Result<Place, russh::Error> {
        self.place.clone().ok_or(russh::Error::NotAuthenticated)
    }

    /// Begins what a channel was opened for. A channel has one visit.
    fn begin(
        &mut self,
        id: ChannelId,
        session: &mut russh::server::Session,
        visit: impl FnOnce(&Self, Option<(String, Terminal)>) -> Visit,
    ) -> Result<(), russh::Error> {
        let Some(output) = self.opened.remove(&id) else { return session.channel_failure(id) };
        let terminal = self.terminals.remove(&id);
        let visit = visit(self, terminal);
        let place = self.place()?;
        let (queue, inputs) = input_queue();
        self.queues.insert(id, queue);
        self.visits.spawn(channel::run(place, visit, output, inputs, self.cut.clone()));
        session.channel_success(id)
    }

    fn command(&self, line: Option<&str>, terminal: Option<(String, Terminal)>) -> Visit {
        let (name, terminal) = terminal.map_or((None, None), |(name, size)| (Some(name), Some(size)));
        command(&self.state, line, name, terminal)
    }

    fn is_full(&mut self) -> bool {
        // The library does not tell of channels that this side has closed.
        self.queues.retain(|_id, queue| !queue.is_over());
        while self.visits.try_join_next().is_some() {}
        self.opened.len() + self.queues.len() >= VISITS_MAX
    }

    fn send(&self, id: ChannelId, session: &mut russh::server::Session, input: Input) -> Result<(), russh::Error> {
        // A channel that is unknown by now has just ended.
        let Some(queue) = self.queues.get(&id) else { return Ok(()) };
        match queue.push(input) {
            Ok(()) => Ok(()),
            Err(full) => session.disconnect(Disconnect::ByApplication, &full.to_string(), "en"),
        }
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, key: &PublicKey) -> Result<Auth, Self::Error> {
        Ok(if self.known(user, key).is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: &PublicKey) -> Result<Auth, Self::Error> {
        let Some((place, ground)) = self.known(user, key) else { return Ok(Auth::reject()) };
        self.state.exec.credentials.used(user, self.state.now());
        self.entered.send_replace(Some(Entered { ground, idle: Arc::clone(&place.idle) }));
        self.place = Some(place);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if self.is_full() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let id = channel.id();
        let (_read, output) = channel.split();
        self.opened.insert(id, output);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host_to_connect: &str,
        port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let Ok(port) = u16::try_from(port_to_connect) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        if self.is_full() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let place = self.place()?;
        let id = channel.id();
        let (_read, output) = channel.split();
        let (queue, inputs) = input_queue();
        self.queues.insert(id, queue);
        self.visits.spawn(channel::connect(place, host_to_connect.to_owned(), port, reply, output, inputs));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if !self.opened.contains_key(&channel) {
            return session.channel_failure(channel);
        }
        self.terminals.insert(channel, (term.to_owned(), terminal(row_height.into(), col_width.into())));
        session.channel_success(channel)
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, session, |client, terminal| client.command(None, terminal))
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        let Some(line) = std::str::from_utf8(data).ok().filter(|line| !line.contains('\0')) else {
            return session.channel_failure(channel);
        };
        self.begin(channel, session, |client, terminal| client.command(Some(line), terminal))
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        self.begin(channel, session, |_client, _terminal| Visit::Files)
    }

    /// The environment is the dyno's.
    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.send(channel, session, Input::Resize(terminal(row_height.into(), col_width.into())))
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        // A channel that is unknown by now has just ended.
        if let (Some(number), Some(queue)) = (channel::signal_number(&signal), self.queues.get(&channel)) {
            queue.signal(number);
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.send(channel, session, Input::Bytes(data.to_vec()))?;
        if let Some(queue) = self.queues.get(&channel).filter(|queue| queue.bytes() > QUEUE_BYTES_LONG) {
            // Whether it got shorter or not: the next few bytes ask again.
            drop(timeout(QUEUE_PAUSE, queue.shortened()).await);
        }
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        let is_long = self.queues.values().any(|queue| queue.bytes() > QUEUE_BYTES_LONG);
        if is_long { WINDOW_BYTES_SLOW } else { WINDOW_BYTES }
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.send(channel, session, Input::End)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        // Without its queue a visit ends.
        self.queues.remove(&channel);
        self.opened.remove(&channel);
        self.terminals.remove(&channel);
        Ok(())
    }
}
