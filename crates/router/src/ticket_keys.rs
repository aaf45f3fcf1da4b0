//! The keys that TLS session tickets are sealed with: shared by all threads, kept across restarts, replaced in time.
//!
//! A ticket is the session's state, which the client keeps for us. Whoever has the key of a ticket can read the
//! connections that are resumed with it by TLS 1.2, so keys are on disk for the router's user only and short-lived.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;
use tracing::{error, warn};
use wire::state_file;

use crate::log_thread::unix_us;

/// The name in the router's directory. Records of a key each, the newest first.
const FILE: &str = "ticket-keys";

/// How long a key seals, and how long after that its tickets are taken.
const SEALS_SECONDS: u64 = 12 * 60 * 60;
const OPENS_SECONDS: u64 = 24 * 60 * 60;

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const TIME_BYTES: usize = 8;
const RECORD_BYTES: usize = TIME_BYTES + NAME_BYTES + SECRET_BYTES;

/// Seconds since the Unix epoch.
type Clock = fn() -> u64;

pub(crate) struct TicketKeys {
    path: PathBuf,
    /// The first one seals.
    keys: ArcSwap<Vec<Arc<Key>>>,
    replacing: Mutex<()>,
    random: SystemRandom,
    clock: Clock,
}

struct Key {
    made_at: u64,
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET_BYTES],
    sealing: LessSafeKey,
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketKeys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TicketKeys {
    /// Takes the keys that the router before had. A file that cannot be read or written costs resumption, no more.
    pub(crate) fn open(router_dir: &Path) -> Self {
        Self::open_at(router_dir, || unix_us() / 1_000_000)
    }

    fn open_at(router_dir: &Path, clock: Clock) -> Self {
        let path = router_dir.join(FILE);
        let bytes = fs::read(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(%error, "Cannot read the keys of TLS session tickets; clients begin new sessions");
            }
            Vec::new()
        });
        let keys = if bytes.len().is_multiple_of(RECORD_BYTES) {
            bytes.chunks_exact(RECORD_BYTES).filter_map(Key::parse).map(Arc::new).collect()
        } else {
            warn!("The keys of TLS session tickets are damaged; clients begin new sessions");
            Vec::new()
        };
        let this = Self {
            path,
            keys: ArcSwap::from_pointee(keys),
            replacing: Mutex::new(()),
            random: SystemRandom::new(),
            clock,
        };
        this.sealing_key();
        this
    }

    /// The key to seal with; a new one if the present one is too old.
    fn sealing_key(&self) -> Option<Arc<Key>> {
        let now = (self.clock)();
        let current = |keys: &[Arc<Key>]| keys.first().filter(|key| key.age(now) < SEALS_SECONDS).cloned();
        if let Some(key) = current(&self.keys.load()) {
            return Some(key);
        }
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.keys.load_full();
        if let Some(key) = current(&before) {
            return Some(key);
        }
        let new = Arc::new(Key::make(&self.random, now)?);
        let kept = before.iter().filter(|key| key.age(now) < SEALS_SECONDS + OPENS_SECONDS).cloned();
        let keys: Vec<Arc<Key>> = [new.clone()].into_iter().chain(kept).collect();
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.record()).collect();
        if let Err(error) = state_file::write_bytes(&self.path, &bytes) {
            error!(%error, "TLS sessions will not outlast a restart");
        }
        self.keys.store(Arc::new(keys));
        Some(new)
    }
}

impl Key {
    fn make(random: &SystemRandom, now: u64) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES + SECRET_BYTES];
        random.fill(&mut bytes).ok()?;
        Self::parse(&[&now.to_be_bytes()[..], &bytes].concat())
    }

    fn parse(record: &[u8]) -> Option<Self> {
        let (made_at, rest) = record.split_first_chunk::<TIME_BYTES>()?;
        let (name, rest) = rest.split_first_chunk::<NAME_BYTES>()?;
        let secret = *rest.first_chunk::<SECRET_BYTES>()?;
        let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).ok()?);
        Some(Self { made_at: u64::from_be_bytes(*made_at), name: *name, secret, sealing })
    }

    fn record(&self) -> Vec<u8> {
        [&self.made_at.to_be_bytes()[..], &self.name, &self.secret].concat()
    }

    /// One from the future was made before the clock was set: it is as good as new.
    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.made_at)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(OPENS_SECONDS).unwrap_or(u32::MAX)
    }

    /// The key's name, a number used once, and the state, which is sealed together with the name.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.sealing_key()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(key.name);
        key.sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let now = (self.clock)();
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.name == *name && key.age(now) < SEALS_SECONDS + OPENS_SECONDS)?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        Some(key.sealing.open_in_place(nonce, Aad::from(*name), &mut state).ok()?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn tickets_outlast_a_restart_and_old_ones_end() {
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let clock: Clock = || NOW.load(Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let before = TicketKeys::open_at(dir.path(), clock);
        let ticket = before.encrypt(b"session").unwrap();
        assert_eq!(before.decrypt(&ticket).unwrap(), b"session");
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        NOW.fetch_add(SEALS_SECONDS - 1, Ordering::Relaxed);
        let after = TicketKeys::open_at(dir.path(), clock);
        assert_eq!(after.decrypt(&ticket).unwrap(), b"session");
        let name = |ticket: &[u8]| ticket[..NAME_BYTES].to_vec();
        let same_key = after.encrypt(b"other").unwrap();
        assert_eq!(name(&same_key), name(&ticket));
        assert_ne!(same_key, after.encrypt(b"other").unwrap(), "no number is used twice");

        NOW.fetch_add(1, Ordering::Relaxed);
        let next_key = after.encrypt(b"other").unwrap();
        assert_ne!(name(&next_key), name(&ticket), "its time is over");
        assert_eq!(after.decrypt(&ticket).unwrap(), b"session", "but what it sealed is taken for another day");
        let restarted = TicketKeys::open_at(dir.path(), clock);
        assert_eq!(restarted.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(restarted.decrypt(&next_key).unwrap(), b"other");

        NOW.fetch_add(OPENS_SECONDS, Ordering::Relaxed);
        assert_eq!(restarted.decrypt(&ticket), None);
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = TicketKeys::open(dir.path());
        let ticket = keys.encrypt(b"session").unwrap();
        for at in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[at] ^= 1;
            assert_eq!(keys.decrypt(&damaged), None, "byte {at}");
            assert_eq!(keys.decrypt(&ticket[..at]), None, "{at} bytes");
        }
        fs::write(dir.path().join(FILE), b"damaged").unwrap();
        let made_anew = TicketKeys::open(dir.path());
        assert_eq!(made_anew.decrypt(&ticket), None);
        assert!(made_anew.encrypt(b"session").is_some());
    }
}
