//! Limits on how much of the router one client address, or one app, may hold at a time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::refused::{Reason, Refused};

/// So many threads can count at once.
const SHARDS: usize = 16;

/// Connections per client address.
#[derive(Debug)]
pub(crate) struct ClientPlaces {
    shards: [Mutex<HashMap<u64, usize>>; SHARDS],
    hasher: RandomState,
    /// Those for which there was no place.
    pub(crate) refused: Refused,
}

/// One connection's share.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    places: Arc<ClientPlaces>,
    client: u64,
}

impl ClientPlaces {
    /// Whoever finds no place is refused for this reason.
    pub(crate) fn new(reason: Reason) -> Self {
        Self { shards: Default::default(), hasher: RandomState::default(), refused: Refused::new(reason) }
    }

    /// `None` if this client has `places_max` connections already.
    ///
    /// Programs on this machine are not limited: one of them may be a proxy for everybody.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, places_max: usize) -> Option<ClientPlace> {
        let client = key(address);
        let mut shard = self.shard(client);
        let count = shard.entry(client).or_insert(0);
        if *count >= places_max && !address.to_canonical().is_loopback() {
            drop(shard);
            self.refused.note(address);
            return None;
        }
        *count += 1;
        drop(shard);
        Some(ClientPlace { places: self.clone(), client })
    }

    fn shard(&self, client: u64) -> MutexGuard<'_, HashMap<u64, usize>> {
        let hash = usize::try_from(self.hasher.hash_one(client) % SHARDS as u64).unwrap_or(0);
        self.shards[hash].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut shard = self.places.shard(self.client);
        if let Some(count) = shard.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.client);
            }
        }
    }
}

/// An IPv6 client is given a network of 64 bits, so that is what counts as one.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => {
            let bits = u128::from(address).to_be_bytes();
            bits.first_chunk().map_or(0, |network| u64::from_be_bytes(*network))
        }
    }
}

/// Requests and upgraded connections of one app, and what is kept in memory of them.
#[derive(Debug)]
pub(crate) struct AppPlaces {
    taken: AtomicUsize,
    /// Of requests whose clients have left and whose dynos have not answered.
    left: AtomicUsize,
    held: AtomicUsize,
    by_all: Arc<ByAll>,
}

#[derive(Debug)]
pub(crate) struct AppPlace(Arc<AppPlaces>);

/// The place of a request whose client has left: it holds a connection to a dyno like any other.
#[derive(Debug)]
pub(crate) struct LeftPlace(Arc<AppPlaces>);

impl AppPlaces {
    pub(crate) fn new(by_all: Arc<ByAll>) -> Self {
        Self { taken: AtomicUsize::new(0), left: AtomicUsize::new(0), held: AtomicUsize::new(0), by_all }
    }

    /// `None` if the app has `places_max` already.
    pub(crate) fn enter(self: &Arc<Self>, places_max: usize) -> Option<AppPlace> {
        let place = AppPlace(self.clone());
        self.by_all.requests.fetch_add(1, Ordering::Relaxed);
        let before = self.taken.fetch_add(1, Ordering::Relaxed) + self.left.load(Ordering::Relaxed);
        (before < places_max).then_some(place)
    }

    /// Counts a request that has lost its client, whatever the bound.
    pub(crate) fn leave(self: &Arc<Self>) -> LeftPlace {
        self.by_all.requests.fetch_add(1, Ordering::Relaxed);
        self.left.fetch_add(1, Ordering::Relaxed);
        LeftPlace(self.clone())
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Room in memory; `None` where none is needed.
    ///
    /// # Errors
    /// The app has as much already as it leaves to the others: alone it may have half of all there is, beside another such
    /// app a third.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Result<Option<Hold>, TooMuchHeld> {
        self.hold_up_to(bytes, 1)
    }

    /// The same for what can be done without: only half of the app's share is for that.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn hold_spare(self: &Arc<Self>, bytes: usize) -> Result<Option<Hold>, TooMuchHeld> {
        self.hold_up_to(bytes, 2)
    }

    fn hold_up_to(self: &Arc<Self>, bytes: usize, part: usize) -> Result<Option<Hold>, TooMuchHeld> {
        if bytes == 0 {
            return Ok(None);
        }
        let hold = Hold { places: self.clone(), bytes };
        let of_app = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let by_all = self.by_all.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if of_app <= self.by_all.held_max.saturating_sub(by_all) / part { Ok(Some(hold)) } else { Err(TooMuchHeld) }
    }
}

impl Drop for AppPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.by_all.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for LeftPlace {
    fn drop(&mut self) {
        self.0.left.fetch_sub(1, Ordering::Relaxed);
        self.0.by_all.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request holds so much anyway, and may.
pub(crate) const LITTLE_BYTES: usize = 8 * 1024;

/// Requests of all apps, and what is kept in memory of them and of their answers because the other side does not take it.
#[derive(Debug)]
pub(crate) struct ByAll {
    requests: AtomicUsize,
    held: AtomicUsize,
    held_max: usize,
}

impl ByAll {
    pub(crate) const fn new(held_max: usize) -> Self {
        Self { requests: AtomicUsize::new(0), held: AtomicUsize::new(0), held_max }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Default for ByAll {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// An app holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuchHeld;

/// One request's part of that.
#[derive(Debug)]
pub(crate) struct Hold {
    places: Arc<AppPlaces>,
    bytes: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.places.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.places.by_all.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(ClientPlaces::new(Reason::ClientConnections));
        let enter = |address: &str| places.enter(address.parse().unwrap(), 2);
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let _three =
            [enter("2001:db8::1").unwrap(), enter("2001:db8::ffff:1").unwrap(), enter("2001:db8:0:1::1").unwrap()];
        assert!(enter("2001:db8::2").is_none(), "the same network");
        let _here = [enter("127.0.0.1").unwrap(), enter("127.0.0.1").unwrap(), enter("127.0.0.1").unwrap()];
    }

    #[test]
    fn nothing_is_kept_of_clients_that_left() {
        let places = Arc::new(ClientPlaces::new(Reason::ClientConnections));
        for n in 0..1_000_u32 {
            drop(places.enter(std::net::Ipv4Addr::from(n).into(), 1));
        }
        assert!(places.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn an_app_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(AppPlaces::new(Arc::default()));
        let first = places.enter(1).unwrap();
        assert!(places.enter(1).is_none());
        drop(first);
        assert!(places.enter(1).is_some());
        let left = places.leave();
        assert!(places.enter(1).is_none(), "its dyno still works on it");
        assert_eq!((places.taken(), places.by_all.requests()), (0, 1));
        drop(left);
        assert!(places.enter(1).is_some());
        assert_eq!(places.by_all.requests(), 0);
    }

    #[test]
    fn an_app_holds_no_more_than_it_leaves_to_the_others() {
        let by_all = Arc::new(ByAll::new(120));
        let app = || Arc::new(AppPlaces::new(by_all.clone()));
        let (one, other, third) = (app(), app(), app());
        let fill = |app: &Arc<AppPlaces>| std::iter::from_fn(|| app.hold(1).unwrap_or(None)).collect::<Vec<Hold>>();
        let mut of_one = fill(&one);
        assert_eq!(of_one.len(), 60);
        let of_other = fill(&other);
        assert_eq!(of_other.len(), 30, "half of what is left");
        assert!(one.hold(1).is_err() && one.hold(0).is_ok());
        of_one.truncate(40);
        assert_eq!(fill(&one).len(), 5, "with a third each, none has more");
        drop((of_one, of_other));
        assert_eq!(fill(&third).len(), 60);
        let spare: Vec<Hold> = std::iter::from_fn(|| third.hold_spare(1).unwrap_or(None)).collect();
        assert_eq!(spare.len(), 40, "half of what the others have left");
        assert_eq!(fill(&third).len(), 20);
    }
}
