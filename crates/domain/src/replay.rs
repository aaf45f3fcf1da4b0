//! Bytes that cross a network that may be cut: kept until the other side has them, taken once if they come twice.
//!
//! Both sides count bytes from the beginning of the stream. An offset never comes back.

use std::collections::VecDeque;

use thiserror::Error;

/// The two sides do not speak of the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the other side is out of step at byte {offset}")]
pub struct OutOfStep {
    pub offset: u64,
}

/// What was sent, or will be, and is not known to have arrived.
#[derive(Debug)]
pub struct Replay {
    start: u64,
    bytes: VecDeque<u8>,
    bytes_max: usize,
}

impl Replay {
    pub const fn new(bytes_max: usize) -> Self {
        Self { start: 0, bytes: VecDeque::new(), bytes_max }
    }

    /// How much more can be kept. Without room the source must wait.
    pub fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }

    /// The offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Keeps bytes, of which there may be as many as there is [room](Self::room) for.
    pub fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.room(), "the source did not wait");
        self.bytes.extend(bytes);
    }

    /// Forgets what has arrived: everything before `offset`.
    ///
    /// # Errors
    /// What was never sent cannot have arrived.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), OutOfStep> {
        if offset > self.end() {
            return Err(OutOfStep { offset });
        }
        let arrived = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.drain(..arrived.min(self.bytes.len()));
        self.start = self.start.max(offset);
        Ok(())
    }

    /// Up to `bytes_max` bytes from `offset` on.
    ///
    /// # Errors
    /// What has been acknowledged is not there any more.
    pub fn from(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>, OutOfStep> {
        let out_of_step = OutOfStep { offset };
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok()).ok_or(out_of_step)?;
        if at > self.bytes.len() {
            return Err(out_of_step);
        }
        Ok(self.bytes.iter().skip(at).take(bytes_max).copied().collect())
    }
}

/// What is new in `bytes`, which begin at `offset`, for a side that has everything before `expected`.
///
/// # Errors
/// Bytes between the two were lost.
pub fn fresh(expected: u64, offset: u64, bytes: &[u8]) -> Result<&[u8], OutOfStep> {
    let known = expected.checked_sub(offset).ok_or(OutOfStep { offset })?;
    let known = usize::try_from(known).unwrap_or(usize::MAX);
    Ok(bytes.get(known..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_arrived_is_forgotten_and_nothing_else() {
        let mut replay = Replay::new(8);
        replay.push(b"abcdef");
        assert_eq!((replay.room(), replay.end()), (2, 6));
        replay.acknowledge(2).unwrap();
        assert_eq!((replay.room(), replay.end()), (4, 6));
        assert_eq!(replay.from(2, 3).unwrap(), b"cde");
        assert_eq!(replay.from(6, 3).unwrap(), b"");
        assert_eq!(replay.from(1, 3), Err(OutOfStep { offset: 1 }));
        assert_eq!(replay.from(7, 3), Err(OutOfStep { offset: 7 }));
        assert_eq!(replay.acknowledge(7), Err(OutOfStep { offset: 7 }));
        // An old word, overtaken by a newer one.
        replay.acknowledge(1).unwrap();
        assert_eq!(replay.from(2, 1).unwrap(), b"c");
    }

    #[test]
    fn what_comes_twice_is_taken_once() {
        assert_eq!(fresh(4, 4, b"ab").unwrap(), b"ab");
        assert_eq!(fresh(5, 4, b"ab").unwrap(), b"b");
        assert_eq!(fresh(9, 4, b"ab").unwrap(), b"");
        assert_eq!(fresh(3, 4, b"ab"), Err(OutOfStep { offset: 4 }));
    }

    proptest! {
        /// Whatever is cut off on the way, and whenever a word of arrival is lost: every byte arrives once, in order, and
        /// after a cut there is room again for as much as has arrived.
        #[test]
        fn cuts_lose_and_double_nothing(
            text in proptest::collection::vec(any::<u8>(), 0..400),
            steps in proptest::collection::vec((1_usize..40, any::<bool>(), any::<bool>()), 200),
        ) {
            let mut replay = Replay::new(64);
            let mut source = &text[..];
            let mut sent = 0;
            let mut received = Vec::new();
            for (count, is_cut, is_told) in steps {
                let (taken, rest) = source.split_at(count.min(replay.room()).min(source.len()));
                replay.push(taken);
                source = rest;
                let chunk = replay.from(sent, count).unwrap();
                if is_cut {
                    // The chunk is lost; the receiver says where it is when it comes back.
                    sent = received.len() as u64;
                    replay.acknowledge(sent).unwrap();
                    prop_assert_eq!(replay.room() as u64, 64 - (replay.end() - sent));
                    continue;
                }
                let new = fresh(received.len() as u64, sent, &chunk).unwrap();
                received.extend_from_slice(new);
                sent += chunk.len() as u64;
                if is_told {
                    replay.acknowledge(received.len() as u64).unwrap();
                }
            }
            prop_assert_eq!(&text[..received.len()], &received[..]);
        }
    }
}
