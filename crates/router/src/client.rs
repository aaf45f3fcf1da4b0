//! The server's side of the admin socket. Whoever uses it connects again after an error.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use uuid::Uuid;
use wire::frame::FrameError;
use wire::routes::{FromRouter, PROTOCOL, ROUTER_SOCKET, RouteTable, RouterStatus, ToRouter};
use wire::traffic::TrafficSecond;

use crate::admin_socket::{Messages, connect};
use crate::in_flight::InFlight;

pub use wire::routes::TableUpdate;

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("cannot reach the router of {data_dir}; is it running?")]
    Connect {
        data_dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot exchange a message with the router")]
    Exchange(#[source] FrameError),
    #[error("router closed the connection")]
    Closed,
    #[error("router refused: {message}")]
    Refused { message: String },
    #[error("router answered something else than was asked")]
    Unexpected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// In force on every thread: a dyno that it removed gets no request any more.
    Applied,
    /// The router is at another generation than the base: send the whole table with [`RouterClient::replace`].
    NeedWhole { generation: u64 },
}

#[derive(Debug)]
pub struct RouterClient {
    messages: Messages,
    generation: u64,
}

impl RouterClient {
    pub async fn connect(data_dir: &Path, instance: &str) -> Result<Self, ClientError> {
        let stream = connect(data_dir, ROUTER_SOCKET).await;
        let stream = stream.map_err(|source| ClientError::Connect { data_dir: data_dir.to_owned(), source })?;
        let mut client = Self { messages: Messages::new(stream), generation: 0 };
        let hello = ToRouter::Hello { protocol: PROTOCOL, instance: instance.to_owned() };
        let FromRouter::Hello { generation, .. } = client.ask(&hello).await? else {
            return Err(ClientError::Unexpected);
        };
        client.generation = generation;
        Ok(client)
    }

    /// Over a connection where hello was said.
    pub(crate) fn over(stream: tokio::net::UnixStream) -> Self {
        Self { messages: Messages::new(stream), generation: 0 }
    }

    /// The generation that was in force when this connection was made.
    pub const fn generation_at_connect(&self) -> u64 {
        self.generation
    }

    pub async fn push(&mut self, update: TableUpdate) -> Result<Pushed, ClientError> {
        match self.ask(&ToRouter::Update(update)).await? {
            FromRouter::Applied { .. } => Ok(Pushed::Applied),
            FromRouter::NeedWhole { generation } => Ok(Pushed::NeedWhole { generation }),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Puts a whole table in force.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the router has a newer one.
    pub async fn replace(&mut self, table: RouteTable) -> Result<(), ClientError> {
        match self.ask(&ToRouter::Replace { table }).await? {
            FromRouter::Applied { .. } => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Requests and upgraded connections under way per dyno, also of dynos that have left the table. A dyno that is
    /// missing has none.
    pub async fn in_flight(&mut self) -> Result<Vec<(Uuid, u32)>, ClientError> {
        match self.ask(&ToRouter::InFlight).await? {
            FromRouter::InFlight { dynos, .. } => Ok(dynos),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// The same, and what counts against which limits.
    pub(crate) async fn in_flight_there(&mut self) -> Result<InFlight, ClientError> {
        match self.ask(&ToRouter::InFlight).await? {
            FromRouter::InFlight { dynos, conversations } => Ok(InFlight::told(&dynos, &conversations)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Begins to end the upgraded connections of these dynos; [`RouterClient::in_flight`] tells when they have ended.
    pub async fn close_upgraded(&mut self, dynos: Vec<Uuid>) -> Result<(), ClientError> {
        match self.ask(&ToRouter::CloseUpgraded { dynos }).await? {
            FromRouter::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    pub async fn status(&mut self) -> Result<RouterStatus, ClientError> {
        match self.ask(&ToRouter::Status).await? {
            FromRouter::Status { status } => Ok(status),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// What was counted in the seconds behind `after`, oldest first; not all at once if there is much.
    pub async fn traffic(&mut self, after: u64) -> Result<Vec<TrafficSecond>, ClientError> {
        match self.ask(&ToRouter::Traffic { after }).await? {
            FromRouter::Traffic { seconds } => Ok(seconds),
            _ => Err(ClientError::Unexpected),
        }
    }

    async fn ask(&mut self, message: &ToRouter) -> Result<FromRouter, ClientError> {
        self.messages.send(message).await.map_err(ClientError::Exchange)?;
        match self.messages.receive().await.map_err(ClientError::Exchange)? {
            None => Err(ClientError::Closed),
            Some(FromRouter::Refused { message }) => Err(ClientError::Refused { message }),
            Some(answer) => Ok(answer),
        }
    }
}
