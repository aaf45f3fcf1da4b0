//! Which app a host leads to: read without a lock, and changed at a cost that depends on the change alone.
//!
//! A change copies what it changes before readers see it. One map of all hosts would be copied whole for each new
//! domain; here it is one of many small ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::app::App;

const SHARDS: usize = 1_024;

type Shard = HashMap<String, Arc<App>>;

#[derive(Debug)]
pub(crate) struct HostMap {
    shards: Box<[ArcSwap<Shard>]>,
}

impl Default for HostMap {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_shard| ArcSwap::default()).collect() }
    }
}

impl HostMap {
    /// An exact name wins over a wildcard, as with certificates; `*.shop.example` stands for one label.
    pub(crate) fn get(&self, host: &str) -> Option<Arc<App>> {
        self.exact(host).or_else(|| self.exact(&format!("*.{}", host.split_once('.')?.1)))
    }

    fn exact(&self, host: &str) -> Option<Arc<App>> {
        self.shards[shard(host)].load().get(host).cloned()
    }

    /// Takes hosts from apps, then gives hosts to apps. Each host goes from one app to the other in one moment.
    pub(crate) fn change(
        &self,
        gone: impl IntoIterator<Item = (String, Uuid)>,
        new: impl IntoIterator<Item = (String, Arc<App>)>,
    ) {
        let mut changed: BTreeMap<usize, Shard> = BTreeMap::new();
        for (host, app) in gone {
            let shard = self.copy(&host, &mut changed);
            // Another app may have it by now.
            if shard.get(&host).is_some_and(|present| present.id == app) {
                shard.remove(&host);
            }
        }
        for (host, app) in new {
            self.copy(&host, &mut changed).insert(host, app);
        }
        for (index, shard) in changed {
            self.shards[index].store(Arc::new(shard));
        }
    }

    fn copy<'a>(&self, host: &str, changed: &'a mut BTreeMap<usize, Shard>) -> &'a mut Shard {
        let index = shard(host);
        changed.entry(index).or_insert_with(|| Shard::clone(&self.shards[index].load()))
    }

    /// Calls `visit` with the app of each host.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&App)) {
        for shard in &self.shards {
            shard.load().values().for_each(|app| visit(app));
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
