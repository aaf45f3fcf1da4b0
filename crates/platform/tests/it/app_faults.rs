//! What is wrong with an app stands in its log, with the remedy.

use serde_json::json;

use crate::platform::TestPlatform;
use crate::source::Source;

#[test]
fn an_app_that_ignores_its_port_is_told_what_it_listens_on() {
    let Some(platform) = TestPlatform::with_limits("boot_seconds = 8") else { return };
    platform.create("shop");
    let deployed = platform.deploy("shop", &Source::builder_app("port-ignored"));
    assert_eq!(deployed.state, "failed", "{}", deployed.output);
    platform.logged(
        "shop",
        "heroku[web.1]: Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 8 seconds of launch",
    );
    let line = platform.logged("shop", "heroku[web.1]: The process listens on ");
    assert!(line.ends_with(":8080, not on $PORT (5000); read the port from the environment"), "{line}");
    assert!(deployed.failure.contains(":8080, not on $PORT"), "{}", deployed.failure);
}

#[test]
fn a_first_answer_that_visitors_would_not_like_is_explained() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    platform.serve("shop", &Source::builder_app("host-checking"));
    let said = |status: u16| {
        let begin =
            format!("heroku[web.1]: The first request, GET / with Host: shop.localhost, was answered with {status}; ");
        platform.logged("shop", &begin)
    };
    assert!(said(400).contains("must accept shop.localhost (Django: add it to ALLOWED_HOSTS"));

    platform.configure("shop", &json!({"ALLOWED_HOST": "shop.localhost", "FAULT": "proxy-ignored"}));
    let line = said(301);
    assert!(line.contains("sends visitors to https://shop.localhost/, where they are"), "{line}");
    assert!(line.contains("SECURE_PROXY_SSL_HEADER"), "{line}");

    platform.configure("shop", &json!({"FAULT": "other-host"}));
    assert!(said(302).contains("give this app the domain www.shop.localhost"));

    platform.configure("shop", &json!({"FAULT": "private"}));
    assert!(said(403).contains("check its rules for hosts"));

    // Its own host and https are what the probe brings: nothing is left to explain.
    platform.configure("shop", &json!({"FAULT": null}));
    let lines = platform.logs("shop");
    assert_eq!(lines.iter().filter(|line| line.contains("The first request, ")).count(), 4, "{lines:#?}");
}

#[test]
fn an_app_that_ignores_sigterm_is_told_why_it_was_killed() {
    let Some(platform) = TestPlatform::with_limits("exit_seconds = 1") else { return };
    platform.create("shop");
    platform.serve("shop", &Source::builder_app("sigterm-ignored"));
    platform.scale_and_wait("shop", 0);
    platform.logged("shop", "app[web.1]: reloading");
    platform
        .logged("shop", "heroku[web.1]: Error R12 (Exit timeout) -> Process failed to exit within 1 second of SIGTERM");
    let line = platform.logged("shop", "heroku[web.1]: The process went on after SIGTERM");
    assert!(line.contains("must handle the signal") && line.contains("`die-on-term`"), "{line}");
}

#[test]
fn a_database_file_on_the_ephemeral_disk_is_warned_of_once_per_dyno() {
    let Some(mut platform) = TestPlatform::with_limits("memory_report_seconds = 0.2") else { return };
    platform.create("shop");
    let source = Source::app("python-web").file(
        "Procfile",
        "web: touch /tmp/cache.db && mkdir -p data && touch data/notes.sqlite3 && python3 server.py\n",
    );
    platform.serve("shop", &source);
    let warning =
        |dyno: &str| format!("heroku[{dyno}]: Warning: this dyno writes the database file /app/data/notes.sqlite3");
    platform.logged("shop", &warning("web.1"));
    // The next server adopts the dyno, and remembers.
    platform.terminate();
    platform.up();
    platform.scale_and_wait("shop", 2);
    platform.logged("shop", &warning("web.2"));
    let lines = platform.logs("shop");
    assert_eq!(lines.iter().filter(|line| line.contains(&warning("web.1"))).count(), 1, "{lines:#?}");
    // What lies in /tmp is a cache and known to be one.
    assert_eq!(lines.iter().filter(|line| line.contains("Warning: ")).count(), 2, "{lines:#?}");
}

#[test]
fn processes_find_the_variables_that_heroku_sets_and_config_vars_override_one() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let show = r#"web: echo "port $PORT, dyno $DYNO, concurrency $WEB_CONCURRENCY" && python3 server.py"#;
    platform.serve("shop", &Source::app("python-web").file("Procfile", &format!("{show}\n")));
    platform.logged("shop", "app[web.1]: port 5000, dyno web.1, concurrency 2");
    platform.configure("shop", &json!({"WEB_CONCURRENCY": "7"}));
    platform.logged("shop", "app[web.1]: port 5000, dyno web.1, concurrency 7");
    // The other two are the platform's.
    for name in ["PORT", "DYNO"] {
        let (status, answer) = platform.api("PATCH", "/apps/shop/config-vars", &json!({name: "1"})).unwrap();
        assert_eq!(status, 422, "{name}: {answer}");
    }
}
