//! `berth up`: a small supervisor. Starts server and router, restarts them, passes the end on. SIGHUP makes it a new
//! executable ([`Replacement`]).
//!
//! Its own death ends neither: both live in process groups of their own, and the next `berth up` takes their place
//! ([`Orphans`]).

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use domain::platform_host::public_url;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use wire::settings::RouterProcessSettings;

use crate::arguments::{PlatformOptions, UpOptions};
use crate::data_dir::DataDir;
use crate::orphans::{Orphans, SUPERVISED};
use crate::passed_sockets;
use crate::replacement::Replacement;
use crate::router_role::Listeners;
use crate::server::log_to_stderr;
use crate::{dns_role, router_role, settings};

/// Pause before a role that ended is started again; doubles while it keeps ending at once.
const RESTART_MIN: Duration = Duration::from_millis(50);
const RESTART_MAX: Duration = Duration::from_secs(5);

/// A role that ran this long did not end at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// How long a first start may take until the API answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the server may take to kill every dyno.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Between the signals that it gets for that.
const KILL_PAUSE: Duration = Duration::from_millis(500);

pub(crate) fn run(options: &UpOptions) -> Result<()> {
    log_to_stderr();
    let data_dir = DataDir::open(&options.platform.data_dir)?;
    let _lock = data_dir.supervisor_lock()?;
    let replacement = Replacement::new()?;
    // The router runs as a user that may not look into the directories above: it is started in this one instead.
    std::env::set_current_dir(&data_dir.path).context("cannot enter the data directory")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(supervise(options, &data_dir, &replacement))
}

enum End {
    Stop { detach: bool },
    Replace,
}

async fn supervise(options: &UpOptions, data_dir: &DataDir, replacement: &Replacement) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let orphans = Orphans::find(&data_dir.path);
    let listeners = router_role::bind(&options.platform, &orphans)?;
    let own_user = router_role::hand_over(&data_dir.path).context("cannot prepare the router's directory")?;
    let stop_limit = settings::stop_limit(&data_dir.path)?;
    let settings = settings::of_router(&data_dir.path)?;
    let https_port = options.platform.public_https_port(&settings::fronts(&data_dir.path)?);
    let mut router = Role::start(router_role(&options.platform, data_dir, &listeners, own_user, &settings)?)?;
    orphans.end_server(data_dir).await?;
    let mut server = Role::start(RolePlan {
        name: "server",
        arguments: role_arguments("server", &options.platform, data_dir),
        sockets: Vec::new(),
        uid: None,
    })?;
    let mut dns = start_dns(data_dir)?;
    let end = {
        let asked = async {
            loop {
                tokio::select! {
                    _signal = interrupt.recv() => return End::Stop { detach: options.detach_dynos },
                    // What a service manager sends: a restart of the platform is not the end of the apps.
                    _signal = terminate.recv() => return End::Stop { detach: true },
                    _signal = hangup.recv() => match replacement.check(&data_dir.path) {
                        Ok(()) => return End::Replace,
                        Err(error) => warn!("Everything stays as it is: {error:#}"),
                    },
                }
            }
        };
        let running = async {
            wait_until_up(&mut server, &mut router, data_dir).await?;
            announce(&options.platform, https_port, data_dir);
            let mut old_router = pin!(orphans.router_ended());
            let mut old_router_ended = false;
            loop {
                tokio::select! {
                    () = &mut old_router, if !old_router_ended => old_router_ended = true,
                    ended = server.ended() => server.restart(ended).await?,
                    ended = router.ended() => router.restart(ended).await?,
                    ended = ended_of(&mut dns) => if let Some(dns) = &mut dns { dns.restart(ended).await? },
                }
            }
        };
        // Dynos of an earlier start may be alive before this one is up, so Ctrl-C means the same then.
        tokio::select! {
            end = asked => Ok(end),
            failure = running => failure,
        }
    };
    match end {
        Ok(End::Stop { detach }) => {
            stop(server, router, &orphans, detach, stop_limit, &mut interrupt, &mut terminate).await;
        }
        Ok(End::Replace) => {
            info!("Becoming {}", replacement.executable.display());
            if let Some(mut dns) = dns {
                dns.signal(rustix::process::Signal::KILL);
                dns.ended().await;
            }
            let error = replacement.exec();
            return Err(error).context("cannot become a new executable; server and router live on: start `berth up`");
        }
        Err(failure) => {
            for role in [&server, &router] {
                role.signal(rustix::process::Signal::TERM);
            }
            return Err(failure);
        }
    }
    if let Some(mut dns) = dns {
        dns.signal(rustix::process::Signal::KILL);
        dns.ended().await;
    }
    Ok(())
}

/// The forwarder of names, where dynos could not resolve any without it.
fn start_dns(data_dir: &DataDir) -> Result<Option<Role>> {
    if !dns_role::is_needed()? {
        return Ok(None);
    }
    let arguments = vec!["dns".into(), "--data-dir".into(), data_dir.path.clone().into()];
    Role::start(RolePlan { name: "dns", arguments, sockets: Vec::new(), uid: None }).map(Some)
}

async fn ended_of(role: &mut Option<Role>) -> std::process::ExitStatus {
    match role {
        Some(role) => role.ended().await,
        None => std::future::pending().await,
    }
}

/// How a role is started, each time.
struct RolePlan {
    name: &'static str,
    arguments: Vec<OsString>,
    /// Passed on over standard input.
    sockets: Vec<TcpListener>,
    uid: Option<u32>,
}

fn role_arguments(name: &str, options: &PlatformOptions, data_dir: &DataDir) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![name.into(), SUPERVISED.into()];
    arguments.extend(["--data-dir".into(), data_dir.path.clone().into()]);
    for (flag, value) in [
        ("--http-port", options.http_port.to_string()),
        ("--api-port", options.api_port.to_string()),
        ("--domain", options.domain.clone()),
    ] {
        arguments.extend([flag.into(), value.into()]);
    }
    if let Some(port) = options.https_port {
        arguments.extend(["--https-port".into(), port.to_string().into()]);
    }
    arguments
}

fn router_role(
    options: &PlatformOptions,
    data_dir: &DataDir,
    listeners: &Listeners,
    own_user: bool,
    settings: &RouterProcessSettings,
) -> Result<RolePlan> {
    let mut arguments = role_arguments("router", options, data_dir);
    if own_user {
        arguments.push("--in-working-directory".into());
    }
    arguments.extend(["--inherited-listeners".into(), listeners.http.len().to_string().into()]);
    arguments.extend(["--inherited-tls-listeners".into(), listeners.https.len().to_string().into()]);
    arguments.extend(["--instance".into(), data_dir.instance.clone().into()]);
    arguments.extend(["--settings".into(), serde_json::to_string(settings)?.into()]);
    let sockets =
        listeners.http.iter().chain(&listeners.https).filter_map(|listener| listener.try_clone().ok()).collect();
    Ok(RolePlan { name: "router", arguments, sockets, uid: own_user.then_some(router_role::ROUTER_UID) })
}

/// One supervised role.
struct Role {
    plan: RolePlan,
    child: Child,
    started: Instant,
    pause: Duration,
}

impl Role {
    fn start(plan: RolePlan) -> Result<Self> {
        let child = spawn(&plan)?;
        Ok(Self { plan, child, started: Instant::now(), pause: RESTART_MIN })
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        // Without its status there is nothing to tell; a restart finds out.
        self.child.wait().await.unwrap_or_default()
    }

    async fn restart(&mut self, status: std::process::ExitStatus) -> Result<()> {
        if self.started.elapsed() >= STEADY_AFTER {
            self.pause = RESTART_MIN;
        }
        warn!("the {} ended ({status}); starting it again", self.plan.name);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(RESTART_MAX);
        self.child = spawn(&self.plan)?;
        self.started = Instant::now();
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, signal)
        {
            warn!(%error, "cannot signal the {}", self.plan.name);
        }
    }
}

fn spawn(plan: &RolePlan) -> Result<Child> {
    let starting = || format!("cannot start the {}", plan.name);
    let berth = std::env::current_exe().context("cannot find the running executable")?;
    // This very executable, through a link that needs no permission on the directories above it.
    let mut command = std::process::Command::new("/proc/self/exe");
    // Out of the terminal's foreground group: Ctrl-C is ours to pass on.
    command.arg0(berth).args(&plan.arguments).stdin(Stdio::null()).process_group(0);
    if !plan.sockets.is_empty() {
        command.stdin(passed_sockets::send(&plan.sockets).with_context(starting)?);
    }
    if let Some(uid) = plan.uid {
        command.uid(uid).gid(uid);
    }
    Command::from(command).spawn().with_context(starting)
}

async fn wait_until_up(server: &mut Role, router: &mut Role, data_dir: &DataDir) -> Result<()> {
    let (api, proxy) = (data_dir.path.join("run/api.sock"), data_dir.path.join(wire::routes::ROUTER_SOCKET));
    let answering = async {
        while UnixStream::connect(&api).await.is_err() || UnixStream::connect(&proxy).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        answered = timeout(START_TIMEOUT, answering) => {
            answered.ok().with_context(|| format!("the API did not answer within {} s", START_TIMEOUT.as_secs()))
        }
        status = server.ended() => bail!("the server could not start ({status}); its message is above"),
        status = router.ended() => bail!("the router could not start ({status}); its message is above"),
    }
}

/// What a person who starts the platform needs to know.
fn announce(options: &PlatformOptions, https_port: Option<u16>, data_dir: &DataDir) {
    let mut text = format!("Berth is up.\n  Apps:  http://<app>.{}:{}/\n", options.domain, options.http_port);
    if let Some(port) = options.https_port {
        text += &format!("         https://<app>.{}:{port}/\n", options.domain);
    }
    text += &format!("  API:   http://localhost:{}\n", options.api_port);
    if let Some(url) = public_url(&options.domain, options.http_port, https_port) {
        text += &format!("         {url}\n");
    }
    text += &format!("  Data:  {}\n", data_dir.path.display());
    text += "  Next:  berth create shop && cd your-app && berth deploy --app shop\n";
    // The terminal may be gone by now.
    std::io::stdout().write_all(text.as_bytes()).unwrap_or_default();
}

/// Requests first, then dynos. A second signal kills.
async fn stop(
    mut server: Role,
    mut router: Role,
    orphans: &Orphans,
    detach: bool,
    limit: Duration,
    interrupt: &mut Signal,
    terminate: &mut Signal,
) {
    if detach {
        info!("Stopping; dynos stay alive and the next start adopts them");
    } else {
        info!("Stopping: requests finish, then every dyno stops. Press Ctrl-C again to kill");
    }
    let orderly = async {
        router.signal(rustix::process::Signal::TERM);
        router.ended().await;
        orphans.router_ended().await;
        server.signal(if detach { rustix::process::Signal::TERM } else { rustix::process::Signal::INT });
        server.ended().await;
    };
    let ended = tokio::select! {
        ended = timeout(limit, orderly) => ended.is_ok(),
        _signal = interrupt.recv() => false,
        _signal = terminate.recv() => false,
    };
    if !ended {
        warn!("Killing what has not stopped");
        router.signal(rustix::process::Signal::KILL);
        orphans.kill_router();
        let deadline = Instant::now() + KILL_TIMEOUT;
        // The server kills the dynos, which nobody else would: its first SIGINT stops them, any later one kills.
        while !detach && Instant::now() < deadline {
            server.signal(rustix::process::Signal::INT);
            if timeout(KILL_PAUSE, server.ended()).await.is_ok() {
                break;
            }
        }
        server.signal(rustix::process::Signal::KILL);
        server.ended().await;
        router.ended().await;
    }
}
