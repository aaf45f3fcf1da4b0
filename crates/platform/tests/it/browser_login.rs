//! `heroku login` by browser, and the sessions that come of it.

use serde_json::{Value, json};

use crate::chromium::{Page, no_chromium};
use crate::heroku_cli::{Terminal, ran};
use crate::http::Response;
use crate::platform::{TestPlatform, skipped};

/// What a browser does with a page that has one form and no scripts.
pub(crate) struct Browser<'a> {
    platform: &'a TestPlatform,
    cookie: String,
    form: String,
    action: String,
    pub(crate) page: Response,
}

impl<'a> Browser<'a> {
    pub(crate) fn open(platform: &'a TestPlatform, path: &str) -> Self {
        let page = platform.api_raw("GET", path, &[("Content-Type", "")], &[]).unwrap();
        let mut browser =
            Self { platform, cookie: String::new(), form: String::new(), action: path.to_owned(), page: page.clone() };
        browser.keep(page);
        browser
    }

    fn keep(&mut self, page: Response) {
        if let Some(cookie) = page.header("set-cookie") {
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        let text = page.text();
        let after =
            |mark: &str| text.split_once(mark).map(|(_before, rest)| rest.split('"').next().unwrap().to_owned());
        if let (Some(form), Some(action)) = (after("name=form value=\""), after("action=\"")) {
            self.form = form;
            self.action = action.replace("&amp;", "&");
        }
        self.page = page;
    }

    /// Fills the form in and sends it; gives the status.
    pub(crate) fn submit(&mut self, email: &str, password: &str, code: &str) -> u16 {
        let cookie = self.cookie.clone();
        self.submit_from(&cookie, None, email, password, code)
    }

    fn submit_from(&mut self, cookie: &str, origin: Option<&str>, email: &str, password: &str, code: &str) -> u16 {
        let email = email.replace('@', "%40");
        let body = format!("form={}&email={email}&password={password}&code={code}", self.form);
        let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded"), ("Cookie", cookie)];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        let answer = self.platform.api_raw("POST", &self.action, &headers, body.as_bytes()).unwrap();
        let status = answer.status;
        self.keep(answer);
        status
    }

    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        assert!(self.page.text().contains(text), "no {text:?} in {}", self.page.text());
    }
}

/// `heroku login`, up to the page.
fn login(platform: &TestPlatform) -> (Terminal, String) {
    let mut command = platform.heroku_command(&["login"]);
    command.env_remove("HEROKU_API_KEY").env("HEROKU_NETRC_WRITE", "true").env("HEROKU_TESTING_HEADLESS_LOGIN", "1");
    let mut terminal = Terminal::start(&mut command);
    terminal.waits_for("Press any key");
    terminal.types("x");
    terminal.waits_for("Waiting for login");
    let text = terminal.text();
    let at = text.find("/auth/browser/").unwrap_or_else(|| panic!("no page in {text}"));
    (terminal, text[at..at + "/auth/browser/".len() + 36].to_owned())
}

#[test]
fn heroku_logs_in_by_browser_and_its_session_ends_with_the_logout() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let (terminal, page) = login(&platform);
    let mut browser = Browser::open(&platform, &page);
    assert_eq!(browser.page.status, 200);
    browser.shows("Heroku CLI login from ");
    browser.shows("close this page");
    let policy = browser.page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(browser.page.header("cache-control"), Some("no-store"));

    // Another site has neither the cookie nor the right origin; another browser has another cookie.
    let token = platform.token.clone();
    let cookie = browser.cookie.clone();
    assert_eq!(browser.submit_from("", None, "admin@localhost", &token, ""), 403);
    browser.shows("came from another site");
    assert_eq!(browser.submit_from(&cookie, None, "admin@localhost", &token, ""), 403, "the form of another page");
    let mut browser = Browser::open(&platform, &page);
    let cookie = browser.cookie.clone();
    let evil = Some("https://evil.example");
    assert_eq!(browser.submit_from(&cookie, evil, "admin@localhost", &token, ""), 403);
    let mut browser = Browser::open(&platform, &page);
    assert_eq!(browser.submit("admin@localhost", "berth-wrong", ""), 403);
    browser.shows("do not belong together");
    browser.shows("value=\"admin@localhost\"");
    let grace = platform.join("grace@example.com");
    assert_eq!(browser.submit("admin@localhost", &grace, ""), 403);
    browser.shows("do not belong together");
    assert!(!browser.page.text().contains(&grace));

    assert_eq!(browser.submit("Admin@localhost", &token, ""), 200, "{}", browser.page.text());
    browser.shows("Logged in");
    terminal.ends().shows("Logged in as admin@localhost");
    assert_eq!(browser.submit("admin@localhost", &token, ""), 410, "a page is good for one login");

    let anonymous = |arguments: &[&str]| ran(platform.heroku_command(arguments).env_remove("HEROKU_API_KEY"));
    assert_eq!(anonymous(&["whoami"]).out, "admin@localhost");
    let sessions = platform.heroku("sessions --json").json();
    let session = sessions[0].clone();
    assert!(session["description"].as_str().unwrap().starts_with("Heroku CLI login from "), "{sessions}");
    let listed = platform.get("/oauth/authorizations");
    assert!(listed.as_array().unwrap().iter().all(|token| token["id"] != session["id"]), "{listed}");
    platform.heroku("sessions").shows("Heroku CLI login from").shows(session["id"].as_str().unwrap());
    let netrc = std::fs::read_to_string(platform.scratch().join("home/.netrc")).unwrap();
    let key = netrc.split("password ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(platform.ask_as(&key, "GET", "/account", &Value::Null).0, 200);
    assert_eq!(anonymous(&["logout"]).code, Some(0));
    assert_eq!(platform.ask_as(&key, "GET", "/account", &Value::Null).0, 401);
    platform.heroku("sessions").shows("No OAuth sessions");
    let audit = platform.get("/berth/audit").to_string();
    assert!(audit.contains("POST /auth/browser/{login}"), "{audit}");
}

#[test]
fn a_real_browser_logs_heroku_in_and_another_site_cannot() {
    if skipped(no_chromium().then_some("needs chromium")) {
        return;
    }
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let (terminal, path) = login(&platform);
    let url = format!("http://localhost:{}{path}", platform.api_port);
    let mut page = Page::open(platform.scratch());
    page.goes_to(&url);
    page.shows("Heroku CLI login from");
    let form = page.evaluates("document.forms[0].form.value");

    // A page elsewhere that knows even the form sends it in vain: the cookie does not go along.
    page.goes_to("data:text/html,elsewhere");
    page.shows("elsewhere");
    let fields = [("form", form.as_str()), ("email", "admin@localhost"), ("password", &platform.token)];
    let add = |(name, value): &(&str, &str)| {
        format!("i = document.createElement('input'); i.name = '{name}'; i.value = '{value}'; f.append(i);")
    };
    let inputs: String = fields.iter().map(add).collect();
    page.evaluates(&format!(
        "var i, f = document.createElement('form'); f.method = 'post'; f.action = '{url}'; {inputs} \
         document.body.append(f); f.submit(); ''"
    ));
    page.shows("came from another site");

    page.goes_to(&url);
    page.shows("Heroku CLI login from");
    page.evaluates(&format!(
        "email.value = 'admin@localhost'; password.value = '{}'; document.querySelector('button').click(); ''",
        platform.token
    ));
    page.shows("You can close this page");
    terminal.ends().shows("Logged in as admin@localhost");
}

#[test]
fn a_login_by_browser_takes_the_second_factor_and_ends_by_id() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let secret = platform.enable_second_factor(-1);
    let (terminal, page) = login(&platform);
    let mut browser = Browser::open(&platform, &page);
    let token = platform.token.clone();
    assert_eq!(browser.submit("admin@localhost", &token, ""), 403);
    browser.shows("takes a code of your authenticator app");
    assert_eq!(browser.submit("admin@localhost", &token, "000000"), 403);
    browser.shows("The code is wrong");
    assert_eq!(browser.submit("admin@localhost", &token, &crate::people::code(&secret, 1)), 200);
    terminal.ends().shows("Logged in as admin@localhost");
    let session = platform.heroku("sessions --json").json()[0]["id"].as_str().unwrap().to_owned();
    platform.heroku(&format!("sessions:destroy {session}")).shows("done");
    platform.heroku_fails(&format!("sessions:destroy {session}")).shows("Couldn't find that session");
    let ended = ran(platform.heroku_command(&["whoami"]).env_remove("HEROKU_API_KEY"));
    assert_ne!(ended.code, Some(0), "{}", ended.both());
}

#[test]
fn only_who_began_a_login_gets_its_token_and_nobody_guesses_for_long() {
    let Some(platform) = TestPlatform::start() else { return };
    let made = platform.api_raw("POST", "/auth", &[], b"{\"description\": \"<b>me</b>\"}").unwrap();
    assert_eq!(made.status, 201);
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let (page, cli, key) = (made["browser_url"].as_str(), made["cli_url"].as_str(), made["token"].as_str());
    let (page, cli, key) = (page.unwrap(), cli.unwrap(), key.unwrap());
    let wait = |key: &str| platform.api_raw("GET", cli, &[("Authorization", &format!("Bearer {key}"))], &[]).unwrap();
    assert_eq!(wait("wrong").status, 401);
    assert_eq!(wait(&platform.token).status, 401);

    // An invitation is a login, once.
    let invited = platform.ask("POST", "/berth/people", &json!({"email": "ada@example.com"}));
    let invitation = invited["invitation"].as_str().unwrap();
    let mut browser = Browser::open(&platform, page);
    browser.shows("&lt;b&gt;me&lt;/b&gt;");
    assert_eq!(browser.submit("ada@example.com", invitation, ""), 200, "{}", browser.page.text());
    let answer: Value = serde_json::from_slice(&wait(key).body).unwrap();
    let token = answer["access_token"].as_str().unwrap();
    assert_eq!(platform.ask_as(token, "GET", "/account", &Value::Null).1["email"], "ada@example.com");
    assert_eq!(platform.ask_as(invitation, "GET", "/account", &Value::Null).0, 401, "it is used up");

    let made = platform.api_raw("POST", "/auth", &[], b"").unwrap();
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    let mut browser = Browser::open(&platform, made["browser_url"].as_str().unwrap());
    let mut statuses: Vec<u16> = (0..130).map(|_guess| browser.submit("ada@example.com", "berth-guess", "")).collect();
    statuses.dedup();
    assert_eq!(statuses, [403, 429]);
    browser.shows("Too many attempts");
    let gone = Browser::open(&platform, "/auth/browser/00000000-0000-4000-8000-000000000000");
    assert_eq!(gone.page.status, 410);
}
