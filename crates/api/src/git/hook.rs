//! The `pre-receive` hook: `berth git-pre-receive`, started by git in the quarantine of a push.
//!
//! Speaks to the server like any client, over the local socket. What it prints, the pusher sees as `remote:` lines.

use std::env;
use std::fs::{File, TryLockError};
use std::io::{self, BufRead as _, Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use bytes::Bytes;
use domain::display_chain::display_chain;
use futures_util::StreamExt as _;
use http::{Method, Request, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::process::Command;
use wire::platform_api as heroku;
use wire::platform_api::berth::{BuildProgress, ReleaseProgress};

pub const EXECUTABLE: &str = "BERTH_EXECUTABLE";
pub const SOCKET: &str = "BERTH_API_SOCKET";
pub const APP: &str = "BERTH_PUSH_APP";
pub const URL: &str = "BERTH_PUSH_URL";
pub const TOKEN: &str = "BERTH_PUSH_TOKEN";

/// Branches that deploy, as on Heroku.
const DEPLOYED: [&str; 2] = ["refs/heads/main", "refs/heads/master"];

/// What git shows for a ref that does not exist.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// How long a branch may take to be moved after its hook.
const BRANCH_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
enum PushError {
    #[error("{0}")]
    Refused(String),
    #[error("the hook was not started by a push ({0} is missing)")]
    Environment(&'static str),
    #[error("cannot run git")]
    Git(#[source] io::Error),
    #[error("cannot wait for other pushes")]
    Turn(#[source] io::Error),
    #[error("cannot reach the Berth server")]
    Connect(#[source] io::Error),
    #[error("the connection to the Berth server broke; the build goes on: `berth releases` shows how it ends")]
    Http(#[from] hyper::Error),
    #[error("the pushed files could not be uploaded to the Berth server; nothing was built")]
    Upload(#[source] Box<PushError>),
    #[error("the server's answer cannot be read")]
    Json(#[from] serde_json::Error),
    #[error("cannot make a request")]
    Request(#[from] http::Error),
}

/// Runs the hook; a failure refuses the push.
pub async fn pre_receive() -> ExitCode {
    match receive().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!(" !     {}", display_chain(&error)));
            say(" !     Push rejected.");
            ExitCode::FAILURE
        }
    }
}

async fn receive() -> Result<(), PushError> {
    let lines: Vec<String> = io::stdin().lock().lines().collect::<io::Result<_>>().map_err(PushError::Git)?;
    let updates: Vec<Update<'_>> = lines.iter().filter_map(|line| Update::parse(line)).collect();
    let deployed: Vec<&Update<'_>> = updates.iter().filter(|update| DEPLOYED.contains(&update.name)).collect();
    match deployed.as_slice() {
        [] => {
            for Update { name, .. } in updates {
                say(&format!("Pushed {name}: only main and master deploy, so nothing is built."));
            }
            Ok(())
        }
        [update] if update.new == NO_COMMIT => {
            Err(PushError::Refused("The branch that deploys cannot be deleted.".to_owned()))
        }
        [update] => {
            let _turn = take_turn().await?;
            refuse_outdated(update).await?;
            deploy(update.new).await
        }
        _several => Err(PushError::Refused("Push main or master, not both at once.".to_owned())),
    }
}

/// A line of what git tells the hook.
struct Update<'a> {
    old: &'a str,
    new: &'a str,
    name: &'a str,
}

impl<'a> Update<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self { old: words.next()?, new: words.next()?, name: words.next()? })
    }
}

/// Pushes to one repository deploy one after the other: git itself looks only after its hook, when the code serves
/// already, whether somebody else has moved the branch meanwhile.
async fn take_turn() -> Result<File, PushError> {
    let directory = env::var_os("GIT_DIR").unwrap_or_else(|| ".".into());
    let path = PathBuf::from(directory).join("push.lock");
    let open = File::options().create(true).truncate(false).read(true).write(true).open(path);
    let mut file = open.map_err(PushError::Turn)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("-----> Waiting for another push of this app");
            file.lock().map_err(PushError::Turn)?;
        }
        Err(TryLockError::Error(error)) => return Err(PushError::Turn(error)),
    }
    // Whose hook has ended has yet to move the branch.
    let mut last = String::new();
    file.read_to_string(&mut last).map_err(PushError::Turn)?;
    let until = tokio::time::Instant::now() + BRANCH_TIMEOUT;
    while is_receiving(&last) && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(PushError::Turn)?;
    write!(file, "{}", std::os::unix::process::parent_id()).map_err(PushError::Turn)?;
    Ok(file)
}

/// Whether this is the process of a push, whose hook we are not.
fn is_receiving(pid: &str) -> bool {
    let line = pid.parse::<u32>().ok().and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
    let is_push = line.is_some_and(|line| String::from_utf8_lossy(&line).contains("receive-pack"));
    is_push && pid != std::os::unix::process::parent_id().to_string()
}

async fn refuse_outdated(update: &Update<'_>) -> Result<(), PushError> {
    let found = git(&["rev-parse", "--verify", "--quiet", update.name]).await?.stdout;
    let found = String::from_utf8_lossy(&found);
    let current = if found.trim().is_empty() { NO_COMMIT } else { found.trim() };
    if current == update.old {
        return Ok(());
    }
    Err(PushError::Refused(format!(
        "Somebody else has pushed to {} meanwhile; nothing was built. Fetch and merge that, then push again.",
        update.name
    )))
}

async fn deploy(commit: &str) -> Result<(), PushError> {
    let server = Server::from_environment()?;
    refuse_unsupported(commit).await?;
    let source: heroku::Source = server.json(Method::POST, "/sources", Vec::new()).await?;
    server.upload(path_of(&source.source_blob.put_url), commit).await?;
    let request = heroku::BuildCreate {
        source_blob: heroku::SourceBlob {
            checksum: None,
            url: source.source_blob.get_url,
            version: Some(commit.to_owned()),
            version_description: None,
        },
        buildpacks: None,
    };
    let path = format!("/apps/{}/builds", server.app);
    let build: heroku::Build = server.json(Method::POST, &path, serde_json::to_vec(&request)?).await?;
    server.copy_output(path_of(&build.output_stream_url)).await?;
    let path = format!("/berth/apps/{}/builds/{}", server.app, build.id);
    let ended = loop {
        let progress: BuildProgress = server.json(Method::GET, &path, Vec::new()).await?;
        if progress.status != "pending" {
            break progress;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let Some(release) = ended.release else {
        let reason = ended.failure.unwrap_or_else(|| "the build failed".to_owned());
        return Err(PushError::Refused(reason));
    };
    server.wait_for_release(&release.to_string()).await
}

/// Says by name what a build of this tree would silently lack.
async fn refuse_unsupported(commit: &str) -> Result<(), PushError> {
    let submodules = git(&["cat-file", "-e", &format!("{commit}:.gitmodules")]).await?;
    if submodules.status.success() {
        return Err(PushError::Refused(
            "This repository has submodules (.gitmodules). They are not fetched here: vendor them \
             (git subtree), or deploy a directory that contains them with `berth deploy`."
                .to_owned(),
        ));
    }
    // Each directory may have attributes of its own.
    let search =
        ["grep", "--name-only", "--fixed-strings", "-e", "filter=lfs", commit, "--", ":(glob)**/.gitattributes"];
    let attributes = git(&search).await?.stdout;
    if let Some(found) = String::from_utf8_lossy(&attributes).lines().next() {
        let path = found.split_once(':').map_or(found, |(_commit, path)| path);
        return Err(PushError::Refused(format!(
            "This repository keeps files in Git LFS ({path}). A push brings only their pointers: \
             deploy the working directory with `berth deploy`, which uploads the real files."
        )));
    }
    Ok(())
}

async fn git(arguments: &[&str]) -> Result<std::process::Output, PushError> {
    Command::new("git").args(arguments).env_remove(TOKEN).stdin(Stdio::null()).output().await.map_err(PushError::Git)
}

struct Server {
    socket: PathBuf,
    app: String,
    url: String,
    token: String,
}

impl Server {
    fn from_environment() -> Result<Self, PushError> {
        let variable = |name: &'static str| env::var(name).map_err(|_missing| PushError::Environment(name));
        Ok(Self { socket: variable(SOCKET)?.into(), app: variable(APP)?, url: variable(URL)?, token: variable(TOKEN)? })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: BoxBody<Bytes, io::Error>,
    ) -> Result<http::Response<Incoming>, PushError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(PushError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the exchange; the exchange itself reports what went wrong.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body)?;
        Ok(sender.send_request(request).await?)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: BoxBody<Bytes, io::Error>,
    ) -> Result<(StatusCode, Bytes), PushError> {
        let response = self.request(method, path, body).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, PushError> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
        let (status, bytes) = self.exchange(method, path, body).await?;
        check(status, &bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Streams `git archive` of the commit to an upload URL.
    async fn upload(&self, path: &str, commit: &str) -> Result<(), PushError> {
        let mut archive = Command::new("git")
            .args(["archive", "--format=tar", commit])
            .env_remove(TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(PushError::Git)?;
        let stdout = archive.stdout.take().ok_or_else(|| PushError::Git(io::Error::other("no output")))?;
        let chunks = tokio_util::io::ReaderStream::new(stdout).map(|chunk| chunk.map(Frame::data));
        let sent = self.exchange(Method::PUT, path, BodyExt::boxed(StreamBody::new(chunks))).await;
        let (status, answer) = sent.map_err(|error| PushError::Upload(Box::new(error)))?;
        check(status, &answer)?;
        let archived = archive.wait().await.map_err(PushError::Git)?;
        if archived.success() { Ok(()) } else { Err(PushError::Refused(format!("git cannot archive {commit}"))) }
    }

    async fn copy_output(&self, path: &str) -> Result<(), PushError> {
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let response = self.request(Method::GET, path, body).await?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                let mut out = io::stdout().lock();
                // The client may have left; the build goes on all the same.
                let _client_left = out.write_all(&data).and_then(|()| out.flush());
            }
        }
        Ok(())
    }

    /// Follows the release until it serves. The push fails with it, so that the same push can be tried again.
    async fn wait_for_release(&self, id: &str) -> Result<(), PushError> {
        let path = format!("/berth/apps/{}/releases/{id}", self.app);
        loop {
            let release: ReleaseProgress = self.json(Method::GET, &path, Vec::new()).await?;
            let version = release.version;
            match release.state.as_str() {
                "serving" | "superseded" => {
                    say(&format!("       Released v{version}"));
                    say(&format!("       {} deployed to Berth", self.url));
                    return Ok(());
                }
                "failed" => {
                    let failure = release.failure.unwrap_or_default();
                    return Err(PushError::Refused(format!(
                        "Release v{version} failed; what served before goes on serving.\n{failure}"
                    )));
                }
                _under_way => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

fn check(status: StatusCode, body: &[u8]) -> Result<(), PushError> {
    if status.is_success() {
        return Ok(());
    }
    let message = serde_json::from_slice::<heroku::ApiErrorBody>(body)
        .map_or_else(|_not_ours| format!("the server answered {status}"), |error| error.message);
    Err(PushError::Refused(message))
}

/// The path and query of one of the server's URLs.
fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_scheme, rest)| rest);
    after_scheme.find('/').map_or("/", |at| &after_scheme[at..])
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be listening any more.
    let _client_left = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_upload_says_why_and_promises_no_build() {
        let cause = PushError::Connect(io::Error::from(io::ErrorKind::ConnectionRefused));
        let text = display_chain(&PushError::Upload(Box::new(cause)));
        assert!(text.contains("nothing was built: cannot reach the Berth server: connection refused"), "{text}");
        assert!(!text.contains("goes on"), "{text}");
    }

    #[test]
    fn the_path_of_a_url_keeps_its_query() {
        assert_eq!(path_of("http://localhost:5000/berth/sources/1?sig=x"), "/berth/sources/1?sig=x");
        assert_eq!(path_of("http://localhost"), "/");
    }
}
