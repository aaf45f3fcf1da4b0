//! `berth heroku -- …`: the client led here, and nothing of ours led anywhere else.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::heroku_cli::{Ran, installed, ran};
use crate::platform::{BERTH, TestPlatform};

/// Writes every host that the client's process connects to into the file that `SEEN` names.
const WATCH: &str = "const net = require('net'), fs = require('fs');\n\
    const connect = net.Socket.prototype.connect;\n\
    net.Socket.prototype.connect = function (...given) {\n\
      const options = Array.isArray(given[0]) ? given[0][0] : given[0];\n\
      const host = options && typeof options === 'object' ? (options.path || options.host || 'localhost') : 'localhost';\n\
      fs.appendFileSync(process.env.SEEN, host + '\\n');\n\
      return connect.apply(this, given);\n\
    };\n";

/// A proxy that refuses everything, and remembers what it was asked for.
struct Outside {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).ok();
                seen.lock().unwrap().push(line);
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok();
            }
        });
        Self { port, asked }
    }
}

impl TestPlatform {
    /// `berth heroku --`, for the client's own arguments to be added.
    pub(crate) fn berth_heroku_command(&self) -> Command {
        let home = self.scratch().join("home");
        fs::create_dir_all(&home).unwrap();
        let mut path = installed().parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new(BERTH);
        command
            .args(["heroku", "--"])
            .env_clear()
            .env("PATH", path)
            .env("HOME", &home)
            .env("TERM", "dumb")
            .env("XDG_CONFIG_HOME", self.scratch().join("config"))
            .env("BERTH_HOST", format!("http://localhost:{}", self.api_port))
            .current_dir(&home)
            .stdin(Stdio::null());
        command
    }

    fn berth_heroku(&self, outside: &Outside, line: &str) -> Ran {
        let watch = self.scratch().join("watch.js");
        fs::write(&watch, WATCH).unwrap();
        let mut command = self.berth_heroku_command();
        command
            .args(line.split(' '))
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", outside.port))
            .env("NODE_OPTIONS", format!("--require {}", watch.display()))
            .env("SEEN", self.scratch().join("seen"));
        ran(&mut command)
    }
}

fn hosts(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn berth_leads_the_client_here_and_nothing_to_heroku() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let outside = Outside::start();
    let heroku = |line: &str| platform.berth_heroku(&outside, line);
    heroku("apps").shows("shop");
    heroku("whoami").shows("admin@localhost");
    heroku("config:set A=1 -a shop").shows("done, v3");
    heroku("status").shows("No known issues");
    heroku("logs -n 100 -a shop").shows("app[api]: Set A config var");
    let run = heroku("run --exit-code -a shop echo$IFS$DYNO;exit$IFS''6");
    assert_eq!(run.code, Some(6), "{}", run.both());
    assert!(run.out.contains("run."), "{}", run.both());
    // Commands whose hosts the client knows by heart.
    heroku("notifications -a shop").shows("No unread notifications");
    heroku("apps:favorites");
    heroku("apps:favorites:add -a shop");
    heroku("apps:errors -a shop").shows("No errors");
    heroku("ps:autoscale:disable -a shop").shows("does not have autoscale enabled");
    heroku("pipelines:connect shop -r ada/shop");
    heroku("buildpacks:search ruby");
    heroku("auth:token").shows("local-");
    assert!(!heroku("auth:token").out.contains(&platform.token), "the client never has the token itself");

    let seen = hosts(&platform.scratch().join("seen"));
    assert!(!seen.is_empty());
    let elsewhere: Vec<&String> =
        seen.iter().filter(|host| !matches!(host.as_str(), "localhost" | "127.0.0.1")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    let asked = outside.asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|line| line.contains("heroku")), "{asked:?}");
}

#[test]
fn heroku_switches_autoscaling_on_and_the_formation_follows() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let outside = Outside::start();
    let heroku = |line: &str| platform.berth_heroku(&outside, line);
    heroku("ps:autoscale:enable --min 2 --max 3 -a shop").shows("only available with Performance");
    heroku("ps:type web=performance-m -a shop");
    heroku("ps:autoscale:enable --min 3 --max 2 -a shop").says("the maximum not below the minimum");
    heroku("ps:autoscale:enable --min 2 --max 3 --notifications -a shop").says("this server sends no e-mail");
    heroku("ps:autoscale:enable --min 2 --max 3 --p95 300 -a shop").shows("done");
    platform.logged("shop", "Autoscaling of web from 2 to 3 dynos at p95 300 ms enabled by user admin@localhost");
    // There was one.
    platform.logged("shop", "Scaled to web@2:Performance-M by autoscaling: there were fewer than the minimum");
    crate::wait::wait_until("two dynos are up", || {
        let dynos = platform.dynos("shop");
        dynos.len() == 2 && dynos.iter().all(|dyno| dyno["state"] == "up")
    });
    heroku("ps:autoscale:enable --min 1 --max 4 -a shop").shows("done");
    let monitors = platform.get("/apps/shop/formation/web/monitors");
    assert_eq!(monitors.as_array().unwrap().len(), 1);
    let monitor = &monitors[0];
    assert_eq!((&monitor["min_quantity"], &monitor["max_quantity"]), (&1.into(), &4.into()), "{monitor}");
    assert_eq!((&monitor["value"], &monitor["is_active"]), (&300.into(), &true.into()), "the time is as before");
    heroku("ps:autoscale:disable -a shop").shows("done");
    assert_eq!(platform.get("/apps/shop/formation/web/monitors")[0]["is_active"], false);
    platform.logged("shop", "Autoscaling of web disabled by user admin@localhost");
}

#[test]
fn buildpacks_have_the_names_that_they_have_at_heroku() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let outside = Outside::start();
    let heroku = |line: &str| platform.berth_heroku(&outside, line);
    heroku("buildpacks:set heroku/python -a shop").shows("will use heroku/python");
    heroku("buildpacks:add heroku/nodejs -a shop").shows("1. heroku/python").shows("2. heroku/nodejs");
    heroku("buildpacks:remove heroku/python -a shop").shows("will use heroku/nodejs");
    assert_eq!(platform.get("/apps/shop/buildpack-installations")[0]["buildpack"]["name"], "heroku/nodejs");
    let unknown = heroku("buildpacks:add somebody/else -a shop");
    assert_ne!(unknown.code, Some(0));
    unknown.says("This buildpack is not known here.");
    let asked = outside.asked.lock().unwrap().clone();
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
fn what_the_client_cannot_do_here_ends_with_what_to_do_instead() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop-staging");
    platform.python_web("shop");
    let outside = Outside::start();
    let heroku = |line: &str| platform.berth_heroku(&outside, line);
    heroku("pipelines:create shop -a shop-staging -s staging").shows("done");
    heroku("pipelines:add shop -a shop -s production").shows("done");
    let refused = |line: &str, code: i32, text: &str| {
        let refused = heroku(line);
        assert_eq!(refused.code, Some(code), "{}", refused.both());
        refused.says(text);
        refused
    };
    refused("pipelines:diff -a shop-staging", 2, "shop-staging does not seem to be connected to GitHub!")
        .says("It asks GitHub, to which nothing here is connected. `berth pipelines:compare PIPELINE` shows");
    // What it cannot compare at all, it says by itself.
    refused("pipelines:diff -a shop", 2, "Unable to diff shop").says("`berth pipelines:compare PIPELINE` shows");
    refused("access:update ada@example.com -p view -a shop", 2, "The app shop is not owned by a team")
        .says("`berth access:update EMAIL -p PERMISSIONS -a APP`");
    heroku("pg:backups -a shop").shows("No backups.");
    refused("pg:backups:delete b001 -a shop -c shop", 2, "none of its backups");
    refused("apps:favorites:add -a shop", 1, "Adding").says("Favourites belong to Heroku's dashboard");
    for line in [
        "reviewapps:enable -p shop",
        "reviewapps:enable -p shop --autodeploy --autodestroy",
        "reviewapps:disable -p shop",
        "reviewapps:disable -p shop --no-autodeploy",
        "reviewapps:create -p shop -b main",
    ] {
        let text = "There are no review apps here. Make an app for the branch, `berth env:clone shop shop-branch`";
        refused(line, 2, text);
    }
    let fine = heroku("pipelines:info shop");
    assert!(!fine.both().contains("berth"), "{}", fine.both());

    let seen = hosts(&platform.scratch().join("seen"));
    let elsewhere: Vec<&String> =
        seen.iter().filter(|host| !matches!(host.as_str(), "localhost" | "127.0.0.1")).collect();
    assert!(!seen.is_empty() && elsewhere.is_empty(), "{elsewhere:?}");
    let asked = outside.asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|line| line.contains("heroku") || line.contains("github")), "{asked:?}");
}

/// `berth heroku --` with a PATH of its own.
fn with_path(platform: &TestPlatform, path: &OsStr) -> Command {
    // npm keeps what it has fetched where later tests find it.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
    let mut command = platform.client(platform.scratch(), &["heroku", "--"]);
    command.env("PATH", path).env("npm_config_cache", cache).env("HOME", platform.scratch()).env("TERM", "dumb");
    command
}

#[test]
fn the_client_comes_from_npm_where_it_is_not_installed() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let path = std::env::var_os("PATH").unwrap();
    let without = std::env::split_paths(&path).filter(|dir| !dir.join("heroku").exists());
    let path = std::env::join_paths(without).unwrap();
    let heroku = |arguments: &[&str]| {
        let ran = ran(with_path(&platform, &path).args(arguments));
        assert!(!ran.both().contains("npm"), "a word that is not the client's: {}", ran.both());
        ran
    };
    let version = heroku(&["--version"]);
    assert_eq!(version.code, Some(0), "{}", version.both());
    assert!(version.out.starts_with("heroku/11."), "{}", version.out);
    assert_eq!(heroku(&["apps", "--json"]).json()[0]["name"], "shop");
    let missing = heroku(&["config:get", "A", "-a", "nothing"]);
    assert_ne!(missing.code, Some(0), "{}", missing.both());
    missing.says("Couldn't find that app");

    // A registry that is not there.
    let mut unreachable = with_path(&platform, &path);
    unreachable.env("npm_config_cache", platform.scratch().join("empty")).env("npm_config_fetch_retries", "0");
    let unreachable = ran(unreachable.env("npm_config_registry", "http://127.0.0.1:9/").arg("apps"));
    assert_eq!(unreachable.code, Some(1), "{}", unreachable.both());
    unreachable.says("`npx` could not fetch it: try `npm install --global heroku@11`");

    let nowhere = ran(with_path(&platform, OsStr::new("/nowhere")).arg("apps"));
    assert_eq!(nowhere.code, Some(1), "{}", nowhere.both());
    nowhere.says("the `heroku` client is not in PATH, and neither is `npx`").says("install the client").says("Node.js");
}

#[test]
fn a_shell_can_be_led_here_by_its_environment() {
    if crate::heroku_cli::no_heroku_cli() {
        return;
    }
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let mut shell = Command::new("setsid");
    // A session of its own, with whose end the forwarder ends.
    shell
        .args([
            "--wait",
            "sh",
            "-c",
            "eval \"$(\"$BERTH\" heroku:env)\" && \"$HEROKU\" apps && echo \"key=$HEROKU_API_KEY\"",
        ])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("BERTH", BERTH)
        .env("HEROKU", installed())
        .env("HOME", platform.scratch())
        .env("XDG_CONFIG_HOME", platform.scratch().join("config"))
        .env("BERTH_HOST", format!("http://localhost:{}", platform.api_port))
        .stdin(Stdio::null());
    let shown = ran(&mut shell);
    assert_eq!(shown.code, Some(0), "{}", shown.both());
    shown.shows("shop").shows("key=local-");
    crate::wait::wait_until("the forwarder has ended with its session", || {
        let listed = ran(Command::new("pgrep").args(["-f", &format!("{BERTH} heroku:env --serve")]));
        listed.code != Some(0)
    });
}
