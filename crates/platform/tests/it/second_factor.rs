//! Apps that take a code of a second factor from whoever changes them.

use serde_json::{Value, json};

use crate::git_push::Repository;
use crate::heroku_cli::answered;
use crate::people::code;
use crate::platform::TestPlatform;
use crate::source::Source;

#[test]
fn an_app_that_wants_a_second_factor_asks_whoever_changes_it() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku_fails("features:enable second-factor -a shop").says("You would shut yourself out");
    // Later an invitation would take a code.
    let grace = platform.join("grace@example.com");
    let secret = platform.enable_second_factor(-1);
    platform.heroku("features:enable second-factor -a shop").shows("done");
    platform.heroku("features -a shop").shows("second-factor");

    // Looking is free; changes and config vars are not.
    platform.heroku("apps:info -a shop");
    platform.heroku("releases -a shop");
    let (status, asked) = platform.api("PATCH", "/apps/shop/config-vars", &json!({"A": "1"})).unwrap();
    assert_eq!((status, &asked["id"], &asked["app"]), (403, &json!("two_factor"), &json!({"name": "shop"})));
    assert_eq!(platform.api("GET", "/apps/shop/config-vars", &Value::Null).unwrap().0, 403);
    let given = json!({"app": "shop", "recipient": "grace@example.com"});
    assert_eq!(platform.api("POST", "/account/app-transfers", &given).unwrap().0, 403);
    let repository = Repository::new(&platform, "shop");
    repository.commit(&Source::procfile("worker: sleep 1\n"));
    assert!(!repository.push("main").0, "a push is a change");
    platform.heroku_fails("config:set A=1 -a shop").shows("interactive terminal");

    // The client asks for a code, shows it for the app, and goes on.
    let mut command = platform.heroku_command(&["config:set", "A=1", "-a", "shop"]);
    answered(&mut command, &[("factor", "000000"), ("factor", &code(&secret, 0))]).shows("A:");
    let audit = platform.get("/berth/apps/shop/audit").to_string();
    assert!(audit.contains("PUT /apps/{app}/pre-authorizations"), "a code that opens something is a change: {audit}");
    // It is good for a while, for this token and this app alone.
    platform.heroku("config:set B=2 -a shop");
    let (pushed, text) = repository.push("main");
    assert!(pushed, "{text}");
    let other = platform.make_token();
    let change = |token: &str| platform.ask_as(token, "PATCH", "/apps/shop/config-vars", &json!({"C": "3"}));
    assert_eq!(change(&other).0, 403);
    platform.create("other");
    platform.heroku("config:set A=1 -a other");
    let bearer = format!("Bearer {other}");
    let headers = [("Authorization", bearer.as_str()), ("Heroku-Two-Factor-Code", &code(&secret, 1))];
    let direct = platform.api_raw("PATCH", "/apps/shop/config-vars", &headers, b"{\"C\": \"3\"}").unwrap();
    assert_eq!(direct.status, 200, "{}", direct.text());

    // Who has no second factor cannot change it at all, and is told how to get one.
    platform.ask("POST", "/apps/shop/collaborators", &json!({"user": "grace@example.com"}));
    let (status, refused) = change(&grace);
    assert_eq!((status, &refused["id"]), (403, &json!("forbidden")));
    assert!(refused["message"].as_str().unwrap().contains("berth 2fa:enable"), "{refused}");
    // Root on the machine is not asked.
    platform.local("DELETE", "/berth/people/admin@localhost/two-factor", &Value::Null).unwrap();
    platform.heroku("features:disable second-factor -a shop").shows("done");
    assert_eq!(change(&grace).0, 200);
}
