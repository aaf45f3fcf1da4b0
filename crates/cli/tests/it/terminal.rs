//! What a person sees on a terminal, and nobody else.

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::deploy;
use crate::harness::{Client, Reply};

/// Runs a command on a terminal to its end; its exit code and all that it drew.
fn on_a_terminal(mut client: Client) -> (Option<i32>, String) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let screen = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&screen, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    client.command.env("TERM", "xterm").stdout(screen.try_clone().unwrap()).stderr(screen);
    let mut child = client.command.spawn().unwrap();
    // Our own copies would keep the terminal's end from being seen.
    client.command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    // Its end is an error, not a silence.
    while let Ok(size) = File::from(keyboard.try_clone().unwrap()).read(&mut buffer) {
        if size == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..size]);
    }
    (child.wait().unwrap().code(), String::from_utf8_lossy(&seen).into_owned())
}

/// The drawings of a moving line that holds `text`: each begins where the line does.
fn drawings<'a>(seen: &'a str, text: &str) -> Vec<&'a str> {
    seen.split(['\r', '\n']).filter(|line| line.contains(text)).collect()
}

#[test]
fn an_upload_shows_how_much_was_sent() {
    let server = deploy::server();
    let client = deploy::client(&server, &["deploy"]).file("large", &"x".repeat(4 << 20));
    let (code, seen) = on_a_terminal(client);
    assert_eq!(code, Some(0), "{seen}");
    let bars = drawings(&seen, "Uploading ");
    assert!(bars.iter().any(|bar| bar.contains(" B/") || bar.contains("KiB/")), "{seen}");
}

#[test]
fn a_build_and_a_roll_out_show_their_phase_and_how_long_they_take() {
    let server = deploy::server();
    // The output breaks off and goes on, so that the phase stands for a while.
    let begin = "-----> Packing\n       12 files\n";
    let replies = [Reply::text(begin).cut(), Reply::text(&format!("{begin}-----> Launching v7\n       the last line"))];
    server.on("GET /output?sig=x", replies);
    let (code, seen) = on_a_terminal(deploy::client(&server, &["deploy"]));
    assert_eq!(code, Some(0), "{seen}");
    for moving in ["Waiting for the build", "Packing", "Launching v7", "v7: starting dynos"] {
        let drawn = drawings(&seen, moving);
        assert!(drawn.iter().any(|line| line.contains("0s")), "no moving line with {moving:?} in {seen:?}");
    }
    // What the build said stands there whole, once, and the moving line is gone at the end.
    for line in ["-----> Packing", "       12 files", "-----> Launching v7", "       the last line"] {
        assert_eq!(seen.matches(&format!("{line}\r\n")).count(), 1, "{line:?} in {seen:?}");
    }
    let last = seen.trim_end().rsplit(['\r', '\n']).next().unwrap();
    assert!(last.contains("v7: ") && last.contains("serving") && !last.contains("0s"), "{seen:?}");
}

#[test]
fn nothing_moves_where_nobody_looks() {
    let server = deploy::server();
    let ended = deploy::client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let moves = |text: &str| text.contains(['\r', '\x1b']) || text.contains("Waiting");
    assert!(!moves(&ended.stdout) && !moves(&ended.stderr), "{ended:?}");
}
