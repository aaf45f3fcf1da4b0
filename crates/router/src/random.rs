//! Random numbers for breaking ties: cheap, per thread, of no cryptographic worth.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

thread_local! {
    // A state of zero would stay zero for ever.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
}

/// Marsaglia's xorshift64.
pub(crate) fn next() -> u64 {
    STATE.with(|state| {
        let mut value = state.get();
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        state.set(value);
        value
    })
}
