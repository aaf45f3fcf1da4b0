//! Who gets the answer to a request: a client over HTTP/1, or one stream of a client over HTTP/2.

use std::task::{Context, Poll};
use std::time::Duration;

use domain::error_code::ErrorCode;
use tokio::time::Instant;

use super::response_head::ResponseHead;

/// The client closed, or its connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left;

/// Takes an answer piece by piece, and keeps what the client does not take at once.
pub(super) trait Recipient {
    /// A body in chunks goes on as it is, instead of without them.
    const TAKES_CHUNKS: bool;

    /// While nothing goes to the client: notices when it leaves.
    fn poll_left(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Left>;

    /// Ready once `deadline` has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;

    /// Begins the answer. The head leaves together with what is passed on next; `ends` says that no body follows it.
    fn head(&mut self, head: &ResponseHead<'_, '_>, ends: bool);

    /// Forgets the head if it has not left. Whether it had not.
    fn take_back_head(&mut self) -> bool;

    /// Passes on the next bytes of a body whose length is known, or chunks as they came.
    ///
    /// # Errors
    /// The client has left.
    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8], ends: bool) -> Result<(), Left>;

    /// Passes on the next bytes of a body that ends with its connection.
    ///
    /// # Errors
    /// The client has left.
    fn pass_unbounded(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), Left>;

    /// Ends such a body.
    fn end_unbounded(&mut self);

    /// Ends a body that was passed on without its chunks.
    fn end_unchunked(&mut self, trailers: &[u8]);

    /// Nothing comes at the moment: what was passed on leaves nevertheless, as far as the client takes it now.
    ///
    /// # Errors
    /// The client has left.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<(), Left>;

    /// How much of the answer the client has not taken.
    fn waiting_bytes(&self) -> usize;

    /// Ready once the client has taken everything, or has taken nothing for `idle`, or has left.
    fn poll_taken(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>>;

    /// Makes the end of an answer leave, with the same limits.
    fn poll_flush(&mut self, cx: &mut Context<'_>, idle: Duration) -> Poll<Result<(), ErrorCode>>;
}
