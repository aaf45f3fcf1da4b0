//! Syslog over TCP and TLS.
//!
//! The protocol has no acknowledgement: what was written to a connection counts as delivered. A connection that the
//! receiver has closed is noticed before the next write, so that a restarted receiver misses what was on its way and no
//! more.

use std::time::Duration;

use bytes::Bytes;
use domain::outgoing_url::OutgoingUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::connector::{Connection, Connector};
use crate::send_error::SendError;

const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Writes to one receiver.
pub(crate) struct SyslogSender {
    connector: Connector,
    connection: Option<Box<dyn Connection>>,
}

impl SyslogSender {
    pub(crate) const fn new(connector: Connector) -> Self {
        Self { connector, connection: None }
    }

    pub(crate) async fn send(&mut self, url: &OutgoingUrl, frames: &Bytes) -> Result<(), SendError> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && !is_open(connection).await
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connector.connect(url).await?,
        };
        let write = async {
            connection.write_all(frames).await?;
            connection.flush().await
        };
        let written = timeout(WRITE_TIMEOUT, write).await;
        written.map_err(|_elapsed| SendError::Timeout(WRITE_TIMEOUT))?.map_err(SendError::Write)?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Whether the receiver has not closed the connection. What it says is read and forgotten.
async fn is_open(connection: &mut Box<dyn Connection>) -> bool {
    let mut said = [0; 1024];
    loop {
        match timeout(Duration::ZERO, connection.read(&mut said)).await {
            Err(_silent) => return true,
            Ok(Ok(0) | Err(_)) => return false,
            Ok(Ok(_bytes)) => {}
        }
    }
}
