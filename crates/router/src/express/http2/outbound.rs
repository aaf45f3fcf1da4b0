//! What waits for the client's socket. Pure.

/// Whoever has more to send waits until there is less.
pub(super) const BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// So many at the beginning are gone.
    sent: usize,
}

impl Outbound {
    /// For what comes behind everything else.
    pub(super) const fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much more may be sent now.
    pub(super) const fn room(&self) -> usize {
        BYTES_MAX.saturating_sub(self.len())
    }

    /// The socket has taken so many bytes.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= BYTES_MAX {
            // A client that is never quite done must not have everything kept that it ever got.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Gives the memory back that nothing waits in.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }
}
