//! No bytes make the reader of PROXY headers panic, and it takes none that are not its own.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let alone = router::fuzzing::proxy_header(data);
    let Some((header, left)) = alone else { return };
    let more = [data, b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(router::fuzzing::proxy_header(&more), Some((header, left + 16)));
});
