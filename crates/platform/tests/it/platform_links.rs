//! Every request of Heroku's Platform API: served, empty, or refused with a reason.
//!
//! The table in `docs/reference/api.md` is what this finds: `BERTH_WRITE_DOCS=1` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use api::refused::{TOPICS, Topic};
use serde_json::{Value, json};

use crate::conformance::{ALL_LINKS, Form, Link};
use crate::platform::TestPlatform;

/// Where an `{app}` is asked for, so that what is tested is the route and not that there is no app.
const APP: &str = "shop";

#[test]
fn every_request_of_the_platform_api_is_served_or_refused_with_a_reason() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create(APP);
    platform.ask("POST", "/pipelines", &json!({"name": "line"}));
    let mut wrong = Vec::new();
    let mut rows = BTreeMap::new();
    for link in ALL_LINKS.iter() {
        let form = if link.is_of(Form::Three) { Form::Three } else { Form::Sdk };
        let path = concrete(link);
        let absent = topic_of(link.method, &path);
        // What is served would act on whatever the path names: only that there is a route is asked for then.
        let (status, answer) = match absent {
            Some(_topic) => platform.api_as(form, link.method, &path, &json!({})).unwrap(),
            None => platform.api_as(form, "OPTIONS", &path, &Value::Null).unwrap(),
        };
        let message = answer["message"].as_str().unwrap_or("");
        let state = match absent {
            None if allowed(&platform, &path).contains(&link.method.to_owned()) => "served".to_owned(),
            Some((topic, Kind::Refused)) if status == 422 && message == topic.reason => {
                format!("refused: {}", topic.reason)
            }
            Some((topic, Kind::Empty)) if status == 200 && answer == json!([]) => format!("empty: {}", topic.reason),
            Some((topic, Kind::Missing))
                if status == 404 && answer["id"] == "not_found" && message.ends_with(topic.reason) =>
            {
                format!("none: {}", topic.reason)
            }
            _other => {
                wrong.push(format!("{} {}: {status} {answer}", link.method, link.path));
                continue;
            }
        };
        rows.insert((link.path, link.method), state);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let page = page(&rows);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/api.md");
    if std::env::var_os("BERTH_WRITE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/reference/api.md is not what the server does: run this test with BERTH_WRITE_DOCS=1"
    );
}

/// The methods that a path has handlers for.
fn allowed(platform: &TestPlatform, path: &str) -> Vec<String> {
    let token = format!("Bearer {}", platform.token);
    let answer = platform.api_raw("OPTIONS", path, &[("Authorization", &token)], &[]).unwrap();
    answer.header("allow").unwrap_or("").split(',').map(|method| method.trim().to_owned()).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Refused,
    Empty,
    Missing,
}

/// The part of the API that does not exist here to which a request belongs.
fn topic_of(method: &str, path: &str) -> Option<(&'static Topic, Kind)> {
    let fits = |pattern: &str| {
        let same = |(pattern, segment): (&str, &str)| pattern.starts_with('{') || pattern == segment;
        pattern.split('/').count() == path.split('/').count() && pattern.split('/').zip(path.split('/')).all(same)
    };
    TOPICS.iter().find_map(|topic| {
        let is_refused = topic.refused.iter().any(|(refused, pattern)| *refused == method && fits(pattern));
        let is_empty = method == "GET" && topic.empty.iter().any(|pattern| fits(pattern));
        let is_missing = method == "GET" && topic.missing.iter().any(|(pattern, _what)| fits(pattern));
        match (is_refused, is_empty, is_missing) {
            (true, _, _) => Some((topic, Kind::Refused)),
            (_, true, _) => Some((topic, Kind::Empty)),
            (_, _, true) => Some((topic, Kind::Missing)),
            _served => None,
        }
    })
}

fn concrete(link: &Link) -> String {
    let segment = |segment: &'static str| match segment {
        "{app}" if link.path.starts_with("/apps/") => APP,
        "{pipeline}" if link.path.starts_with("/pipelines/") => "line",
        "{account}" | "{user_preferences}" => "~",
        _other if segment.starts_with('{') => "none",
        _other => segment,
    };
    link.path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn page(rows: &BTreeMap<(&str, &str), String>) -> String {
    let count = |word: &str| rows.values().filter(|state| state.starts_with(word)).count();
    let mut page = format!(
        "# Heroku's Platform API, request by request\n\n\
         What this server does with each of the {} requests of Heroku's published schemas (`version=3` and `3.sdk`).\n\
         A test asks for every one and writes this page.\n\n\
         - *served* ({}): answers as Heroku's does; each answer is checked against the schema, property by property.\n\
         - *empty* ({}), *none* ({}): there is nothing of the kind here, and the answer says so: an empty list, or \
         `not_found` with the reason.\n\
         - *refused* ({}): 422 `not_supported` with the reason and what to do instead.\n\n\
         What belongs to Berth alone (concurrency, cron, audit, …) is below `/berth/`.\n\n\
         | request | here |\n| --- | --- |\n",
        rows.len(),
        count("served"),
        count("empty"),
        count("none"),
        count("refused"),
    );
    for ((path, method), state) in rows {
        writeln!(page, "| `{method} {path}` | {state} |").unwrap();
    }
    page
}
