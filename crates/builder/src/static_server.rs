//! `berth static-server`: a web server for files, so that a static site needs no other runtime.
//!
//! Speaks HTTP/1.1 behind the router. `index.html` for directories, `404.html`, types by extension, conditional and
//! range-free GET and HEAD. Paths are resolved by the kernel below the root (`RESOLVE_BENEATH`): no request and no link
//! leads out of it. Hidden files and the platform's own are never served.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

mod media_type;
mod respond;

/// Time that requests under way have after SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
/// Time in which a request head must arrive, and in which an idle connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What `static.json` may say; Heroku's static buildpack knew these words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteConfig {
    pub root: Option<String>,
    /// `/about` serves `about.html`.
    pub clean_urls: bool,
    /// The page for what is not found, instead of `404.html`.
    pub error_page: Option<String>,
    /// The page for every path that is no file: single-page apps.
    pub fallback: Option<String>,
}

#[derive(Debug, Error)]
pub enum SiteConfigError {
    #[error("cannot read static.json")]
    Read(#[source] io::Error),
    #[error("static.json is not valid JSON: {0}")]
    Json(serde_json::Error),
    #[error("static.json: {0:?} must be a path inside the app")]
    Path(String),
}

impl SiteConfig {
    pub fn read(app: &Path) -> Result<Self, SiteConfigError> {
        match crate::beneath::read(app, Path::new("static.json"), 64 * 1024).map_err(SiteConfigError::Read)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, SiteConfigError> {
        let json: Value = serde_json::from_slice(text).map_err(SiteConfigError::Json)?;
        let path = |key: &str| match json.get(key).and_then(Value::as_str) {
            Some(path) if is_relative(path) => Ok(Some(path.trim_end_matches('/').to_owned())),
            Some(path) => Err(SiteConfigError::Path(path.to_owned())),
            None => Ok(None),
        };
        let routes = json.get("routes").and_then(Value::as_object);
        let fallback = routes.and_then(|routes| routes.get("/**")).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            root: path("root")?,
            clean_urls: json.get("clean_urls").and_then(Value::as_bool).unwrap_or(false),
            error_page: path("error_page")?,
            fallback: fallback.filter(|path| is_relative(path)),
        })
    }
}

fn is_relative(path: &str) -> bool {
    use std::path::Component;
    !path.is_empty()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// One site being served.
#[derive(Debug)]
struct Site {
    root: File,
    config: SiteConfig,
}

#[derive(Debug, Error)]
pub enum ServeError {
    #[error("cannot open the site's root {path:?}")]
    Root {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Config(#[from] SiteConfigError),
    #[error("cannot listen on port {port}")]
    Listen {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the server's runtime")]
    Runtime(#[source] io::Error),
}

/// The body of `berth static-server ROOT`: the port is `$PORT`.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let port = std::env::var("PORT").ok().and_then(|text| text.parse().ok());
    let (Some(root), Some(port)) = (arguments.first(), port) else {
        drop(writeln!(io::stderr(), "usage: PORT=8080 berth static-server ROOT"));
        return ExitCode::from(2);
    };
    match serve_static(Path::new(root), port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            drop(writeln!(io::stderr(), "static-server: {error}{reason}"));
            ExitCode::FAILURE
        }
    }
}

/// Serves `root` (with `static.json` from the working directory) on all addresses until SIGTERM.
pub fn serve_static(root: &Path, port: u16) -> Result<(), ServeError> {
    let config = SiteConfig::read(Path::new("."))?;
    let listen = |source| ServeError::Listen { port, source };
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    // Without IPv6 in the kernel the dual-stack address does not exist.
    let listener = TcpListener::bind(address).or_else(|_error| TcpListener::bind(("0.0.0.0", port))).map_err(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Runtime)?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate()).map_err(ServeError::Runtime)?;
        serve(listener, root, config, async move { terminated.recv().await.unwrap_or(()) }).await
    })
}

/// Serves on `listener` until `stop` is ready, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    root: &Path,
    config: SiteConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let directory = fs::File::open(root).and_then(|directory| {
        if directory.metadata()?.is_dir() { Ok(directory) } else { Err(io::ErrorKind::NotADirectory.into()) }
    });
    let directory = directory.map_err(|source| ServeError::Root { path: root.to_owned(), source })?;
    let site = Arc::new(Site { root: directory, config });
    listener.set_nonblocking(true).map_err(ServeError::Runtime)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::Runtime)?;
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => drop(tokio::spawn(connection(stream, Arc::clone(&site), stopped.clone()))),
                // Out of descriptors: connections that end give some back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
    drop((listener, stopped));
    stopping.send_replace(true);
    // Every connection holds a receiver: when the last is gone all requests are answered.
    drop(tokio::time::timeout(DRAIN, stopping.closed()).await);
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream, site: Arc<Site>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(respond::respond(&site, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let finished = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _changed = stopped.wait_for(|&stop| stop) => None,
    };
    let ended = match finished {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection ended early");
    }
}

#[cfg(test)]
mod tests;
