//! However the bytes are cut, the guard of HTTP/2 connections says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = router::fuzzing::flood(bytes, bytes.len().max(1));
    assert_eq!(whole, router::fuzzing::flood(bytes, usize::from(cut).max(1)));
});
