//! The `heroku` client and who speaks: login, tokens, keys.

use crate::heroku_cli::answered;
use crate::platform::TestPlatform;

#[test]
fn heroku_knows_who_it_is_and_manages_tokens() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.heroku("auth:whoami").shows("admin@localhost");
    platform.heroku("auth:token").shows(&platform.token);
    platform.heroku("auth:2fa").shows("not enabled");
    platform.heroku("sessions");
    platform.heroku("clients").shows("No OAuth clients");
    let made = platform.heroku("authorizations:create --description ci --expires-in 3600 --json").json();
    let id = made["id"].as_str().unwrap();
    let text = made["access_token"]["token"].as_str().unwrap().to_owned();
    platform.heroku("authorizations").shows("ci").shows("global").shows(id);
    platform.heroku(&format!("authorizations:info {id}")).shows("Description: ci").shows("**********");
    platform.heroku(&format!("authorizations:update {id} --description build")).shows("Description: build");
    let as_token = |token: &str| {
        let mut command = platform.heroku_command(&["auth:whoami"]);
        crate::heroku_cli::ran(command.env("HEROKU_API_KEY", token))
    };
    assert_eq!(as_token(&text).code, Some(0));
    let rotated = platform.heroku(&format!("authorizations:rotate {id}"));
    assert!(!rotated.out.contains(&text));
    as_token(&text).shows("Invalid credentials");
    platform.heroku(&format!("authorizations:revoke {id}")).shows("revoked authorization from build");
    platform.heroku_fails(&format!("authorizations:info {id}")).shows("Couldn't find that authorization");
}

#[test]
fn heroku_logs_in_with_a_token_as_password_and_out_again() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let mut login = platform.heroku_command(&["login", "-i"]);
    login.env_remove("HEROKU_API_KEY").env("HEROKU_NETRC_WRITE", "true");
    let entered = answered(&mut login, &[("email", "admin@localhost"), ("password", &platform.token)]);
    entered.shows("Logged in as admin@localhost");
    let netrc = std::fs::read_to_string(platform.scratch().join("home/.netrc")).unwrap();
    assert!(netrc.contains(&format!("machine localhost:{}", platform.api_port)), "{netrc}");
    assert!(!netrc.contains(&platform.token), "the login has a token of its own");
    let whoami = || crate::heroku_cli::ran(platform.heroku_command(&["whoami"]).env_remove("HEROKU_API_KEY"));
    assert_eq!(whoami().out, "admin@localhost");
    let before = platform.get("/oauth/authorizations").as_array().unwrap().len();
    let out = crate::heroku_cli::ran(platform.heroku_command(&["logout"]).env_remove("HEROKU_API_KEY"));
    assert_eq!(out.code, Some(0), "{}", out.both());
    let left = std::fs::read_to_string(platform.scratch().join("home/.netrc")).unwrap_or_default();
    assert!(!left.contains("password"), "{left}");
    assert!(before >= platform.get("/oauth/authorizations").as_array().unwrap().len());

    let mut login = platform.heroku_command(&["login", "-i"]);
    login.env_remove("HEROKU_API_KEY").env("HEROKU_NETRC_WRITE", "true");
    answered(&mut login, &[("email", "admin@localhost"), ("password", "wrong")]).shows("Invalid credentials");
}

#[test]
fn heroku_manages_ssh_keys() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.heroku("keys").shows("You have no SSH keys");
    let file = platform.scratch().join("id.pub");
    std::fs::write(&file, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ11 ada@laptop\n").unwrap();
    let file = file.to_str().unwrap();
    platform.heroku(&format!("keys:add {file} --yes")).shows("done");
    platform.heroku("keys").shows("admin@localhost keys").shows("ada@laptop");
    platform.heroku_fails(&format!("keys:add {file} --yes")).shows("already been taken");
    platform.heroku("keys:remove ada@laptop").shows("done");
    platform.heroku(&format!("keys:add {file} --yes"));
    platform.heroku("keys:clear").shows("done");
    platform.heroku("keys").shows("You have no SSH keys");
    std::fs::write(file, "not a key").unwrap();
    platform.heroku_fails(&format!("keys:add {file} --yes")).shows("not a public SSH key");
}
