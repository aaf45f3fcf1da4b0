//! The client's socket under TLS: a few bytes that nobody waits for go out together with the ones that come next.
//!
//! A TLS 1.3 handshake ends with a session ticket, and a connection with a `close_notify`. As packets of their own they
//! cost as much as an answer. So the ticket is kept until the first answer, and a last answer until the end is said.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than this is sent at once, whatever may come next: it would cost memory, and save little.
const KEPT_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) struct JoinedWrites {
    socket: Socket,
    /// Taken from the writer and not sent yet.
    kept: Vec<u8>,
    keeps: Keeps,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// Bytes that it has taken.
    written_total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// The next write takes along what is kept.
    Nothing,
    /// Each write waits for the next read: a handshake answers whole flights.
    UntilRead,
    /// Each write waits for the flush behind it.
    UntilFlush,
}

impl Socket {
    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.written_total += count as u64;
        Poll::Ready(Ok(count))
    }
}

impl JoinedWrites {
    /// For a handshake.
    pub(crate) fn new(stream: TcpStream) -> Self {
        let socket = Socket { stream, written_total: 0 };
        Self { socket, kept: Vec::new(), keeps: Keeps::UntilRead }
    }

    /// Bytes that the socket has taken.
    pub(crate) const fn written_total(&self) -> u64 {
        self.socket.written_total
    }

    /// The handshake is over, and what it wrote last can wait: reads do not need it.
    pub(crate) fn end_handshake(&mut self) {
        self.keeps = Keeps::Nothing;
    }

    /// What is written until the next flush goes out together. As with any other write, the flush is over when the client
    /// has taken it.
    pub(crate) fn keep_until_flush(&mut self) {
        self.keeps = Keeps::UntilFlush;
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket.stream
    }

    fn keep(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.keeps == Keeps::Nothing || self.kept.len() + bytes > KEPT_BYTES_MAX {
            return None;
        }
        self.kept.reserve_exact(bytes);
        slices.iter().for_each(|slice| self.kept.extend_from_slice(slice));
        Some(bytes)
    }

    fn poll_send_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(self.socket.poll_write(cx, &[IoSlice::new(&self.kept)]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(self.kept.drain(..count)),
            }
        }
        self.kept = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for JoinedWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.keeps == Keeps::UntilRead && !self.kept.is_empty() {
            ready!(self.poll_send_kept(cx))?;
        }
        Pin::new(&mut self.socket.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for JoinedWrites {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kept) = self.keep(slices) {
            return Poll::Ready(Ok(kept));
        }
        let this = &mut *self;
        if this.kept.is_empty() {
            return this.socket.poll_write(cx, slices);
        }
        let all: Vec<IoSlice<'_>> =
            std::iter::once(&this.kept[..]).chain(slices.iter().map(|slice| &**slice)).map(IoSlice::new).collect();
        let sent = ready!(this.socket.poll_write(cx, &all))?;
        let of_kept = sent.min(this.kept.len());
        drop(this.kept.drain(..of_kept));
        if !this.kept.is_empty() {
            // Nothing of what the writer has now: it has to wait for the rest.
            ready!(this.poll_send_kept(cx))?;
            return this.socket.poll_write(cx, slices);
        }
        this.kept = Vec::new();
        if sent > of_kept || slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(sent - of_kept));
        }
        this.socket.poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.keeps {
            // A handshake flushes where it has nothing to wait for.
            Keeps::UntilRead => return Poll::Ready(Ok(())),
            Keeps::Nothing | Keeps::UntilFlush => self.keeps = Keeps::Nothing,
        }
        self.poll_send_kept(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_kept(cx))?;
        Pin::new(&mut self.socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (JoinedWrites, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (JoinedWrites::new(listener.accept().await.unwrap().0), client)
    }

    /// What one read of the client brings: over loopback, one write.
    async fn packet(client: &mut TcpStream) -> String {
        let mut bytes = vec![0; 4 * KEPT_BYTES_MAX];
        let count = client.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[tokio::test]
    async fn a_flight_is_sent_when_the_next_one_is_read() {
        let (mut server, mut client) = pair().await;
        server.write_all(b"hello, ").await.unwrap();
        server.flush().await.unwrap();
        server.write_all(b"certificate").await.unwrap();
        client.write_all(b"finished").await.unwrap();
        let mut read = [0; 8];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(packet(&mut client).await, "hello, certificate");
    }

    #[tokio::test]
    async fn the_end_of_a_handshake_goes_with_the_first_answer() {
        let (mut server, mut client) = pair().await;
        server.write_all(b"ticket ").await.unwrap();
        server.end_handshake();
        client.write_all(b"request").await.unwrap();
        let mut read = [0; 7];
        server.read_exact(&mut read).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        assert_eq!(packet(&mut client).await, "ticket answer");
        server.write_all(b"another").await.unwrap();
        assert_eq!(packet(&mut client).await, "another");
    }

    #[tokio::test]
    async fn the_end_of_a_handshake_can_be_sent_at_once() {
        let (mut server, mut client) = pair().await;
        server.write_all(b"finished").await.unwrap();
        server.end_handshake();
        server.flush().await.unwrap();
        assert_eq!(packet(&mut client).await, "finished");
    }

    #[tokio::test]
    async fn a_last_answer_goes_with_the_end() {
        let (mut server, mut client) = pair().await;
        server.end_handshake();
        server.keep_until_flush();
        server.write_all(b"answer ").await.unwrap();
        server.write_all(b"close").await.unwrap();
        server.flush().await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(packet(&mut client).await, "answer close");
        assert_eq!(packet(&mut client).await, "");
    }

    /// Whoever closes after the flush may close for good: a client that reads slowly loses nothing by it.
    #[tokio::test]
    async fn a_flush_waits_for_a_client_that_takes_nothing() {
        let (mut server, mut client) = pair().await;
        server.end_handshake();
        let mut sent = 0;
        let fill = [b'x'; KEPT_BYTES_MAX];
        while let Poll::Ready(count) = poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &fill))).await {
            sent += count.unwrap();
        }
        server.keep_until_flush();
        server.write_all(b"end").await.unwrap();
        let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_flush(cx))).await;
        assert!(flushed.is_pending());
        let mut received = vec![0; sent + 3];
        let (read, flushed) = tokio::join!(client.read_exact(&mut received), server.flush());
        flushed.unwrap();
        read.unwrap();
        assert!(received.ends_with(b"xend"));
    }

    #[tokio::test]
    async fn what_is_large_is_not_kept_and_nothing_is_lost_or_reordered() {
        let (mut server, mut client) = pair().await;
        server.end_handshake();
        let mut expected = String::new();
        let write = async {
            for number in 0..2_000_u32 {
                let text = format!("{number}:{}", "x".repeat(number as usize % 700 * 11));
                expected.push_str(&text);
                server.keep_until_flush();
                let (first, second) = text.as_bytes().split_at(text.len() / 3);
                let mut slices = &mut [IoSlice::new(first), IoSlice::new(second)][..];
                while !slices.is_empty() {
                    let count = server.write_vectored(slices).await.unwrap();
                    IoSlice::advance_slices(&mut slices, count);
                }
                assert!(server.kept.len() <= KEPT_BYTES_MAX);
            }
            server.shutdown().await.unwrap();
        };
        let mut received = String::new();
        let ((), read) = tokio::join!(write, client.read_to_string(&mut received));
        read.unwrap();
        assert!(received == expected);
    }
}
