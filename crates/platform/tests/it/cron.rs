//! Jobs on a schedule, with seconds so that nobody waits for a minute.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::heroku_cli::ran;
use crate::heroku_drains::LOCAL_RECEIVERS;
use crate::mailbox::Mailbox;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::{wait_for, wait_until, wait_within};

impl TestPlatform {
    /// All runs of a job, oldest first.
    fn runs(&self, app: &str, job: &str) -> Vec<Value> {
        let mut runs = self.get(&format!("/berth/apps/{app}/cron/{job}/runs")).as_array().unwrap().clone();
        runs.reverse();
        runs
    }

    fn runs_in(&self, app: &str, job: &str, state: &str) -> Vec<Value> {
        self.runs(app, job).into_iter().filter(|run| run["state"] == state).collect()
    }

    fn pause(&self, app: &str, job: &str) {
        self.must(&["cron:pause", job, "-a", app]);
        wait_until("no run is open", || {
            self.runs(app, job).iter().all(|run| run["state"] != "running" && run["state"] != "waiting")
        });
    }

    fn job_names(&self, app: &str) -> Vec<String> {
        let jobs = self.get(&format!("/berth/apps/{app}/cron"));
        jobs.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn jobs_run_in_the_releases_environment_and_leave_a_history() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.configure("shop", &json!({"GREETING": "ahoy"}));
    let app = ["-a", "shop"];
    let add = |args: &[&str]| platform.must(&[&["cron:add"], &app[..], args].concat());
    let said = add(&["* * * * * *", "--name", "greet", "echo \"$GREETING from $DYNO\"; cat VERSION"]);
    assert!(said.contains("Added job greet to shop: next run "), "{said}");
    wait_until("two runs", || platform.runs_in("shop", "greet", "succeeded").len() >= 2);
    platform.pause("shop", "greet");
    let runs = platform.runs("shop", "greet");
    let numbers: Vec<u64> = runs.iter().map(|run| run["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=runs.len() as u64).collect::<Vec<_>>());
    let last = platform.runs_in("shop", "greet", "succeeded").pop().unwrap();
    assert_eq!((last["exit_status"].as_i64(), last["release_version"].as_u64()), (Some(0), Some(3)));
    let number = last["number"].to_string();
    let output = platform.must(&[&["cron:logs", "greet", &number], &app[..]].concat());
    let dyno = last["dyno"].as_str().unwrap();
    assert_eq!(output, format!("ahoy from {dyno}\n1\n"));
    assert!(dyno.starts_with("scheduler."), "{dyno}");
    assert!(platform.logged("shop", "ahoy from").contains("app[scheduler."));

    // A failure is tried again, is told, and has the process's own exit code.
    add(&["@yearly", "--name", "broken", "exit 3"]);
    let ended = platform.berth(&["cron:run", "broken", "-a", "shop"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("Run 1 of broken failed: exit status 3."), "{ended:?}");
    platform.logged("shop", "Job broken run 1 failed: exit status 3");
    add(&["* * * * * *", "--name", "again", "--retries", "1", "--retry-delay", "1s", "exit 4"]);
    wait_until("another attempt", || platform.runs("shop", "again").iter().any(|run| run["attempt"] == 2));
    platform.must(&["cron:pause", "again", "-a", "shop"]);

    // It may not take longer than it was given.
    add(&["@yearly", "--name", "slow", "--deadline", "1s", "sleep 100"]);
    let ended = platform.berth(&["cron:run", "slow", "-a", "shop"]);
    assert!(ended.code != Some(0) && ended.stderr.contains("it ran longer than its 1 seconds"), "{ended:?}");

    let history = platform.must(&["cron:history", "-n", "200", "-a", "shop"]);
    assert!(history.contains("succeeded") && history.contains("exit status 3"), "{history}");
    let list = platform.must(&["cron", "-a", "shop"]);
    assert!(list.contains("greet") && list.contains("paused") && list.contains("exit 3"), "{list}");
    let listed: Value = serde_json::from_str(&platform.must(&["cron", "--json", "-a", "shop"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 4);
    platform.must(&["cron:remove", "broken", "-a", "shop"]);
    let ended = platform.berth(&["cron:remove", "broken", "-a", "shop"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("Couldn't find that job"), "{ended:?}");
    let ended = platform.berth(&["cron:add", "-a", "shop", "61 * * * *", "x"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("30 5 * * *"), "{ended:?}");
}

#[test]
fn a_run_that_takes_longer_than_its_pause_is_skipped_queued_or_replaced() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    for policy in ["skip", "queue", "replace"] {
        let add = ["cron:add", "* * * * * *", "-a", "shop", "--name", policy, "--overlap", policy, "sleep 3"];
        platform.must(&add);
    }
    wait_until("skipped runs", || platform.runs_in("shop", "skip", "skipped").len() >= 2);
    wait_until("queued runs", || {
        let waiting = platform.runs_in("shop", "queue", "waiting").len();
        waiting >= 2 && !platform.runs_in("shop", "queue", "succeeded").is_empty()
    });
    wait_until("a replaced run", || !platform.runs_in("shop", "replace", "stopped").is_empty());
    for policy in ["skip", "queue", "replace"] {
        platform.must(&["cron:pause", policy, "-a", "shop"]);
        // Never two at once.
        let runs = platform.runs("shop", policy);
        let mut times: Vec<(&str, &str)> = runs
            .iter()
            .filter_map(|run| Some((run["started_at"].as_str()?, run["ended_at"].as_str().unwrap_or("9"))))
            .collect();
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{policy}: {times:?}");
        let due: BTreeSet<&str> = runs.iter().map(|run| run["due_at"].as_str().unwrap()).collect();
        assert_eq!(due.len(), runs.len(), "{policy}: one run for each tick");
    }
    // What waits in a paused queue waits on; the app can be destroyed all the same.
    assert!(!platform.runs_in("shop", "queue", "waiting").is_empty());
}

#[test]
fn a_deploy_neither_ends_nor_doubles_a_run() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let command = "echo begun with $(cat VERSION); sleep 8; echo ended with $(cat VERSION)";
    platform.must(&["cron:add", "@yearly", "-a", "shop", "--name", "long", command]);
    platform.must(&["cron:run", "long", "--detach", "-a", "shop"]);
    platform.logged("shop", "begun with 1");
    platform.serve("shop", &source.version("2"));
    platform.shows("shop", "version=2 ");
    let run = wait_for("the end of the run", || platform.runs_in("shop", "long", "succeeded").pop());
    assert_eq!(run["release_version"], 2, "{run}");
    let output = platform.must(&["cron:logs", "long", "1", "-a", "shop"]);
    assert_eq!(output, "begun with 1\nended with 1\n");
    assert_eq!(platform.runs("shop", "long").len(), 1);
    // The next one is of the release that serves now.
    let ended = platform.berth(&["cron:run", "long", "-a", "shop"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "begun with 2\nended with 2\n"), "{ended:?}");
}

#[test]
fn a_tick_starts_once_whenever_the_server_is_killed() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.must(&["cron:add", "* * * * * *", "-a", "shop", "--name", "tick", "echo tick in $DYNO"]);
    for round in 1..=6 {
        wait_until("more runs", || platform.runs_in("shop", "tick", "succeeded").len() >= round);
        // A little later each time: before, in and after the moment in which a run begins.
        std::thread::sleep(Duration::from_millis(150 * round as u64));
        let before = platform.kill_role("server");
        wait_within("a new server", Duration::from_secs(60), || {
            let is_new = platform.role("server").is_some_and(|pid| pid != before);
            (is_new && platform.is_connected()).then_some(())
        });
    }
    platform.pause("shop", "tick");
    let runs = platform.runs("shop", "tick");
    let due: BTreeSet<&str> = runs.iter().map(|run| run["due_at"].as_str().unwrap()).collect();
    assert_eq!(due.len(), runs.len(), "one run for each tick: {runs:?}");
    // Every second from the first to the last is accounted for.
    let second = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
    let (first, last) = (second(due.first().unwrap()), second(due.last().unwrap()));
    assert_eq!(usize::try_from(last - first).unwrap() + 1, runs.len(), "{due:?}");
    // What started is what ran, once each.
    let started: Vec<&str> = runs.iter().filter_map(|run| run["dyno"].as_str()).collect();
    let lines: Vec<String> = platform.logs("shop").into_iter().filter(|line| line.contains(": tick in ")).collect();
    for dyno in &started {
        let count = lines.iter().filter(|line| line.ends_with(&format!("tick in {dyno}"))).count();
        let twins = started.iter().filter(|other| *other == dyno).count();
        assert_eq!(count, twins, "{dyno}: {lines:?}");
    }
    assert_eq!(lines.len(), started.len());
    assert!(runs.iter().all(|run| ["succeeded", "skipped"].contains(&run["state"].as_str().unwrap())), "{runs:?}");
}

#[test]
fn after_an_hour_without_a_server_jobs_catch_up_as_they_were_told_and_say_so() {
    let Some(mut platform) = TestPlatform::with_limits(LOCAL_RECEIVERS) else { return };
    platform.python_web("shop");
    let mailbox = Mailbox::start();
    platform.must(&["notify:add", &mailbox.url, "--events", "cron.failed,cron.missed", "-a", "shop"]);
    // Six times an hour, and not within four minutes of now: a tick that has just passed is late, not missed.
    let minute = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).minute();
    let schedule = format!("{}-59/10 * * * *", (minute + 5) % 10);
    for policy in ["none", "last", "all"] {
        let add = ["cron:add", &schedule, "-a", "shop", "--name", policy, "--catch-up", policy, "echo ran"];
        platform.must(&add);
    }
    platform.terminate();
    // The next run of each was due an hour before it would have been.
    let earlier = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                   db.execute('UPDATE cron_job SET next_at = next_at - 3600 * 1000000'); db.commit()";
    let changed = Command::new("python3").args(["-c", earlier]).arg(platform.data().join("berth.db")).status();
    assert!(changed.unwrap().success());
    platform.up();

    wait_until("the last of them", || platform.runs_in("shop", "last", "succeeded").len() == 1);
    wait_until("all of them", || platform.runs_in("shop", "all", "succeeded").len() == 6);
    let due: BTreeSet<String> = platform.runs("shop", "all").iter().map(|run| run["due_at"].to_string()).collect();
    assert!(due.len() == 6 && platform.runs("shop", "all").len() == 6, "each once: {due:?}");
    assert!(
        platform.runs("shop", "none").iter().all(|run| run["state"] == "missed"),
        "{:?}",
        platform.runs("shop", "none")
    );
    let missed = mailbox.event("cron.missed");
    assert!(["none", "last"].contains(&missed.body["subject"].as_str().unwrap()), "{:?}", missed.body);
    let text = mailbox.text("cron.missed");
    assert!(text.contains("nothing could start at") && text.contains("because the server was away"), "{text}");
    // And nothing of it comes again.
    let before = platform.kill_role("server");
    wait_until("a new server", || platform.role("server").is_some_and(|pid| pid != before) && platform.is_connected());
    assert_eq!(platform.runs("shop", "all").len(), 6, "{:?}", platform.runs("shop", "all"));

    platform.must(&["cron:add", "@yearly", "-a", "shop", "--name", "broken", "exit 3"]);
    assert_eq!(platform.berth(&["cron:run", "broken", "-a", "shop"]).code, Some(3));
    let failed = mailbox.event("cron.failed");
    assert_eq!((&failed.body["subject"], &failed.body["app"]), (&json!("broken"), &json!("shop")), "{:?}", failed.body);
}

#[test]
fn jobs_of_app_json_come_change_and_go_with_the_release() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let with = |cron: Value| Source::app("python-web").file("app.json", &json!({"cron": cron}).to_string());
    let nightly = json!({"name": "nightly", "schedule": "@daily", "command": "echo one"});
    let first = platform.serve("shop", &with(json!([nightly, {"schedule": "@hourly", "command": "bin/other"}])));
    platform.logged("shop", "app.json of v2: added nightly, bin-other");
    platform.must(&["cron:add", "@daily", "-a", "shop", "--name", "mine", "echo mine"]);
    assert_eq!(platform.job_names("shop"), ["bin-other", "mine", "nightly"]);
    let refused = platform.berth(&["cron:remove", "nightly", "-a", "shop"]);
    assert!(refused.stderr.contains("comes from app.json"), "{refused:?}");
    platform.must(&["cron:pause", "nightly", "-a", "shop"]);

    let changed = json!({"name": "nightly", "schedule": "@weekly", "command": "echo two", "zone": "Europe/Zurich"});
    platform.serve("shop", &with(json!([changed])));
    platform.logged("shop", "app.json of v3: changed nightly; removed bin-other");
    let job = platform.get("/berth/apps/shop/cron/nightly");
    assert_eq!((job["command"].as_str(), job["paused"].as_bool()), (Some("echo two"), Some(true)), "{job}");
    assert_eq!(platform.job_names("shop"), ["mine", "nightly"]);

    // A mistake is told by the build; what serves keeps its jobs.
    let deployed = platform.deploy("shop", &with(json!([{"schedule": "tomorrow", "command": "x"}])));
    assert_eq!(deployed.state, "no release");
    assert!(deployed.failure.contains("job 1 of cron in app.json"), "{}", deployed.failure);
    assert_eq!(platform.job_names("shop"), ["mine", "nightly"]);

    platform.roll_back("shop", first);
    platform.logged("shop", "changed nightly");
    wait_until("the old jobs", || platform.job_names("shop") == ["bin-other", "mine", "nightly"]);
    assert_eq!(platform.get("/berth/apps/shop/cron/nightly")["command"], "echo one");
    platform.serve("shop", &Source::app("python-web"));
    wait_until("only what was added by hand", || platform.job_names("shop") == ["mine"]);
}

#[test]
fn jobs_of_heroku_scheduler_are_taken_over_paused() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let file = platform.scratch().join("jobs.json");
    let job = |command: &str, every: u32, at: u32| json!({"type": "jobs", "attributes": {"command": command, "dyno-size": "Hobby", "every": every, "at": at}});
    let jobs = json!({"data": [job("echo often", 10, 0), job("rake nightly", 1440, 150)]});
    std::fs::write(&file, jobs.to_string()).unwrap();
    let import = ["cron:import", file.to_str().unwrap(), "-a", "shop"];
    let said = platform.must(&import);
    assert!(said.contains("echo-often") && said.contains("30 2 * * *"), "{said}");
    let there = platform.get("/berth/apps/shop/cron");
    assert!(there.as_array().unwrap().iter().all(|job| job["paused"] == true && job["size"] == "Basic"), "{there}");
    assert!(platform.must(&import).contains("Nothing was new"));
    assert_eq!(platform.get("/berth/apps/shop/cron"), there);
    assert_eq!(platform.must(&["cron:run", "echo-often", "-a", "shop"]), "often\n", "by hand it runs while paused");
    let resumed = platform.must(&["cron:resume", "rake-nightly", "-a", "shop"]);
    assert!(resumed.contains("next run") && resumed.contains("02:30 UTC"), "{resumed}");
}

/// What Heroku answers about an app and its scheduler, and what it was asked with.
fn heroku_stand_in(jobs: Value) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let (status, answer) = match head.split(' ').nth(1).unwrap() {
                "/apps/old-shop" => ("200 OK", json!({"id": HEROKU_ID, "name": "old-shop"})),
                path if path == format!("/apps/{HEROKU_ID}/jobs") => ("200 OK", jobs.clone()),
                _other => ("404 Not Found", json!({})),
            };
            all.lock().unwrap().push(head.to_lowercase());
            let body = answer.to_string();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    (url, seen)
}

const HEROKU_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

#[test]
fn jobs_are_asked_of_heroku_with_a_token_of_heroku_alone() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let job = json!({"type": "jobs", "attributes": {"command": "echo nightly", "dyno-size": "Basic", "every": 1440, "at": 150}});
    let (url, seen) = heroku_stand_in(json!({"data": [job]}));
    let import = |app: &str, token: &str| {
        let arguments = ["cron:import", "--from-heroku", app, "-a", "shop"];
        let mut command = platform.client(platform.scratch(), &arguments);
        command.env("HEROKU_API_URL", &url).env("HEROKU_PARTICLEBOARD_URL", &url).env("HEROKU_API_KEY", token);
        ran(&mut command)
    };
    let imported = import("old-shop", "HRKU-of-ada");
    assert_eq!(imported.code, Some(0), "{}", imported.both());
    imported.shows("30 2 * * *").shows("They are paused");
    let job = platform.get("/berth/apps/shop/cron")[0].clone();
    assert_eq!((&job["command"], &job["paused"]), (&json!("echo nightly"), &json!(true)), "{job}");
    import(HEROKU_ID, "HRKU-of-ada").shows("Nothing was new");
    let asked = seen.lock().unwrap().clone();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|head| head.contains("authorization: bearer hrku-of-ada\r\n")), "{asked:?}");
    assert!(asked[1].contains("accept: application/vnd.api+json\r\n"), "{asked:?}");

    import("elsewhere", "HRKU-of-ada").shows("Heroku has no app elsewhere");
    let before = seen.lock().unwrap().len();
    for ours in [platform.token.as_str(), "local-0123456789abcdef", ""] {
        assert_eq!(import("old-shop", ours).code, Some(2), "{ours}");
    }
    assert_eq!(seen.lock().unwrap().len(), before, "nothing of ours is sent to Heroku");
}
