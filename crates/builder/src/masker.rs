//! Replaces secrets in a stream of bytes, however it is cut into pieces.

use domain::secret::Secret;

/// Shorter values are not masked: `true`, `1` and `production` would make a log unreadable and protect nothing.
pub const SECRET_BYTES_MIN: usize = 8;

const MASK: &[u8] = b"[FILTERED]";

/// Holds back only what could still become a secret, so that progress lines appear at once.
#[derive(Debug)]
pub struct Masker {
    /// Longest first: of two secrets that begin alike the longer one is hidden whole.
    secrets: Vec<Secret<Vec<u8>>>,
    held: Vec<u8>,
}

impl Masker {
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut secrets: Vec<Vec<u8>> = Vec::new();
        for value in values {
            // A PEM key is printed line by line, with an indentation of ours between the lines.
            let lines = value.lines().filter(|line| value.lines().nth(1).is_some() && line.len() >= 16);
            for secret in std::iter::once(value.trim()).chain(lines) {
                if secret.len() >= SECRET_BYTES_MIN && !is_pem_ruler(secret) {
                    secrets.push(secret.as_bytes().to_vec());
                }
            }
        }
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets: secrets.into_iter().map(Secret::new).collect(), held: Vec::new() }
    }

    /// Takes the next piece and returns what can be shown already.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while let Some(rest) = self.held.get(at..).filter(|rest| !rest.is_empty()) {
            if self.secrets.iter().any(|secret| begins_unfinished(secret.expose(), rest)) {
                break;
            }
            at += emit(&self.secrets, rest, &mut shown);
        }
        self.held.drain(..at);
        shown
    }

    /// Ends the stream: what was held back is shown, complete secrets in it masked.
    pub fn finish(mut self) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        while let Some(rest) = held.get(at..).filter(|rest| !rest.is_empty()) {
            at += emit(&self.secrets, rest, &mut shown);
        }
        shown
    }
}

/// Shows the secret's mask or one byte from the front of `rest`; returns how much of it that was.
fn emit(secrets: &[Secret<Vec<u8>>], rest: &[u8], shown: &mut Vec<u8>) -> usize {
    if let Some(secret) = secrets.iter().find(|secret| rest.starts_with(secret.expose())) {
        shown.extend_from_slice(MASK);
        return secret.expose().len();
    }
    shown.extend(rest.first());
    1
}

/// Whether `rest` ends before it is known if it begins with `secret`.
fn begins_unfinished(secret: &[u8], rest: &[u8]) -> bool {
    rest.len() < secret.len() && secret.starts_with(rest)
}

fn is_pem_ruler(line: &str) -> bool {
    line.starts_with("-----") && line.ends_with("-----") && !line.contains('\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(secrets: &[&str], pieces: &[&[u8]]) -> String {
        let mut masker = Masker::new(secrets.iter().copied());
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| masker.push(piece)).collect();
        shown.extend(masker.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_hidden_even_when_it_arrives_in_pieces() {
        assert_eq!(masked(&["hunter2hunter2"], &[b"key=hunter2", b"hun", b"ter2!\n"]), "key=[FILTERED]!\n");
        assert_eq!(masked(&["hunter2hunter2"], &[b"hunter2hunte"]), "hunter2hunte");
    }

    #[test]
    fn of_two_secrets_that_begin_alike_the_longer_is_hidden_whole() {
        let secrets = ["password", "password-of-the-database"];
        assert_eq!(masked(&secrets, &[b"password", b"-of-the-database; password."]), "[FILTERED]; [FILTERED].");
    }

    #[test]
    fn short_values_and_pem_rulers_stay_readable() {
        assert_eq!(masked(&["true", "1"], &[b"DEBUG=true"]), "DEBUG=true");
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\n-----END KEY-----";
        assert_eq!(
            masked(&[key], &[b"  -----BEGIN KEY-----\n  AAAABBBBCCCCDDDDEEEE\n"]),
            "  -----BEGIN KEY-----\n  [FILTERED]\n"
        );
    }

    #[test]
    fn text_that_cannot_become_a_secret_is_shown_at_once() {
        let mut masker = Masker::new(["hunter2hunter2"]);
        assert_eq!(masker.push(b"-----> Python app detected\n"), b"-----> Python app detected\n");
        assert_eq!(masker.push(b"h"), b"");
        assert_eq!(masker.push(b"ello\n"), b"hello\n");
    }

    proptest! {
        #[test]
        fn no_cutting_shows_a_secret_or_loses_a_byte(
            before in "[a-c]{0,20}", after in "[a-c]{0,20}", cuts in proptest::collection::vec(0_usize..60, 0..6)
        ) {
            let secret = "abcabcababc";
            let text = format!("{before}{secret}{after}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let shown = masked(&[secret], &pieces);
            prop_assert!(!shown.contains(secret));
            prop_assert_eq!(shown.replace("[FILTERED]", secret), text);
        }
    }
}
