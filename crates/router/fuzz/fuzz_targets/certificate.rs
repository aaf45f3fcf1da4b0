//! No certificate, and no key, makes the check panic; what it accepts, it accepts again.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// A sound certificate, in DER, and its key.
fn known() -> &'static (Vec<u8>, String) {
    static KNOWN: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        (made.cert.der().to_vec(), made.signing_key.serialize_pem())
    })
}

fuzz_target!(|data: &[u8]| {
    let (sound, key) = known();
    let text = String::from_utf8_lossy(data);
    check(&text, key);
    check(&pem(sound), &text);
    check(&format!("{}{}", pem(sound), pem(data)), key);
    // The sound one with some bytes changed: pairs of where and what.
    let mut damaged = sound.clone();
    for pair in data.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([pair[0], pair[1]])) % damaged.len();
        damaged[at] = pair[2];
    }
    check(&pem(&damaged), key);
});

fn check(chain: &str, key: &str) {
    let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(57 * 365 * 24);
    if let Ok(checked) = certificate::check(chain, key, now) {
        assert!(certificate::check(&checked.chain, key, now).is_ok());
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
