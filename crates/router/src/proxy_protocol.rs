//! The PROXY protocol, versions 1 and 2: what a load balancer says about a connection before the client's bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest header of version 1, with its line end.
const TEXT_BYTES_MAX: usize = 107;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and what else the load balancer has to say (its own ids, mostly). More is refused.
const BINARY_BYTES_MAX: usize = 4_096;

#[derive(Debug, Error)]
pub enum ProxyProtocolError {
    #[error("connection ended in its PROXY header")]
    Read(#[source] io::Error),
    #[error("connection does not begin with a PROXY header")]
    Missing,
    #[error("PROXY header cannot be read")]
    Malformed,
}

/// Who the client is, and where it connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The load balancer says that the client speaks TLS with it.
    pub tls: bool,
}

/// Takes the header from the stream and not one byte more. `None` if the load balancer speaks for itself, as in its
/// health checks.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Proxied>, ProxyProtocolError> {
    let first = stream.read_u8().await.map_err(ProxyProtocolError::Read)?;
    match first {
        b'P' => read_text(stream).await,
        b'\r' => read_binary(stream).await,
        _ => Err(ProxyProtocolError::Missing),
    }
}

async fn read_text(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Proxied>, ProxyProtocolError> {
    let mut line = vec![b'P'];
    while !line.ends_with(b"\n") {
        if line.len() == TEXT_BYTES_MAX {
            return Err(ProxyProtocolError::Malformed);
        }
        line.push(stream.read_u8().await.map_err(ProxyProtocolError::Read)?);
    }
    parse_text(&line)
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Proxied>, ProxyProtocolError> {
    let mut head = [0; 16];
    head[0] = b'\r';
    stream.read_exact(&mut head[1..]).await.map_err(ProxyProtocolError::Read)?;
    if head[..12] != SIGNATURE {
        return Err(ProxyProtocolError::Missing);
    }
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if length > BINARY_BYTES_MAX {
        return Err(ProxyProtocolError::Malformed);
    }
    let mut addresses = vec![0; length];
    stream.read_exact(&mut addresses).await.map_err(ProxyProtocolError::Read)?;
    parse_binary(head[12], head[13], &addresses)
}

/// `PROXY TCP4 1.2.3.4 5.6.7.8 1234 80`.
fn parse_text(line: &[u8]) -> Result<Option<Proxied>, ProxyProtocolError> {
    let parse = || {
        let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
        let words: Vec<&str> = line.strip_prefix("PROXY ")?.split(' ').collect();
        let &[family, source, destination, source_port, destination_port] = words.as_slice() else {
            return (words.first() == Some(&"UNKNOWN")).then_some(None);
        };
        let address = |text: &str| match family {
            "TCP4" => text.parse().map(IpAddr::V4).ok(),
            "TCP6" => text.parse().map(IpAddr::V6).ok(),
            _ => None,
        };
        if family == "UNKNOWN" {
            return Some(None);
        }
        let source = SocketAddr::new(address(source)?, port(source_port)?);
        let destination = SocketAddr::new(address(destination)?, port(destination_port)?);
        Some(Some(Proxied { source, destination, tls: false }))
    };
    parse().ok_or(ProxyProtocolError::Malformed)
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_binary(command: u8, family: u8, addresses: &[u8]) -> Result<Option<Proxied>, ProxyProtocolError> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    match (command, family) {
        (LOCAL, _) => Ok(None),
        (PROXY, TCP_OVER_IPV4) => {
            let bytes: &[u8; 12] = addresses.first_chunk().ok_or(ProxyProtocolError::Malformed)?;
            let address =
                |at: usize| IpAddr::from(Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]));
            let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let (source, destination) = (SocketAddr::new(address(0), port(8)), SocketAddr::new(address(4), port(10)));
            Ok(Some(Proxied { source, destination, tls: tells_tls(&addresses[12..]) }))
        }
        (PROXY, TCP_OVER_IPV6) => {
            let bytes: &[u8; 36] = addresses.first_chunk().ok_or(ProxyProtocolError::Malformed)?;
            let address =
                |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from);
            let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let source = SocketAddr::new(address(&bytes[..16]), port(32));
            let destination = SocketAddr::new(address(&bytes[16..32]), port(34));
            Ok(Some(Proxied { source, destination, tls: tells_tls(&addresses[36..]) }))
        }
        // Datagrams and Unix sockets carry no HTTP of ours; the specification wants unknown families to be let through.
        (PROXY, _) => Ok(None),
        _ => Err(ProxyProtocolError::Malformed),
    }
}

/// Looks for `PP2_TYPE_SSL` among the values behind the addresses: a type, a length of two bytes, the value. What cannot
/// be read says nothing.
fn tells_tls(mut values: &[u8]) -> bool {
    const SSL: u8 = 0x20;
    /// In its first byte: the client connected over TLS.
    const CLIENT_SSL: u8 = 0x01;
    while let Some((&[kind, high, low], rest)) = values.split_first_chunk() {
        let Some((value, behind)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else { break };
        if kind == SSL {
            return value.first().is_some_and(|client| client & CLIENT_SSL != 0);
        }
        values = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The outcome, and how many bytes are left.
    fn read_all(mut bytes: &[u8]) -> (Result<Option<Proxied>, ProxyProtocolError>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(read(&mut bytes));
        (outcome, bytes.len())
    }

    fn proxied(source: &str, destination: &str) -> Option<Proxied> {
        Some(Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap(), tls: false })
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    #[test]
    fn both_versions_are_read_to_their_end_and_no_further() {
        let check = |header: &[u8], expect: Option<Proxied>| {
            let bytes = [header, b"GET / "].concat();
            let (outcome, left) = read_all(&bytes);
            assert_eq!((outcome.unwrap(), left), (expect, 6), "{}", String::from_utf8_lossy(header));
        };
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1234 80\r\n", proxied("1.2.3.4:1234", "5.6.7.8:80"));
        check(b"PROXY TCP6 2001:db8::1 ::1 1234 443\r\n", proxied("[2001:db8::1]:1234", "[::1]:443"));
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0x04, 0xd2, 0, 80];
        check(&binary(0x21, 0x11, &four), proxied("1.2.3.4:1234", "5.6.7.8:80"));
        // With a value that is of no interest behind the addresses, as an NLB sends it.
        check(
            &binary(0x21, 0x11, &[&four[..], &[0xea, 0, 3, 1, 2, 3]].concat()),
            proxied("1.2.3.4:1234", "5.6.7.8:80"),
        );
        let six = [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0, 1, 0, 2]].concat();
        check(&binary(0x21, 0x21, &six), proxied("[::1]:1", "[::1]:2"));
        check(&binary(0x20, 0, &[]), None);
        check(&binary(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn only_the_value_about_it_tells_of_tls() {
        let check = |values: &[u8], expect: bool| {
            for (family, length) in [(0x11, 12), (0x21, 36)] {
                let header = binary(0x21, family, &[&vec![1; length], values].concat());
                assert_eq!(read_all(&header).0.unwrap().unwrap().tls, expect, "{values:?}");
            }
        };
        let ssl = |client: u8| [0x20, 0, 8, client, 0, 0, 0, 0, 0x21, 0, 0];
        check(&ssl(1), true);
        check(&ssl(7), true);
        // Told, but over nothing; not told; told behind something else; cut off.
        check(&ssl(0), false);
        check(&[], false);
        check(&[&[0xea, 0, 2, 0x20, 0][..], &ssl(5)].concat(), true);
        check(&[0xea, 0, 1, 0x20], false);
        check(&[0x20, 0, 9, 1], false);
        check(&[0x20, 0], false);
        check(&[0x20, 0, 0], false);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let refused = |bytes: &[u8]| read_all(bytes).0.unwrap_err();
        for text in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1234 80\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1234\r\n",
            "PROXY TCP4 ::1 ::1 1234 80\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1234 80\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 123456 80\r\n",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1234 80\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1234 80\r\n",
            "POST / HTTP/1.1\r\n",
            &format!("PROXY {}\r\n", "x".repeat(200)),
        ] {
            assert!(matches!(refused(text.as_bytes()), ProxyProtocolError::Malformed), "{text}");
        }
        assert!(matches!(refused(b"GET / HTTP/1.1\r\n"), ProxyProtocolError::Missing));
        assert!(matches!(refused(b"\r\n\r\nGET / HTTP/1.1\r\n"), ProxyProtocolError::Missing));
        assert!(matches!(refused(b"PROXY TCP4 1.2"), ProxyProtocolError::Read(_)));
        assert!(matches!(refused(&binary(0x21, 0x11, &[1; 11])), ProxyProtocolError::Malformed));
        assert!(matches!(refused(&binary(0x21, 0x11, &[1; 5_000])), ProxyProtocolError::Malformed));
        assert!(matches!(refused(&binary(0x31, 0x11, &[1; 12])), ProxyProtocolError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let begin: &[u8] = [&b""[..], b"PROXY TCP", &SIGNATURE][usize::try_from(kind).unwrap()];
            drop(read_all(&[begin, &bytes].concat()));
        }
    }
}
