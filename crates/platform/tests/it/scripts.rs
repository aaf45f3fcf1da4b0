//! What the documents tell people to run: the demo, and the deploys from GitHub Actions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Ended;
use crate::left_over;
use crate::platform::{BERTH, TestPlatform, remove_everything, skipped};
use crate::turn::Turn;
use crate::wait::wait_until;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a clone of the repository has below these paths: the files that are committed or about to be, and no others.
fn clone(to: &Path, paths: &[&str]) {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .args(paths)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let files = String::from_utf8(listed.stdout).unwrap();
    assert!(!files.is_empty());
    for file in files.split_terminator('\0') {
        let to = to.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(repository().join(file), to).unwrap();
    }
}

/// The platform that the demo starts, which outlives the script.
struct Demo {
    data: PathBuf,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.data.join("../berth.log")).unwrap_or_default());
            remove_everything(&self.data);
        }
    }
}

#[test]
fn registry_the_demo_works_from_a_clone_and_stops_as_it_says() {
    if skipped((!rustix::process::geteuid().is_root()).then_some("needs root")) {
        return;
    }
    let turn = Turn::take();
    let [http_port, api_port] = turn.ports();
    let root = tempfile::tempdir().unwrap();
    // Dynos run as other users, who must be able to pass through.
    fs::set_permissions(root.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let (clone_dir, home) = (root.path().join("clone"), root.path().join("home"));
    clone(&clone_dir, &["scripts", "examples"]);
    let demo = Demo { data: home.join("data") };
    fs::create_dir_all(&demo.data).unwrap();
    fs::write(demo.data.join("settings.toml"), format!("[network]\nrange = \"{}\"\n", turn.network())).unwrap();
    let run = || -> Ended {
        let mut script = Command::new(clone_dir.join("scripts/demo"));
        script
            .current_dir(root.path())
            .env("BERTH_DEMO_BERTH", BERTH)
            .env("BERTH_DEMO_DATA", &home)
            .env("BERTH_DEMO_HTTP_PORT", http_port.to_string())
            .env("BERTH_DEMO_API_PORT", api_port.to_string());
        script.output().unwrap().into()
    };
    let first = run();
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains(&format!("GET http://hello.localhost:{http_port}/ answered 200")), "{first:?}");
    // A second time it goes on with what is there.
    let second = run();
    assert_eq!(second.code, Some(0), "{second:?}");
    assert!(second.stdout.contains("Berth runs already") && second.stdout.contains("answered 200"), "{second:?}");

    let stop = second.stdout.lines().find_map(|line| line.strip_prefix("To stop:")).unwrap();
    let instance = fs::read_to_string(demo.data.join("instance-id")).unwrap();
    let stopped = Command::new("sh").args(["-c", stop]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    wait_until("nothing is left", || left_over::find(instance.trim(), &demo.data).is_empty());
}

/// The steps of the workflow in the guide: each command with its variables.
fn workflow_steps() -> Vec<(String, Vec<(String, String)>)> {
    let guide = fs::read_to_string(repository().join("docs/environments.md")).unwrap();
    let yaml = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let steps = yaml.split("steps:\n").nth(1).unwrap();
    let field = |line: &str, name: &str| {
        line.trim().trim_start_matches("- ").strip_prefix(&format!("{name}: ")).map(str::to_owned)
    };
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut in_env = false;
    for line in steps.lines() {
        if let Some(command) = field(line, "run") {
            found.push((command, Vec::new()));
        }
        if let (true, Some((name, value))) = (in_env && !line.contains("- "), line.trim().split_once(": ")) {
            found.last_mut().unwrap().1.push((name.to_owned(), value.to_owned()));
        }
        in_env = line.trim() == "env:" || (in_env && !line.trim().starts_with("- "));
    }
    found
}

#[test]
fn registry_the_workflow_for_github_deploys_and_promotes() {
    let Some(platform) = TestPlatform::start() else { return };
    let owner = platform.get("/account")["id"].clone();
    let body = json!({"name": "shop", "owner": {"id": owner, "type": "user"}});
    let pipeline = platform.ask("POST", "/pipelines", &body);
    for (app, stage) in [("shop-staging", "staging"), ("shop", "production")] {
        platform.create(app);
        platform.ask("POST", "/pipeline-couplings", &json!({"app": app, "pipeline": pipeline["id"], "stage": stage}));
    }
    // The token of the guide, word for word.
    let guide = fs::read_to_string(repository().join("docs/environments.md")).unwrap();
    let line = guide.lines().find(|line| line.starts_with("berth tokens:create") && line.contains("promote")).unwrap();
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let token = platform.must(&words).trim().to_owned();

    // What `actions/checkout` and the runner's image give to the steps.
    let home = platform.scratch().join("runner");
    clone(&home, &["examples/django"]);
    let checkout = home.join("examples/django");
    let venv = Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")).output().unwrap();
    assert!(venv.status.success(), "{venv:?}");
    let bin = home.join("venv/bin");
    std::os::unix::fs::symlink(BERTH, bin.join("berth")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let steps = workflow_steps();
    assert_eq!(steps.len(), 2, "{steps:?}");
    for (command, variables) in steps {
        let mut step = Command::new("bash");
        step.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &command])
            .current_dir(&checkout)
            .env("PATH", &path)
            .env("HOME", &home)
            .env("CI", "true")
            .env_remove("XDG_CONFIG_HOME");
        for (name, value) in variables {
            let value = match value.as_str() {
                "${{ secrets.BERTH_DEPLOY_TOKEN }}" => token.clone(),
                url if url.starts_with("https://berth.") => format!("http://localhost:{}", platform.api_port),
                other => panic!("the guide has a new variable: {name}: {other}"),
            };
            step.env(name, value);
        }
        let ended: Ended = step.output().unwrap().into();
        assert_eq!(ended.code, Some(0), "{command}: {ended:?}");
        assert!(!format!("{ended:?}").contains(&token), "{command}");
    }
    for app in ["shop-staging", "shop"] {
        assert!(platform.text(app, "/").contains("Hello from Django"), "{app}");
    }
    let releases = platform.releases("shop");
    let newest: &Value = releases.last().unwrap();
    assert!(newest["description"].as_str().unwrap().starts_with("Promote shop-staging"), "{newest}");
}
