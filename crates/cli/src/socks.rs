//! The server's side of SOCKS 5 (RFC 1928): connections, without a login.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const NO_WAY_TO_LOG_IN: u8 = 255;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What a client is told about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Connected = 0,
    Failed = 1,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

/// Reads where a client wants to be connected to.
///
/// # Errors
/// The client wants something else, and has been told so; or it has gone.
pub(crate) fn greet(stream: &mut (impl Read + Write)) -> io::Result<(String, u16)> {
    let [version, methods] = array(stream)?;
    if version != VERSION {
        return Err(io::Error::other("this is not SOCKS 5"));
    }
    let mut offered = vec![0; usize::from(methods)];
    stream.read_exact(&mut offered)?;
    if !offered.contains(&NO_LOGIN) {
        stream.write_all(&[VERSION, NO_WAY_TO_LOG_IN])?;
        return Err(io::Error::other("the client insists on a login"));
    }
    stream.write_all(&[VERSION, NO_LOGIN])?;
    let [_version, command, _reserved, kind] = array(stream)?;
    let host = match kind {
        IPV4 => Ipv4Addr::from(array::<4>(stream)?).to_string(),
        IPV6 => Ipv6Addr::from(array::<16>(stream)?).to_string(),
        NAME => {
            let [length] = array(stream)?;
            let mut name = vec![0; usize::from(length)];
            stream.read_exact(&mut name)?;
            String::from_utf8(name).map_err(io::Error::other)?
        }
        _unknown => {
            reply(stream, Reply::AddressNotSupported)?;
            return Err(io::Error::other("the client names a host in a way that nobody knows"));
        }
    };
    let port = u16::from_be_bytes(array(stream)?);
    if command != CONNECT {
        reply(stream, Reply::CommandNotSupported)?;
        return Err(io::Error::other("the client wants something else than a connection"));
    }
    Ok((host, port))
}

/// Tells the client how its connection fares. Its own address is nobody's business.
pub(crate) fn reply(stream: &mut impl Write, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0])
}

fn array<const COUNT: usize>(stream: &mut impl Read) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    struct Client {
        says: Cursor<Vec<u8>>,
        hears: Vec<u8>,
    }

    impl Read for Client {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.says.read(bytes)
        }
    }

    impl Write for Client {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.hears.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(says: &[u8], expect: Option<(&str, u16)>, hears: &[u8]) {
        let mut client = Client { says: Cursor::new(says.to_vec()), hears: Vec::new() };
        let wanted = greet(&mut client).ok();
        assert_eq!(wanted, expect.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(client.hears, hears);
    }

    #[test]
    fn hosts_are_names_and_addresses() {
        check(b"\x05\x02\x00\x02\x05\x01\x00\x01\x7f\0\0\x01\x00\x50", Some(("127.0.0.1", 80)), b"\x05\0");
        check(b"\x05\x01\x00\x05\x01\x00\x03\x05local\x1f\x90", Some(("local", 8080)), b"\x05\0");
        let address = b"\x05\x01\x00\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x16";
        check(address, Some(("::1", 22)), b"\x05\0");
    }

    #[test]
    fn what_is_not_served_is_said() {
        check(b"\x04\x01\x00\x50", None, b"");
        check(b"\x05\x01\x02", None, b"\x05\xff");
        check(b"\x05\x01\x00\x05\x02\x00\x01\x7f\0\0\x01\x00\x50", None, b"\x05\0\x05\x07\0\x01\0\0\0\0\0\0");
        check(b"\x05\x01\x00\x05\x01\x00\x09", None, b"\x05\0\x05\x08\0\x01\0\0\0\0\0\0");
        check(b"\x05\x01\x00\x05\x01\x00\x03\xff", None, b"\x05\0");
    }
}
