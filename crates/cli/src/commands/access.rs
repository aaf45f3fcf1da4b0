//! `login`, `tokens`, `account`: who you are to a server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use domain::access::{INVITATION_PREFIX, Scope};
use domain::secret::Secret;
use wire::platform_api::{Account, Authorization, AuthorizationCreate, Seconds};

use super::second_factor;
use crate::api_client::{ApiClient, ApiClientError, path};
use crate::context::{Context, UsageError};
use crate::credentials;
use crate::output;
use crate::prompt;
use crate::server_url::ServerUrl;
use crate::time_text;

/// Where a server on this machine listens unless told otherwise.
const DEFAULT_SERVER: &str = "http://localhost:5000";

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth login https://berth.example.com\n  berth login < token-file\n\n\
                  The token is stored in credentials.toml in your configuration directory, for you alone.")]
pub struct Login {
    /// The server's address [default: the last one, or `localhost:5000`]
    url: Option<String>,
    /// A certificate authority (PEM) to trust for this server instead of the public ones
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub(super) fn login(context: &Context, args: &Login) -> anyhow::Result<()> {
    let stored = credentials::read()?;
    let url = args.url.clone().or_else(|| context.host().map(str::to_owned)).or_else(|| stored.default.clone());
    let server =
        ServerUrl::parse(url.as_deref().unwrap_or(DEFAULT_SERVER)).map_err(|error| UsageError(error.to_string()))?;
    let url = server.to_string();
    let known = stored.hosts.get(&url).and_then(|entry| entry.ca.clone());
    let given =
        args.ca.as_ref().map(|path| path.canonicalize().with_context(|| format!("cannot find {}", path.display())));
    let authority = given.transpose()?.or(known);
    let token = prompt::secret(&format!("Token for {url}: ")).context("cannot read the token")?;
    if token.expose().is_empty() || token.expose().contains(char::is_whitespace) {
        bail!("that is no token; an administrator makes one with `berth tokens:create`");
    }
    let (token, client) = entered(server, token, authority.as_deref(), &url)?;
    let account: Account = match client.get("/account") {
        Err(ApiClientError::Unauthorized) => bail!("{url} does not accept this token; nothing was stored"),
        other => other?,
    };
    let file = credentials::store(&url, token.expose(), authority.as_deref())?;
    if context.out.json {
        return Ok(context.out.json(&account)?);
    }
    Ok(context.out.line(format_args!("Logged in to {url} as {} ({}).", account.email, file.display()))?)
}

/// An invitation is exchanged for a token, which is what is kept.
fn entered(
    server: ServerUrl,
    token: Secret<String>,
    authority: Option<&Path>,
    url: &str,
) -> anyhow::Result<(Secret<String>, ApiClient)> {
    let client = ApiClient::new(server.clone(), Some(token.clone()), authority)?;
    if !token.expose().starts_with(INVITATION_PREFIX) {
        return Ok((token, client));
    }
    let body = AuthorizationCreate { description: Some("berth login".to_owned()), ..AuthorizationCreate::default() };
    let made = second_factor::authorize(client, &body).map_err(|error| match error.downcast_ref() {
        Some(ApiClientError::Unauthorized) => {
            anyhow!("{url} does not accept this invitation (any more); ask for another: `berth people:add`")
        }
        _other => error,
    })?;
    let token = made.access_token.context("the server made a token, but did not show it")?;
    let token = Secret::new(token.token);
    let client = ApiClient::new(server, Some(token.clone()), authority)?;
    Ok((token, client))
}

pub(super) fn account(context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let account: Account = client.get("/account")?;
    if context.out.json {
        return Ok(context.out.json(&account)?);
    }
    Ok(context.out.line(&account.email)?)
}

pub(super) fn tokens(context: &Context) -> anyhow::Result<()> {
    let tokens: Vec<Authorization> = context.client()?.list("/oauth/authorizations", None)?;
    if context.out.json {
        return Ok(context.out.json(&tokens)?);
    }
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            let expires = token.access_token.as_ref().and_then(|access| access.expires_in);
            let expires = match expires {
                None => "never".to_owned(),
                Some(seconds) if seconds <= 0 => "expired".to_owned(),
                Some(seconds) => format!("in {}", time_text::duration(seconds)),
            };
            vec![token.id.to_string(), token.description.clone(), time_text::minute(&token.created_at), expires]
        })
        .collect();
    Ok(context.out.text(output::table(&["ID", "DESCRIPTION", "MADE", "EXPIRES"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth tokens:create -d laptop --expires-in 90d\n  \
                  berth tokens:create -a shop --scope deploy --expires-in 90d      (for CI)\n\n\
                  With the scope deploy it can deploy one app and do nothing else; with deploy,promote it can\n\
                  promote from it, too.\n\
                  The token is printed once and cannot be shown again.")]
pub struct Create {
    /// What it is for
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    /// When it stops working: 90d, 12h, 30m, or seconds; never if absent
    #[arg(short, long, value_name = "TIME", value_parser = seconds)]
    expires_in: Option<i64>,
    /// What it is good for: read, write, read-protected and write-protected (with config vars), identity, global; for
    /// the app named by --app alone: deploy, or deploy,promote
    #[arg(short, long, value_name = "SCOPES", value_delimiter = ',')]
    scope: Option<Vec<String>>,
}

pub(super) fn create(context: &Context, args: &Create) -> anyhow::Result<()> {
    let is_for_one_app = |word: &String| Scope::parse(word).is_some_and(Scope::is_for_one_app);
    // The app must be named: a directory's git remote is too easily another one.
    let app = match context.named_app() {
        _any if !args.scope.iter().flatten().any(is_for_one_app) => None,
        Some(app) => Some(app.to_owned()),
        None => {
            return Err(UsageError("a token for deploys is for one app; name it with --app".to_owned()).into());
        }
    };
    let body = AuthorizationCreate {
        description: args.description.clone(),
        expires_in: args.expires_in.map(Seconds::Number),
        scope: args.scope.clone(),
        app,
        client: None,
    };
    let made = second_factor::authorize(context.client()?, &body)?;
    if context.out.json {
        return Ok(context.out.json(&made)?);
    }
    let token = made.access_token.context("the server made a token, but did not show it")?;
    context.out.note(format_args!("Token {} ({}); it is shown this once:", made.id, made.description));
    Ok(context.out.line(token.token)?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth tokens:revoke 01234567-89ab-cdef-0123-456789abcdef")]
pub struct Revoke {
    /// As `berth tokens` shows it
    id: String,
}

pub(super) fn revoke(context: &Context, args: &Revoke) -> anyhow::Result<()> {
    let revoked: Authorization = context.client()?.delete(&path(&["oauth", "authorizations", &args.id]))?;
    if context.out.json {
        return Ok(context.out.json(&revoked)?);
    }
    Ok(context.out.line(format_args!("Revoked {} ({}).", revoked.id, revoked.description))?)
}

/// Reads `90d`, `12h`, `30m`, `45s` or plain seconds.
pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let unit = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _other => None,
    };
    let (number, factor) = match text.char_indices().last() {
        Some((at, last)) if !last.is_ascii_digit() => (&text[..at], unit(last)),
        Some(_) | None => (text, Some(1)),
    };
    let seconds = number.parse::<i64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    seconds.filter(|&seconds| seconds > 0).ok_or_else(|| "write a number with d, h, m or s, for example 90d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expect) in [("45", 45), ("45s", 45), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000)] {
            assert_eq!(seconds(text), Ok(expect), "{text}");
        }
        for wrong in ["", "d", "0", "-1d", "1w", "1.5h", "99999999999999999d", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
