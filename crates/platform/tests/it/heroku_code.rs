//! The `heroku` client and an app's code: git, builds from scratch, a release phase once more.

use std::process::Command;

use crate::git_push::Repository;
use crate::heroku_cli::{installed, ran};
use crate::platform::TestPlatform;
use crate::source::Source;

impl TestPlatform {
    /// A command that finds the client, its credential helper and the platform's authority, as in a user's shell.
    fn in_a_shell(&self, mut command: Command) -> Command {
        let mut path = installed().parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        command.env("PATH", path).env("GIT_SSL_CAINFO", self.data().join("ca/ca.pem")).env("GIT_TERMINAL_PROMPT", "0");
        command
    }
}

#[test]
fn heroku_clones_what_was_pushed_and_sets_remotes() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    let repository = Repository::new(&platform, "shop");
    let commit = repository.commit(&Source::app("python-web"));
    let (pushed, text) = repository.push("main");
    assert!(pushed, "{text}");

    // The client tells git about its credential helper; a clone asks that.
    let remote = platform.heroku_command(&["git:remote", "-a", "shop"]);
    let mut remote = platform.in_a_shell(remote);
    let set = ran(remote.current_dir(&repository.directory));
    assert_eq!(set.code, Some(0), "{}", set.both());
    let url = format!("https://localhost:{}/shop.git", platform.api_port);
    set.shows(&format!("set git remote heroku to {url}"));
    assert_eq!(repository.git(&["remote", "get-url", "heroku"]), (true, format!("{url}\n")));
    let clone = platform.heroku_command(&["git:clone", "-a", "shop", "copy"]);
    let cloned = ran(&mut platform.in_a_shell(clone));
    assert_eq!(cloned.code, Some(0), "{}", cloned.both());
    let copy = platform.scratch().join("home/copy");
    let head = ran(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&copy));
    assert_eq!(head.out, commit);
    assert!(copy.join("Procfile").is_file());
    let stranger = platform.heroku_command(&["git:clone", "-a", "nobody", "none"]);
    let refused = ran(&mut platform.in_a_shell(stranger));
    assert_ne!(refused.code, Some(0));
    refused.shows("Couldn't find that app");
}

#[test]
fn heroku_runs_a_release_phase_once_more_and_ends_a_dyno() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop");
    platform.heroku_fails("releases:retry -a shop").shows("release-phase command");
    let source = Source::app("python-web").process("release: echo migrated by $MODE; test \"$MODE\" != broken");
    platform.heroku("config:set MODE=first -a shop");
    platform.serve("shop", &source);
    platform.heroku("config:set MODE=second -a shop");
    platform.newest_serves("shop");
    let before = platform.releases("shop").len();
    let retried = platform.heroku("releases:retry -a shop");
    retried.shows(&format!("done, v{}", before + 1));
    platform.newest_serves("shop");
    let releases = platform.releases("shop");
    assert!(releases[before]["description"].as_str().unwrap().starts_with(&format!("Retry of v{before}: ")));
    platform.heroku(&format!("releases:output v{} -a shop", before + 1)).shows("migrated by second");

    // One that fails is told as such, and what served goes on serving.
    platform.heroku("config:set MODE=broken -a shop");
    platform.newest_serves("shop");
    platform.heroku("releases:retry -a shop");
    let version = platform.releases("shop").last().unwrap()["version"].as_u64().unwrap();
    assert_eq!(platform.settled("shop", version).0, "failed");
    assert_eq!(platform.visit("shop", "/").unwrap().status, 200);

    let old = platform.dynos("shop")[0]["id"].clone();
    platform.heroku("ps:kill web.1 -a shop").shows("done");
    crate::wait::wait_until("another dyno is up", || {
        let dynos = platform.dynos("shop");
        dynos.iter().any(|dyno| dyno["state"] == "up" && dyno["id"] != old)
    });
}

#[test]
fn a_build_after_the_cache_was_emptied_begins_from_scratch() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let id = platform.get("/apps/shop")["id"].as_str().unwrap().to_owned();
    let left = platform.data().join("cache").join(id).join("left-by-an-earlier-build");
    std::fs::write(&left, "x").unwrap();
    platform.serve("shop", &source.clone().version("2"));
    assert!(left.exists(), "the cache is kept");
    let token = format!("Bearer {}", platform.token);
    let emptied = platform.api_raw("DELETE", "/apps/shop/build-cache", &[("Authorization", &token)], &[]).unwrap();
    assert_eq!(emptied.status, 202);
    let deployed = platform.deploy("shop", &source.clone().version("3"));
    assert!(deployed.output.contains("Without the cache of earlier builds"), "{}", deployed.output);
    assert!(!left.exists());
    let again = platform.deploy("shop", &source.version("4"));
    assert!(!again.output.contains("Without the cache"), "once: {}", again.output);
}

#[test]
fn a_log_tail_that_broke_off_goes_on_where_it_stopped() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.text("shop", "/say?text=first");
    platform.logged("shop", "app[web.1]: first");
    let session = |tail: bool| {
        let body = serde_json::json!({"lines": 1500, "tail": tail});
        let made = platform.ask("POST", "/apps/shop/log-sessions", &body);
        crate::api::path_of(made["logplex_url"].as_str().unwrap()).to_owned()
    };
    let text = platform.api_raw("GET", &session(false), &[], &[]).unwrap().text();
    let events: Vec<&str> = text.split("\n\n").filter(|event| event.starts_with("id: ")).collect();
    let id_of = |event: &str| event.strip_prefix("id: ").unwrap().lines().next().unwrap().to_owned();
    let at = events.iter().position(|event| event.contains("app[web.1]: first")).unwrap();
    let seen = id_of(events[at]);

    platform.text("shop", "/say?text=second");
    platform.logged("shop", "app[web.1]: second");
    // What came meanwhile is there, once, and nothing of what was seen.
    let url = session(true);
    let mut connection = crate::http::Connection::open(platform.api_port).unwrap();
    connection.send("GET", &url, &[("Host", "localhost"), ("Last-Event-ID", &seen)], &[]).unwrap();
    let (status, _headers) = connection.head().unwrap();
    assert_eq!(status, 200);
    platform.text("shop", "/say?text=third");
    let mut tail = String::new();
    while !tail.contains("app[web.1]: third") {
        let mut line = String::new();
        assert_ne!(std::io::BufRead::read_line(&mut connection.stream, &mut line).unwrap(), 0, "{tail}");
        tail.push_str(&line);
    }
    assert!(!tail.contains("app[web.1]: first"), "{tail}");
    assert_eq!(tail.matches("app[web.1]: second").count(), 1, "{tail}");
    let ids: Vec<u64> = tail.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(ids.first(), Some(&(seen.parse::<u64>().unwrap() + 1)));
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
}
