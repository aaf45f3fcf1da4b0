//! What dynos have under way, as a router tells the server and the router that takes over from it.

use std::collections::BTreeMap;

use uuid::Uuid;
use wire::routes::FromRouter;

/// Of one dyno.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) requests: u32,
    /// Those of them that do not count against a limit that is learned.
    pub(crate) conversations: u32,
}

/// A dyno that is missing has nothing.
#[derive(Debug, Default)]
pub(crate) struct InFlight(pub(crate) BTreeMap<Uuid, Count>);

impl InFlight {
    pub(crate) fn told(dynos: &[(Uuid, u32)], conversations: &[(Uuid, u32)]) -> Self {
        let mut told = Self::default();
        for &(dyno, requests) in dynos {
            told.add(dyno, Count { requests, conversations: 0 });
        }
        for &(dyno, conversations) in conversations {
            told.add(dyno, Count { requests: 0, conversations });
        }
        told
    }

    pub(crate) fn add(&mut self, dyno: Uuid, more: Count) {
        let count = self.0.entry(dyno).or_default();
        count.requests += more.requests;
        count.conversations += more.conversations;
    }

    pub(crate) fn add_all(&mut self, others: Self) {
        others.0.into_iter().for_each(|(dyno, count)| self.add(dyno, count));
    }

    pub(crate) fn of(&self, dyno: Uuid) -> Count {
        self.0.get(&dyno).copied().unwrap_or_default()
    }
}

impl From<InFlight> for FromRouter {
    fn from(InFlight(counts): InFlight) -> Self {
        let talking = counts.iter().filter(|(_dyno, count)| count.conversations > 0);
        Self::InFlight {
            dynos: counts.iter().map(|(&dyno, count)| (dyno, count.requests)).collect(),
            conversations: talking.map(|(&dyno, count)| (dyno, count.conversations)).collect(),
        }
    }
}
