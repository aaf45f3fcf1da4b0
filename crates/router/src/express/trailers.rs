//! What stands behind a body: fields, of which some may not stand there. Pure.

use httparse::{EMPTY_HEADER, Status};

use super::response_head::{is_hop_by_hop, line};

/// More are no trailers.
const FIELDS_MAX: usize = 128;

/// A line is no field, or there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TrailerFault;

/// The lines behind the last chunk as they go on, with the empty one that ends them.
pub(super) fn sound(section: &[u8]) -> Result<Vec<u8>, TrailerFault> {
    let mut space = [EMPTY_HEADER; FIELDS_MAX];
    let Ok(Status::Complete((_, fields))) = httparse::parse_headers(section, &mut space) else {
        return Err(TrailerFault);
    };
    let mut sound = Vec::with_capacity(section.len());
    for field in fields.iter().filter(|field| may_follow(field.name)) {
        line(&mut sound, field.name.as_bytes(), field.value);
    }
    sound.extend_from_slice(b"\r\n");
    Ok(sound)
}

/// The fields of lines that are sound.
pub(super) fn each(sound: &[u8], mut take: impl FnMut(&str, &[u8])) {
    let mut space = [EMPTY_HEADER; FIELDS_MAX];
    if let Ok(Status::Complete((_, fields))) = httparse::parse_headers(sound, &mut space) {
        fields.iter().for_each(|field| take(field.name, field.value));
    }
}

/// Whether a field may stand behind a body (RFC 9110, 6.5.1): not what frames or routes the message, nor what must be known
/// before its body is read. Whoever merges trailers into the head would believe it.
pub(crate) fn may_follow(name: &str) -> bool {
    const NOT: [&str; 9] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "host",
        "set-cookie",
        "trailer",
    ];
    !is_hop_by_hop(name) && !NOT.iter().any(|not| name.eq_ignore_ascii_case(not))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_go_on_and_none_that_frames_the_message() {
        let check = |section: &str, expect: Option<&str>| {
            let sound = sound(section.as_bytes()).ok().map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(sound.as_deref(), expect, "{section:?}");
        };
        check("\r\n", Some("\r\n"));
        check("X-Sum:1\r\ny: \r\n\r\n", Some("X-Sum: 1\r\ny: \r\n\r\n"));
        let framing =
            "Content-Length: 5\r\ntransfer-encoding: chunked\r\nHost: a\r\nConnection: close\r\nTrailer: x\r\n";
        check(&format!("{framing}x: 1\r\n\r\n"), Some("x: 1\r\n\r\n"));
        for nonsense in ["nonsense", "HTTP/1.1 200 OK", ": x", "x y: z", "x : y", "\u{e9}: x"] {
            check(&format!("a: b\r\n{nonsense}\r\n\r\n"), None);
        }
        check(&format!("{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1)), None);
    }
}
