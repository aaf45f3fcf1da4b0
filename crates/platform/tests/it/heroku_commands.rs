//! Every command of the real `heroku` client: `heroku_commands.txt` says how each line ends here, and this runs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::heroku_cli::{Ran, installed, no_heroku_cli, ran};
use crate::platform::TestPlatform;
use crate::postgres::Postgres;
use crate::wait::wait_for;

const TABLE: &str = include_str!("heroku_commands.txt");

/// What no command may say, however it ends: that something broke, or that nobody thought of it.
const NEVER: [&str; 12] = [
    "TypeError",
    "ReferenceError",
    "endpoint was not found",
    "ECONN",
    "ENOTFOUND",
    "socket hang up",
    "is not valid JSON",
    "undefined",
    "deserialize",
    "Something went wrong inside Berth",
    "HTTP Error 5",
    "\n    at ",
];

/// Longest time of a command. Some wait for what never comes, if they are not told that it does not.
const SECONDS_MAX: u32 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    Refused,
    Usage,
    Tested,
    Person,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
struct Line {
    part: &'static str,
    end: End,
    command: &'static str,
    words: &'static str,
}

impl Line {
    fn name(&self) -> &'static str {
        self.command.split(' ').next().unwrap()
    }
}

fn lines() -> Vec<Line> {
    let mut part = "";
    let mut lines = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            part = name.trim_end_matches(']');
            continue;
        }
        let (end, rest) = line.split_once(' ').unwrap();
        let (command, words) = rest.split_once('|').unwrap_or_else(|| panic!("no bar in {line:?}"));
        let end = match end {
            "ok" => End::Ok,
            "refused" => End::Refused,
            "usage" => End::Usage,
            "tested" => End::Tested,
            "person" => End::Person,
            other => panic!("no such end: {other}"),
        };
        let (command, words) = (command.trim(), words.trim());
        assert!(end == End::Ok || !words.is_empty(), "nothing says how this is refused: {line}");
        lines.push(Line { part, end, command, words });
    }
    lines
}

/// Runs a part of the table from top to bottom. `ids` are put in the place of their names in braces.
fn sweep(platform: &TestPlatform, part: &str, ids: &[(&str, &str)]) {
    let mut faults = Vec::new();
    let mut count = 0;
    for line in lines().iter().filter(|line| line.part == part) {
        if matches!(line.end, End::Tested | End::Person) {
            continue;
        }
        count += 1;
        let filled =
            |text: &str| ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), id));
        let command = filled(line.command);
        println!("heroku {command}");
        let ran = ran(&mut bounded(platform.berth_heroku_command().args(command.split(' '))));
        if let Some(fault) = fault(line.end, &filled(line.words), &ran) {
            faults.push(format!("heroku {command}: {fault}; it ended with {:?}:\n{}", ran.code, ran.both()));
        }
    }
    assert!(count > 0, "nothing in [{part}]");
    assert!(faults.is_empty(), "{} of {count} are wrong:\n{}", faults.len(), faults.join("\n\n"));
}

/// The same command, ended with all that it has started if it does not end by itself.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.arg(SECONDS_MAX.to_string()).arg(command.get_program()).args(command.get_args()).env_clear();
    bounded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    bounded.current_dir(command.get_current_dir().unwrap());
    bounded
}

/// What is wrong with the end of a command.
fn fault(end: End, words: &str, ran: &Ran) -> Option<String> {
    let said = ran.both();
    if let Some(never) = NEVER.iter().find(|never| said.contains(**never)) {
        return Some(format!("it says {never:?}"));
    }
    if (end == End::Ok) != (ran.code == Some(0)) {
        return Some(format!("it is not {end:?}"));
    }
    (!ran.words().contains(words)).then(|| format!("it does not say {words:?}"))
}

/// A platform with one of everything that commands show.
struct Furnished {
    platform: TestPlatform,
    webhook: String,
}

fn furnished() -> Option<Furnished> {
    if no_heroku_cli() {
        return None;
    }
    let platform = TestPlatform::start()?;
    for app in ["shop", "shop-staging"] {
        platform.create(app);
    }
    let pipeline = platform.ask("POST", "/pipelines", &json!({"name": "line"}));
    for (app, stage) in [("shop-staging", "staging"), ("shop", "production")] {
        platform.ask("POST", "/pipeline-couplings", &json!({"app": app, "pipeline": pipeline["id"], "stage": stage}));
    }
    platform.join("ada@example.com");
    platform.ask("POST", "/apps/shop/domains", &json!({"hostname": "www.example.com", "sni_endpoint": null}));
    platform.ask("POST", "/apps/shop/log-drains", &json!({"url": "https://logs.example.com/"}));
    platform.ask("POST", "/oauth/authorizations", &json!({"description": "ci"}));
    let body = json!({"url": "https://hooks.example.com/", "include": ["api:release"], "level": "notify"});
    let webhook = platform.ask("POST", "/apps/shop/webhooks", &body)["id"].as_str().unwrap().to_owned();
    Some(Furnished { platform, webhook })
}

impl Furnished {
    /// A database of the user's own, attached to the app.
    fn attach(&self, name: &str, url: &str) {
        let body = json!({
            "plan": "berth-custom", "name": format!("shop-{}", name.to_lowercase()), "attachment": {"name": name},
            "config": {"url": url},
        });
        self.platform.ask("POST", "/apps/shop/addons", &body);
    }
}

#[test]
fn commands_about_apps_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    for app in ["shop", "shop-staging"] {
        furnished.platform.serve(app, &crate::source::Source::app("python-web"));
    }
    sweep(&furnished.platform, "apps", &[]);
    let owner = furnished.platform.get("/apps/shop")["owner"]["email"].clone();
    assert_eq!(owner, "ada@example.com");
}

#[test]
fn commands_about_people_and_pipelines_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    sweep(&furnished.platform, "people", &[]);
}

#[test]
fn commands_about_databases_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    let Some(postgres) = Postgres::start(&furnished.platform) else { return };
    let server = postgres.url();
    furnished.attach("DATABASE", &format!("{server}/postgres"));
    furnished.attach("SECOND", &format!("{server}/template1"));
    // Not there yet: the client makes one on `localhost`.
    furnished.attach("THIRD", &format!("{server}/pushed"));
    sweep(&furnished.platform, "databases", &[("postgres", &server)]);
}

#[test]
fn commands_of_heroku_postgres_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    furnished.attach("DATABASE", "postgres://u:p@localhost/d");
    furnished.attach("SECOND", "postgres://u:p@localhost/e");
    sweep(&furnished.platform, "heroku-postgres", &[]);
}

#[test]
fn commands_about_herokus_databases_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    furnished.attach("DATABASE", "postgres://u:p@localhost/d");
    sweep(&furnished.platform, "herokus-databases", &[]);
}

#[test]
fn commands_about_hosts_and_spaces_end_as_the_table_says() {
    let Some(furnished) = furnished() else { return };
    furnished.platform.ask("PATCH", "/apps/shop/config-vars", &json!({"COLOUR": "blue"}));
    wait_for("the webhook was told", || furnished.platform.get("/apps/shop/webhook-deliveries").get(0).cloned());
    sweep(&furnished.platform, "hosts", &[("webhook", &furnished.webhook)]);
}

#[test]
fn every_command_of_the_client_has_a_line_and_what_it_names_is_there() {
    if no_heroku_cli() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mut list = Command::new(installed());
    list.args(["commands", "--json"]).env("HOME", home.path()).env("DISABLE_TELEMETRY", "true");
    let listed = ran(list.stdin(Stdio::null())).json();
    // The visible ones, each with the names that it answers to.
    let known: Vec<BTreeSet<String>> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|command| {
            let text = |name: &Value| name.as_str().unwrap().to_owned();
            let aliases = ["aliases", "hiddenAliases"].map(|kind| command[kind].as_array().into_iter().flatten());
            std::iter::once(text(&command["id"])).chain(aliases.into_iter().flatten().map(text)).collect()
        })
        .collect();
    assert!(known.len() > 300, "{}", known.len());
    let lines = lines();
    let named: BTreeSet<&str> = lines.iter().map(Line::name).collect();
    // An alias is listed once more by itself.
    let has_line = |names: &BTreeSet<String>| names.iter().any(|name| named.contains(name.as_str()));
    let with_line: BTreeSet<&String> = known.iter().filter(|names| has_line(names)).flatten().collect();
    let without: Vec<_> = known.iter().filter(|names| !names.iter().any(|name| with_line.contains(name))).collect();
    assert!(without.is_empty(), "no line in the table: {without:#?}");

    let mut wrong = Vec::new();
    for line in lines.iter().filter(|line| line.end == End::Tested) {
        let names = known.iter().find(|names| names.contains(line.name()));
        let is_run =
            |name: &String| test_source(line.words).is_some_and(|source| source.contains(&format!("\"{name}")));
        if !names.is_some_and(|names| names.iter().any(is_run)) {
            wrong.push(format!("{} is not tested by {}", line.name(), line.words));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The source of a test, up to the next one.
fn test_source(name: &str) -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let begin = format!("#[test]\nfn {name}() {{\n");
    std::fs::read_dir(here).unwrap().flatten().find_map(|file| {
        let text = std::fs::read_to_string(file.path()).ok()?;
        let at = text.find(&begin)? + begin.len();
        Some(text[at..].split("#[test]\n").next()?.to_owned())
    })
}
