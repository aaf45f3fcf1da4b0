//! Finds the TCP sockets that listen in a process's network namespace.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads them through `/proc/<pid>/net`. With `uid`, only that user's: in the host's network others listen too.
pub(crate) fn listening(pid: i32, uid: Option<u32>) -> Vec<SocketAddr> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| parse(line, uid)).collect::<Vec<_>>())
        .collect()
}

/// One line of `/proc/net/tcp`: `slot local remote state queues timer retransmits uid …`.
fn parse(line: &str, uid: Option<u32>) -> Option<SocketAddr> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN || uid.is_some_and(|uid| fields.get(7) != Some(&uid.to_string().as_str())) {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    // Each group of eight digits is a word in the machine's byte order.
    let words: Option<Vec<[u8; 4]>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let ip = match words?.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        words => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, uid: Option<u32>, expect: Option<&str>) {
        assert_eq!(parse(line, uid).map(|address| address.to_string()).as_deref(), expect);
    }

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid";
        check(header, None, None);
        let loopback = "0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  4001 0 93 1";
        check(loopback, Some(4001), Some("127.0.0.1:5000"));
        check(loopback, Some(4002), None);
        check(&loopback.replace(" 0A ", " 01 "), None, None);
        let v6 = "0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 1";
        check(v6, None, Some("[::]:8080"));
    }
}
