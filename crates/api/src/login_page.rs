//! The page that asks who somebody is: e-mail address, token, code of an authenticator app. Without scripts.
//!
//! A form is good for the browser that it was given to: the page's field and the browser's cookie belong together, and
//! another site can neither read the one nor send the other (`SameSite=Strict`). The page cannot be framed, so nobody
//! can be led to press its button unseen.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use axum::response::{IntoResponse as _, Response};
use domain::access::Scope;
use domain::ip_network::IpNetwork;
use domain::secret::Secret;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::origin::Origin;
use crate::peer::Peer;
use crate::state::ApiState;
use crate::two_factor;

/// How long a form may be filled in.
const FORM_VALID: Duration = Duration::from_secs(10 * 60);

const COOKIE: &str = "berth_login";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:10vh auto;max-width:26rem;padding:0 1rem;\
color:#1b1f24;background:#fff}label{display:block;margin:1rem 0 .2rem}input{font:inherit;width:100%;\
box-sizing:border-box;padding:.5rem;border:1px solid #8a929b;border-radius:4px}button{font:inherit;margin-top:1.5rem;\
padding:.6rem 1.2rem;border:0;border-radius:4px;background:#24507a;color:#fff}\
.error{background:#fdecea;padding:.6rem .8rem;border-radius:4px}.who{color:#57606a}\
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#14171a}.error{color:#1b1f24}.who{color:#a0a8b0}}";

/// What somebody typed.
#[derive(Deserialize)]
pub(crate) struct LoginForm {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    form: String,
}

/// A page that asks for a login, and what for.
#[derive(Debug, Clone)]
pub(crate) struct LoginPage<'a> {
    /// Where the form goes: a path with its query.
    pub(crate) action: &'a str,
    pub(crate) title: &'a str,
    /// Who will speak for the account afterwards. Sentences.
    pub(crate) explanation: &'a [String],
    pub(crate) button: &'a str,
    /// Where codes are sent afterwards, which the browser must let the form lead to.
    pub(crate) leads_to: Option<&'a str>,
}

impl LoginPage<'_> {
    /// The page with a fresh form.
    pub(crate) fn show(&self, state: &ApiState, origin: &Origin) -> ApiResult<Response> {
        self.show_again(state, origin, None, "")
    }

    /// The same after a failure, with the address that was typed.
    fn show_again(
        &self,
        state: &ApiState,
        origin: &Origin,
        error: Option<&ApiError>,
        email: &str,
    ) -> ApiResult<Response> {
        let browser = random_text()?;
        let form = state.signer.token(&form_subject(self.action, &browser), FORM_VALID, state.now());
        let told = error.map(|error| format!("<p class=error role=alert>{}</p>", escaped(&error.message)));
        let explanation: String =
            self.explanation.iter().map(|sentence| format!("<p class=who>{}</p>", escaped(sentence))).collect();
        let body = format!(
            "{}{explanation}<form method=post action=\"{}\">\
             <input type=hidden name=form value=\"{}\">\
             <label for=email>E-mail address</label>\
             <input id=email name=email type=email autocomplete=username required autofocus value=\"{}\">\
             <label for=password>Token or invitation</label>\
             <input id=password name=password type=password autocomplete=current-password required>\
             <label for=code>Code of your authenticator app, if you have one</label>\
             <input id=code name=code inputmode=numeric autocomplete=one-time-code maxlength=6>\
             <button>{}</button></form>",
            told.unwrap_or_default(),
            escaped(self.action),
            escaped(&form),
            escaped(email),
            escaped(self.button),
        );
        let status = error.map_or(StatusCode::OK, |error| error.status);
        let mut response = page(status, self.title, &body, self.leads_to)?;
        let secure = if origin.base.starts_with("https:") { "; Secure" } else { "" };
        let cookie =
            format!("{COOKIE}={browser}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", FORM_VALID.as_secs());
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        Ok(response)
    }

    /// Who filled in the form; the page again where something is wrong with it.
    pub(crate) async fn entered(
        &self,
        state: &ApiState,
        origin: &Origin,
        peer: &Peer,
        headers: &HeaderMap,
        form: &LoginForm,
    ) -> ApiResult<Result<Actor, Response>> {
        match self.check(state, origin, peer, headers, form).await {
            Ok(actor) => Ok(Ok(actor)),
            Err(error) if error.status.is_server_error() => Err(error),
            Err(error) => self.show_again(state, origin, Some(&error), &form.email).map(Err),
        }
    }

    async fn check(
        &self,
        state: &ApiState,
        origin: &Origin,
        peer: &Peer,
        headers: &HeaderMap,
        form: &LoginForm,
    ) -> ApiResult<Actor> {
        let stale = || ApiError::forbidden("This form was open for too long, or came from another site. Try again.");
        let came_from = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
        if came_from.is_some_and(|came_from| came_from != origin.base) {
            return Err(stale());
        }
        let browser = cookie(headers).ok_or_else(stale)?;
        if !state.signer.check_token(&form_subject(self.action, browser), &form.form, state.now()) {
            return Err(stale());
        }
        if let Err(wait) = state.logins.take(&peer.address().map(IpNetwork::of_client), state.now()) {
            let minutes = wait.as_secs() / 60 + 1;
            return Err(ApiError::rate_limited(format!(
                "Too many attempts to log in from your address: wait {minutes} min."
            )));
        }
        let wrong = || ApiError::refused_login("The e-mail address and the token do not belong together.");
        let token = Secret::new(form.password.trim().to_owned());
        let found = state.store.authenticate(&token, state.now())?.ok_or_else(wrong)?;
        let is_login = found.scopes.iter().any(|scope| matches!(scope, Scope::Global | Scope::Invitation));
        if !found.account.email.eq_ignore_ascii_case(form.email.trim()) || !is_login {
            return Err(wrong());
        }
        let actor = Actor::from(found);
        let code = Some(form.code.trim()).filter(|code| !code.is_empty());
        two_factor::check_code(state, &actor, code).await.map_err(|error| match (error.id, code) {
            ("two_factor", None) => {
                ApiError::refused_login("Your account takes a code of your authenticator app, too.")
            }
            ("two_factor", Some(_)) => {
                ApiError::refused_login("The code is wrong, or was used already: wait for the next.")
            }
            _other => error,
        })?;
        Ok(actor)
    }
}

/// A page that only tells something.
pub(crate) fn told(status: StatusCode, title: &str, text: &str) -> ApiResult<Response> {
    page(status, title, &format!("<p>{}</p>", escaped(text)), None)
}

fn page(status: StatusCode, title: &str, body: &str, leads_to: Option<&str>) -> ApiResult<Response> {
    let nonce = random_text()?;
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style nonce={nonce}>{STYLE}</style><h1>{title}</h1>{body}</html>",
        title = escaped(title),
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
        leads_to.map(|origin| format!(" {origin}")).unwrap_or_default()
    );
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    // Without any referrer, browsers would hide where the page's own form comes from, too.
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy.as_str()),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let value =
            HeaderValue::from_str(value).map_err(|error| ApiError::internal("cannot write a header", &error))?;
        headers.insert(name, value);
    }
    Ok(response)
}

/// What a form belongs to: its own address and one browser.
fn form_subject(action: &str, browser: &str) -> String {
    format!("login-form/{browser}/{action}")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(';')).find_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn random_text() -> ApiResult<String> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_no_entropy| ApiError::internal("cannot make a form", &std::io::Error::other("no random bytes")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        assert_eq!(escaped("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; berth_login_x=1"));
        assert_eq!(cookie(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("c=d; berth_login=abc"));
        assert_eq!(cookie(&headers), Some("abc"));
    }
}
