//! `git push` deploys, with the user's own git, over HTTPS.

use std::path::PathBuf;
use std::process::Command;

use crate::platform::TestPlatform;
use crate::source::Source;

/// A repository of the user's, and the remote that it is pushed to.
pub(crate) struct Repository<'a> {
    platform: &'a TestPlatform,
    pub(crate) directory: PathBuf,
    pub(crate) remote: String,
}

impl<'a> Repository<'a> {
    pub(crate) fn new(platform: &'a TestPlatform, app: &str) -> Self {
        Self::of("admin", platform, app)
    }

    pub(crate) fn of(whose: &str, platform: &'a TestPlatform, app: &str) -> Self {
        let directory = platform.scratch().join(format!("repository-of-{whose}-for-{app}"));
        std::fs::create_dir(&directory).unwrap();
        let remote = format!("https://localhost:{}/{app}.git", platform.api_port);
        let repository = Self { platform, directory, remote };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository
    }

    pub(crate) fn commit(&self, source: &Source) -> String {
        for (name, content) in &source.files {
            let path = self.directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "a change"]);
        self.git(&["rev-parse", "HEAD"]).1.trim().to_owned()
    }

    pub(crate) fn push(&self, refspec: &str) -> (bool, String) {
        self.git(&["push", &self.remote, refspec])
    }

    /// Whether git succeeded, and everything that it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> (bool, String) {
        self.git_with(&self.platform.token, arguments)
    }

    fn git_with(&self, token: &str, arguments: &[&str]) -> (bool, String) {
        let ca = self.platform.data().join("ca/ca.pem");
        let output = Command::new("git")
            .current_dir(&self.directory)
            .args(["-c", &format!("http.sslCAInfo={}", ca.display())])
            .args(["-c", &format!("http.extraHeader=Authorization: Bearer {token}")])
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // It would win over the option above.
            .env_remove("GIT_SSL_CAINFO")
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}

#[test]
fn a_push_builds_and_serves_and_a_failed_one_is_refused() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let repository = Repository::new(&platform, "shop");
    let commit = repository.commit(&Source::app("python-web"));
    let (pushed, text) = repository.push("main");
    assert!(pushed, "{text}");
    for line in ["remote: -----> Building on ", "remote: -----> Launching v2", "remote:        Released v2"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let address = format!("http://shop.localhost:{}/ deployed to Berth", platform.http_port);
    assert!(text.contains(&address), "no {address:?} in {text}");
    platform.shows("shop", "version=1 ");
    // It is known who brought it, and from where.
    let audited = platform.get("/berth/apps/shop/audit");
    let build = audited.as_array().unwrap().iter().find(|entry| entry["action"] == "POST /apps/{app}/builds").unwrap();
    let from: std::net::SocketAddr = build["origin"].as_str().unwrap().parse().unwrap();
    assert!(from.ip().is_loopback(), "{build}");
    let release = platform.get("/apps/shop/releases/2");
    assert_eq!(release["description"], format!("Deploy {}", &commit[..8]));

    // A build that fails, and a release that does: both refuse the push, so that it can be tried again.
    repository.commit(&Source::default().file("Procfile", "web\n"));
    let (pushed, text) = repository.push("main");
    assert!(!pushed && text.contains("Push rejected") && text.contains("pre-receive hook declined"), "{text}");
    repository.commit(&Source::default().file("Procfile", "web: echo no luck; exit 1\n"));
    let (pushed, text) = repository.push("main");
    assert!(!pushed && text.contains("no luck"), "{text}");
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    let (_listed, refs) = repository.git(&["ls-remote", &repository.remote]);
    assert!(refs.starts_with(&commit), "{refs}");

    repository.commit(&Source::app("python-web").version("2"));
    let (pushed, text) = repository.push("main");
    assert!(pushed, "{text}");
    platform.shows("shop", "version=2 ");
    // What was pushed can be had back.
    let (cloned, text) = repository.git(&["clone", "--quiet", &repository.remote, "copy"]);
    assert!(cloned, "{text}");
    assert_eq!(std::fs::read_to_string(repository.directory.join("copy/VERSION")).unwrap(), "2");
}

#[test]
fn branches_that_do_not_deploy_are_kept_and_say_so() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let repository = Repository::new(&platform, "shop");
    repository.commit(&Source::app("python-web"));
    let (pushed, text) = repository.push("main:topic");
    assert!(pushed && text.contains("only main and master deploy"), "{text}");
    assert_eq!(platform.releases("shop").len(), 1);
    let (pushed, text) = repository.push("main:master");
    assert!(pushed, "{text}");
    platform.shows("shop", "version=1 ");
}

#[test]
fn a_push_without_the_right_token_is_refused() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let repository = Repository::new(&platform, "shop");
    repository.commit(&Source::app("python-web"));
    let (pushed, text) = repository.git_with("wrong", &["push", &repository.remote, "main"]);
    assert!(!pushed, "{text}");
    let (pushed, text) = repository.git(&["push", &repository.remote.replace("shop", "nowhere"), "main"]);
    assert!(!pushed, "{text}");
    assert_eq!(platform.releases("shop").len(), 1);
}

#[test]
fn submodules_and_lfs_are_refused_by_name() {
    let Some(platform) = TestPlatform::start() else { return };
    let lfs = "*.psd filter=lfs diff=lfs merge=lfs -text\n";
    for (app, file, content, word) in [
        (
            "modules",
            ".gitmodules",
            "[submodule \"lib\"]\n\tpath = lib\n\turl = https://example.com/lib\n",
            "submodules",
        ),
        ("large-files", ".gitattributes", lfs, "Git LFS (.gitattributes)"),
        ("large-files-below", "art/raw/.gitattributes", lfs, "Git LFS (art/raw/.gitattributes)"),
    ] {
        platform.create(app);
        let repository = Repository::new(&platform, app);
        repository.commit(&Source::app("python-web").file(file, content));
        let (pushed, text) = repository.push("main");
        assert!(!pushed, "{text}");
        assert!(text.contains(word) && text.contains("berth deploy"), "{text}");
        assert_eq!(platform.releases(app).len(), 1);
    }
}

/// As a user does it: the command sets up remote, helper and certificate, and git asks for nothing.
#[test]
fn after_git_remote_a_plain_push_deploys() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let directory = platform.scratch().join("plain");
    std::fs::create_dir(&directory).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .current_dir(&directory)
            .args(arguments)
            .env("XDG_CONFIG_HOME", platform.scratch().join("config"))
            .env("BERTH_HOST", format!("http://localhost:{}", platform.api_port))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // The helper must be found without it.
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env_remove("GIT_SSL_CAINFO")
            .output()
            .unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?}: {text}");
        text
    };
    run("git", &["init", "--quiet", "--initial-branch", "main"]);
    for (name, content) in Source::app("python-web").files {
        std::fs::write(directory.join(name), content).unwrap();
    }
    run("git", &["add", "."]);
    run("git", &["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--quiet", "--message", "first"]);
    run(env!("CARGO_BIN_EXE_berth"), &["git:remote", "--app", "shop"]);
    let text = run("git", &["push", "berth", "main"]);
    assert!(text.contains("remote: -----> Launching v2"), "{text}");
    platform.shows("shop", "version=1 ");
}
