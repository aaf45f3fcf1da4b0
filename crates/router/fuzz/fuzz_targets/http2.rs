//! However a client's bytes over HTTP/2 are cut, the router understands the same requests and says the same; and the
//! express lane reads a request as the full path does.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = router::fuzzing::http2(bytes, bytes.len().max(1));
    assert_eq!(whole, router::fuzzing::http2(bytes, usize::from(cut).max(1)));
});
