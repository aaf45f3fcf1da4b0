//! Many one-offs with somebody attached to each at once, and the real client beside them.
//!
//! Half of them have a terminal; half leave the exit marker to the server, because their shell exits before it. The floor
//! is as many shells, started one after the other with pipes, without a platform.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::super::figure::{self, Goal};
use super::super::platform::Platform;
use super::super::processes;
use super::PRINTER;
use super::client::{Api, text_field};
use super::heroku::Client;
use crate::root;

const SESSIONS: u32 = 200;
const CLIENTS: u32 = 5;

/// What each session gives back, with its number.
const WORD: &str = "word-";

pub(super) fn run(platform: &Platform, api: &Api) -> Result<()> {
    let client = Client::find(platform)?;
    let floor = shells()?;
    let server = platform.role("server")?;
    let before = processes::memory(server).proportional;
    let mut attacher = Attacher::start(platform)?;
    let mut connection = api.connect()?;
    let begun = Instant::now();
    for number in 0..SESSIONS {
        let made = connection.ask("POST", &format!("/apps/{PRINTER}/dynos"), &request(number))?;
        let url = text_field(&made, "attach_url")?;
        let secret = url.rsplit('/').next().unwrap_or_default();
        attacher.tell(&format!("{number} {secret}"))?;
    }
    figure::note(&format!("{SESSIONS} one-offs were asked for in"), "s", begun.elapsed().as_secs_f64());
    let attached = attacher.hear("attached", SESSIONS)?;
    let took = begun.elapsed().as_secs_f64();
    figure::print(&format!("{SESSIONS} one-offs, until all are attached to"), "s", took, floor, &[]);

    let shims = processes::naming(&platform.data()).into_iter().filter(|process| process.is_role("shim"));
    let shims: Vec<f64> = shims.map(|process| processes::memory(process.pid).private).collect();
    let private = shims.iter().sum::<f64>() / f64::from(attached.max(1));
    figure::note("their shims and inits, private, each", "MiB", private);
    let grown = processes::memory(server).proportional - before;
    figure::note("the server grew by, PSS, for each", "MiB", grown / f64::from(attached.max(1)));

    let begun = Instant::now();
    let clients = clients(&client)?;
    figure::note(&format!("{CLIENTS} heroku run beside them took"), "s", begun.elapsed().as_secs_f64());
    attacher.tell("go")?;
    let begun = Instant::now();
    let right = attacher.hear("right", attached)?;
    attacher.end()?;
    figure::note("until all had ended", "s", begun.elapsed().as_secs_f64());
    let [right, all, clients, all_clients] = [right, SESSIONS, clients, CLIENTS].map(f64::from);
    figure::print("sessions that were right to the last byte", "", right, all, &[Goal::AtLeast(all)]);
    figure::print("heroku run beside them that was right", "", clients, all_clients, &[Goal::AtLeast(all_clients)]);
    Ok(())
}

/// What a session's code is; the script knows it, too.
const fn code(number: u32) -> u32 {
    number % 50 + 1
}

/// The one-off of a session. The marker is the one that the real client appends.
fn request(number: u32) -> String {
    let code = code(number);
    let exit = if number.is_multiple_of(2) { format!("exit {code}") } else { format!("(exit {code})") };
    let has_terminal = number % 4 < 2;
    format!(
        "{{\"attach\": true, \"force_no_tty\": {}, \"command\": \"echo ready {number}; read -r word; \
         echo back {number} $word; {exit}; echo \\\"\\uffff heroku-command-exit-status: $?\\\"\"}}",
        !has_terminal
    )
}

/// How many of the real clients were right, all at once.
fn clients(client: &Client<'_>) -> Result<u32> {
    let mut children = Vec::new();
    for number in 1..=CLIENTS {
        let line = format!("echo client-{number}; exit {number}");
        let mut command = client.command(&["run", "--exit-code", "-a", PRINTER, "--", &line]);
        children.push((number, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?));
    }
    let mut right = 0;
    for (number, child) in children {
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let code = output.status.code().and_then(|code| u32::try_from(code).ok());
        if text.trim() == format!("client-{number}") && code == Some(number) {
            right += 1;
        } else {
            println!("  heroku run, {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(right)
}

/// The script that is attached.
#[derive(Debug)]
struct Attacher {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Attacher {
    fn start(platform: &Platform) -> Result<Self> {
        let mut command = Command::new("python3");
        command
            .arg(root().join("xtask/bench/api/attach.py"))
            .arg(platform.api_port.to_string())
            .arg(platform.data().join("ca/ca.pem"))
            .arg(WORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start python3")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.input, "{line}")?)
    }

    /// How many of so many lines begin with a word; the others are shown.
    fn hear(&mut self, word: &str, lines: u32) -> Result<u32> {
        let mut heard = 0;
        for _line in 0..lines {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the attached script ended early");
            }
            if line.starts_with(word) {
                heard += 1;
            } else {
                println!("  {}", line.trim_end());
            }
        }
        Ok(heard)
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the attached script ended with {status}");
        }
        Ok(())
    }
}

/// Seconds until as many shells, each with pipes of its own, have said that they are ready.
fn shells() -> Result<f64> {
    let begun = Instant::now();
    let mut shells = Vec::new();
    for number in 0..SESSIONS {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo ready {number}; read -r word; exit {}", code(number))]);
        shells.push(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    }
    for shell in &mut shells {
        let mut line = String::new();
        BufReader::new(shell.stdout.as_mut().context("no output")?).read_line(&mut line)?;
    }
    let took = begun.elapsed().as_secs_f64();
    for mut shell in shells {
        drop(shell.stdin.take());
        shell.wait()?;
    }
    Ok(took)
}
