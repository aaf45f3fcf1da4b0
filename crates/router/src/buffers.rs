//! Buffers that one request leaves to the next, of one worker thread.

use std::cell::RefCell;

/// Buffers kept. More are given back to the system.
const BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is not kept.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
const BUFFER_BYTES: usize = 2 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffer.clear();
            free.push(buffer);
        }
    }
}
