//! `heroku run`: one-off dynos with somebody attached, on terminals and on pipes.

use std::io::Write as _;
use std::process::Stdio;

use crate::heroku_cli::{Running, Terminal, ran};
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

fn served() -> Option<TestPlatform> {
    let platform = TestPlatform::for_heroku()?;
    platform.create("shop");
    platform.serve("shop", &Source::app("python-web"));
    Some(platform)
}

#[test]
fn heroku_runs_commands_and_gives_back_their_exit_code() {
    let Some(platform) = served() else { return };
    let run = |arguments: &[&str]| platform.heroku_run(&[&["run", "-a", "shop"], arguments].concat());
    let echoed = run(&["--exit-code", "--", "echo one; echo two >&2; exit 3"]);
    assert_eq!((echoed.code, echoed.out.as_str()), (Some(3), "one\ntwo"), "{}", echoed.both());
    let fine = run(&["--exit-code", "echo $DYNO $GREETING $0", "-e", "GREETING=hi there"]);
    assert_eq!(fine.code, Some(0), "{}", fine.both());
    assert!(fine.out.starts_with("run.") && fine.out.contains("hi there"), "{}", fine.both());
    let many = run(&["--exit-code", "seq 1 20000; exit 7"]);
    let expected: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
    assert_eq!(many.code, Some(7));
    assert!(many.out.lines().eq(expected.iter().map(String::as_str)), "{} lines", many.out.lines().count());
    let killed = run(&["--exit-code", "kill -9 $$"]);
    assert_eq!(killed.code, Some(137), "{}", killed.both());
    run(&["--size", "huge", "true"]).shows("No such dyno size");
    assert_eq!(run(&["--exit-code", "--no-tty", "test -t 0 || echo no terminal"]).out, "no terminal");
    platform.logged("shop", "Starting process with command `seq 1 20000; exit 7");
    assert!(!platform.logs("shop").iter().any(|line| line.contains("19999")), "its output is its client's");
    platform.heroku("ps -a shop").shows("web.1");
    wait_until("nothing is left of them", || !platform.heroku("ps -a shop").both().contains("one-off"));

    let detached = platform.heroku_run(&["run:detached", "-a", "shop", "echo from afar"]);
    detached.shows("to view the output");
    platform.logged("shop", "from afar");
}

#[test]
fn heroku_runs_with_input_from_a_pipe() {
    let Some(platform) = served() else { return };
    let mut command = platform.heroku_command(&["run", "-a", "shop", "--no-tty", "--exit-code", "wc -c; exit 4"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = "a line of sixteen\n".repeat(20_000);
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "360000", "{error}");
    // Without input, on a terminal: the end of it must not end the output.
    let empty = platform.heroku_run(&["run", "-a", "shop", "--exit-code", "cat; echo after"]);
    assert_eq!(empty.code, Some(0), "{}", empty.both());
    assert!(empty.out.ends_with("after"), "{}", empty.both());
}

#[test]
fn heroku_runs_a_shell_on_a_terminal() {
    let Some(platform) = served() else { return };
    let mut terminal = Terminal::start(&mut platform.heroku_command(&["run", "-a", "shop", "bash --norc"]));
    terminal.waits_for("bash-");
    terminal.types("tty; stty size; echo $COLUMNS\r");
    terminal.waits_for("24 80");
    terminal.waits_for("/dev/pts/");
    terminal.types("sleep 1000\r");
    terminal.waits_for("sleep 1000");
    wait_until("the sleep", || {
        let mut ps = std::process::Command::new("pgrep");
        ran(ps.args(["-f", "^sleep 1000$"])).code == Some(0)
    });
    terminal.types("\u{3}");
    terminal.types("echo still $((40 + 2))\r");
    terminal.waits_for("still 42");
    terminal.types("exit 5\r");
    let ended = terminal.ends();
    assert_eq!(ended.code, Some(0), "the client has no exit code without --exit-code: {}", ended.both());
    platform.logged("shop", "Process exited with status 5");
}

#[test]
fn a_client_that_is_gone_takes_its_one_off_with_it() {
    let Some(platform) = served() else { return };
    let running =
        Running::start(&mut platform.heroku_command(&["run", "-a", "shop", "printf 'rea%s' dy; exec sleep 1000"]));
    running.waits_for("ready");
    assert_eq!(platform.dynos("shop").len(), 2);
    running.end();
    platform.logged("shop", "Client connection closed. Sending SIGHUP to all processes");
    wait_until("the one-off is gone", || platform.dynos("shop").len() == 1);
}

#[test]
fn a_one_off_that_ignores_its_hang_up_is_told_of_and_left_alone() {
    let Some(platform) = served() else { return };
    let command = "trap '' HUP; printf 'rea%s' dy; sleep 1000";
    let running = Running::start(&mut platform.heroku_command(&["run", "-a", "shop", command]));
    running.waits_for("ready");
    let dynos = platform.dynos("shop");
    let name = dynos.iter().find(|dyno| dyno["type"] == "run").unwrap()["name"].as_str().unwrap();
    running.end();
    platform.logged(
        "shop",
        &format!(
            "heroku[{name}]: Error R16 (Detached) -> An attached process is not responding to SIGHUP after its external \
             connection was closed."
        ),
    );
    let hang_ups = "Client connection closed. Sending SIGHUP to all processes";
    assert_eq!(platform.logs("shop").iter().filter(|line| line.contains(hang_ups)).count(), 3);
    platform.heroku("ps -a shop").shows(name);
    platform.heroku(&format!("ps:stop --dyno-name {name} -a shop")).shows("done");
    wait_until("the one-off is gone", || platform.dynos("shop").len() == 1);
}

#[test]
fn an_address_to_attach_to_is_good_for_one_dyno_and_one_client() {
    let Some(platform) = served() else { return };
    let made = platform.ask("POST", "/apps/shop/dynos", &serde_json::json!({"command": "cat", "attach": true}));
    let url = made["attach_url"].as_str().unwrap();
    assert!(url.starts_with("rendezvous://localhost:80/attach."), "{url}");
    let told = |secret: &str| {
        let mut client = std::process::Command::new("openssl");
        client.args(["s_client", "-quiet", "-connect", &format!("localhost:{}", platform.api_port)]);
        let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(format!("{secret}\r\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(input);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let secret = url.rsplit('/').next().unwrap();
    assert!(told(&secret.replace("attach.", "attach.x")).contains("not valid"), "a forged one");
    assert!(told("attach.").contains("not valid"));
    let name = made["name"].as_str().unwrap();
    wait_until("it is up", || platform.get(&format!("/apps/shop/dynos/{name}"))["state"] == "up");
    platform.heroku(&format!("ps:stop --dyno-name {name} -a shop")).shows("done");
    platform.logged("shop", &format!("heroku[{name}]: State changed from up to complete"));
    assert!(told(secret).contains("could not be started"));
}
