//! The answer to a challenge, where the authority will look for it: on the board, or in somebody's DNS.

use std::path::PathBuf;

use domain::dns::DnsZone;
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;
use tracing::warn;

use super::board::PutUp;
use crate::dns::{self, DnsError, DnsProvider, TxtRecord};

pub(crate) enum Answer {
    /// Taken down when it is dropped.
    OnBoard(PutUp),
    InDns(DnsAnswer),
}

/// A record that must be removed again.
pub(crate) struct DnsAnswer {
    provider: Box<dyn DnsProvider>,
    record: TxtRecord,
    /// One at a time: a wildcard and what it is below have one name for their records, and providers replace by name.
    _turn: OwnedMutexGuard<()>,
}

impl DnsAnswer {
    /// Puts the record and waits until it can be seen.
    pub(crate) async fn put(
        zone: DnsZone,
        ca_file: PathBuf,
        record: TxtRecord,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, DnsError> {
        let put = move || {
            let mut provider = dns::provider(&zone, &ca_file)?;
            provider.put(&record)?;
            let mut answer = Self { provider, record, _turn: turn };
            match answer.provider.wait() {
                Ok(()) => Ok(answer),
                Err(error) => {
                    answer.remove();
                    Err(error)
                }
            }
        };
        // It is not aborted, and does not panic.
        spawn_blocking(put).await.unwrap_or(Err(DnsError::Ended))
    }

    fn remove(&mut self) {
        if let Err(error) = self.provider.remove(&self.record) {
            let error = domain::display_chain::display_chain(&error);
            warn!(record = self.record.name, error, "cannot remove the record of a challenge; delete it by hand");
        }
    }
}

impl Answer {
    pub(crate) async fn take_down(self) {
        match self {
            Self::OnBoard(put_up) => drop(put_up),
            // The order is over for whoever waits, and an end of the server leaves a record that says nothing.
            Self::InDns(mut answer) => drop(spawn_blocking(move || answer.remove()).await),
        }
    }
}
