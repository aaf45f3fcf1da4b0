//! What a client sends into a channel and its visit has not taken yet.
//!
//! Whoever sends never waits here: it looks at the length, and slows its client down. A client that goes on all the same
//! finds the queue full, which is the end of its connection. Signals have a way of their own: one must reach a program that
//! reads nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;
use wire::shim::Terminal;

/// Bytes that wait at most, with those that are just being written.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What else waits counts as so many.
const OTHER_BYTES: usize = 64;
/// Signals of Linux, those for real time included.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
/// Bytes that are taken at once, at least: what comes in small pieces is put together.
const PIECE_BYTES: usize = 32 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    End,
    Resize(Terminal),
}

impl Input {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::End | Self::Resize(_) => OTHER_BYTES,
        }
    }
}

/// The client has sent more than it was allowed to.
#[derive(Debug, Error)]
#[error("more than {BYTES_MAX} bytes of input wait for a program")]
pub(super) struct Full;

/// The client's end. Dropping it says that the client has gone.
#[derive(Debug)]
pub(super) struct InputQueue(Arc<Shared>);

/// The visit's end.
#[derive(Debug)]
pub(super) struct Inputs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to take, or the client has gone.
    arrived: Notify,
    signalled: Notify,
    shortened: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    inputs: VecDeque<Input>,
    /// Those in `inputs` and what was taken and is not yet written.
    bytes: usize,
    /// Of `bytes`, what is input to a program.
    data_bytes: usize,
    /// Bytes of input that were written since somebody asked.
    written_bytes: usize,
    /// Those that are pending; twice is as good as once.
    signals: BTreeSet<i32>,
    client_gone: bool,
    visit_over: bool,
}

pub(super) fn input_queue() -> (InputQueue, Inputs) {
    let shared = Arc::new(Shared::default());
    (InputQueue(Arc::clone(&shared)), Inputs(shared))
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InputQueue {
    pub(super) fn push(&self, input: Input) -> Result<(), Full> {
        let mut waiting = self.0.waiting();
        // A visit that has ended takes nothing more.
        if waiting.visit_over {
            return Ok(());
        }
        match (waiting.inputs.back_mut(), &input) {
            // Of sizes in a row only the last one counts.
            (Some(Input::Resize(last)), Input::Resize(new)) => *last = *new,
            (Some(Input::End), Input::End) => {}
            _other => {
                let bytes = waiting.bytes + input.size_bytes();
                if bytes > BYTES_MAX {
                    return Err(Full);
                }
                waiting.bytes = bytes;
                if let Input::Bytes(data) = &input {
                    waiting.data_bytes += data.len();
                }
                match (waiting.inputs.back_mut(), input) {
                    (Some(Input::Bytes(last)), Input::Bytes(new)) if last.len() < PIECE_BYTES => {
                        last.extend_from_slice(&new);
                    }
                    (_last, input) => waiting.inputs.push_back(input),
                }
            }
        }
        self.0.arrived.notify_one();
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.waiting().visit_over
    }

    pub(super) fn bytes(&self) -> usize {
        let waiting = self.0.waiting();
        if waiting.visit_over { 0 } else { waiting.bytes }
    }

    /// Bytes of input, without what else waits.
    pub(super) fn data_bytes(&self) -> usize {
        let waiting = self.0.waiting();
        if waiting.visit_over { 0 } else { waiting.data_bytes }
    }

    /// What is no signal is nothing to a program, and must not pile up.
    pub(super) fn signal(&self, signal: i32) {
        if !SIGNALS.contains(&signal) {
            return;
        }
        self.0.waiting().signals.insert(signal);
        self.0.signalled.notify_one();
    }

    pub(super) async fn shortened(&self) {
        self.0.shortened.notified().await;
    }

    /// Bytes of input that were written since the last call.
    pub(super) fn take_written(&self) -> usize {
        std::mem::take(&mut self.0.waiting().written_bytes)
    }
}

impl Drop for InputQueue {
    fn drop(&mut self) {
        self.0.waiting().client_gone = true;
        self.0.arrived.notify_one();
    }
}

impl Inputs {
    /// The next one. `None` when the client has gone and nothing is left.
    pub(super) async fn next(&self) -> Option<Input> {
        loop {
            {
                let mut waiting = self.0.waiting();
                if let Some(input) = waiting.inputs.pop_front() {
                    return Some(input);
                }
                if waiting.client_gone {
                    return None;
                }
            }
            self.0.arrived.notified().await;
        }
    }

    /// Of the one that was taken: until then it counts. `data_bytes` are its bytes of input, if that is what it was.
    pub(super) fn written(&self, data_bytes: Option<usize>) {
        let mut waiting = self.0.waiting();
        waiting.bytes -= data_bytes.unwrap_or(OTHER_BYTES);
        waiting.data_bytes -= data_bytes.unwrap_or(0);
        waiting.written_bytes += data_bytes.unwrap_or(0);
        drop(waiting);
        self.0.shortened.notify_one();
    }

    pub(super) async fn next_signal(&self) -> i32 {
        loop {
            if let Some(signal) = self.0.waiting().signals.pop_first() {
                return signal;
            }
            self.0.signalled.notified().await;
        }
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.visit_over = true;
        waiting.inputs.clear();
        drop(waiting);
        self.0.shortened.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Terminal = Terminal { rows: 24, columns: 80 };
    const LARGE: Terminal = Terminal { rows: 50, columns: 200 };

    #[tokio::test]
    async fn a_client_that_does_not_stop_finds_the_queue_full() {
        let (queue, inputs) = input_queue();
        let piece = || Input::Bytes(vec![1; 1024 * 1024]);
        for _piece in 0..4 {
            queue.push(piece()).unwrap();
        }
        assert!(queue.push(Input::Bytes(vec![1])).is_err());
        assert!(queue.push(Input::Resize(SMALL)).is_err());
        // What was taken counts until it is written.
        let Some(Input::Bytes(taken)) = inputs.next().await else { panic!("no bytes") };
        assert!(queue.push(Input::Bytes(vec![1])).is_err());
        inputs.written(Some(taken.len()));
        assert_eq!((queue.take_written(), queue.take_written()), (taken.len(), 0));
        queue.push(piece()).unwrap();
        drop(inputs);
        queue.push(piece()).unwrap();
        assert!(queue.is_over());
        assert_eq!(queue.bytes(), 0);
    }

    #[tokio::test]
    async fn sizes_and_signals_do_not_pile_up() {
        let (queue, inputs) = input_queue();
        queue.push(Input::Bytes(b"unread".to_vec())).unwrap();
        for terminal in [SMALL, LARGE] {
            queue.push(Input::Resize(terminal)).unwrap();
        }
        assert_eq!((queue.data_bytes(), queue.bytes()), (6, 6 + OTHER_BYTES));
        // Whatever nobody reads, signals arrive.
        for signal in [15, 0, 65, -1, 15, 2] {
            queue.signal(signal);
        }
        assert_eq!((inputs.next_signal().await, inputs.next_signal().await), (2, 15));
        assert_eq!(inputs.next().await, Some(Input::Bytes(b"unread".to_vec())));
        assert_eq!(inputs.next().await, Some(Input::Resize(LARGE)));
        inputs.written(Some(6));
        inputs.written(None);
        assert_eq!((queue.data_bytes(), queue.bytes()), (0, 0));
        let mut pushed = 0;
        while queue.push(if pushed % 2 == 0 { Input::Resize(SMALL) } else { Input::Bytes(vec![1]) }).is_ok() {
            pushed += 1;
        }
        assert!(queue.bytes() <= BYTES_MAX);
    }

    #[tokio::test]
    async fn small_pieces_are_put_together_in_order() {
        let (queue, inputs) = input_queue();
        for piece in [b"ab".as_slice(), b"", b"c"] {
            queue.push(Input::Bytes(piece.to_vec())).unwrap();
        }
        queue.push(Input::Resize(SMALL)).unwrap();
        queue.push(Input::Bytes(b"d".to_vec())).unwrap();
        queue.push(Input::End).unwrap();
        drop(queue);
        assert_eq!(inputs.next().await, Some(Input::Bytes(b"abc".to_vec())));
        assert_eq!(inputs.next().await, Some(Input::Resize(SMALL)));
        assert_eq!(inputs.next().await, Some(Input::Bytes(b"d".to_vec())));
        assert_eq!(inputs.next().await, Some(Input::End));
        assert_eq!(inputs.next().await, None);
    }
}
