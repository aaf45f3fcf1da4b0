//! The rest of a request body that nobody wants any more.
//!
//! An answer that goes out while the client still sends is mostly lost: the connection closes over unread bytes, the
//! client's next write fails, and it reports a broken connection instead of what we said. So a refused body is read to
//! its end first, and thrown away.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use tracing::debug;

/// Most that is read for nothing, in bytes. Whoever sends more sees a broken connection.
const DISCARD_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// Longest time that is spent on it.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// Reads a body to its end, within the bounds above.
pub(crate) async fn discard(body: &mut BodyDataStream) {
    let reading = async {
        let mut discarded: u64 = 0;
        while let Some(Ok(chunk)) = body.next().await {
            discarded += chunk.len() as u64;
            if discarded > DISCARD_BYTES_MAX {
                debug!("a refused body is too large to be read to its end");
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIME_MAX, reading).await.is_err() {
        debug!("a refused body takes too long to be read to its end");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let mut body = Body::from_stream(first.chain(stream::pending())).into_data_stream();
        discard(&mut body).await;
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let mut body = Body::from("much").into_data_stream();
        discard(&mut body).await;
        assert!(body.next().await.is_none());
    }
}
