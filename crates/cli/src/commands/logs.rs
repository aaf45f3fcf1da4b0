//! `logs`: an app's log, once or as it grows.

use std::io::{self, BufReader};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use wire::platform_api::{LogSession, LogSessionCreate};

use crate::api_client::{ApiClient, ApiClientError, ApiResult, path};
use crate::context::Context;
use crate::output::{Colour, Output};
use crate::sse::EventReader;

/// Between two attempts to get a broken tail back.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// What the server keeps ready for a session; it would silently give no more.
const LINES_MAX: i64 = 1500;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth logs -n 200\n  berth logs --tail --dyno web\n  berth logs --tail --source heroku   \
                  (the platform's own lines: router, restarts, limits)"
)]
pub struct Logs {
    /// Go on with new lines as they come
    #[arg(short, long)]
    tail: bool,
    /// How many lines of the past to show, at most 1500
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=LINES_MAX))]
    num: u32,
    /// Only lines of this dyno or process type
    #[arg(short, long, alias = "process-type")]
    dyno: Option<String>,
    /// Only lines of this source: app or heroku
    #[arg(short, long)]
    source: Option<String>,
}

pub(super) fn show(context: &Context, args: &Logs) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let mut last_id = None;
    let mut lost = match read(context, &client, &app, args, &mut last_id)? {
        Ok(()) if !args.tail => return Ok(()),
        Ok(()) => None,
        // The first connection decides whether there is anything to follow at all.
        Err(error) if !args.tail || !matches!(error, ApiClientError::Broken { .. }) => return Err(error.into()),
        Err(error) => Some(error),
    };
    loop {
        match lost {
            Some(error) if error.is_connection() => {
                context.out.warn("The connection broke; reconnecting. No line is lost.");
                reconnect(context, &client, &app, args, &mut last_id)?;
            }
            Some(error) => bail!(error),
            None => {}
        }
        thread::sleep(RECONNECT_PAUSE);
        lost = read(context, &client, &app, args, &mut last_id)?.err();
    }
}

/// Waits until the server answers again, quietly.
fn reconnect(
    context: &Context,
    client: &ApiClient,
    app: &str,
    args: &Logs,
    last_id: &mut Option<String>,
) -> anyhow::Result<()> {
    loop {
        thread::sleep(RECONNECT_PAUSE);
        match read(context, client, app, args, last_id)? {
            Err(error) if error.is_connection() => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(()),
        }
    }
}

/// Prints one session to its end, and remembers where it stopped.
///
/// A session is short-lived and cheap, so each connection gets a new one: an old one's URL may have expired.
fn read(
    context: &Context,
    client: &ApiClient,
    app: &str,
    args: &Logs,
    last_id: &mut Option<String>,
) -> io::Result<ApiResult<()>> {
    let session = LogSessionCreate {
        dyno: args.dyno.clone(),
        lines: Some(if last_id.is_some() { 0 } else { args.num }),
        source: args.source.clone(),
        tail: Some(args.tail),
        ..LogSessionCreate::default()
    };
    let opened = client
        .post::<LogSession>(&path(&["apps", app, "log-sessions"]), &session)
        .and_then(|session| client.open(&session.logplex_url, last_id.as_deref()));
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error)),
    };
    let mut events = EventReader::new(BufReader::new(stream));
    loop {
        match events.next_event() {
            Ok(Some(event)) => {
                for line in event.data.lines() {
                    if context.out.json {
                        context.out.line(as_json(event.id.as_deref(), line))?;
                    } else {
                        context.out.line(coloured(&context.out, line))?;
                    }
                }
                if event.id.is_some() {
                    *last_id = event.id;
                }
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(client.broken(error))),
        }
    }
}

/// One object a line, so that a tail can be read as it comes. What is no log line is a message alone.
fn as_json(id: Option<&str>, line: &str) -> serde_json::Value {
    let parsed = || {
        let (head, message) = line.split_once("]: ")?;
        let (time, origin) = head.split_once(' ')?;
        let (source, dyno) = origin.split_once('[')?;
        Some(serde_json::json!({ "id": id, "time": time, "source": source, "dyno": dyno, "message": message }))
    };
    parsed().unwrap_or_else(|| serde_json::json!({ "id": id, "message": line }))
}

/// Colours the part before the message: one colour per process, so that they can be told apart.
fn coloured(out: &Output, line: &str) -> String {
    const COLOURS: [Colour; 4] = [Colour::Cyan, Colour::Green, Colour::Blue, Colour::Yellow];
    let Some((head, message)) = line.split_once("]: ") else { return line.to_owned() };
    let Some((_time, origin)) = head.split_once(' ') else { return line.to_owned() };
    let colour = if origin.starts_with("heroku[") || origin.starts_with("app[api") {
        Colour::Magenta
    } else {
        let sum = origin.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        COLOURS[sum % COLOURS.len()]
    };
    format!("{} {message}", out.paint(colour, format_args!("{head}]:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_itself_keeps_its_own_colours() {
        let out = Output { json: false, colour: true };
        let line = "2026-01-02T03:04:05.123456+00:00 heroku[router]: at=info [x]: y";
        let expect = "\x1b[35m2026-01-02T03:04:05.123456+00:00 heroku[router]:\x1b[0m at=info [x]: y";
        assert_eq!(coloured(&out, line), expect);
        assert_eq!(coloured(&out, "no log line"), "no log line");
        assert_eq!(coloured(&Output { json: false, colour: false }, line), line);
    }

    #[test]
    fn a_line_as_json_has_its_parts() {
        let line = "2026-01-02T03:04:05.123456+00:00 app[web.1]: a [x]: b";
        let expect = serde_json::json!({
            "id": "7", "time": "2026-01-02T03:04:05.123456+00:00", "source": "app", "dyno": "web.1",
            "message": "a [x]: b"
        });
        assert_eq!(as_json(Some("7"), line), expect);
        assert_eq!(as_json(None, "Error L11"), serde_json::json!({"id": null, "message": "Error L11"}));
    }
}
