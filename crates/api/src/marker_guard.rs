//! Keeps the exit marker of `heroku run --exit-code` in one piece.
//!
//! Compat: the client appends `; echo "\uFFFF heroku-command-exit-status: $?"` to the command and looks for that text in
//! each read on its own; cut in two, it is printed and the client fails. So output that may be the beginning of the
//! marker waits until it is one or is not.

/// The marker up to the number.
pub(crate) const MARKER: &[u8] = "\u{ffff} heroku-command-exit-status: ".as_bytes();

/// Digits of the longest exit status, and the line break.
const REST_BYTES_MAX: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct MarkerGuard {
    held: Vec<u8>,
    /// A marker has gone by.
    pub(crate) seen: bool,
}

impl MarkerGuard {
    /// Gives what may be sent now, each piece to be sent on its own.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        loop {
            let at = begin(&self.held);
            if at > 0 {
                pieces.push(self.held.drain(..at).collect());
            }
            let Some(rest) = self.held.strip_prefix(MARKER) else { return pieces };
            let end = rest.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
            match end.or((rest.len() > REST_BYTES_MAX).then_some(rest.len())) {
                Some(end) => {
                    self.seen = true;
                    pieces.push(self.held.drain(..MARKER.len() + end).collect());
                }
                None => return pieces,
            }
        }
    }

    /// Gives what waited, at the end of the output.
    pub(crate) fn finish(&mut self) -> Vec<Vec<u8>> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Vec::new() } else { vec![held] }
    }
}

/// Where the marker begins, or could begin at the end; the length of the text if nowhere.
fn begin(text: &[u8]) -> usize {
    let could_begin = |at: &usize| {
        let rest = text.get(*at..).unwrap_or_default();
        rest.starts_with(MARKER) || MARKER.starts_with(rest)
    };
    (0..text.len()).find(could_begin).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<String> {
        let mut guard = MarkerGuard::default();
        let mut pieces: Vec<Vec<u8>> = chunks.iter().flat_map(|chunk| guard.push(chunk)).collect();
        pieces.extend(guard.finish());
        pieces.into_iter().map(|piece| String::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn a_marker_that_arrives_in_any_two_parts_leaves_in_one() {
        let marker = "\u{ffff} heroku-command-exit-status: 3\r\n";
        let text = format!("out\r\n{marker}");
        for cut in 1..text.len() {
            let (one, two) = text.as_bytes().split_at(cut);
            let pieces = pieces(&[one, two]);
            assert_eq!(pieces.concat(), text, "cut at {cut}");
            assert_eq!(pieces.last().map(String::as_str), Some(marker), "cut at {cut}");
        }
    }

    #[test]
    fn what_only_looks_like_a_marker_is_not_kept() {
        assert_eq!(pieces(&["a\u{ffff}".as_bytes(), b" b"]).concat(), "a\u{ffff} b");
        assert_eq!(pieces(&["\u{ffff} heroku-command-exit-status: 123456789 and more".as_bytes()]).len(), 1);
        assert_eq!(pieces(&[b"plain"]), ["plain"]);
    }
}
