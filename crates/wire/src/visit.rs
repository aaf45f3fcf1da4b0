//! Somebody in a dyno that runs, over a WebSocket, as `berth ps:exec` and its like speak it.
//!
//! A WebSocket carries one program, or one connection that is made in the dyno. Each binary message, in either direction,
//! is one of these: a letter, then what belongs to it. Neither side sends more than [`WINDOW_BYTES`] of data that the other
//! has not said to have passed on ([`Message::Taken`]): so what is not data never waits behind data.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::shim::Terminal;

/// Most bytes of one message's data.
pub const DATA_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of any message.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of data on their way in one direction.
pub const WINDOW_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The client's first: what it comes for.
    Wish(Wish),
    /// The server's first: it is there.
    Begun,
    /// A program's input or output, or bytes of a connection.
    Data(Vec<u8>),
    /// What a program without a terminal writes to its standard error.
    Errors(Vec<u8>),
    /// The client has no more data.
    End,
    /// So many bytes of data were passed on since this was last said.
    Taken {
        bytes: u32,
    },
    Resize(Terminal),
    Signal {
        signal: i32,
    },
    /// The server's last, after all data: a program's exit code, or 128 + signal.
    Ended {
        status: Option<i32>,
    },
    /// The server's last: it is not there. For people.
    Failed {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wish {
    /// Runs a line of the shell, or a shell.
    Command {
        #[serde(default)]
        line: Option<String>,
        /// The program gets one of this size.
        #[serde(default)]
        terminal: Option<Terminal>,
        /// What kind of terminal it is: `xterm`.
        #[serde(default)]
        term: Option<String>,
    },
    /// Connects to a TCP port as the app would.
    Connect { host: String, port: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is no message of a visit")]
pub struct MessageError;

impl Message {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            // It holds nothing that has no JSON.
            Self::Wish(wish) => message(b'v', &serde_json::to_vec(wish).unwrap_or_default()),
            Self::Begun => message(b'b', &[]),
            Self::Data(bytes) => message(b'd', bytes),
            Self::Errors(bytes) => message(b'e', bytes),
            Self::End => message(b'z', &[]),
            Self::Taken { bytes } => message(b't', &bytes.to_be_bytes()),
            Self::Resize(terminal) => {
                message(b'w', &[terminal.rows.to_be_bytes(), terminal.columns.to_be_bytes()].concat())
            }
            Self::Signal { signal } => message(b's', &signal.to_be_bytes()),
            Self::Ended { status: Some(status) } => message(b'x', &status.to_be_bytes()),
            Self::Ended { status: None } => message(b'x', &[]),
            Self::Failed { message: text } => message(b'f', text.as_bytes()),
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let (letter, rest) = bytes.split_first().ok_or(MessageError)?;
        let number = || rest.try_into().map_err(|_length| MessageError);
        Ok(match letter {
            b'v' => Self::Wish(serde_json::from_slice(rest).map_err(|_malformed| MessageError)?),
            b'b' => Self::Begun,
            b'd' => Self::Data(rest.to_vec()),
            b'e' => Self::Errors(rest.to_vec()),
            b'z' => Self::End,
            b't' => Self::Taken { bytes: u32::from_be_bytes(number()?) },
            b'w' => {
                let [a, b, c, d] = number()?;
                Self::Resize(Terminal { rows: u16::from_be_bytes([a, b]), columns: u16::from_be_bytes([c, d]) })
            }
            b's' => Self::Signal { signal: i32::from_be_bytes(number()?) },
            b'x' if rest.is_empty() => Self::Ended { status: None },
            b'x' => Self::Ended { status: Some(i32::from_be_bytes(number()?)) },
            b'f' => Self::Failed { message: String::from_utf8_lossy(rest).into_owned() },
            _unknown => return Err(MessageError),
        })
    }
}

fn message(letter: u8, rest: &[u8]) -> Vec<u8> {
    [&[letter], rest].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sent_is_understood() {
        let terminal = Terminal { rows: 50, columns: 132 };
        for sent in [
            Message::Wish(Wish::Command {
                line: Some("ls".to_owned()),
                terminal: Some(terminal),
                term: Some("xterm".to_owned()),
            }),
            Message::Wish(Wish::Command { line: None, terminal: None, term: None }),
            Message::Wish(Wish::Connect { host: "localhost".to_owned(), port: 5432 }),
            Message::Begun,
            Message::Data(b"\0\xffabc".to_vec()),
            Message::Errors(Vec::new()),
            Message::End,
            Message::Taken { bytes: 1 << 20 },
            Message::Resize(terminal),
            Message::Signal { signal: 15 },
            Message::Ended { status: Some(-1) },
            Message::Ended { status: None },
            Message::Failed { message: "no".to_owned() },
        ] {
            assert_eq!(Message::parse(&sent.to_bytes()), Ok(sent));
        }
    }

    /// A message of the first release must parse for ever.
    #[test]
    fn released_messages_still_parse() {
        assert_eq!(
            Message::parse(br#"v{"kind":"command","line":"ls","terminal":{"rows":24,"columns":80},"term":"xterm"}"#),
            Ok(Message::Wish(Wish::Command {
                line: Some("ls".to_owned()),
                terminal: Some(Terminal { rows: 24, columns: 80 }),
                term: Some("xterm".to_owned()),
            }))
        );
        assert_eq!(
            Message::parse(br#"v{"kind":"connect","host":"localhost","port":80}"#),
            Ok(Message::Wish(Wish::Connect { host: "localhost".to_owned(), port: 80 }))
        );
        assert_eq!(Message::parse(b"x\0\0\0\x03"), Ok(Message::Ended { status: Some(3) }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            drop(Message::parse(&bytes));
        }
    }
}
