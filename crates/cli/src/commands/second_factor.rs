//! `2fa`: codes of an authenticator app, which the server asks for where a token is made.

use anyhow::{Context as _, bail};
use domain::secret::Secret;
use serde_json::json;
use wire::platform_api::berth::{PreAuthorization, TwoFactorSecret, TwoFactorState};
use wire::platform_api::{Account, Authorization, AuthorizationCreate};

use crate::api_client::{ApiClient, ApiClientError, ApiResult, path};
use crate::context::Context;
use crate::prompt;

const ROUTE: &str = "/berth/account/two-factor";

pub(super) fn show(context: &Context) -> anyhow::Result<()> {
    let account: Account = context.client()?.get("/account")?;
    told(context, account.two_factor_authentication)
}

pub(super) fn enable(context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let secret: TwoFactorSecret = client.post(ROUTE, &json!({}))?;
    context.out.note(format_args!("Give this to your authenticator app; it is shown this once:"));
    context.out.note(format_args!("  {}", secret.url));
    context.out.note(format_args!("  or the secret alone: {}", secret.secret));
    let code = asked()?;
    let state: TwoFactorState = client.put(ROUTE, &json!({"code": code.expose()}))?;
    told(context, state.enabled)
}

pub(super) fn disable(context: &Context) -> anyhow::Result<()> {
    let state: TwoFactorState = context.client()?.with_code(asked()?).delete(ROUTE)?;
    told(context, state.enabled)
}

/// Shows a code for an app, so that this token may change it for a while.
pub(super) fn authorize_for_app(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let shown: PreAuthorization =
        client.with_code(asked()?).put(&path(&["apps", &app, "pre-authorizations"]), &json!({}))?;
    if context.out.json {
        return Ok(context.out.json(&shown)?);
    }
    Ok(context.out.line(format_args!("You may change {app} until {}.", shown.expires_at))?)
}

/// Makes a token. Asks for a code if the account has a second factor.
pub(super) fn authorize(client: ApiClient, body: &AuthorizationCreate) -> anyhow::Result<Authorization> {
    with_code(client, |client| client.post("/oauth/authorizations", body))
}

/// Sends a request, and once more with a code if the server wants one.
pub(super) fn with_code<T>(client: ApiClient, send: impl Fn(&ApiClient) -> ApiResult<T>) -> anyhow::Result<T> {
    match send(&client) {
        Err(ApiClientError::Refused { id, .. }) if id == "two_factor" => Ok(send(&client.with_code(asked()?))?),
        other => Ok(other?),
    }
}

fn asked() -> anyhow::Result<Secret<String>> {
    let code = prompt::secret("Code of your authenticator app: ").context("cannot read the code")?;
    if code.expose().is_empty() {
        bail!("a code is needed: type the six digits that your authenticator app shows");
    }
    Ok(code)
}

fn told(context: &Context, enabled: bool) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(&TwoFactorState { enabled })?);
    }
    let state = if enabled { "enabled" } else { "not enabled" };
    Ok(context.out.line(format_args!("Two-factor authentication is {state}."))?)
}
