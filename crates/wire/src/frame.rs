//! Length-prefixed JSON over Unix streams: four bytes of length, big endian, then that many bytes of JSON.
//!
//! Free of any runtime: the shim uses it with blocking sockets, the server and the router with tokio.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Largest message in bytes. A whole route table of 10,000 apps is about 10 MB.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("message of {size_bytes} bytes is larger than the limit of {FRAME_BYTES_MAX}")]
    TooLarge { size_bytes: usize },
    #[error("message is not the JSON expected here")]
    Json(#[from] serde_json::Error),
    #[error("connection failed in the middle of a message")]
    Io(#[from] io::Error),
}

/// Encodes one message with its length in front.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let size_bytes = bytes.len() - 4;
    let Some(length) = u32::try_from(size_bytes).ok().filter(|_length| size_bytes <= FRAME_BYTES_MAX) else {
        return Err(FrameError::TooLarge { size_bytes });
    };
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Collects bytes as they arrive and gives out whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// After an error the stream is out of step: close the connection.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let size_bytes = u32::from_be_bytes(*prefix) as usize;
        if size_bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { size_bytes });
        }
        let Some(body) = self.buffer.get(4..4 + size_bytes) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..4 + size_bytes);
        Ok(Some(message))
    }
}

/// Writes one message to a blocking stream.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    Ok(stream.write_all(&encode(message)?)?)
}

/// Reads one message from a blocking stream. `None` means that the peer closed between messages.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = [0; 4];
    let mut filled = 0;
    while filled < prefix.len() {
        match stream.read(&mut prefix[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => filled += count,
        }
    }
    let size_bytes = u32::from_be_bytes(prefix) as usize;
    if size_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { size_bytes });
    }
    let mut body = vec![0; size_bytes];
    stream.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_survive_any_split(messages in proptest::collection::vec(".*", 0..8), cut in 1_usize..9) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut seen: Vec<String> = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(message) = decoder.next_message().unwrap() {
                    seen.push(message);
                }
            }
            prop_assert_eq!(seen, messages);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_value)) = decoder.next_message::<serde_json::Value>() {}
        }
    }

    #[test]
    fn a_blocking_reader_tells_a_clean_end_from_a_cut() {
        let bytes = encode(&"hello").unwrap();
        assert_eq!(read::<String>(&mut bytes.as_slice()).unwrap(), Some("hello".to_owned()));
        assert_eq!(read::<String>(&mut [].as_slice()).unwrap(), None);
        assert!(matches!(read::<String>(&mut &bytes[..6]), Err(FrameError::Io(_))));
        assert!(matches!(read::<String>(&mut &bytes[..2]), Err(FrameError::Io(_))));
    }

    #[test]
    fn an_announced_giant_is_refused_before_it_is_read() {
        let prefix = u32::MAX.to_be_bytes();
        assert!(matches!(read::<String>(&mut prefix.as_slice()), Err(FrameError::TooLarge { .. })));
    }
}
