//! A WebSocket to the server whose reads and writes never wait: whoever uses it polls its socket.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::header::AUTHORIZATION;
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{HandshakeError, Message, WebSocket};

use crate::context::Login;
use crate::server_stream::ServerStream;

#[derive(Debug)]
pub(crate) struct Socket {
    web_socket: WebSocket<ServerStream>,
    /// When the server last gave a sign of life: a message, or a ping.
    heard: Instant,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server's own words: trying again changes nothing.
    Refused(anyhow::Error),
    /// The same of what is not there, or not any more.
    Gone(anyhow::Error),
    /// The network: it may work in a moment.
    Cut(anyhow::Error),
}

impl Socket {
    /// Connects to a path of the server.
    pub(crate) fn connect(login: &Login, target: &str, message_bytes_max: usize) -> Result<Self, ConnectError> {
        let stream = ServerStream::connect(login).map_err(ConnectError::Cut)?;
        let scheme = if login.server.is_tls() { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{}{target}", login.server.authority())
            .into_client_request()
            .map_err(|error| ConnectError::Refused(error.into()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", login.token.expose())).map_err(|_invalid| {
            ConnectError::Refused(anyhow::anyhow!("the token holds characters that no token has"))
        })?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((web_socket, _answer)) => {
                let socket = Self { web_socket, heard: Instant::now() };
                socket.tcp().set_nonblocking(true).map_err(|error| ConnectError::Cut(error.into()))?;
                Ok(socket)
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                let text = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                let body: Option<wire::platform_api::ApiErrorBody> = serde_json::from_str(&text).ok();
                let message =
                    body.map_or_else(|| format!("the server answered {}", answer.status()), |body| body.message);
                let error = anyhow::anyhow!(message);
                Err(match answer.status() {
                    status if status.is_server_error() => ConnectError::Cut(error),
                    StatusCode::NOT_FOUND => ConnectError::Gone(error),
                    _refusal => ConnectError::Refused(error),
                })
            }
            Err(HandshakeError::Failure(error)) => Err(ConnectError::Cut(error.into())),
            Err(HandshakeError::Interrupted(_)) => {
                Err(ConnectError::Cut(anyhow::anyhow!("the server did not answer in time")))
            }
        }
    }

    /// The next binary message that is there; `None` where there is none yet.
    ///
    /// # Errors
    /// The connection is cut, or was closed by the server.
    pub(crate) fn read(&mut self) -> Result<Option<Vec<u8>>, tungstenite::Error> {
        loop {
            let message = match self.web_socket.read() {
                Ok(message) => message,
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            self.heard = Instant::now();
            match message {
                Message::Binary(bytes) => return Ok(Some(bytes.to_vec())),
                Message::Close(_) => return Err(tungstenite::Error::ConnectionClosed),
                _other => {}
            }
        }
    }

    /// How long nothing has come, as of the last [`Self::read`].
    pub(crate) fn silent_for(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Takes a message to send; [`Self::flush`] sends it.
    pub(crate) fn write(&mut self, bytes: Vec<u8>) -> Result<(), tungstenite::Error> {
        waits(self.web_socket.write(Message::Binary(bytes.into()))).map(drop)
    }

    /// Whether everything is on its way.
    pub(crate) fn flush(&mut self) -> Result<bool, tungstenite::Error> {
        waits(self.web_socket.flush())
    }

    /// Says that this was all, and waits for as long as a network usually takes.
    pub(crate) fn close(mut self) {
        // The other side may have gone first.
        drop(self.tcp().set_nonblocking(false));
        drop(self.web_socket.close(None));
        while self.web_socket.read().is_ok() {}
    }

    fn tcp(&self) -> &TcpStream {
        self.web_socket.get_ref().tcp()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp().as_fd()
    }
}

/// `false` where the socket takes no more for now; what was given is kept.
fn waits(result: Result<(), tungstenite::Error>) -> Result<bool, tungstenite::Error> {
    match result {
        Ok(()) => Ok(true),
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use domain::secret::Secret;

    use super::*;
    use crate::server_url::ServerUrl;

    #[test]
    fn a_ping_is_a_sign_of_life() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = ServerUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let serving = thread::spawn(move || {
            let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
            socket.send(Message::Ping(Vec::new().into())).unwrap();
            // Until the client has gone.
            while socket.read().is_ok() {}
        });
        let login = Login { server, token: Secret::new("t".to_owned()), authority: None };
        let mut socket = Socket::connect(&login, "/", 1024).unwrap();
        let long_ago = Duration::from_secs(60);
        socket.heard = Instant::now().checked_sub(long_ago).unwrap();
        while socket.silent_for() >= long_ago {
            assert_eq!(socket.read().unwrap(), None);
            thread::yield_now();
        }
        socket.close();
        serving.join().unwrap();
    }
}
