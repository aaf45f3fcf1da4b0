//! Following what the server does: its output streams, and the states it passes through.

use std::io::{self, Read as _, Write};
use std::thread;
use std::time::Duration;

use crate::api_client::{ApiClient, ApiClientError, ApiResult, Stream};

/// How long a server may be away, while it is upgraded or restarted, before we stop following.
const AWAY_MAX: Duration = Duration::from_secs(60);

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Asks until there is an answer, ever less often. A server that is away for a moment is asked again.
pub(crate) fn until_some<T>(mut ask: impl FnMut() -> ApiResult<Option<T>>) -> ApiResult<T> {
    let mut pause = PAUSE_MIN;
    let mut away = Duration::ZERO;
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => away = Duration::ZERO,
            Err(error) if error.is_connection() && away < AWAY_MAX => away += pause,
            Err(error) => return Err(error),
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// Copies an output stream until its end. A connection that breaks is made again, and what was copied is skipped.
///
/// # Errors
///
/// `Err` of the outer result if nobody reads `out` any more; of the inner one if the stream was lost for good.
pub(crate) fn copy_output(client: &ApiClient, url: &str, out: &mut impl Write) -> io::Result<ApiResult<()>> {
    let mut copied = 0;
    let mut away = Duration::ZERO;
    let mut pause = PAUSE_MIN;
    loop {
        let before = copied;
        let lost = match client.open(url, None) {
            Ok(stream) => match copy_from(stream, &mut copied, out)? {
                Ok(()) => return Ok(Ok(())),
                Err(error) => client.broken(error),
            },
            Err(error) => error,
        };
        if copied > before {
            (away, pause) = (Duration::ZERO, PAUSE_MIN);
        }
        if !lost.is_connection() || away >= AWAY_MAX {
            return Ok(Err(lost));
        }
        thread::sleep(pause);
        away += pause;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Copies what comes after the first `copied` bytes. Bytes go out as they come, in the middle of a line too.
fn copy_from(mut stream: Stream, copied: &mut u64, out: &mut impl Write) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; 16 * 1024];
    let mut position = 0;
    loop {
        let size = match stream.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(error)),
        };
        let end = position + size as u64;
        if end > *copied {
            let seen = usize::try_from(copied.saturating_sub(position)).unwrap_or(0);
            out.write_all(&buffer[seen..size])?;
            out.flush()?;
            *copied = end;
        }
        position = end;
    }
}

/// Whether an error means that the stream cannot be had, while what it is about may go on well.
pub(crate) fn is_only_output(error: &ApiClientError) -> bool {
    error.is_connection() || error.is_not_found()
}
