//! However a dyno's bytes are cut, the express lane reads the same answer; and what it holds for whole is what the full path
//! reads there, if that takes it at all.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let whole = router::fuzzing::answer(bytes, bytes.len().max(1));
    assert_eq!(whole, router::fuzzing::answer(bytes, usize::from(cut).max(1)));
    if let Some((status, body, true)) = whole
        && let Some((other_status, Some(other_body))) = router::fuzzing::answer_by_the_full_path(bytes)
    {
        assert_eq!((status, body), (other_status, other_body));
    }
});
