//! What belongs to a host, its app or its certificate: read without a lock, and changed at a cost that depends on the
//! change alone.
//!
//! A change copies what it changes before readers see it. One map of all hosts would be copied whole for each new
//! domain; here it is one of many small ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

const SHARDS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct HostMap<V> {
    shards: Box<[ArcSwap<HashMap<String, V>>]>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_shard| ArcSwap::from_pointee(HashMap::new())).collect() }
    }
}

impl<V: Clone> HostMap<V> {
    /// An exact name wins over a wildcard; `*.shop.example` stands for one label.
    pub(crate) fn get(&self, host: &str) -> Option<V> {
        self.exact(host).or_else(|| self.exact(&format!("*.{}", host.split_once('.')?.1)))
    }

    fn exact(&self, host: &str) -> Option<V> {
        self.shards[shard(host)].load().get(host).cloned()
    }

    /// Takes away from hosts what `is_gone` says of what they have, then gives to hosts. A host that is in both has the
    /// one or the other at every moment.
    pub(crate) fn change<G>(
        &self,
        gone: impl IntoIterator<Item = (String, G)>,
        is_gone: impl Fn(&V, &G) -> bool,
        new: impl IntoIterator<Item = (String, V)>,
    ) {
        let mut changed: BTreeMap<usize, HashMap<String, V>> = BTreeMap::new();
        for (host, of) in gone {
            let shard = self.copy(&host, &mut changed);
            if shard.get(&host).is_some_and(|present| is_gone(present, &of)) {
                shard.remove(&host);
            }
        }
        for (host, value) in new {
            self.copy(&host, &mut changed).insert(host, value);
        }
        for (index, shard) in changed {
            self.shards[index].store(Arc::new(shard));
        }
    }

    fn copy<'a>(&self, host: &str, changed: &'a mut BTreeMap<usize, HashMap<String, V>>) -> &'a mut HashMap<String, V> {
        let index = shard(host);
        changed.entry(index).or_insert_with(|| HashMap::clone(&self.shards[index].load()))
    }

    /// Calls `visit` with what each host has.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&V)) {
        for shard in &self.shards {
            shard.load().values().for_each(&mut visit);
        }
    }
}

/// Needs no secret: whoever could choose hosts to fill one shard is an operator of this router.
fn shard(host: &str) -> usize {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let hash = host.bytes().fold(OFFSET, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME));
    (hash ^ (hash >> 16)) as usize % SHARDS
}
