//! `berth server`: the control plane. May be killed at any time; requests, dynos and their logs do not notice.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use api::browser_login::BrowserLogins;
use api::exec::Exec;
use api::grants::Grants;
use api::listen::Listeners;
use api::port_tunnel::PortTunnels;
use api::rate_limiter::RateLimiter;
use api::run_session::RunSessions;
use api::state::{ApiConfig, ApiState};
use api::url_signer::UrlSigner;
use builder::host::Host;
use delivery::{DeliveryConfig, Drains, Notifier, Webhooks};
use domain::access::Scope;
use domain::acme::ChallengeKind;
use domain::id::AccountId;
use domain::platform_host::public_url;
use domain::rate_limit::RateLimit;
use domain::secret::Secret;
use jiff::Timestamp;
use reconciler::{DynoNetwork, PlatformHosts, Reconciler, ReconcilerConfig, StopMode};
use store::account::{Account, NewToken};
use store::{MasterKey, Store};
use telemetry::ingest::Ingest;
use telemetry::log_store::{LogStore, StreamLimits};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;
use wire::routes::SERVER_SOCKET;

use crate::arguments::PlatformOptions;
use crate::data_dir::{DataDir, url_secret};
use crate::platform_view::PlatformView;
use crate::{dns_role, network, settings};

/// Where the store keeps the range of the dynos' network: living dynos have addresses in it.
const DYNO_RANGE: &str = "dyno_network_range";

/// Attempts to log in by browser from one address, or one /64 of IPv6, in an hour. Who came through a tunnel shares one.
const LOGINS: RateLimit = RateLimit::per_hour(NonZeroU32::new(120).expect("a positive number"));

pub(crate) fn run(options: &PlatformOptions) -> Result<()> {
    log_to_stderr();
    let data_dir = DataDir::open(&options.data_dir)?;
    let _lock = data_dir.lock()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(serve(options, &data_dir))
}

async fn serve(options: &PlatformOptions, data_dir: &DataDir) -> Result<()> {
    let mut effective = settings::read(&data_dir.path)?;
    let master_key = data_dir.master_key()?;
    let store = Arc::new(Store::open(&data_dir.path.join("berth.db"), MasterKey::new(master_key))?);
    let logs = Arc::new(LogStore::new(&data_dir.path.join("logs"), StreamLimits::default()));
    let ingest = Ingest::start(Arc::clone(&logs)).context("cannot watch log files")?;
    let kept = store.setting(DYNO_RANGE)?.and_then(|text| text.parse().ok());
    let prepared = network::prepare(&data_dir.instance, &effective.settings.network, kept, &options.router_ports())?;
    if let DynoNetwork::Isolated { range, gateway, .. } = &prepared.network {
        store.set_setting(DYNO_RANGE, range.to_string()).await?;
        // Dynos reach the router, too: within a private range that fronts are in, any app could speak as one.
        effective.fronts.never.push(network::written(*range));
        dns_role::announce(&data_dir.path, *gateway)?;
    }
    let berth = std::env::current_exe().context("cannot find the running executable")?;
    let terms_agreed = effective.settings.acme.terms_agreed;
    let mut acme = effective.acme;
    if options.https_port.is_none() {
        acme.challenges.retain(|kind| *kind != ChallengeKind::TlsAlpn01);
    }
    let tls = api::tls::acceptor(&data_dir.path.join("ca"), &options.domain)?;

    let https_port = options.public_https_port(&effective.fronts);
    let hosts = PlatformHosts {
        domain: options.domain.clone(),
        https: https_port.is_some(),
        certificate: effective.api_certificate.map(Arc::new),
    };

    let (stop_reconciler, reconciler_stop) = watch::channel(StopMode::Running);
    let reconciler = Reconciler::start(
        ReconcilerConfig {
            data_dir: data_dir.path.clone(),
            instance: data_dir.instance.clone(),
            domain: options.domain.clone(),
            berth: berth.clone(),
            network: prepared.network,
            sizes: effective.sizes.clone(),
            limits: effective.limits,
            build_limits: effective.build_limits,
            host: Host::current(),
            slug_bytes_max: effective.slug_bytes_max,
            dyno_disk_bytes: effective.dyno_disk_bytes,
            fronts: Arc::new(effective.fronts),
            outgoing_networks: effective.delivery_networks.clone().into(),
            acme: terms_agreed.then(|| acme.clone()),
            platform_hosts: hosts.clone(),
        },
        Arc::clone(&store),
        Arc::clone(&logs),
        ingest,
        reconciler_stop,
    );
    let (stop_deliveries, deliveries_stop) = watch::channel(false);
    let deliveries = DeliveryConfig {
        data_dir: data_dir.path.clone(),
        allowed_networks: effective.delivery_networks.clone(),
        authorities: effective.settings.deliveries.ca_file.map(|file| data_dir.path.join(file)),
    };
    let webhooks = Webhooks::start(&deliveries, Arc::clone(&store), deliveries_stop.clone())?;
    let notifier = Notifier::start(&deliveries, Arc::clone(&store), deliveries_stop.clone())?;
    let drains = Drains::start(deliveries, Arc::clone(&store), Arc::clone(&logs), deliveries_stop.clone())?;
    let platform = PlatformView {
        data_dir: data_dir.path.clone(),
        store: Arc::clone(&store),
        router: reconciler.router(),
        in_force: reconciler.in_force(),
        hosts,
    };
    let state = Arc::new(ApiState {
        store: Arc::clone(&store),
        logs,
        config: ApiConfig {
            data_dir: data_dir.path.clone(),
            instance: data_dir.instance.clone(),
            domain: options.domain.clone(),
            http_port: options.http_port,
            public_url: public_url(&options.domain, options.http_port, https_port),
            sizes: effective.sizes,
            berth_executable: berth,
            upload_bytes_max: effective.upload_bytes_max,
            reduced: prepared.reduced,
            full_isolation: prepared.full,
            push_bytes_max: effective.push_bytes_max,
            session_idle: effective.limits.session_idle,
            outgoing_networks: effective.delivery_networks,
            acme_directory: acme.directory,
            acme_terms_agreed: terms_agreed,
        },
        signer: UrlSigner::new(&url_secret(&master_key)),
        requests: RateLimiter::new(effective.rate_limit),
        logins: RateLimiter::new(Some(LOGINS)),
        browser_logins: BrowserLogins::default(),
        grants: Grants::default(),
        platform: Arc::new(platform),
        run_sessions: RunSessions::default(),
        port_tunnels: PortTunnels::default(),
        exec: Exec::new(&data_dir.ssh_host_key()?),
    });
    let network = listen(options.api_port).await?;
    let local = listen_locally(&data_dir.path.join("run/api.sock"), None)?;
    let router_uid = fs::metadata(data_dir.path.join("router")).context("cannot look at the router's directory")?.uid();
    let router = listen_locally(&data_dir.path.join(SERVER_SOCKET), Some(router_uid))?;
    let api_port = network.first().context("no listener")?.local_addr()?.port();
    let url = format!("http://localhost:{api_port}");
    first_start(&store, &url, &data_dir.path).await?;
    info!("The Platform API answers at {url}");

    let events = tokio::spawn(api::webhook_events::record_events(Arc::clone(&state), deliveries_stop));
    let (stop_api, api_stop) = watch::channel(false);
    let listeners = Listeners { network, local, router, router_uid };
    let serving = tokio::spawn(api::listen::serve(listeners, tls, state, api_stop));
    let mut signals = Signals::new()?;
    let mode = signals.first().await;
    info!(?mode, "Stopping");
    stop_reconciler.send_replace(mode);
    let joined = reconciler.join();
    tokio::pin!(joined);
    tokio::select! {
        () = &mut joined => {}
        () = signals.second() => {
            info!("Killing what has not stopped");
            stop_reconciler.send_replace(StopMode::Kill);
            joined.await;
        }
    }
    stop_api.send_replace(true);
    serving.await.context("the API ended early")?;
    stop_deliveries.send_replace(true);
    events.await.context("the events ended early")?;
    webhooks.join().await;
    notifier.join().await;
    drains.join().await;
    if mode == StopMode::Drain && rustix::process::geteuid().is_root() {
        // Shims are still removing what they made when their dynos have ended; nothing may be left that they miss.
        shim::client::clean_up(&data_dir.path.join("run"), &data_dir.instance, &[], &[])
            .context("cannot remove what the dynos left")?;
        shim::host::remove(&data_dir.instance).context("cannot remove the dynos' firewall rules")?;
    }
    Ok(())
}

/// SIGTERM leaves the dynos alone; SIGINT (from `berth up` after Ctrl-C) stops them first; another one kills them.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn first(&mut self) -> StopMode {
        tokio::select! {
            _signal = self.terminate.recv() => StopMode::Detach,
            _signal = self.interrupt.recv() => StopMode::Drain,
        }
    }

    async fn second(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Loopback only: this port may speak plain HTTP.
async fn listen(port: u16) -> Result<Vec<TcpListener>> {
    let bind = async |address: SocketAddr| {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; is the port in use? Choose another with --api-port"))
    };
    let v4 = bind((Ipv4Addr::LOCALHOST, port).into()).await?;
    let port = v4.local_addr()?.port();
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(v6) => Ok(vec![v4, v6]),
        // A machine without IPv6.
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(vec![v4]),
        Err(error) => Err(error).context("cannot listen on [::1]; choose another port with --api-port"),
    }
}

/// A socket for the user that Berth runs as, or for another one.
fn listen_locally(path: &Path, user: Option<u32>) -> Result<UnixListener> {
    // Left by a server that was killed; the lock says that it is not alive.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot make the socket {} (its path may have 107 bytes)", path.display()))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    let protecting = || format!("cannot protect {}", path.display());
    fs::set_permissions(path, private).with_context(protecting)?;
    if let Some(user) = user.filter(|user| *user != rustix::process::geteuid().as_raw()) {
        lchown(path, Some(user), Some(user)).with_context(protecting)?;
    }
    Ok(listener)
}

/// Makes the administrator at the first start, and leaves a token where the caller's CLI finds it.
async fn first_start(store: &Store, url: &str, data_dir: &Path) -> Result<()> {
    let account = first_account(store).await?;
    store.set_setting("api_url", url.to_owned()).await?;
    let known = cli::credentials::read().context("cannot read the credentials file")?;
    let valid = match known.hosts.get(url) {
        Some(known) => {
            let token = Secret::new(known.token.expose().clone());
            store.authenticate(&token, Timestamp::now())?.is_some()
        }
        None => false,
    };
    if !valid {
        let (_token, text) = store.create_token(new_token(account.id, "this machine's CLI"), Timestamp::now()).await?;
        let ca = api::tls::ca_file(&data_dir.join("ca"));
        cli::credentials::store(url, text.expose(), Some(&ca)).context("cannot write the credentials file")?;
        info!("Made a token for {url} and put it into your credentials file");
    }
    Ok(())
}

/// A token that is good for everything, for ever.
pub(crate) fn new_token(account: AccountId, description: &str) -> NewToken {
    NewToken {
        account,
        description: description.to_owned(),
        expires_at: None,
        scopes: vec![Scope::Global],
        app: None,
        session: false,
    }
}

pub(crate) async fn first_account(store: &Store) -> Result<Account> {
    match store.first_account()? {
        Some(account) => Ok(account),
        None => Ok(store.create_account("admin@localhost".to_owned(), Timestamp::now()).await?),
    }
}

pub(crate) fn log_to_stderr() {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_from_env("BERTH_LOG")
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
