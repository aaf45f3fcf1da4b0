//! Limits on how much of the router one client address, or one app, may hold at a time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many threads can count at once.
const SHARDS: usize = 16;

/// Connections per client address.
#[derive(Debug, Default)]
pub(crate) struct ClientPlaces {
    shards: [Mutex<HashMap<u64, usize>>; SHARDS],
    hasher: RandomState,
}

/// One connection's share.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    places: Arc<ClientPlaces>,
    client: u64,
}

impl ClientPlaces {
    /// `None` if this client has `places_max` connections already.
    ///
    /// Programs on this machine are not limited: one of them may be a proxy for everybody.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, places_max: usize) -> Option<ClientPlace> {
        let client = key(address);
        let mut shard = self.shard(client);
        let count = shard.entry(client).or_insert(0);
        if *count >= places_max && !address.to_canonical().is_loopback() {
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

/// Requests and upgraded connections of one app.
#[derive(Debug, Default)]
pub(crate) struct AppPlaces(AtomicUsize);

#[derive(Debug)]
pub(crate) struct AppPlace(Arc<AppPlaces>);

impl AppPlaces {
    /// `None` if the app has `places_max` already.
    pub(crate) fn enter(self: &Arc<Self>, places_max: usize) -> Option<AppPlace> {
        let place = AppPlace(self.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < places_max).then_some(place)
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for AppPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(ClientPlaces::default());
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
        let places = Arc::new(ClientPlaces::default());
        for n in 0..1_000_u32 {
            drop(places.enter(std::net::Ipv4Addr::from(n).into(), 1));
        }
        assert!(places.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn an_app_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(AppPlaces::default());
        let first = places.enter(1).unwrap();
        assert!(places.enter(1).is_none());
        drop(first);
        assert!(places.enter(1).is_some());
    }
}
