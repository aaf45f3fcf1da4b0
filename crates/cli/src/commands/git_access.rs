//! `git:remote` and `git:credentials`: `git push` without a password.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use wire::platform_api::App;

use crate::api_client::path;
use crate::app_selection::{REMOTE_NAME, is_same_server};
use crate::context::{Context, UsageError};
use crate::credentials;
use crate::git;

pub(super) fn remote(context: &Context) -> anyhow::Result<()> {
    if !git::is_repository(&context.directory) {
        bail!("this is not a git repository; `git init` makes one");
    }
    // Here --remote names what is to be made, so it cannot name the app as well.
    let client = context.client()?;
    let Some(name) = context.named_app() else {
        return Err(UsageError("name the app: berth git:remote -a APP".to_owned()).into());
    };
    let app: App = client.get(&path(&["apps", name]))?;
    let remote = context.global.remote.as_deref().unwrap_or(REMOTE_NAME);
    let authority = context.login()?.authority;
    git::set_remote(&context.directory, remote, &app.git_url, authority.as_deref())?;
    if let Some(hindrance) = git::overridden_authority(authority.as_deref()) {
        context.out.warn(hindrance);
    }
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    Ok(context.out.line(format_args!("`git push {remote} main` deploys to {} ({}).", app.name, app.git_url))?)
}

#[derive(Debug, clap::Args)]
pub struct Credentials {
    /// What git wants: get, store or erase
    operation: String,
}

pub(super) fn credentials(context: &Context, args: &Credentials) -> anyhow::Result<()> {
    if args.operation != "get" {
        // Tokens are stored by `login` only.
        return Ok(());
    }
    let mut request = String::new();
    std::io::stdin().read_to_string(&mut request).context("cannot read git's question")?;
    // What the environment says counts first, as everywhere.
    let mut known: Vec<(String, String)> = Vec::new();
    if let Ok(login) = context.login() {
        known.push((login.server.authority().to_owned(), login.token.into_exposed()));
    }
    for (url, entry) in credentials::read().unwrap_or_default().hosts {
        let authority = url.split_once("://").map_or(url.as_str(), |(_scheme, authority)| authority).to_owned();
        known.push((authority, entry.token.into_exposed()));
    }
    Ok(context.out.text(answer(&request, &known))?)
}

/// Answers in git's credential format. Silence makes git ask elsewhere: we speak only for our servers, only over TLS.
fn answer(request: &str, known: &[(String, String)]) -> String {
    let field = |name: &str| {
        request
            .lines()
            .find_map(|line| line.split_once('=').filter(|(key, _value)| *key == name).map(|(_, value)| value))
    };
    if field("protocol") != Some("https") {
        return String::new();
    }
    let Some(host) = field("host") else { return String::new() };
    let token = known.iter().find(|(authority, _token)| is_same_server(authority, host)).map(|(_, token)| token);
    token.map_or_else(String::new, |token| format!("username=berth\npassword={token}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &str, expect: &str) {
        let known = [("localhost:5000", "local"), ("berth.paas.example", "remote")];
        let known: Vec<_> = known.iter().map(|(host, token)| ((*host).to_owned(), (*token).to_owned())).collect();
        assert_eq!(answer(request, &known), expect, "{request:?}");
    }

    #[test]
    fn git_gets_the_token_of_the_host_it_asks_for() {
        check("protocol=https\nhost=localhost:5000\npath=shop.git\n\n", "username=berth\npassword=local\n");
        check("protocol=https\nhost=git.paas.example\n\n", "username=berth\npassword=remote\n");
    }

    #[test]
    fn nobody_else_gets_a_token() {
        check("protocol=http\nhost=localhost:5000\n", "");
        check("protocol=https\nhost=localhost:5001\n", "");
        check("protocol=https\nhost=github.com\n", "");
        check("protocol=https\n", "");
        check("", "");
    }
}
