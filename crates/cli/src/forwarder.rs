//! A way from the `heroku` client to a Berth server, on this machine's loopback.
//!
//! The client sends its token wherever it is told to go, and to Heroku where it is told nothing. So it never gets ours:
//! it gets a key that is good for this forwarder only, which puts the real credential in its place.
//!
//! ```text
//!  heroku ── http://localhost:P, key ──► forwarder ── the server's URL, token ──► server
//!         ── TLS (attach, ps:exec) ────► the same bytes to the server's port, through its host where it is elsewhere
//!         ── SSH (ps:exec) ────────────► the same
//!         ── CONNECT *.heroku.com ─────► plain HTTP inside: the server; TLS inside: refused
//!         ── CONNECT elsewhere ────────► there, through the proxy of the environment if there is one
//! ```
//!
//! The client asks for sessions in dynos over TLS, which ends at the server: for that the server takes our key for the
//! token for a minute, each time. It then goes to port 80 of the host that it is told, whatever listens there; some lines
//! of JavaScript that we have its Node.js load lead that one host here ([`preload`]).
//!
//! Blocking, one thread per connection: the client makes a handful.

mod advice;
mod connect;
mod http;
mod preload;
mod tunnel;

use std::fs;
use std::io::{self, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use domain::secret::Secret;
use ureq::http::header;
use uuid::Uuid;
use wire::platform_api::exec::{ExecKey, PortAuthority};

use crate::api_client::ApiClient;
use crate::context::Login;
use crate::credentials;
use http::Head;

/// First byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// First byte of SSH: `SSH-2.0-…`.
const SSH: u8 = b'S';

/// How long a client may take to begin to speak.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(60);

/// Hosts that the client knows by heart. No request may reach them.
const HEROKU_DOMAINS: [&str; 5] = ["heroku.com", "herokai.com", "herokuspace.com", "herokudev.com", "herokuapp.com"];

/// The forwarder's own settings and what it forwards to.
#[derive(Debug)]
pub(crate) struct Forwarder {
    client: ApiClient,
    login: Login,
    /// Good for this forwarder only.
    key: Secret<String>,
    port: u16,
    /// Where to go to hosts that are neither ours nor Heroku's.
    proxy: Option<String>,
}

impl Forwarder {
    /// Listens, and gives what serves.
    pub(crate) fn listen(login: Login, proxy: Option<String>) -> anyhow::Result<(TcpListener, Arc<Self>)> {
        let client = ApiClient::new(login.server.clone(), None, login.authority.as_deref())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let key = Secret::new(format!("local-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        Ok((listener, Arc::new(Self { client, login, key, port, proxy })))
    }

    /// Serves until the process ends.
    pub(crate) fn serve(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            // Out of descriptors: what exists goes on.
            let Ok(stream) = stream else { continue };
            let forwarder = Arc::clone(&self);
            thread::spawn(move || {
                // Either side may go away at any time; the client says what it misses.
                drop(forwarder.connection(stream));
            });
        }
    }

    /// What the `heroku` client must find in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://localhost:{}", self.port);
        let mut variables = vec![
            ("HEROKU_HOST", url.clone()),
            ("HEROKU_API_KEY", self.key.expose().clone()),
            ("HEROKU_DATA_HOST", "localhost".to_owned()),
            ("HEROKU_GIT_HOST", self.login.server.authority().to_owned()),
            ("HTTP_PROXY", url.clone()),
            ("HTTPS_PROXY", url.clone()),
            ("NO_PROXY", String::new()),
            ("DISABLE_TELEMETRY", "true".to_owned()),
            ("HEROKU_SKIP_NEW_VERSION_CHECK", "true".to_owned()),
            ("HEROKU_DISABLE_AUTOUPDATE", "1".to_owned()),
        ];
        for name in [
            "HEROKU_PARTICLEBOARD_URL",
            "HEROKU_STATUS_HOST",
            "HEROKU_LOGIN_HOST",
            "HEROKU_BUILDPACK_REGISTRY_URL",
            "HEROKU_ANALYTICS_URL",
            "HEROKU_CI_WEBSOCKET_URL",
        ] {
            variables.push((name, url.clone()));
        }
        variables.push(("HEROKU_EXEC_URL", format!("https://localhost:{}", self.port)));
        variables
            .push(("NODE_OPTIONS", preload::node_options(std::env::var("NODE_OPTIONS").ok().as_deref(), self.port)));
        variables.push(("PGDIAGNOSE_URL", "localhost".to_owned()));
        // A database of the user's own is what `pg:psql` and its like are to find.
        variables.push(("HEROKU_POSTGRESQL_ADDON_NAME", "berth-custom".to_owned()));
        if let Some(authorities) = self.authorities() {
            variables.push(("NODE_EXTRA_CA_CERTS", authorities.display().to_string()));
        }
        if let Some(authority) = &self.login.authority {
            variables.push(("GIT_SSL_CAINFO", authority.display().to_string()));
        }
        variables.extend(git_variables(self.login.server.authority()));
        variables
    }

    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FIRST_BYTE_TIMEOUT))?;
        let mut first = [0; 1];
        if stream.peek(&mut first)? == 0 {
            return Ok(());
        }
        stream.set_read_timeout(None)?;
        if first[0] == TLS_HANDSHAKE {
            self.introduce();
        }
        if matches!(first[0], TLS_HANDSHAKE | SSH) {
            return self.to_the_port(stream);
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        let Some(head) = http::read_head(&mut reader)? else { return Ok(()) };
        if head.method == "CONNECT" {
            return self.tunnel(stream, &head.target);
        }
        self.forward(stream, reader, head)
    }

    /// What is neither HTTP nor looked into here goes to the server's API port: on this machine directly, to any other
    /// inside a connection to the server's host, where a router would not understand it.
    fn to_the_port(&self, stream: TcpStream) -> io::Result<()> {
        if self.is_elsewhere() {
            return tunnel::carry(&self.login, stream);
        }
        splice(stream, TcpStream::connect(self.login.server.socket_address())?)
    }

    /// Whether the server is reached by one of its hosts, and not at its API port.
    fn is_elsewhere(&self) -> bool {
        self.login.server.is_tls() && !self.login.server.is_loopback()
    }

    /// Who is to be trusted for the server and for its port: a file, if the machine's own authorities are not enough.
    fn authorities(&self) -> Option<PathBuf> {
        let own = self.login.authority.clone();
        if !self.is_elsewhere() {
            return own;
        }
        let client = ApiClient::new(self.login.server.clone(), Some(self.login.token.clone()), own.as_deref()).ok()?;
        // Without it everything works but what goes to the port; the client then says so itself.
        let Ok(port) = client.get::<PortAuthority>("/berth/authority") else { return own };
        let of_server = own.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let both = format!("{of_server}\n{}", port.certificate);
        credentials::keep_authorities(self.login.server.authority(), &both).ok().or(own)
    }

    /// A proxy's tunnel. What goes to us and to Heroku comes to us.
    fn tunnel(&self, mut stream: TcpStream, target: &str) -> io::Result<()> {
        let host = target.rsplit_once(':').map_or(target, |(host, _port)| host).to_ascii_lowercase();
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || is_heroku(&host) {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let mut first = [0; 1];
            if is_heroku(&host) && stream.peek(&mut first)? == 1 && first[0] == TLS_HANDSHAKE {
                // We have no certificate for Heroku's names, and nothing may go there.
                return stream.shutdown(Shutdown::Both);
            }
            return self.connection(stream);
        }
        match connect::elsewhere(target, self.proxy.as_deref()) {
            Ok(there) => {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                splice(stream, there)
            }
            Err(error) => {
                let text = format!("cannot reach {target}: {error}\n");
                http::write_text(&mut stream, "502 Bad Gateway", &text)
            }
        }
    }

    /// One request to the server, and its answer back. Then the connection ends: each request has its own.
    fn forward(&self, mut stream: TcpStream, mut reader: BufReader<TcpStream>, mut head: Head) -> io::Result<()> {
        // A proxy gets the whole URL.
        if let Some((_scheme, rest)) = head.target.split_once("://") {
            head.target = rest.find('/').map_or_else(|| "/".to_owned(), |at| rest[at..].to_owned());
        }
        if !head.target.starts_with('/') {
            return http::write_text(&mut stream, "400 Bad Request", "not a path\n");
        }
        if head.header("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.authorize(&mut head);
        head.remove("host");
        // URLs in answers must lead back through here, and here is no TLS.
        head.headers.push(("berth-forwarded-host".to_owned(), format!("localhost:{}", self.port)));
        head.headers.push(("berth-forwarded-proto".to_owned(), "http".to_owned()));
        let mut body = http::body(&head, &mut reader);
        let body = body.as_mut().map(|body| body as &mut dyn Read);
        match self.client.relay(&head.method, &head.target, &head.headers, body) {
            Ok(response) => http::write_response(&mut stream, response),
            Err(error) => {
                let text = format!("{{\"id\":\"unreachable\",\"message\":{:?}}}", crate::output::chain(&error));
                http::write_json(&mut stream, "502 Bad Gateway", &text)
            }
        }
    }

    /// Has the server take our key for the token where the client asks for a session in a dyno. What fails, the client
    /// hears of: its key is then not known.
    fn introduce(&self) {
        let key = ExecKey { key: Secret::new(self.key.expose().clone()), tunnel_host: preload::HOST.to_owned() };
        let Ok(body) = serde_json::to_vec(&key) else { return };
        let headers = [
            ("authorization".to_owned(), format!("Bearer {}", self.login.token.expose())),
            ("accept".to_owned(), "application/vnd.heroku+json; version=3".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("content-length".to_owned(), body.len().to_string()),
        ];
        drop(self.client.relay("PUT", "/berth/exec-key", &headers, Some(&mut body.as_slice())));
    }

    /// Puts the real credential where the local key was. Other credentials are the client's own business: a login.
    fn authorize(&self, head: &mut Head) {
        let Some(value) = head.header("authorization").map(str::to_owned) else { return };
        let Some(replaced) = http::with_token(&value, self.key.expose(), self.login.token.expose()) else { return };
        head.remove("authorization");
        head.headers.push(("authorization".to_owned(), replaced));
    }
}

/// Git asks our own helper for a password, before any that the `heroku` client puts into the user's configuration.
fn git_variables(authority: &str) -> Vec<(&'static str, String)> {
    let helper = std::env::current_exe().unwrap_or_else(|_unknown| PathBuf::from("berth"));
    let key = format!("credential.https://{authority}.helper");
    vec![
        ("GIT_CONFIG_COUNT", "2".to_owned()),
        ("GIT_CONFIG_KEY_0", key.clone()),
        // Forgets those that were named before.
        ("GIT_CONFIG_VALUE_0", String::new()),
        ("GIT_CONFIG_KEY_1", key),
        ("GIT_CONFIG_VALUE_1", format!("!'{}' git:credentials", helper.display())),
    ]
}

fn is_heroku(host: &str) -> bool {
    HEROKU_DOMAINS.iter().any(|domain| {
        let front = host.strip_suffix(domain);
        front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}

/// Carries bytes both ways until both sides have ended theirs.
fn splice(one: TcpStream, other: TcpStream) -> io::Result<()> {
    let (mut from_one, mut to_one) = (one.try_clone()?, one);
    let (mut from_other, mut to_other) = (other.try_clone()?, other);
    let back = thread::spawn(move || {
        let copied = io::copy(&mut from_other, &mut to_one);
        to_one.shutdown(Shutdown::Both).and(copied)
    });
    let mut copied = io::copy(&mut from_one, &mut to_other);
    copied = to_other.shutdown(Shutdown::Both).and(copied);
    drop(back.join());
    copied.map(drop)
}

/// Headers of one connection only (RFC 9110, 7.6.1).
pub(crate) fn is_hop_by_hop(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER, header::EXPECT]
        .iter()
        .any(|known| known.as_str() == name)
        || name.starts_with("proxy-")
        || name == "keep-alive"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heroku_is_known_by_whole_names() {
        for ours in ["api.heroku.com", "heroku.com", "api.metrics.herokai.com", "x.herokuapp.com"] {
            assert!(is_heroku(ours), "{ours}");
        }
        for other in ["notheroku.com", "heroku.com.example", "registry.example.org", "localhost"] {
            assert!(!is_heroku(other), "{other}");
        }
    }
}
