//! Follows a chunked body: where it ends, and whether it is one. For HTTP/2, what it holds. Pure.
//!
//! Strict where two parsers could disagree: sizes are at most sixteen hexadecimal digits, lines end in CR LF, extensions
//! and trailers hold no control characters and have a bound. What the trailers say is for `trailers`.

const SIZE_DIGITS_MAX: u32 = 16;
const EXTENSION_BYTES_MAX: u32 = 1_024;
const TRAILER_BYTES_MAX: u32 = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        digits: u32,
        size: u64,
    },
    Extension {
        bytes: u32,
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataLineFeed,
    /// `line` counts the bytes of the present line.
    Trailer {
        bytes: u32,
        line: u32,
    },
    TrailerLineFeed {
        bytes: u32,
        line: u32,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkFault;

#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    /// The lines behind the last chunk.
    trailers: Vec<u8>,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { state: State::Size { digits: 0, size: 0 }, trailers: Vec::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next bytes and says how many of them belong to the body: all, or fewer where it ends.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, ChunkFault> {
        self.follow(bytes, |_data| {})
    }

    /// The same, and appends the data in the chunks to `data`.
    pub(super) fn decode(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Result<usize, ChunkFault> {
        self.follow(bytes, |piece| data.extend_from_slice(piece))
    }

    /// What has come of the lines behind the last chunk, up to the empty one that ends them.
    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn follow(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, ChunkFault> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                data(&bytes[at..at + taken]);
                at += taken;
                let left = left - taken as u64;
                self.state = if left == 0 { State::DataReturn } else { State::Data { left } };
            } else {
                if matches!(self.state, State::Trailer { .. } | State::TrailerLineFeed { .. }) {
                    self.trailers.push(bytes[at]);
                }
                self.state = next(self.state, bytes[at]).ok_or(ChunkFault)?;
                at += 1;
            }
        }
        Ok(at)
    }
}

/// One byte of what is not data; `None` if it may not stand there.
fn next(state: State, byte: u8) -> Option<State> {
    let plain = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    Some(match (state, byte) {
        (State::Size { digits: 1.., size }, b'\r') => State::SizeLineFeed { size },
        (State::Size { digits: 1.., size }, b';') => State::Extension { bytes: 0, size },
        (State::Size { digits, size }, _) if digits < SIZE_DIGITS_MAX => {
            let digit = char::from(byte).to_digit(16)?;
            State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
        }
        (State::Extension { size, .. }, b'\r') => State::SizeLineFeed { size },
        (State::Extension { bytes, size }, _) if plain && bytes < EXTENSION_BYTES_MAX => {
            State::Extension { bytes: bytes + 1, size }
        }
        (State::SizeLineFeed { size: 0 }, b'\n') => State::Trailer { bytes: 0, line: 0 },
        (State::SizeLineFeed { size }, b'\n') => State::Data { left: size },
        (State::DataReturn, b'\r') => State::DataLineFeed,
        (State::DataLineFeed, b'\n') => State::Size { digits: 0, size: 0 },
        (State::Trailer { bytes, line }, b'\r') => State::TrailerLineFeed { bytes, line },
        (State::Trailer { bytes, line }, _) if plain && bytes < TRAILER_BYTES_MAX => {
            // A line that begins with white space would continue the one before it.
            if line == 0 && !byte.is_ascii_graphic() {
                return None;
            }
            State::Trailer { bytes: bytes + 1, line: line + 1 }
        }
        (State::TrailerLineFeed { line: 0, .. }, b'\n') => State::Done,
        (State::TrailerLineFeed { bytes, .. }, b'\n') => State::Trailer { bytes, line: 0 },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn follow(bytes: &[u8], cut: usize) -> Result<(usize, bool), ChunkFault> {
        let mut chunks = Chunks::new();
        let mut taken = 0;
        for piece in bytes.chunks(cut) {
            let count = chunks.push(piece)?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        Ok((taken, chunks.is_done()))
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        for body in ["0\r\n\r\n", "3\r\na\nb\r\n0\r\n\r\n", "a;x=\"y\"\r\n0123456789\r\n00\r\nx-sum: 1\r\ny: 2\r\n\r\n"]
        {
            let text = format!("{body}GET / HTTP/1.1\r\n");
            for cut in 1..text.len() {
                assert_eq!(follow(text.as_bytes(), cut), Ok((body.len(), true)), "{body:?} in pieces of {cut}");
            }
            for end in 0..body.len() {
                assert_eq!(follow(&body.as_bytes()[..end], 7), Ok((end, false)), "{body:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_the_chunks_hold_is_found_however_they_are_cut() {
        let body = b"3\r\na\nb\r\na;x=y\r\n0123456789\r\n0\r\nx-sum: 1\r\ny: 2\r\n\r\n";
        for cut in 1..body.len() {
            let (mut chunks, mut data) = (Chunks::new(), Vec::new());
            for piece in body.chunks(cut) {
                assert_eq!(chunks.decode(piece, &mut data), Ok(piece.len()));
            }
            assert_eq!((&data[..], chunks.trailers()), (&b"a\nb0123456789"[..], &b"x-sum: 1\r\ny: 2\r\n\r\n"[..]));
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let long = "1".repeat(17);
        for body in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1;x\ny\r\na\r\n",
            "1;\u{1}\r\n",
            "0\r\n\n",
            "0\r\nx: y\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\nx: \u{0}\r\n\r\n",
            &long,
        ] {
            assert_eq!(follow(body.as_bytes(), 1), Err(ChunkFault), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_cuts_change_nothing(text in "([0-9a-f]{1,17}|;|\r\n|\n|x: y|.){0,30}", cut in 1_usize..9) {
            prop_assert_eq!(follow(text.as_bytes(), cut), follow(text.as_bytes(), text.len().max(1)));
        }

        #[test]
        fn whatever_is_encoded_is_followed_to_its_end(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8)) {
            let mut body = Vec::new();
            for piece in &pieces {
                body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                body.extend_from_slice(piece);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(follow(&body, 50), Ok((body.len(), true)));
        }
    }
}
