//! Log lines as receivers get them: RFC 5424 syslog messages, each preceded by its length (RFC 6587, octet counting).

use telemetry::line::{LogLine, Origin};

/// Longest message in bytes; what is longer is cut (Heroku cuts at 10,000).
const MESSAGE_BYTES_MAX: usize = 10_000;

/// Which of the two forms of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// Compat: over HTTP the messages have no STRUCTURED-DATA and call every host `host`.
    Http,
    /// The host is the drain's token.
    Syslog { token: &'a str },
}

/// Appends one line to `frames`.
pub(crate) fn push(frames: &mut Vec<u8>, line: &LogLine, form: Form<'_>) {
    let (host, data) = match form {
        Form::Http => ("host", ""),
        Form::Syslog { token } => (token, " -"),
    };
    let text = cut(&line.text, MESSAGE_BYTES_MAX);
    let (priority, at) = (priority(line), line.time_text());
    let (origin, process) = (line.origin.as_str(), &line.process);
    let message = format!("<{priority}>1 {at} {host} {origin} {process} -{data} {text}\n");
    frames.extend(format!("{} {message}", message.len()).as_bytes());
}

/// Facility × 8 + severity, as Heroku has them: local7 for the app, local3 for the router, local0 for the platform;
/// all of them `info`.
fn priority(line: &LogLine) -> u8 {
    let facility = match (line.origin, line.process.as_str()) {
        (Origin::Heroku, "router") => 19,
        (Origin::Heroku, _) | (Origin::App, "api") => 16,
        (Origin::App, _) => 23,
    };
    facility * 8 + 6
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(origin: Origin, process: &str, text: &str) -> LogLine {
        let process = process.to_owned();
        LogLine { sequence: 1, unix_us: 1_767_323_045_123_456, origin, process, text: text.to_owned() }
    }

    fn check(line: &LogLine, form: Form<'_>, expect: &str) {
        let mut frames = Vec::new();
        push(&mut frames, line, form);
        assert_eq!(String::from_utf8(frames).unwrap(), expect);
    }

    #[test]
    fn lines_are_framed_as_on_heroku() {
        let app = line(Origin::App, "web.1", "hello");
        check(&app, Form::Http, "63 <190>1 2026-01-02T03:04:05.123456+00:00 host app web.1 - hello\n");
        let token = Form::Syslog { token: "d.1" };
        check(&app, token, "64 <190>1 2026-01-02T03:04:05.123456+00:00 d.1 app web.1 - - hello\n");
        let router = line(Origin::Heroku, "router", "at=info");
        check(&router, token, "70 <158>1 2026-01-02T03:04:05.123456+00:00 d.1 heroku router - - at=info\n");
        let state = line(Origin::Heroku, "web.1", "é");
        check(&state, token, "64 <134>1 2026-01-02T03:04:05.123456+00:00 d.1 heroku web.1 - - é\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        let mut frames = Vec::new();
        push(&mut frames, &line(Origin::App, "web.1", &"é".repeat(20_000)), Form::Http);
        assert!(frames.len() < MESSAGE_BYTES_MAX + 100);
    }
}
