//! Who may come to a dyno, and who may ask for it with a key instead of a token. In memory: a server that restarts has cut
//! every session, and its clients ask again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use domain::id::DynoId;
use domain::secret::Secret;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::Actor;
use crate::ground::Ground;

/// How long after its request a session may begin.
const OPENED_VALID: Duration = Duration::from_secs(60);
/// How long after its last connection one more may come: a forwarder makes one for each that it carries.
const USED_VALID: Duration = Duration::from_secs(60 * 60);
/// After that the client must ask again in any case.
const SESSION_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a key that was introduced stands for its bearer.
const INTRODUCED_VALID: Duration = Duration::from_secs(60);

/// Visits of one session at the same time.
pub(crate) const VISITS_MAX: usize = 64;

/// Of each kind. At the bound the one that ends first gives way.
const ENTRIES_MAX: usize = 1_000;

/// What the bearer of a key may enter, with which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) ground: Ground,
    pub(crate) dyno: DynoId,
    /// Of a client that speaks SSH: public, in base64. Others come with their token.
    pub(crate) key: Option<String>,
}

/// Who stands behind a key that was introduced.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) actor: Actor,
    pub(crate) tunnel_host: String,
}

#[derive(Debug, Default)]
pub(crate) struct Credentials(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By the name that the client gives.
    sessions: BTreeMap<String, Entry<Opened>>,
    /// By the digest of the key.
    bearers: BTreeMap<Vec<u8>, Entry<Bearer>>,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    until: Timestamp,
}

#[derive(Debug)]
struct Opened {
    session: Session,
    at: Timestamp,
    places: Arc<Semaphore>,
}

impl Credentials {
    /// Gives the name that a session is entered by.
    pub(crate) fn open(&self, session: Session, now: Timestamp) -> String {
        let name = format!("dyno-{}", Uuid::new_v4().simple());
        let opened = Opened { session, at: now, places: Arc::new(Semaphore::new(VISITS_MAX)) };
        insert(&mut self.entries().sessions, name.clone(), Entry { value: opened, until: now + OPENED_VALID }, now);
        name
    }

    /// The session of a name, if the key is its own.
    pub(crate) fn session(&self, name: &str, key: Option<&str>, now: Timestamp) -> Option<Session> {
        let entries = self.entries();
        let entry = entries.sessions.get(name).filter(|entry| now < entry.until)?;
        (entry.value.session.key.as_deref() == key).then(|| entry.value.session.clone())
    }

    /// A place for each visit of a session that is under way.
    pub(crate) fn places(&self, name: &str) -> Option<Arc<Semaphore>> {
        self.entries().sessions.get(name).map(|entry| Arc::clone(&entry.value.places))
    }

    /// Notes that a session was entered.
    pub(crate) fn used(&self, name: &str, now: Timestamp) {
        if let Some(entry) = self.entries().sessions.get_mut(name) {
            entry.until = (now + USED_VALID).min(entry.value.at + SESSION_MAX);
        }
    }

    pub(crate) fn introduce(&self, key: &Secret<String>, bearer: Bearer, now: Timestamp) {
        let entry = Entry { value: bearer, until: now + INTRODUCED_VALID };
        insert(&mut self.entries().bearers, digest_of(key), entry, now);
    }

    pub(crate) fn bearer(&self, key: &Secret<String>, now: Timestamp) -> Option<Bearer> {
        let entries = self.entries();
        entries.bearers.get(&digest_of(key)).filter(|entry| now < entry.until).map(|entry| entry.value.clone())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys of a map are compared byte by byte, digests may be.
fn digest_of(key: &Secret<String>) -> Vec<u8> {
    digest::digest(&digest::SHA256, key.expose().as_bytes()).as_ref().to_vec()
}

fn insert<K: Ord + Clone, T>(entries: &mut BTreeMap<K, Entry<T>>, key: K, entry: Entry<T>, now: Timestamp) {
    entries.retain(|_key, entry| now < entry.until);
    if entries.len() >= ENTRIES_MAX {
        let first = entries.iter().min_by_key(|(_key, entry)| entry.until).map(|(key, _entry)| key.clone());
        first.map(|key| entries.remove(&key));
    }
    entries.insert(key, entry);
}

#[cfg(test)]
mod tests {
    use domain::access::Permission;
    use domain::id::{AccountId, AppId};

    use super::*;
    use crate::ground::Holder;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn session(key: &str) -> Session {
        let holder = Holder::parse(&format!("{}~root", AccountId::random())).unwrap();
        let ground = Ground { holder, app: AppId::random(), permission: Permission::Operate };
        Session { ground, dyno: DynoId::random(), key: Some(key.to_owned()) }
    }

    #[test]
    fn a_session_needs_its_own_key_and_begins_within_a_minute() {
        let credentials = Credentials::default();
        let name = credentials.open(session("AAAA"), at(100));
        assert!(credentials.session(&name, Some("AAAA"), at(159)).is_some());
        assert_eq!(credentials.session(&name, Some("BBBB"), at(101)), None);
        assert_eq!(credentials.session("dyno-other", Some("AAAA"), at(101)), None);
        assert_eq!(credentials.session(&name, None, at(101)), None);
        assert_eq!(credentials.session(&name, Some("AAAA"), at(160)), None);
    }

    #[test]
    fn a_session_that_is_used_lasts_for_a_day_at_most() {
        let credentials = Credentials::default();
        let name = credentials.open(session("AAAA"), at(0));
        let day = 24 * 60 * 60;
        for second in (30..day).step_by(3_000) {
            assert!(credentials.session(&name, Some("AAAA"), at(second)).is_some(), "{second}");
            credentials.used(&name, at(second));
        }
        assert_eq!(credentials.session(&name, Some("AAAA"), at(day)), None);
    }

    #[test]
    fn what_ends_first_gives_way() {
        let credentials = Credentials::default();
        let names: Vec<String> = (0..=1_000)
            .map(|number| credentials.open(session("AAAA"), Timestamp::from_millisecond(number).unwrap()))
            .collect();
        let now = at(2);
        assert_eq!(credentials.session(&names[0], Some("AAAA"), now), None);
        assert!(names[1..].iter().all(|name| credentials.session(name, Some("AAAA"), now).is_some()));
    }
}
