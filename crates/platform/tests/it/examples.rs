//! The examples and the commands of the README and the guides, as a newcomer types them.

use std::path::PathBuf;
use std::process::Command;

use crate::platform::TestPlatform;

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// `berth create`, `berth deploy` in the example's directory, and a page of it.
fn deploy(platform: &TestPlatform, name: &str, path: &str, expect: &[&str]) {
    platform.must(&["create", name]);
    let ended = platform.client(&example(name), &["deploy", "--app", name]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let page = platform.text(name, path);
    for text in expect {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
}

#[test]
fn the_static_example_is_served() {
    let Some(platform) = TestPlatform::start() else { return };
    deploy(&platform, "static", "/", &["<h1>Hello</h1>", "style.css"]);
    assert!(platform.text("static", "/style.css").contains('{'));
    assert_eq!(platform.visit("static", "/nowhere").unwrap().status, 404);
}

#[test]
fn registry_the_node_example_is_served() {
    let Some(platform) = TestPlatform::start() else { return };
    deploy(&platform, "node", "/", &["Hello"]);
}

#[test]
fn registry_the_django_example_is_served_with_its_style() {
    let Some(platform) = TestPlatform::start() else { return };
    deploy(&platform, "django", "/", &["Hello from Django", "/static/hello/style."]);
    let page = platform.text("django", "/");
    let style = page.split('"').find(|text| text.starts_with("/static/hello/style.")).unwrap();
    assert!(platform.text("django", style).contains('{'), "{style}");
    // The commands that the README goes on with.
    platform.must(&["ps:scale", "-a", "django", "web=2"]);
    let run = platform.must(&["run", "-a", "django", "--", "python", "manage.py", "check"]);
    assert!(run.contains("no issues"), "{run}");
    let logs = platform.must(&["logs", "-a", "django", "-n", "1500"]);
    assert!(logs.contains("app[release.2]: ") && logs.contains("heroku[router]: at=info"), "{logs}");
}

#[test]
fn the_guides_commands_work_from_a_repository() {
    let Some(platform) = TestPlatform::start() else { return };
    let directory = platform.scratch().join("shop");
    std::fs::create_dir(&directory).unwrap();
    for (name, content) in crate::source::Source::app("python-web").files {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let git = |arguments: &[&str]| {
        let ended = Command::new("git")
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(arguments)
            .current_dir(&directory)
            .env("XDG_CONFIG_HOME", platform.scratch().join("config"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            // It would win over the authority that `create` wrote down.
            .env_remove("GIT_SSL_CAINFO")
            .output()
            .unwrap();
        assert!(ended.status.success(), "git {arguments:?}: {ended:?}");
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "begin"]);
    // From here on the app is found by the git remote that `create` makes.
    let berth = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = platform.client(&directory, &words).output().unwrap();
        assert!(ended.status.success(), "berth {line}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    berth("create shop");
    git(&["push", "--quiet", "berth", "main"]);
    platform.shows("shop", "version=1 ");
    berth("ps:scale web=2");
    assert!(berth("ps").contains("=== web"));
    berth("deploy --hold");
    assert!(berth("run --release v3 cat VERSION").starts_with('1'));
    berth("releases:resume v3");
    berth("rollback");
    assert!(berth("releases").contains("Rollback to v2"));
    assert!(berth("logs").contains("app[web.1]: version 1 boots"));
    platform.shows("shop", "version=1 ");
}
