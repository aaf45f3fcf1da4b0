//! An attached one-off over a WebSocket, as `berth run` speaks it: each binary message is one of these.
//!
//! A letter, then numbers in big endian, then bytes. Offsets count the bytes of a direction from its beginning, so that
//! a session goes on over another connection: the client names what it has of the output in its request
//! ([`RECEIVED`]), the server answers with what it has of the input ([`FromServer::Welcome`]), and each sends the rest.

use thiserror::Error;

use crate::shim::Terminal;

/// In the query of the request: the offset behind the last byte of output that the client has.
pub const RECEIVED: &str = "received";

/// Most bytes of one message's data.
pub const DATA_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of any message.
pub const MESSAGE_BYTES_MAX: usize = DATA_BYTES_MAX + 16;

/// Most bytes of output that the server keeps for a client that is away, and of input that a client keeps.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
pub const INPUT_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    Input {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// There is no input from this offset on.
    End {
        offset: u64,
    },
    Resize(Terminal),
    Signal {
        signal: i32,
    },
    /// Everything before this offset of the output has arrived.
    Received {
        offset: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// The first message: everything before this offset of the input has arrived.
    Welcome {
        offset: u64,
    },
    Output {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Everything before this offset of the input is with the process: there is room for more.
    Received {
        offset: u64,
    },
    /// The last message: all output was sent before it. `None` where nobody saw how the process ended.
    Exited {
        status: Option<i32>,
        reason: String,
    },
    /// The last message: there is no session, or there is one no more.
    Failed {
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no message of a session")]
pub struct MessageError;

impl FromClient {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Input { offset, bytes } => message(b'i', &[&offset.to_be_bytes(), bytes]),
            Self::End { offset } => message(b'e', &[&offset.to_be_bytes()]),
            Self::Resize(terminal) => message(b'w', &[&terminal.rows.to_be_bytes(), &terminal.columns.to_be_bytes()]),
            Self::Signal { signal } => message(b's', &[&signal.to_be_bytes()]),
            Self::Received { offset } => message(b'r', &[&offset.to_be_bytes()]),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let (letter, rest) = bytes.split_first().ok_or(MessageError)?;
        match letter {
            b'i' => {
                let (offset, bytes) = offset(rest)?;
                Ok(Self::Input { offset, bytes: bytes.to_vec() })
            }
            b'e' => Ok(Self::End { offset: number(rest)? }),
            b'w' => {
                let [a, b, c, d] = rest.try_into().map_err(|_length| MessageError)?;
                let (rows, columns) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Ok(Self::Resize(Terminal { rows, columns }))
            }
            b's' => Ok(Self::Signal { signal: i32::from_be_bytes(rest.try_into().map_err(|_length| MessageError)?) }),
            b'r' => Ok(Self::Received { offset: number(rest)? }),
            _unknown => Err(MessageError),
        }
    }
}

impl FromServer {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Welcome { offset } => message(b'w', &[&offset.to_be_bytes()]),
            Self::Output { offset, bytes } => message(b'o', &[&offset.to_be_bytes(), bytes]),
            Self::Received { offset } => message(b'r', &[&offset.to_be_bytes()]),
            Self::Exited { status: Some(status), reason } => {
                message(b'x', &[&[1], &status.to_be_bytes(), reason.as_bytes()])
            }
            Self::Exited { status: None, reason } => message(b'x', &[&[0; 5], reason.as_bytes()]),
            Self::Failed { message: text } => message(b'f', &[text.as_bytes()]),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let (letter, rest) = bytes.split_first().ok_or(MessageError)?;
        match letter {
            b'w' => Ok(Self::Welcome { offset: number(rest)? }),
            b'o' => {
                let (offset, bytes) = offset(rest)?;
                Ok(Self::Output { offset, bytes: bytes.to_vec() })
            }
            b'r' => Ok(Self::Received { offset: number(rest)? }),
            b'x' => {
                let ([known, a, b, c, d], reason) = rest.split_first_chunk().ok_or(MessageError)?;
                let status = (*known == 1).then(|| i32::from_be_bytes([*a, *b, *c, *d]));
                Ok(Self::Exited { status, reason: text(reason)? })
            }
            b'f' => Ok(Self::Failed { message: text(rest)? }),
            _unknown => Err(MessageError),
        }
    }
}

fn message(letter: u8, parts: &[&[u8]]) -> Vec<u8> {
    std::iter::once(letter).chain(parts.iter().flat_map(|part| part.iter().copied())).collect()
}

fn offset(bytes: &[u8]) -> Result<(u64, &[u8]), MessageError> {
    let (offset, rest) = bytes.split_first_chunk().ok_or(MessageError)?;
    Ok((u64::from_be_bytes(*offset), rest))
}

fn number(bytes: &[u8]) -> Result<u64, MessageError> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_length| MessageError)?))
}

fn text(bytes: &[u8]) -> Result<String, MessageError> {
    String::from_utf8(bytes.to_vec()).map_err(|_bytes| MessageError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_understood() {
        let bytes = b"\0\xffabc".to_vec();
        for sent in [
            FromClient::Input { offset: 1 << 40, bytes: bytes.clone() },
            FromClient::End { offset: 7 },
            FromClient::Resize(Terminal { rows: 50, columns: 132 }),
            FromClient::Signal { signal: 15 },
            FromClient::Received { offset: 0 },
        ] {
            assert_eq!(FromClient::parse(&sent.to_bytes()), Ok(sent));
        }
        for sent in [
            FromServer::Welcome { offset: 3 },
            FromServer::Output { offset: 9, bytes },
            FromServer::Received { offset: 1 },
            FromServer::Exited { status: Some(-1), reason: "exited".to_owned() },
            FromServer::Exited { status: None, reason: String::new() },
            FromServer::Failed { message: "no".to_owned() },
        ] {
            assert_eq!(FromServer::parse(&sent.to_bytes()), Ok(sent));
        }
    }

    /// A message of the first release must parse for ever.
    #[test]
    fn released_messages_still_parse() {
        assert_eq!(
            FromClient::parse(b"i\0\0\0\0\0\0\0\x05hi"),
            Ok(FromClient::Input { offset: 5, bytes: b"hi".to_vec() })
        );
        assert_eq!(
            FromServer::parse(b"x\x01\0\0\0\x03exited"),
            Ok(FromServer::Exited { status: Some(3), reason: "exited".to_owned() })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            drop(FromClient::parse(&bytes));
            drop(FromServer::parse(&bytes));
        }
    }
}
