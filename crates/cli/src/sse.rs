//! Server-sent events: the log stream's format, as the WHATWG describes it.

use std::io::{self, BufRead, Read as _};

/// Longest line that is read, in bytes; a longer one is an error of the server's.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The last id that was sent, which resumes the stream after this event.
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

/// Reads events from a stream. An event that is cut off is dropped: it will come again after its predecessor's id.
#[derive(Debug)]
pub(crate) struct EventReader<R> {
    input: R,
    id: Option<String>,
}

impl<R: BufRead> EventReader<R> {
    pub(crate) const fn new(input: R) -> Self {
        Self { input, id: None }
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) fn next_event(&mut self) -> io::Result<Option<Event>> {
        let mut data: Option<String> = None;
        let mut id = None;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if id.is_some() {
                    self.id = id.take();
                }
                if let Some(data) = data.take() {
                    return Ok(Some(Event { id: self.id.clone(), data }));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => match &mut data {
                    Some(data) => data.extend(["\n", value]),
                    None => data = Some(value.to_owned()),
                },
                "id" if !value.contains('\0') => id = Some(value.to_owned()),
                // Comments keep the connection alive; other fields do not concern a log.
                _other => {}
            }
        }
        Ok(None)
    }

    /// A line without its end; `None` at the end of the stream, also in the middle of a line.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if bytes.pop() != Some(b'\n') {
            if bytes.len() as u64 + 1 >= LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the stream is too long"));
            }
            return Ok(None);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(Option<&str>, &str)]) {
        let mut reader = EventReader::new(text.as_bytes());
        let mut events = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            events.push((event.id, event.data));
        }
        let expect: Vec<_> = expect.iter().map(|(id, data)| (id.map(str::to_owned), (*data).to_owned())).collect();
        assert_eq!(events, expect, "{text:?}");
    }

    #[test]
    fn events_carry_data_and_the_last_id() {
        check("id: 1\ndata: a\n\nid: 2\ndata: b\n\n", &[(Some("1"), "a"), (Some("2"), "b")]);
        check("id: 1\ndata: a\n\ndata: b\n\n", &[(Some("1"), "a"), (Some("1"), "b")]);
        check("data:a\ndata:  b\n\n", &[(None, "a\n b")]);
        check("id: 7\r\ndata: a\r\n\r\n", &[(Some("7"), "a")]);
    }

    #[test]
    fn comments_unknown_fields_and_empty_events_are_nothing() {
        check(": keep-alive\n\n: again\n\nevent: x\nretry: 5\ndata: a\n\n", &[(None, "a")]);
        check("data\n\n", &[(None, "")]);
        check("", &[]);
    }

    #[test]
    fn a_cut_event_is_dropped_so_that_it_can_be_resumed() {
        check("id: 1\ndata: a\n\nid: 2\ndata: b", &[(Some("1"), "a")]);
        check("id: 1\ndata: a\n\nid: 2\ndata: b\n", &[(Some("1"), "a")]);
    }
}
