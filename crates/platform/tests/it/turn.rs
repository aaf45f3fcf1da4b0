//! Who may run now: platforms at once are limited, also between processes, and each has ports and a network of its own.

use std::fs::{File, create_dir_all};
use std::net::TcpListener;

use crate::wait::wait_within;

/// Platforms at once: the tests mostly wait, but builds and loads share the cores.
const AT_ONCE: u8 = 3;

/// A place among the platforms that run now; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u8,
    _lock: File,
}

impl Turn {
    pub(crate) fn take() -> Self {
        let dir = std::env::temp_dir().join("berth-end-to-end");
        create_dir_all(&dir).unwrap();
        wait_within("a turn", std::time::Duration::from_secs(900), || {
            (0..AT_ONCE).find_map(|number| {
                let lock = File::create(dir.join(format!("turn-{number}"))).unwrap();
                lock.try_lock().is_ok().then_some(Self { number, _lock: lock })
            })
        })
    }

    /// First address of a /16 that no other platform uses meanwhile.
    pub(crate) fn network(&self) -> String {
        format!("10.{}.0.0", 220 + self.number)
    }

    /// Free ports below the range that the kernel gives to outgoing connections.
    pub(crate) fn ports<const COUNT: usize>(&self) -> [u16; COUNT] {
        let first = 21_000 + u16::from(self.number) * 100;
        let mut free = (first..first + 100).filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        [(); COUNT].map(|()| free.next().expect("some of a hundred ports are free"))
    }
}
