//! The command line: roles of the platform here, client commands from `cli`.

use std::net::SocketAddrV4;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use wire::routes::FrontPolicy;

#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    about = "A platform-as-a-service for your own machine, with Heroku's commands",
    long_about = "A platform-as-a-service for your own machine, with Heroku's commands.\n\n\
                  Start it with `berth up`, then: `berth create shop`, `berth deploy`, `berth logs --tail`.",
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: cli::Global,
    #[command(subcommand)]
    pub(crate) role: Role,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Start the platform on this machine: server and router, supervised
    #[command(after_help = "Example: berth up --http-port 8080 --domain localhost\n\n\
        Ctrl-C drains requests and stops every dyno; a second Ctrl-C kills. With --detach-dynos, or after a kill,\n\
        dynos stay alive and the next start adopts them.")]
    Up(UpOptions),
    /// Run the server alone (`up` does this for you)
    Server(PlatformOptions),
    /// Run the router alone (`up` does this for you)
    Router(RouterOptions),
    /// Answer dynos' questions for names (`up` does this where it is needed)
    Dns(DnsOptions),
    /// Make a new administrator token on this machine and revoke all others
    #[command(name = "tokens:reset")]
    TokensReset(DataDirOption),
    #[command(flatten)]
    Client(cli::Command),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) platform: PlatformOptions,
    /// On Ctrl-C leave dynos running; the next start adopts them
    #[arg(long)]
    pub(crate) detach_dynos: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RouterOptions {
    #[command(flatten)]
    pub(crate) platform: PlatformOptions,
    /// Listening sockets for HTTP that `up` passes on over the socket that is standard input
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) inherited_listeners: usize,
    /// And for TLS, behind those
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) inherited_tls_listeners: usize,
    /// The data directory is the working directory, and the way to it may be closed
    #[arg(long, hide = true)]
    pub(crate) in_working_directory: bool,
    /// The instance, told to a router that may not read the data directory
    #[arg(long, hide = true)]
    pub(crate) instance: Option<String>,
    /// And its part of the settings, as JSON
    #[arg(long, hide = true)]
    pub(crate) settings: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DnsOptions {
    #[command(flatten)]
    pub(crate) data_dir: DataDirOption,
    /// Where to answer [default: the dynos' gateway, as the server says]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddrV4>,
    /// Whom to ask; may be repeated [default: /etc/resolv.conf]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) upstream: Vec<SocketAddrV4>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DataDirOption {
    /// Everything Berth keeps [default: /var/lib/berth for root, $`XDG_DATA_HOME/berth` otherwise]
    #[arg(long, value_name = "DIR", env = "BERTH_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl PlatformOptions {
    /// Where the router listens.
    pub(crate) fn router_ports(&self) -> Vec<u16> {
        std::iter::once(self.http_port).chain(self.https_port).collect()
    }

    /// Where clients find HTTPS: at the router, or at what stands in front of it.
    pub(crate) fn public_https_port(&self, fronts: &FrontPolicy) -> Option<u16> {
        self.https_port.or_else(|| (!fronts.fronts.is_empty()).then_some(443))
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PlatformOptions {
    #[command(flatten)]
    pub(crate) data_dir: DataDirOption,
    /// Where apps answer
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// Where apps answer over TLS; left out, they do not
    #[arg(long, value_name = "PORT")]
    pub(crate) https_port: Option<u16>,
    /// Where the Platform API, git and uploads answer; loopback only
    #[arg(long, value_name = "PORT", default_value_t = 5000)]
    pub(crate) api_port: u16,
    /// Apps answer at APP.DOMAIN; `localhost` listens on loopback only
    #[arg(long, default_value = "localhost")]
    pub(crate) domain: String,
    /// Started by `up`, and so taken over by the next `up` if that one is killed
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}
