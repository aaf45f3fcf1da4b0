//! What every command has: the user's global options, the server, the chosen app, and how to write.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use domain::secret::Secret;
use jiff::Timestamp;
use thiserror::Error;

use crate::api_client::ApiClient;
use crate::app_selection::{self, Wish};
use crate::credentials::{self, Credentials};
use crate::git;
use crate::output::Output;
use crate::server_url::ServerUrl;

/// Options that every command takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    #[arg(
        short,
        long,
        global = true,
        value_name = "APP",
        help = "The app [env: BERTH_APP; else the git remote of this directory]"
    )]
    pub app: Option<String>,
    /// The git remote that names the app
    #[arg(short, long, global = true, value_name = "NAME")]
    pub remote: Option<String>,
    /// Print what the API answered, as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A mistake in how the command was called: exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

#[derive(Debug, Error)]
#[error("you are not logged in{}", .0.as_ref().map(|url| format!(" to {url}")).unwrap_or_default())]
pub(crate) struct NotLoggedIn(pub(crate) Option<ServerUrl>);

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) out: Output,
    pub(crate) now: Timestamp,
    pub(crate) directory: PathBuf,
    environment: Environment,
}

/// What the environment says about the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) host: Option<String>,
    pub(crate) key: Option<Secret<String>>,
    pub(crate) app: Option<String>,
    /// The proxy on the way to other hosts.
    pub(crate) proxy: Option<String>,
    /// A bundle that stands for a private authority, as curl and others read it.
    pub(crate) authority: Option<PathBuf>,
}

impl Environment {
    fn read() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            host: variable("BERTH_HOST"),
            key: variable("BERTH_API_KEY").map(Secret::new),
            app: variable("BERTH_APP"),
            proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
            authority: variable("SSL_CERT_FILE").map(PathBuf::from),
        }
    }
}

/// A server and how to speak to it.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) server: ServerUrl,
    pub(crate) token: Secret<String>,
    pub(crate) authority: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(global: Global) -> anyhow::Result<Self> {
        let directory = std::env::current_dir().context("cannot see the current directory")?;
        let out = Output::new(global.json);
        Ok(Self { global, out, now: Timestamp::now(), directory, environment: Environment::read() })
    }

    /// `BERTH_HOST`.
    pub(crate) fn host(&self) -> Option<&str> {
        self.environment.host.as_deref()
    }

    /// `HTTPS_PROXY`.
    pub(crate) fn proxy(&self) -> Option<&str> {
        self.environment.proxy.as_deref()
    }

    /// The app that was named, without a look at git remotes.
    pub(crate) fn named_app(&self) -> Option<&str> {
        self.global.app.as_deref().or(self.environment.app.as_deref())
    }

    pub(crate) fn login(&self) -> anyhow::Result<Login> {
        let stored = if self.environment.host.is_some() && self.environment.key.is_some() {
            // Nothing is missing: a file that cannot be read must not stop a command in CI.
            credentials::read().unwrap_or_default()
        } else {
            credentials::read()?
        };
        choose_login(&self.environment, &stored)
    }

    pub(crate) fn client(&self) -> anyhow::Result<ApiClient> {
        let login = self.login()?;
        Ok(ApiClient::new(login.server, Some(login.token), login.authority.as_deref())?)
    }

    /// The client, and the app that the command is about.
    pub(crate) fn app(&self) -> anyhow::Result<(ApiClient, String)> {
        let client = self.client()?;
        let wish = Wish {
            app: self.global.app.as_deref(),
            remote: self.global.remote.as_deref(),
            environment: self.environment.app.as_deref(),
        };
        let app = app_selection::select(&wish, &client.server, || git::remotes(&self.directory));
        let app = app.map_err(|error| UsageError(error.to_string()))?;
        Ok((client, app))
    }

    pub(crate) fn is_interactive(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }
}

fn choose_login(environment: &Environment, stored: &Credentials) -> anyhow::Result<Login> {
    let server = match environment.host.as_ref().or(stored.default.as_ref()) {
        None => return Err(NotLoggedIn(None).into()),
        Some(text) => ServerUrl::parse(text).map_err(|error| UsageError(error.to_string()))?,
    };
    let entry = stored.hosts.get(&server.to_string());
    let token = environment.key.clone().or_else(|| entry.map(|entry| entry.token.clone()));
    let token = token.ok_or_else(|| NotLoggedIn(Some(server.clone())))?;
    let authority = entry.and_then(|entry| entry.ca.clone()).or_else(|| environment.authority.clone());
    Ok(Login { server, token, authority })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credentials::Credential;

    fn stored() -> Credentials {
        let local = Credential { token: Secret::new("local".to_owned()), ca: Some("/ca.pem".into()) };
        let remote = Credential { token: Secret::new("remote".to_owned()), ca: None };
        let hosts = [("http://localhost:5000", local), ("https://berth.example.com", remote)];
        let hosts: BTreeMap<String, Credential> = hosts.map(|(url, entry)| (url.to_owned(), entry)).into();
        Credentials { default: Some("http://localhost:5000".to_owned()), hosts }
    }

    fn check(host: Option<&str>, key: Option<&str>, stored: &Credentials, expect: Option<(&str, &str)>) {
        let environment = Environment {
            host: host.map(str::to_owned),
            key: key.map(|key| Secret::new(key.to_owned())),
            ..Environment::default()
        };
        let login = choose_login(&environment, stored).ok();
        let login = login.map(|login| (login.server.to_string(), login.token.into_exposed()));
        assert_eq!(login, expect.map(|(server, token)| (server.to_owned(), token.to_owned())), "{host:?}");
    }

    #[test]
    fn the_environment_counts_before_the_file() {
        check(None, None, &stored(), Some(("http://localhost:5000", "local")));
        check(Some("berth.example.com"), None, &stored(), Some(("https://berth.example.com", "remote")));
        check(Some("localhost:5000"), Some("key"), &stored(), Some(("http://localhost:5000", "key")));
        check(None, Some("key"), &stored(), Some(("http://localhost:5000", "key")));
    }

    #[test]
    fn a_token_is_never_sent_to_another_server_than_its_own() {
        check(Some("https://other.example.com"), None, &stored(), None);
        check(None, Some("key"), &Credentials::default(), None);
    }
}
