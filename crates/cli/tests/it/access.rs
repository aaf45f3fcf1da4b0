//! Tokens: where they are kept, and to whom they are given.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use uuid::Uuid;

use crate::harness::{Reply, Server};

fn account() -> Reply {
    Reply::json(&json!({
        "allow_tracking": false, "beta": false, "country_of_residence": null, "created_at": "x",
        "default_organization": null, "default_team": null, "delinquent_at": null, "email": "ann@example.com",
        "federated": false, "id": Uuid::nil(), "identity_provider": null, "last_login": null, "name": null,
        "sms_number": null, "suspended_at": null, "two_factor_authentication": false, "updated_at": "x", "verified": true
    }))
}

#[test]
fn a_login_is_stored_privately_and_used_afterwards() {
    let server = Server::start();
    server.on("GET /account", [account()]).on("GET /apps", [Reply::json(&json!([]))]);
    let config = tempfile::tempdir().unwrap();
    let config_home = config.path().to_str().unwrap();
    let login = server.client(&["login", &server.url]).env("XDG_CONFIG_HOME", config_home);
    let ended = login.unset("BERTH_HOST").unset("BERTH_API_KEY").end_with_input("another-token\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stdout.contains("another-token"));
    let file = config.path().join("berth/credentials.toml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let apps = server.client(&["apps"]).env("XDG_CONFIG_HOME", config_home);
    assert_eq!(apps.unset("BERTH_HOST").unset("BERTH_API_KEY").end().code, Some(0));
    assert_eq!(server.seen("GET /apps")[0].headers["authorization"], "Bearer another-token");

    let host = server.url.strip_prefix("http://").unwrap();
    let git = server.client(&["git:credentials", "get"]).env("XDG_CONFIG_HOME", config_home);
    let git = git.unset("BERTH_HOST").unset("BERTH_API_KEY");
    let answer = git.end_with_input(&format!("protocol=https\nhost={host}\n\n"));
    assert_eq!(answer.stdout, "username=berth\npassword=another-token\n");
}

#[test]
fn a_token_that_the_server_refuses_is_not_stored() {
    let server = Server::start();
    server.on("GET /account", [Reply::error(401, "unauthorized", "no")]);
    let login = server.client(&["login", &server.url]);
    let home = login.home.path().to_owned();
    let ended = login.end_with_input("another-token\n");
    assert_eq!(ended.code, Some(1));
    assert!(!home.join(".config/berth/credentials.toml").exists());
    assert!(ended.stderr.contains("does not accept this token"), "{ended:?}");
}

#[test]
fn whoami_is_a_word_for_account() {
    let server = Server::start();
    server.on("GET /account", [account()]);
    assert_eq!(server.client(&["whoami"]).end().stdout, "ann@example.com\n");
}
