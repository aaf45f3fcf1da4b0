//! The people of a server: who gets in, what each may do, and what is written down about it.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::heroku_cli::ran;
use crate::http::Response;
use crate::platform::TestPlatform;

impl TestPlatform {
    /// Invites somebody and gives the token that they get for the invitation.
    pub(crate) fn join(&self, email: &str) -> String {
        let invited = self.ask("POST", "/berth/people", &json!({"email": email}));
        let invitation = invited["invitation"].as_str().unwrap();
        let (status, made) = self.ask_as(invitation, "POST", "/oauth/authorizations", &json!({}));
        assert_eq!(status, 201, "{made}");
        made["access_token"]["token"].as_str().unwrap().to_owned()
    }

    /// Gives the administrator a second factor, with the code of a step; its secret.
    pub(crate) fn enable_second_factor(&self, step: i64) -> String {
        let made = self.ask("POST", "/berth/account/two-factor", &Value::Null);
        let secret = made["secret"].as_str().unwrap().to_owned();
        // The server must look at it within the same step.
        let seconds = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 30;
        crate::wait::wait_until("a step that is not about to end", || seconds() < 27);
        self.ask("PUT", "/berth/account/two-factor", &json!({"code": code(&secret, step)}));
        secret
    }

    fn respond_to(&self, token: &str, method: &str, path: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {token}");
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        self.api_raw(method, path, &[("Authorization", &bearer)], &body).unwrap()
    }

    pub(crate) fn ask_as(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let response = self.respond_to(token, method, path, body);
        (response.status, serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }

    /// The client of ours as somebody else.
    pub(crate) fn berth_as(&self, token: &str, arguments: &[&str]) -> crate::heroku_cli::Ran {
        ran(self.client(self.scratch(), arguments).env("BERTH_API_KEY", token))
    }
}

/// Whether an answer refuses somebody, rather than a request.
fn denies(status: u16, answer: &Value) -> bool {
    status == 401 || status == 403 || (status == 404 && answer["resource"] == "app")
}

/// A role of the published table.
struct Role {
    name: &'static str,
    token: String,
    column: usize,
}

/// Asks every route of `docs/reference/access.md` in every role.
#[test]
fn every_route_is_open_to_exactly_those_whom_the_published_table_names() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let table = std::fs::read_to_string("../../docs/reference/access.md").unwrap();
    let role = |name: &'static str, column: usize| {
        let token = platform.join(&format!("{name}@example.com"));
        if column > 2 {
            let body = json!({"user": format!("{name}@example.com"), "permissions": [name]});
            platform.ask("POST", "/apps/shop/collaborators", &body);
        }
        Role { name, token, column }
    };
    let mut roles = vec![
        role("stranger", 2),
        role("view", 3),
        role("deploy", 4),
        role("operate", 5),
        role("manage", 6),
        Role { name: "administrator", token: platform.token.clone(), column: 7 },
    ];
    // What changes the roles themselves, or ends the app, comes last.
    let (mut rows, mut endings) = (Vec::new(), Vec::new());
    for row in table.lines().filter(|line| line.contains(" `/")) {
        let cells: Vec<&str> = row.split('|').skip(1).map(str::trim).collect();
        let (methods, path) = cells[0].split_once(" `").unwrap();
        let path = path.trim_end_matches('`');
        for method in methods.split(' ') {
            let ends = method == "DELETE" && path == "/apps/{app}";
            let list = if ends { &mut endings } else { &mut rows };
            list.push((
                method.to_owned(),
                path.to_owned(),
                cells.iter().map(|cell| *cell == "yes").collect::<Vec<_>>(),
            ));
        }
    }
    assert!(rows.len() > 120 && endings.len() == 1);
    let mut wrong = Vec::new();
    let mut check = |roles: &[Role], (method, route, may): &(String, String, Vec<bool>)| {
        let path = route.replace("{app}", "shop").replace("{account}", "nobody").replace(['{', '}'], "");
        let anonymous = platform.api_raw(method, &path, &[], &[]).unwrap().status;
        if anonymous != 401 {
            wrong.push(format!("{method} {path} as nobody: {anonymous}"));
        }
        for role in roles {
            let (status, answer) = platform.ask_as(&role.token, method, &path, &json!({}));
            if status >= 500 || denies(status, &answer) == may[role.column] {
                wrong.push(format!("{method} {path} as {}: {status} {answer}", role.name));
            }
        }
    };
    for row in &rows {
        check(&roles, row);
    }
    roles.retain(|role| role.name != "administrator");
    for row in &endings {
        check(&roles, row);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Whoever could have ended the app has done so.
    assert_eq!(platform.api("GET", "/apps/shop", &Value::Null).unwrap().0, 404);
}

#[test]
fn somebody_is_invited_let_in_and_shown_out() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.create("secret");
    platform.ask("PATCH", "/apps/shop/config-vars", &json!({"KEY": "s3cret"}));
    let invitation = platform.must(&["people:add", "Ada@example.com"]);
    let invitation = invitation.trim();
    // It is good for nothing but a login, and for that once.
    assert_eq!(platform.ask_as(invitation, "GET", "/apps", &Value::Null).0, 403);
    assert_eq!(platform.ask_as(invitation, "GET", "/account", &Value::Null).0, 403);
    let config = platform.scratch().join("ada");
    let url = format!("http://localhost:{}", platform.api_port);
    let typed = platform.scratch().join("invitation");
    std::fs::write(&typed, invitation).unwrap();
    let mut login = platform.client(platform.scratch(), &["login", &url]);
    login.env_remove("BERTH_API_KEY").env("XDG_CONFIG_HOME", &config);
    let logged_in = ran(login.stdin(Stdio::from(std::fs::File::open(&typed).unwrap())));
    assert_eq!(logged_in.code, Some(0), "{}", logged_in.both());
    logged_in.shows("as ada@example.com");
    assert_eq!(platform.ask_as(invitation, "POST", "/oauth/authorizations", &json!({})).0, 401);
    let stored = std::fs::read_to_string(config.join("berth/credentials.toml")).unwrap();
    assert!(!stored.contains(invitation), "{stored}");
    let ada = stored.split("token = \"").nth(1).unwrap().split('"').next().unwrap();

    assert_eq!(platform.ask_as(ada, "GET", "/apps", &Value::Null).1, json!([]));
    assert_eq!(platform.ask_as(ada, "GET", "/apps/shop", &Value::Null).0, 404);
    platform.heroku_fails("access:add nobody@example.com -a shop").shows("berth people:add nobody@example.com");
    platform.heroku("access:add ada@example.com -a shop").shows("done");
    platform.heroku("access -a shop").shows("admin@localhost").shows("ada@example.com").shows("collaborator");
    platform.heroku_fails("access:add ada@example.com -a shop").shows("already a collaborator");
    let apps = platform.ask_as(ada, "GET", "/apps", &Value::Null).1;
    assert_eq!((apps.as_array().unwrap().len(), &apps[0]["name"]), (1, &json!("shop")));
    assert_eq!(platform.ask_as(ada, "GET", "/apps/shop/config-vars", &Value::Null).1["KEY"], "s3cret");
    assert_eq!(platform.ask_as(ada, "PATCH", "/apps/shop", &json!({"name": "ada"})).0, 403);
    platform.must(&["access:update", "ada@example.com", "-p", "view", "-a", "shop"]);
    let (status, answer) = platform.ask_as(ada, "GET", "/apps/shop/config-vars", &Value::Null);
    assert_eq!((status, &answer["id"]), (403, &json!("forbidden")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("permission to operate"), "{answer}");
    platform.berth_as(ada, &["access", "-a", "shop"]).shows("ada@example.com").shows("view");
    platform.berth_as(ada, &["people"]).shows("Only an administrator");

    // Neither by git nor by pipelines does anybody reach what is not theirs.
    let service = |app: &str, service: &str| {
        platform.respond_to(ada, "GET", &format!("/{app}.git/info/refs?service={service}"), &Value::Null).status
    };
    assert_eq!((service("shop", "git-upload-pack"), service("shop", "git-receive-pack")), (200, 403));
    assert_eq!(service("secret", "git-upload-pack"), 404);
    let pipeline = platform.ask_as(ada, "POST", "/pipelines", &json!({"name": "adas"})).1;
    let couple = |app: &str| {
        let body = json!({"app": app, "pipeline": pipeline["id"], "stage": "staging"});
        platform.ask_as(ada, "POST", "/pipeline-couplings", &body).0
    };
    assert_eq!((couple("secret"), couple("shop")), (404, 403));
    let couplings = json!({"app": "secret", "pipeline": pipeline["id"], "stage": "staging"});
    let coupling = platform.ask("POST", "/pipeline-couplings", &couplings);
    assert_eq!(platform.ask_as(ada, "GET", "/pipeline-couplings", &Value::Null).1, json!([]));
    let path = format!("/pipeline-couplings/{}", coupling["id"].as_str().unwrap());
    assert_eq!(platform.ask_as(ada, "DELETE", &path, &Value::Null).0, 404);
    let ids = json!({"in": {"id": [platform.get("/apps/secret")["id"]]}});
    assert_eq!(platform.ask_as(ada, "POST", "/filters/apps", &ids), (200, json!([])));

    platform.heroku("access:remove ada@example.com -a shop").shows("done");
    assert_eq!(platform.ask_as(ada, "GET", "/apps/shop", &Value::Null).0, 404);
    let refused = platform.berth(&["people:remove", "admin@localhost"]);
    assert!(refused.stderr.contains("cannot remove yourself"), "{refused:?}");
    let refused = platform.berth(&["people:update", "admin@localhost", "--administrator", "false"]);
    assert!(refused.stderr.contains("only administrator"), "{refused:?}");
    platform.must(&["people:remove", "ada@example.com"]);
    assert_eq!(platform.ask_as(ada, "GET", "/account", &Value::Null).0, 401);
    assert!(!platform.must(&["people"]).contains("ada@"));
}

#[test]
fn a_token_is_good_for_its_scope_and_its_time() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let token = |scope: &str| {
        let made = platform.must(&["tokens:create", "-d", "ci", "--scope", scope, "--expires-in", "1h", "--json"]);
        let made: Value = serde_json::from_str(&made).unwrap();
        assert_eq!(made["scope"], json!([scope]));
        made["access_token"]["token"].as_str().unwrap().to_owned()
    };
    let status = |token: &str, method: &str, path: &str| platform.ask_as(token, method, path, &json!({})).0;
    let expect = [
        ("identity", [200, 403, 403, 403, 403, 403]),
        ("read", [200, 200, 403, 403, 403, 403]),
        ("write", [200, 200, 403, 200, 403, 403]),
        ("read-protected", [200, 200, 200, 403, 403, 403]),
        ("write-protected", [200, 200, 200, 200, 200, 403]),
        ("global", [200, 200, 200, 200, 200, 200]),
    ];
    for (scope, statuses) in expect {
        let token = token(scope);
        let got = [
            ("GET", "/account"),
            ("GET", "/apps/shop"),
            ("GET", "/apps/shop/config-vars"),
            ("PATCH", "/apps/shop"),
            ("PATCH", "/apps/shop/config-vars"),
            ("GET", "/oauth/authorizations"),
        ]
        .map(|(method, path)| status(&token, method, path));
        assert_eq!(got, statuses, "{scope}");
    }
    // Nobody makes more of a token than it is.
    assert_eq!(status(&token("write-protected"), "POST", "/oauth/authorizations"), 403);
    let (status, answer) = platform.api("POST", "/oauth/authorizations", &json!({"scope": ["invitation"]})).unwrap();
    assert_eq!((status, &answer["id"]), (422, &json!("invalid_params")));
    let brief = platform.ask("POST", "/oauth/authorizations", &json!({"expires_in": 1}));
    let brief = brief["access_token"]["token"].as_str().unwrap();
    crate::wait::wait_until("it has expired", || platform.ask_as(brief, "GET", "/account", &Value::Null).0 == 401);
}

#[test]
fn every_change_is_in_the_audit_log_with_who_when_and_from_where() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let ada = platform.join("ada@example.com");
    platform.must(&["access:add", "ada@example.com", "-p", "operate", "-a", "shop"]);
    assert_eq!(platform.ask_as(&ada, "PATCH", "/apps/shop/config-vars", &json!({"KEY": "s3cret"})).0, 200);
    assert_eq!(platform.ask_as(&ada, "DELETE", "/apps/shop", &Value::Null).0, 403);
    assert_eq!(platform.ask_as(&ada, "GET", "/apps/shop", &Value::Null).0, 200);
    let log: Value = serde_json::from_str(&platform.must(&["audit", "--json"])).unwrap();
    let changes: Vec<&Value> =
        log.as_array().unwrap().iter().filter(|entry| entry["email"] == "ada@example.com").collect();
    let actions: Vec<&str> = changes.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["PATCH /apps/{app}/config-vars", "POST /oauth/authorizations"]);
    assert_eq!((&changes[0]["target"], changes[0]["at"].is_string()), (&json!("/apps/shop/config-vars"), true));
    assert!(changes[0]["origin"].as_str().unwrap().starts_with("127.0.0.1"), "{}", changes[0]);
    assert!(!log.to_string().contains("s3cret"));
    let shown = platform.must(&["audit", "-a", "shop"]);
    assert!(shown.contains("PATCH /apps/shop/config-vars") && shown.contains("ada@example.com"), "{shown}");
    assert!(!shown.contains("/oauth/authorizations"), "of the app alone: {shown}");
    // A server that dies leaves no change without its entry: both are one transaction.
    let entries = || platform.get("/berth/audit").as_array().unwrap().len();
    let before = entries();
    platform.ask("PATCH", "/apps/shop", &json!({"maintenance": true}));
    platform.kill_role("server");
    crate::wait::wait_until("another server", || platform.is_connected());
    assert_eq!(entries(), before + 1);
}

#[test]
fn the_audit_log_of_an_app_has_all_that_changed_it_and_nothing_that_only_looked() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let app = platform.get("/apps/shop");
    let entries = || {
        let audit = platform.get("/berth/apps/shop/audit");
        let entry =
            |entry: &Value| format!("{} {}", entry["action"].as_str().unwrap(), entry["target"].as_str().unwrap());
        audit.as_array().unwrap().iter().map(entry).collect::<Vec<_>>()
    };
    let pipeline = platform.ask("POST", "/pipelines", &json!({"name": "line"}));
    let body = json!({"app": "shop", "pipeline": pipeline["id"], "stage": "staging"});
    let coupling = platform.ask("POST", "/pipeline-couplings", &body);
    let path = format!("/pipeline-couplings/{}", coupling["id"].as_str().unwrap());
    platform.ask("PATCH", &path, &json!({"stage": "production"}));
    platform.ask("DELETE", &path, &Value::Null);
    let one = "/pipeline-couplings/{coupling}";
    let coupled = [
        format!("DELETE {one} {path}"),
        format!("PATCH {one} {path}"),
        "POST /pipeline-couplings /pipeline-couplings".to_owned(),
    ];
    assert_eq!(entries(), coupled);

    let body = json!({"plan": "berth-custom:external", "config": {"url": "postgres://h/d"}});
    let add_on = platform.ask("POST", "/apps/shop/addons", &body);
    let values = format!("/addons/{}/config", add_on["name"].as_str().unwrap());
    platform.ask("PATCH", &values, &json!({"config": [{"name": "URL", "value": "postgres://h/e"}]}));
    let body = json!({"addon": add_on["id"], "app": "shop", "name": "SECOND"});
    let attachment = platform.ask("POST", "/addon-attachments", &body);
    let path = format!("/addon-attachments/{}", attachment["id"].as_str().unwrap());
    platform.ask("DELETE", &path, &Value::Null);
    let attached = [
        format!("DELETE /addon-attachments/{{attachment}} {path}"),
        "POST /addon-attachments /addon-attachments".to_owned(),
        format!("PATCH /addons/{{addon}}/config {values}"),
        "POST /apps/{app}/addons /apps/shop/addons".to_owned(),
    ];
    assert_eq!(entries()[..4], attached);

    // These are asked by POST and change nothing.
    let before = platform.get("/berth/audit");
    platform.ask("POST", "/apps/shop/log-sessions", &json!({}));
    platform.ask("POST", "/filters/apps", &json!({"in": {"id": [app["id"]]}}));
    platform.ask("POST", "/actions/addons/resolve", &json!({"addon": add_on["name"], "app": "shop"}));
    assert_eq!(platform.get("/berth/audit"), before);
}

/// The six digits that an authenticator app shows so many steps from now.
pub(crate) fn code(secret: &str, steps: i64) -> String {
    let bits = |digit: char| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(digit).unwrap();
    let number = secret.chars().flat_map(|digit| (0..5).rev().map(move |at| bits(digit) >> at & 1)).collect::<Vec<_>>();
    let byte = |bits: &[usize]| u8::try_from(bits.iter().fold(0, |value, bit| value << 1 | bit)).unwrap();
    let key: Vec<u8> = number.chunks_exact(8).map(byte).collect();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 30;
    let now = now.checked_add_signed(steps).unwrap();
    let mac = aws_lc_rs::hmac::sign(&key, &now.to_be_bytes());
    let mac = mac.as_ref();
    let at = usize::from(mac[19] & 0xf);
    let word = u32::from_be_bytes([mac[at] & 0x7f, mac[at + 1], mac[at + 2], mac[at + 3]]);
    format!("{:06}", word % 1_000_000)
}

#[test]
fn a_second_factor_is_asked_for_where_a_token_is_made() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let secret = platform.ask("POST", "/berth/account/two-factor", &Value::Null);
    let text = secret["secret"].as_str().unwrap();
    assert!(secret["url"].as_str().unwrap().starts_with("otpauth://totp/Berth:admin%40localhost?secret="), "{secret}");
    // Nobody is locked out by a secret that no app has.
    platform.must(&["tokens:create"]);
    let (status, answer) = platform.api("PUT", "/berth/account/two-factor", &json!({"code": "000000"})).unwrap();
    assert_eq!((status, &answer["id"]), (403, &json!("two_factor")));
    let used = code(text, 0);
    platform.ask("PUT", "/berth/account/two-factor", &json!({"code": used}));
    platform.heroku("auth:2fa").shows("is enabled");
    assert_eq!(platform.must(&["2fa"]), "Two-factor authentication is enabled.\n");
    let (status, answer) = platform.api("POST", "/oauth/authorizations", &json!({})).unwrap();
    assert_eq!((status, &answer["id"]), (403, &json!("two_factor")), "{answer}");
    // What was used is used up, also by who looked over the shoulder.
    let with = |code: &str| {
        let bearer = format!("Bearer {}", platform.token);
        let headers = [("Authorization", bearer.as_str()), ("Heroku-Two-Factor-Code", code)];
        platform.api_raw("POST", "/oauth/authorizations", &headers, b"{}").unwrap().status
    };
    assert_eq!(with(&used), 403);
    let mut login = platform.heroku_command(&["login", "-i"]);
    login.env_remove("HEROKU_API_KEY").env("HEROKU_NETRC_WRITE", "true");
    let typed = [("email", "admin@localhost"), ("password", &platform.token), ("factor", &code(text, 1))];
    crate::heroku_cli::answered(&mut login, &typed).shows("Logged in as admin@localhost");
    for _guess in 0..5 {
        assert!(matches!(with("123456"), 403 | 429));
    }
    assert_eq!(with(&code(text, 1)), 429, "nobody guesses on");
    // Root gets back in; other requests were never asked.
    assert_eq!(platform.get("/account")["two_factor_authentication"], true);
    platform.local("DELETE", "/berth/people/admin@localhost/two-factor", &Value::Null).unwrap();
    assert_eq!(with(""), 201);
}

#[test]
fn an_administrators_token_alone_takes_no_second_factor_away() {
    let Some(mut platform) = TestPlatform::start() else { return };
    platform.ask("POST", "/berth/people", &json!({"email": "ada@example.com"}));
    let enable = |platform: &TestPlatform| {
        let secret = platform.ask("POST", "/berth/account/two-factor", &Value::Null)["secret"].clone();
        let secret = secret.as_str().unwrap().to_owned();
        platform.ask("PUT", "/berth/account/two-factor", &json!({"code": code(&secret, 0)}));
        secret
    };
    let secret = enable(&platform);
    let own = "/berth/people/admin@localhost/two-factor";
    // Nor does it make somebody who could.
    for (method, path, body) in [
        ("DELETE", own, Value::Null),
        ("DELETE", "/berth/people/ada@example.com/two-factor", Value::Null),
        ("DELETE", "/berth/account/two-factor", Value::Null),
        ("POST", "/berth/people", json!({"email": "eve@example.com", "administrator": true})),
        ("PATCH", "/berth/people/ada@example.com", json!({"administrator": true})),
    ] {
        let (status, answer) = platform.api(method, path, &body).unwrap();
        assert_eq!((status, &answer["id"]), (403, &json!("two_factor")), "{method} {path}: {answer}");
    }
    assert!(!platform.get("/berth/people").to_string().contains("eve@example.com"));
    let enabled = |platform: &TestPlatform| platform.get("/account")["two_factor_authentication"] == true;
    assert!(enabled(&platform));
    let said = platform.berth_with_input(&["people:reset-2fa", "admin@localhost"], &format!("{}\n", code(&secret, 1)));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!enabled(&platform));
    // Root on the machine has another way back in.
    enable(&platform);
    let data = platform.data();
    platform.must(&["tokens:reset", "--data-dir", data.to_str().unwrap()]);
    platform.token = platform.make_token();
    assert!(!enabled(&platform));
}
