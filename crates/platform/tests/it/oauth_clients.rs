//! Programs of others that ask accounts for tokens.

use serde_json::{Value, json};

use crate::browser_login::Browser;
use crate::http::Response;
use crate::platform::TestPlatform;

impl TestPlatform {
    /// A form of OAuth 2, as a program sends it.
    fn exchange(&self, form: &str) -> Response {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.api_raw("POST", "/oauth/token", &headers, form.as_bytes()).unwrap()
    }
}

fn json_of(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

#[test]
fn heroku_manages_clients_that_get_tokens_of_those_who_agree() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.heroku("clients").shows("No OAuth clients");
    for wrong in ["http://x.example/cb", "https://x.example/#part", "x"] {
        let refused = platform.api("POST", "/oauth/clients", &json!({"name": "x", "redirect_uri": wrong})).unwrap();
        assert_eq!((refused.0, &refused.1["id"]), (422, &json!("invalid_params")), "{wrong}");
    }
    let made = platform.heroku("clients:create board http://localhost:9/cb --json").json();
    let (id, first_secret) = (text(&made, "id").to_owned(), text(&made, "secret").to_owned());
    platform.heroku("clients").shows("board").shows(&id);
    platform.heroku(&format!("clients:update {id} --name dashboard --url http://localhost:9/callback"));
    let shown = platform.heroku(&format!("clients:info {id} --json")).json();
    assert_eq!((text(&shown, "name"), text(&shown, "redirect_uri")), ("dashboard", "http://localhost:9/callback"));
    let rotated = platform.heroku(&format!("clients:rotate {id} --json")).json();
    let secret = text(&rotated, "secret").to_owned();
    assert_ne!(secret, first_secret);
    platform.heroku(&format!("clients:info {id} --shell")).shows(&format!("HEROKU_OAUTH_SECRET={secret}"));
    // Nobody else's business.
    let grace = platform.join("grace@example.com");
    assert_eq!(platform.ask_as(&grace, "GET", &format!("/oauth/clients/{id}"), &Value::Null).0, 404);

    // Grace agrees: the page leads to the client's own address with a code.
    let page = format!("/oauth/authorize?client_id={id}&response_type=code&scope=identity%20read&state=xyz%26");
    let mut browser = Browser::open(&platform, &page);
    browser.shows("dashboard (made by admin@localhost) wants to speak for you, with the scope identity, read.");
    assert_eq!(browser.submit("grace@example.com", "berth-wrong", ""), 403);
    assert_eq!(browser.submit("grace@example.com", &grace, ""), 303, "{}", browser.page.text());
    let location = browser.page.header("location").unwrap().to_owned();
    let code = location.strip_prefix("http://localhost:9/callback?code=").unwrap();
    let code = code.strip_suffix("&state=xyz%26").unwrap();
    let form = |secret: &str| format!("grant_type=authorization_code&code={code}&client_secret={secret}");
    let exchanged = platform.exchange(&form(&secret));
    assert_eq!(exchanged.status, 200, "{}", exchanged.text());
    let tokens = json_of(&exchanged);
    assert_eq!(platform.exchange(&form(&secret)).status, 422, "a code is good once");
    let (token, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    assert_eq!((text(&tokens, "token_type"), &tokens["expires_in"]), ("Bearer", &json!(28800)));
    assert_eq!(platform.ask_as(token, "GET", "/account", &Value::Null).1["email"], "grace@example.com");
    assert_eq!(platform.ask_as(token, "GET", "/apps", &Value::Null).0, 200);
    assert_eq!(platform.ask_as(token, "POST", "/apps", &json!({"name": "mine"})).0, 403, "it may read");
    let listed = platform.ask_as(&grace, "GET", "/oauth/authorizations", &Value::Null).1;
    let authorization = listed.as_array().unwrap().iter().find(|one| one["client"]["id"] == json!(id)).unwrap();
    assert_eq!(authorization["client"]["name"], "dashboard");

    // A new token for the refresh token; the old one is worthless then, and so is a wrong secret.
    let renew = |secret: &str| format!("grant_type=refresh_token&refresh_token={refresh}&client_secret={secret}");
    assert_eq!(platform.exchange(&renew(&first_secret)).status, 401);
    let renewed = json_of(&platform.exchange(&renew(&secret)));
    assert_eq!(platform.ask_as(token, "GET", "/account", &Value::Null).0, 401);
    let token = text(&renewed, "access_token");
    assert_eq!(platform.ask_as(token, "GET", "/account", &Value::Null).0, 200);

    // The same without a page, for somebody who has a token already.
    let granted = platform.ask("POST", "/oauth/authorizations", &json!({"client": id, "scope": ["read"]}));
    let code = text(&granted["grant"], "code");
    let body = json!({"client": {"secret": secret}, "grant": {"code": code, "type": "authorization_code"}});
    let (status, made) = platform.api("POST", "/oauth/tokens", &body).unwrap();
    assert_eq!((status, &made["authorization"]["id"]), (201, &granted["id"]), "{made}");
    let own = text(&made["access_token"], "token").to_owned();
    assert_eq!(platform.ask_as(&own, "GET", "/apps", &Value::Null).0, 200);
    let body = json!({
        "client": {"secret": secret}, "grant": {"type": "refresh_token"},
        "refresh_token": {"token": made["refresh_token"]["token"]},
    });
    assert_eq!(platform.ask("POST", "/oauth/tokens", &body)["user"]["email"], "admin@localhost");
    assert_eq!(platform.ask_as(&own, "GET", "/apps", &Value::Null).0, 401);

    for wrong in [
        "/oauth/authorize".to_owned(),
        "/oauth/authorize?client_id=x&response_type=code".to_owned(),
        format!("/oauth/authorize?client_id={id}&response_type=token"),
        format!("/oauth/authorize?client_id={id}&response_type=code&scope=deploy"),
        format!("/oauth/authorize?client_id={id}&response_type=code&scope=everything"),
    ] {
        let browser = Browser::open(&platform, &wrong);
        assert_eq!((browser.page.status, browser.page.header("location")), (422, None), "{wrong}");
    }
    platform.heroku(&format!("clients:destroy {id}")).shows("done");
    assert_eq!(platform.ask_as(token, "GET", "/account", &Value::Null).0, 401, "its tokens end with it");
    platform.heroku_fails(&format!("clients:info {id}")).shows("Couldn't find that client");
}
