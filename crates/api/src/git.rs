//! Git over smart HTTP: `git push` deploys, `git clone` and `fetch` give back what was pushed.
//!
//! The protocol itself is git's: `git receive-pack --stateless-rpc` does the work, checks every object and keeps a push
//! in quarantine until its `pre-receive` hook accepts it. That hook is ourselves ([`hook`]): it uploads the pushed tree,
//! requests a build, copies the build's output to the client as `remote:` lines, and refuses the push if it fails.

pub mod hook;

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::response::{IntoResponse as _, Response};
use domain::access::{Errand, Permission};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use store::app::App;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::auth::{self, Actor};
use crate::discard::discard;
use crate::error::{ApiError, ApiResult};
use crate::peer::Peer;
use crate::state::ApiState;

/// Largest negotiation of a fetch, in bytes.
const FETCH_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a push may take with its build and its release.
const PUSH_VALID: Duration = Duration::from_secs(3 * 60 * 60);

#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    #[serde(default)]
    service: String,
}

pub(crate) async fn info_refs(
    State(state): State<Arc<ApiState>>,
    UrlPath(repository): UrlPath<String>,
    Query(query): Query<Service>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let permission = if query.service == "git-receive-pack" { Permission::Deploy } else { Permission::View };
    let (_actor, app) = enter(&state, &repository, &headers, &peer, permission)?;
    let service = match query.service.as_str() {
        "git-receive-pack" => "receive-pack",
        "git-upload-pack" => "upload-pack",
        _dumb => {
            return Err(ApiError::forbidden("Only git's smart HTTP protocol is served; update git."));
        }
    };
    let directory = repository_of(&state, &app).await?;
    let mut command = git(&state, &headers);
    command.args([service, "--stateless-rpc", "--advertise-refs"]).arg(&directory).stdin(Stdio::null());
    let output = command.output().await.map_err(|error| cannot_run(&error))?;
    if !output.status.success() {
        warn!(app.name = %app.name, stderr = %String::from_utf8_lossy(&output.stderr), "git cannot list refs");
        return Err(cannot_run(&io::Error::other("git exited with a failure")));
    }
    let greeting = format!("# service=git-{service}\n");
    let mut body = format!("{:04x}{greeting}0000", greeting.len() + 4).into_bytes();
    body.extend_from_slice(&output.stdout);
    Ok(answer(&format!("application/x-git-{service}-advertisement"), Body::from(body)))
}

pub(crate) async fn upload_pack(
    State(state): State<Arc<ApiState>>,
    UrlPath(repository): UrlPath<String>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    let (_actor, app) = enter(&state, &repository, &headers, &peer, Permission::View)?;
    let request = whole_request(&headers, body).await?;
    let directory = repository_of(&state, &app).await?;
    let mut command = git(&state, &headers);
    command.args(["upload-pack", "--stateless-rpc"]).arg(&directory);
    run(command, Body::from(request), "application/x-git-upload-pack-result")
}

pub(crate) async fn receive_pack(
    State(state): State<Arc<ApiState>>,
    UrlPath(repository): UrlPath<String>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Response> {
    let (actor, app) = enter(&state, &repository, &headers, &peer, Permission::Deploy)?;
    let directory = repository_of(&state, &app).await?;
    let hooks = install_hook(&state).await.map_err(|error| cannot_run(&error))?;
    let mut command = git(&state, &headers);
    command
        .arg("-c")
        .arg(format!("core.hooksPath={}", hooks.display()))
        .args([
            "-c",
            &format!("receive.maxInputSize={}", state.config.push_bytes_max),
            "-c",
            "receive.fsckObjects=true",
        ])
        .args(["receive-pack", "--stateless-rpc"])
        .arg(&directory)
        .env(hook::EXECUTABLE, &state.config.berth_executable)
        .env(hook::SOCKET, state.config.data_dir.join("run/api.sock"))
        .env(hook::APP, app.name.as_str())
        .env(hook::URL, state.web_url(app.name.as_str()))
        .env(hook::TOKEN, auth::push_token(&state, actor.id(), app.id, &peer, PUSH_VALID));
    run(command, body, "application/x-git-receive-pack-result")
}

/// Who pushes or fetches, and which app's code.
fn enter(
    state: &ApiState,
    repository: &str,
    headers: &HeaderMap,
    peer: &Peer,
    permission: Permission,
) -> ApiResult<(Actor, App)> {
    let actor = auth::authenticate(state, headers, Some(peer))?;
    let name = repository.strip_suffix(".git").unwrap_or(repository);
    let app = state.store.find_app(name)?.ok_or_else(|| ApiError::not_found("app"))?;
    let errand = if permission == Permission::Deploy { Errand::Deploy } else { Errand::Other };
    actor.must(state, &app, permission, errand)?;
    Ok((actor, app))
}

/// The app's bare repository, made at its first use.
async fn repository_of(state: &ApiState, app: &App) -> ApiResult<PathBuf> {
    let directory = state.config.data_dir.join("repos").join(format!("{}.git", app.id));
    if !directory.join("HEAD").exists() {
        let mut command = git(state, &HeaderMap::new());
        command.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&directory);
        let status = command.stdin(Stdio::null()).status().await.map_err(|error| cannot_run(&error))?;
        if !status.success() {
            return Err(cannot_run(&io::Error::other("git init failed")));
        }
    }
    Ok(directory)
}

/// `git` with an environment of its own: nothing of the operator's configuration, nothing of the server's.
fn git(state: &ApiState, headers: &HeaderMap) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", state.config.data_dir.join("repos"))
        .env("LANG", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args(["-c", "safe.directory=*"])
        .current_dir(&state.config.data_dir)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(protocol) = headers.get("git-protocol").and_then(|value| value.to_str().ok()) {
        command.env("GIT_PROTOCOL", protocol);
    }
    command
}

/// Feeds the request to git and streams its answer.
fn run(mut command: Command, body: Body, content_type: &str) -> ApiResult<Response> {
    // A client that leaves does not end its push: the build goes on, and git with it.
    command.kill_on_drop(false).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| cannot_run(&error))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(cannot_run(&io::Error::other("git has no pipes")));
    };
    let (request_read, request_is_read) = oneshot::channel();
    tokio::spawn(feed(child, stdin, body, request_read));
    let output = tokio_util::io::ReaderStream::new(stdout);
    // The answer's end waits for the request's: a client that still sends would miss what git said.
    let end = stream::once(request_is_read).filter_map(|_sender_is_gone| async { None });
    Ok(answer(content_type, Body::from_stream(output.chain(end))))
}

/// Gives git its input. `request_read` is dropped when nothing more is read from the client.
async fn feed(
    mut child: Child,
    mut stdin: tokio::process::ChildStdin,
    body: Body,
    request_read: oneshot::Sender<Infallible>,
) {
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                debug!(%error, "a git client ended early");
                break;
            }
        };
        if let Err(error) = stdin.write_all(&chunk).await {
            debug!(%error, "git has read enough");
            discard(&mut stream).await;
            break;
        }
    }
    drop(stdin);
    drop(request_read);
    if let Err(error) = child.wait().await {
        warn!(%error, "cannot wait for git");
    }
}

async fn whole_request(headers: &HeaderMap, body: Body) -> ApiResult<Vec<u8>> {
    let too_large = || ApiError::too_large("The fetch request is larger than 16 MiB.");
    let collected = Limited::new(body, FETCH_REQUEST_BYTES_MAX).collect().await;
    let bytes = collected.map_err(|_limit| too_large())?.to_bytes();
    if headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding != "gzip") {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes.as_ref()).take(FETCH_REQUEST_BYTES_MAX as u64);
    decoder.read_to_end(&mut plain).map_err(|_broken| ApiError::bad_request("The gzip body is damaged."))?;
    Ok(plain)
}

/// The directory with our hook. The script is the same everywhere; the executable comes in the environment.
async fn install_hook(state: &ApiState) -> io::Result<PathBuf> {
    let directory = state.config.data_dir.join("repos/hooks");
    let script = directory.join("pre-receive");
    if !script.exists() {
        tokio::fs::create_dir_all(&directory).await?;
        let temporary = directory.join("pre-receive.new");
        tokio::fs::write(&temporary, format!("#!/bin/sh\nexec \"${}\" git-pre-receive\n", hook::EXECUTABLE)).await?;
        make_executable(&temporary).await?;
        tokio::fs::rename(&temporary, &script).await?;
    }
    Ok(directory)
}

async fn make_executable(path: &Path) -> io::Result<()> {
    tokio::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).await
}

fn answer(content_type: &str, body: Body) -> Response {
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    response
}

fn cannot_run(error: &io::Error) -> ApiError {
    ApiError::internal("cannot run git; is it installed?", error)
}
