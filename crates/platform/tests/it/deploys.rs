//! Deploy, config change, rollback: what every user does on the first day.

use serde_json::json;

use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

#[test]
fn an_app_is_deployed_configured_deployed_again_and_rolled_back() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    platform.shows("shop", "version=1 greeting=hello dyno=web.1 ");

    assert_eq!(platform.configure("shop", &json!({"GREETING": "ahoy"})), 3);
    platform.shows("shop", "version=1 greeting=ahoy ");
    assert_eq!(platform.serve("shop", &source.clone().version("2")), 4);
    platform.shows("shop", "version=2 greeting=ahoy ");
    assert_eq!(platform.roll_back("shop", 2), 5);
    // A rollback brings back the config vars of its release, too.
    platform.shows("shop", "version=1 greeting=hello ");

    let releases = platform.releases("shop");
    let shown: Vec<_> = releases
        .iter()
        .map(|release| {
            let text = |name: &str| release[name].as_str().unwrap().to_owned();
            (release["version"].as_u64().unwrap(), text("description"), text("status"), release["current"] == true)
        })
        .collect();
    let expected = [
        (1, "Initial release", false),
        (2, "Deploy 01234567", false),
        (3, "Set GREETING config var", false),
        (4, "Deploy 01234567", false),
        (5, "Rollback to v2", true),
    ];
    let expected = expected.map(|(version, text, current)| (version, text.to_owned(), "succeeded".to_owned(), current));
    assert_eq!(shown, expected);
}

#[test]
fn the_log_speaks_as_herokus_does() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.text("shop", "/?page=1");
    platform.logged("shop", "path=\"/?page=1\"");
    platform.logged("shop", "app[web.1]: version 1 boots");
    let lines = platform.logs("shop");
    let said: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    let in_order = [
        "app[api]: Initial release by user admin@localhost",
        "app[api]: Build started by user admin@localhost",
        "app[api]: Deploy 01234567 by user admin@localhost",
        "app[api]: Release v2 created by user admin@localhost",
        "heroku[web.1]: Starting process with command `python3 server.py`",
        "heroku[web.1]: State changed from starting to up",
    ];
    let places = in_order
        .map(|text| said.iter().position(|line| *line == text).unwrap_or_else(|| panic!("no {text:?} in {lines:#?}")));
    assert!(places.is_sorted(), "{lines:#?}");
    let request = said.iter().find(|line| line.contains("page=1")).unwrap();
    let begin = "heroku[router]: at=info method=GET path=\"/?page=1\" host=shop.localhost request_id=";
    assert!(request.starts_with(begin), "{request}");
    for field in
        [" fwd=\"127.0.0.1\" ", " dyno=web.1 ", " connect=", " service=", " status=200 ", " bytes=", " protocol=http"]
    {
        assert!(request.contains(field), "{field:?} is missing: {request}");
    }
    // Heroku's first field is the time, in UTC with microseconds.
    assert_eq!(lines[0].split(' ').next().unwrap().len(), "2026-01-02T03:04:05.123456+00:00".len());
}

#[test]
fn a_one_off_runs_with_the_apps_environment_and_tells_its_exit_status() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    platform.configure("shop", &json!({"GREETING": "ahoy"}));
    let (output, status) = platform.run("shop", "echo $GREETING from $DYNO; cat VERSION; exit 7", None);
    assert!(output.contains("ahoy from run."), "{output}");
    assert!(output.contains("\n1\n"), "{output}");
    assert_eq!(status, 7);
}

#[test]
fn apps_without_code_say_so() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("empty");
    let shows = |code: &str| {
        let response = platform.visit("empty", "/").unwrap();
        response.status == 503 && response.text().contains(code)
    };
    wait_until("the app is known to have no code", || shows("H81"));
    platform.logged("empty", "code=H81");
    platform.serve("empty", &Source::procfile("worker: sleep 1000\n"));
    wait_until("the app is known to have no web dyno", || shows("H14"));
    platform.logged("empty", "code=H14");
}
