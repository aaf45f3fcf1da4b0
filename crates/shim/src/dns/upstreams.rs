//! Whom to ask: a fixed list, or what `resolv.conf` says now.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const DNS_PORT: u16 = 53;
/// As many as the C library uses.
const UPSTREAMS_MAX: usize = 3;
/// Shortest time between two looks at the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Where the addresses of the resolvers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstreams {
    Fixed(Vec<SocketAddr>),
    /// A file in the form of `/etc/resolv.conf`, followed when it changes.
    File(PathBuf),
}

impl Upstreams {
    /// `own` is the forwarder's address: asking itself would be an endless loop.
    pub(super) const fn follow(self, own: SocketAddr) -> Follower {
        Follower { source: self, own, seen: None, looked_at: None, list: Vec::new() }
    }
}

#[derive(Debug)]
pub(super) struct Follower {
    source: Upstreams,
    own: SocketAddr,
    seen: Option<SystemTime>,
    looked_at: Option<Instant>,
    list: Vec<SocketAddr>,
}

impl Follower {
    /// The resolvers in order of preference. A file that cannot be read leaves what was there.
    pub(super) fn current(&mut self, now: Instant) -> &[SocketAddr] {
        if self.looked_at.is_none_or(|looked_at| now.duration_since(looked_at) >= LOOK_INTERVAL) {
            self.looked_at = Some(now);
            self.look();
        }
        &self.list
    }

    fn look(&mut self) {
        let found = match &self.source {
            Upstreams::Fixed(list) => list.clone(),
            Upstreams::File(path) => {
                // Through links: the file is often one, and is replaced, not rewritten.
                let Ok(modified) = fs::metadata(path).and_then(|metadata| metadata.modified()) else { return };
                if self.seen == Some(modified) {
                    return;
                }
                let Ok(text) = fs::read_to_string(path) else { return };
                self.seen = Some(modified);
                parse(&text)
            }
        };
        self.list = found.into_iter().filter(|address| *address != self.own).take(UPSTREAMS_MAX).collect();
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    addresses.map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed_and_its_loss_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "search x\nnameserver 127.0.0.53\nnameserver 10.207.0.1\nnameserver ::1\n").unwrap();
        let own = "10.207.0.1:53".parse().unwrap();
        let mut follower = Upstreams::File(path.clone()).follow(own);
        let start = Instant::now();
        let both: [SocketAddr; 2] = ["127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(follower.current(start), both);

        let next = dir.path().join("next");
        fs::write(&next, "nameserver 127.0.0.1\n").unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        fs::File::open(&next).unwrap().set_modified(later).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(follower.current(start), both, "not looked at again so soon");
        let one: [SocketAddr; 1] = ["127.0.0.1:53".parse().unwrap()];
        assert_eq!(follower.current(start + LOOK_INTERVAL), one);
        fs::remove_file(&path).unwrap();
        assert_eq!(follower.current(start + 2 * LOOK_INTERVAL), one);
    }
}
