//! The sessions of our own client: a WebSocket for each visit, which speaks [`wire::visit`].
//!
//! The session was judged and audited when it began ([`begin`]); each WebSocket of it is judged again. They take nothing
//! from the rate limit: a browser behind `ps:socks` makes hundreds.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::ws::{self, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use domain::access::Permission;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use shim::client::{VisitStreams, Visiting};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tracing::debug;
use wire::platform_api::exec::VisitSession;
use wire::shim::Visit;
use wire::visit::{MESSAGE_BYTES_MAX, Message, WINDOW_BYTES, Wish};

use super::channel::{self, Output, Source};
use super::credentials::VISITS_MAX;
use super::input_queue::{Input, Inputs, input_queue};
use super::place::{End, Place, notice};
use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::ground::{Ground, LOST};
use crate::state::ApiState;

/// Where [`connect`] is.
pub(crate) const ROUTE: &str = "/berth/apps/{app}/visits/{visit}";

/// How long a client may take to say what it comes for, and to close what is over.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one visit more than there may be waits for another to end.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// A WebSocket on which nothing comes for this long is cut; the server asks for a sign of life more often.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const PING_PERIOD: Duration = Duration::from_secs(10);
/// Messages on their way to the client.
const MESSAGES_MAX: usize = 8;

/// Opens a dyno to the asker's WebSockets.
pub(crate) async fn begin(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, name)): Path<(String, String)>,
) -> ApiResult<(StatusCode, Json<VisitSession>)> {
    let (id, dyno) = super::begin(&state, &actor, &app, &name, None)?;
    Ok((StatusCode::CREATED, Json(VisitSession { id, dyno: dyno.name.to_string() })))
}

pub(crate) async fn connect(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, id)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> ApiResult<Response> {
    let over = || ApiError::not_found("session");
    let credentials = &state.exec.credentials;
    let session = credentials.session(&id, None, state.now()).ok_or_else(over)?;
    let ground = Ground::of(&actor, app.id, Permission::Operate);
    if session.ground.holder.account() != actor.id() || session.ground.app != app.id {
        return Err(over());
    }
    let dyno = super::still_open(&state, &session)?;
    let places = credentials.places(&id).ok_or_else(over)?;
    let permit = timeout(PLACE_TIMEOUT, places.acquire_owned()).await;
    let permit = permit.ok().and_then(Result::ok).ok_or_else(|| {
        ApiError::rate_limited(format!("A session has {VISITS_MAX} connections at most at the same time."))
    })?;
    credentials.used(&id, state.now());
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    let state = Arc::clone(&state);
    let to = Place::new(&state, dyno);
    Ok(upgrade.on_upgrade(move |socket| serve(state, to, ground, socket, permit)))
}

/// What comes out of a visit, on its way to the client.
struct ToClient {
    messages: mpsc::Sender<Message>,
    /// Bytes that may be sent.
    window: Arc<Semaphore>,
}

impl Output for ToClient {
    const FAREWELL: Duration = Duration::ZERO;

    async fn send(&self, source: Source, bytes: Bytes) -> bool {
        let Ok(count) = u32::try_from(bytes.len()) else { return false };
        // Nobody closes it.
        if let Ok(permits) = self.window.acquire_many(count).await {
            permits.forget();
        }
        let message = match source {
            Source::Output => Message::Data(bytes.into()),
            Source::Errors => Message::Errors(bytes.into()),
        };
        self.messages.send(message).await.is_ok()
    }
}

/// Serves one WebSocket until the visit is over, the client has gone, or may no longer be here.
async fn serve(state: Arc<ApiState>, to: Place, ground: Ground, socket: WebSocket, _permit: OwnedSemaphorePermit) {
    let (mut to_client, mut from_client) = socket.split();
    let Ok(Some(Message::Wish(wish))) = timeout(WORD_TIMEOUT, next(&mut from_client)).await else {
        return debug!("a visit's client did not say what it comes for");
    };
    let (messages, mut outgoing) = mpsc::channel(MESSAGES_MAX);
    let window = Arc::new(Semaphore::new(WINDOW_BYTES));
    let (queue, inputs) = input_queue();
    let visiting = visit(&to, wish, ToClient { messages, window: Arc::clone(&window) }, inputs);
    let writing = async {
        let mut pings = tokio::time::interval(PING_PERIOD);
        loop {
            let message = tokio::select! {
                message = outgoing.recv() => match message {
                    Some(message) => binary(&message),
                    None => return drop(to_client.close().await),
                },
                () = queue.shortened() => match u32::try_from(queue.take_written()) {
                    Ok(bytes @ 1..) => binary(&Message::Taken { bytes }),
                    _nothing => continue,
                },
                _tick = pings.tick() => ws::Message::Ping(Vec::new().into()),
            };
            if let Err(error) = to_client.send(message).await {
                return debug!(%error, "a visit's client is cut");
            }
        }
    };
    let reading = async {
        while let Some(message) = next(&mut from_client).await {
            let pushed = match message {
                Message::Data(bytes) if queue.data_bytes() + bytes.len() <= WINDOW_BYTES => {
                    queue.push(Input::Bytes(bytes))
                }
                Message::End => queue.push(Input::End),
                Message::Resize(size) => {
                    queue.push(Input::Resize(super::terminal(size.rows.into(), size.columns.into())))
                }
                Message::Signal { signal } => {
                    queue.signal(signal);
                    Ok(())
                }
                Message::Taken { bytes } if window.available_permits() + bytes as usize <= WINDOW_BYTES => {
                    window.add_permits(bytes as usize);
                    Ok(())
                }
                _other => return debug!("a visit's client is out of step"),
            };
            if let Err(full) = pushed {
                return debug!(%full, "a visit's client does not wait");
            }
        }
    };
    tokio::pin!(reading);
    let cut = tokio::select! {
        // What was sent last arrives for certain only if all that comes is read until the client closes.
        _over = async { tokio::join!(visiting, writing) } => {
            drop(timeout(WORD_TIMEOUT, reading).await);
            None
        }
        () = &mut reading => None,
        () = ground.lost(&state) => Some(LOST.to_owned()),
        () = to.idle.passed() => Some(to.idle.words()),
    };
    if let Some(message) = cut {
        let last = binary(&Message::Failed { message });
        drop(timeout(WORD_TIMEOUT, async { to_client.send(last).await.and(to_client.close().await) }).await);
    }
}

/// Makes the visit, and says how it ended.
async fn visit(place: &Place, wish: Wish, to_client: ToClient, inputs: Inputs) {
    let is_command = matches!(wish, Wish::Command { .. });
    let last = match come(place, wish).await {
        Ok((visiting, streams)) => {
            if to_client.messages.send(Message::Begun).await.is_err() {
                return;
            }
            match channel::carry(visiting, streams, &to_client, inputs, &place.idle, is_command).await {
                Some(status) => last_word(place.end_of(status).await, &to_client).await,
                None => Message::Ended { status: None },
            }
        }
        Err(message) => Message::Failed { message },
    };
    // The client may have gone.
    drop(to_client.messages.send(last).await);
}

/// What the client hears last.
async fn last_word(end: End, to_client: &ToClient) -> Message {
    match end {
        End::WithDyno { why } => Message::Failed { message: why },
        End::Own { status, note } => {
            if let Some(note) = note {
                to_client.send(Source::Errors, notice(&note).into()).await;
            }
            Message::Ended { status: i32::try_from(status).ok() }
        }
    }
}

/// The error is for people.
async fn come(place: &Place, wish: Wish) -> Result<(Visiting, VisitStreams), String> {
    let visit = match wish {
        Wish::Command { line, terminal, term } => {
            if [&line, &term].into_iter().flatten().any(|text| text.contains('\0')) {
                return Err("a command holds no NUL".to_owned());
            }
            let size = terminal.map(|size| super::terminal(size.rows.into(), size.columns.into()));
            super::command(&place.state, line.as_deref(), term.filter(|_term| size.is_some()), size)
        }
        Wish::Connect { host, port } => Visit::Connect { host, port },
    };
    place.visit(&visit).await.map_err(|error| domain::display_chain::display_chain(&error))
}

/// The next message of the client's; `None` when it has gone, or says what is none.
async fn next(from_client: &mut SplitStream<WebSocket>) -> Option<Message> {
    loop {
        match timeout(SILENCE_MAX, from_client.next()).await {
            Ok(Some(Ok(ws::Message::Binary(bytes)))) => return Message::parse(&bytes).ok(),
            Ok(Some(Ok(ws::Message::Ping(_) | ws::Message::Pong(_) | ws::Message::Text(_)))) => {}
            Ok(Some(Ok(ws::Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
        }
    }
}

fn binary(message: &Message) -> ws::Message {
    ws::Message::Binary(message.to_bytes().into())
}
