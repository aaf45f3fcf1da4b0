//! Whatever bytes a client sends: each request that the router understands is the one that a parser reads there which
//! accepts nothing but what RFC 9112 says, as a dyno's or a front's might.

#![no_main]

use libfuzzer_sys::fuzz_target;
use router::fuzzing::{ABSOLUTE, Understood};

fuzz_target!(|data: &[u8]| {
    let understood = router::fuzzing::understood(data);
    let strict = strict(data);
    for (at, request) in router::fuzzing::taken_by_the_lane(data).iter().enumerate() {
        assert_eq!(Some(request), strict.get(at), "request {at} in the lane of {:?}", String::from_utf8_lossy(data));
    }
    for (at, request) in understood.iter().enumerate() {
        assert_eq!(Some(request), strict.get(at), "request {at} of {:?}", String::from_utf8_lossy(data));
    }
});

/// The sound requests at the beginning of the bytes.
fn strict(mut bytes: &[u8]) -> Vec<Understood> {
    let mut requests = Vec::new();
    while let Some((request, rest)) = one(bytes) {
        requests.push(request);
        bytes = rest;
    }
    requests
}

fn one(mut bytes: &[u8]) -> Option<(Understood, &[u8])> {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let (request_line, mut bytes) = line(bytes)?;
    let words: Vec<&[u8]> = request_line.split(|&byte| byte == b' ').collect();
    let &[method, target, version] = words.as_slice() else { return None };
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") || target.contains(&b'#') {
        return None;
    }
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    loop {
        let (header, rest) = line(bytes)?;
        bytes = rest;
        if header.is_empty() {
            break;
        }
        let colon = header.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&header[..colon], header[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return None;
        }
        match name.to_ascii_lowercase().as_slice() {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    let (body, rest) = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => (Vec::new(), bytes),
        ([length], []) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            (bytes.get(..length)?.to_vec(), &bytes[length..])
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunks(bytes)?,
        _ => return None,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_absolute = target.first() != Some(&b'/') && target.windows(3).any(|window| window == b"://");
    let target = if is_absolute { ABSOLUTE.to_owned() } else { text(target) };
    Some((Understood { method: text(method), target, body }, rest))
}

fn chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = line(bytes)?;
        let digits = size.split(|&byte| byte == b';').next()?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        bytes = rest;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, rest) = line(bytes)?;
        bytes = rest;
        if trailer.is_empty() {
            return Some((body, bytes));
        }
    }
}

/// Up to CR LF, with no other control in it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let line = &bytes[..end];
    line.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)).then_some((line, &bytes[end + 2..]))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
