//! One-time codes from a clock (RFC 6238), as every authenticator app makes them: six digits, 30 seconds, SHA-1.

/// How long a code is good for, in seconds.
pub const STEP_SECONDS: u64 = 30;

/// Steps before and after the current one whose codes are taken: clocks differ.
const STEPS_AROUND: u64 = 1;

/// The number of the current step.
pub const fn step(unix_seconds: u64) -> u64 {
    unix_seconds / STEP_SECONDS
}

/// The step that a code belongs to, if it is one of now and later than the last one that was used: a code that somebody
/// looked at over a shoulder is worth nothing.
///
/// `mac` gives the HMAC-SHA1 of a step's eight bytes under the secret.
pub fn accepted_step(code: &str, now: u64, last_used: u64, mac: impl Fn([u8; 8]) -> [u8; 20]) -> Option<u64> {
    let code = code.trim();
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let around = now.saturating_sub(STEPS_AROUND)..=now + STEPS_AROUND;
    let is_it = |step: &u64| *step > last_used && format!("{:06}", truncated(mac(step.to_be_bytes()))) == code;
    around.into_iter().find(is_it)
}

/// RFC 4226, 5.3.
fn truncated(mac: [u8; 20]) -> u32 {
    let offset = usize::from(mac[19] & 0xf);
    let word = u32::from_be_bytes([mac[offset], mac[offset + 1], mac[offset + 2], mac[offset + 3]]);
    (word & 0x7fff_ffff) % 1_000_000
}

/// RFC 4648's base 32 without padding, which authenticator apps read secrets in.
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digits = (bytes.len() * 8).div_ceil(5);
    let digit = |number: usize| (0..5).fold(0, |value, at| value << 1 | bit(number * 5 + at));
    (0..digits).map(|number| char::from(ALPHABET[usize::from(digit(number))])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4226, appendix D: the HMAC of counter 0 for the secret `12345678901234567890`, whose code is 755224.
    const MAC: [u8; 20] = [
        0xcc, 0x93, 0xcf, 0x18, 0x50, 0x8d, 0x94, 0x93, 0x4c, 0x64, 0xb6, 0x5d, 0x8b, 0xa7, 0x66, 0x7f, 0xb7, 0xcd,
        0xe4, 0xb0,
    ];

    #[test]
    fn codes_are_those_of_the_standard() {
        assert_eq!(truncated(MAC), 755_224);
        assert_eq!(base32(b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            (base32(b""), base32(b"f"), base32(b"foobar")),
            (String::new(), "MY".to_owned(), "MZXW6YTBOI".to_owned())
        );
    }

    #[test]
    fn a_code_is_good_once_and_for_a_moment() {
        // One step alone has this code.
        let mac = |bytes: [u8; 8]| if u64::from_be_bytes(bytes) == 100 { MAC } else { [0; 20] };
        let check = |code: &str, now, last_used| accepted_step(code, now, last_used, mac);
        assert_eq!(check("755224", 100, 0), Some(100));
        assert_eq!(check(" 755224\n", 101, 0), Some(100));
        assert_eq!(check("755224", 99, 0), Some(100));
        assert_eq!(check("755224", 102, 0), None, "too late");
        assert_eq!(check("755224", 100, 100), None, "used");
        for wrong in ["", "75522", "7552244", "75522a", "755225", "７５５２２４"] {
            assert_eq!(check(wrong, 100, 0), None, "{wrong}");
        }
    }
}
