//! The dyno that visits go to, and what they hear of it.

use std::sync::Arc;
use std::time::Duration;

use domain::departure::{self, KILLED, Visited, Wanted};
use domain::dyno::DynoState;
use domain::release::ReleaseState;
use shim::client::{VisitError, VisitStreams, Visiting};
use store::StoreError;
use store::dyno::Dyno;
use tokio::time::timeout;
use wire::shim::Visit;

use crate::idle::Idle;
use crate::one_off;
use crate::state::ApiState;

/// How long after a program was killed its dyno's end may take to be recorded. One that is killed in a dyno that goes on
/// is as much later told of.
const RECORD_PAUSE: Duration = Duration::from_secs(2);

/// Where visits go.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) state: Arc<ApiState>,
    /// As it was when the visits began.
    dyno: Dyno,
    /// Of all visits over one connection.
    pub(super) idle: Arc<Idle>,
}

/// How a program in a dyno ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, or because somebody wanted it to. `note` says that its dyno ends, too.
    Own { status: u32, note: Option<String> },
    /// Its dyno has ended and it was in there: nobody knows how it would have ended.
    WithDyno { why: String },
}

impl Place {
    pub(super) fn new(state: &Arc<ApiState>, dyno: Dyno) -> Self {
        Self { state: Arc::clone(state), dyno, idle: Arc::new(Idle::begin(state.config.session_idle)) }
    }

    pub(super) async fn visit(&self, visit: &Visit) -> Result<(Visiting, VisitStreams), VisitError> {
        let run_dir = self.state.config.data_dir.join("run").join(self.dyno.id.to_string());
        shim::client::visit(&self.state.config.berth_executable, &run_dir, visit).await
    }

    /// What became of a program with this exit code.
    pub(super) async fn end_of(&self, status: u32) -> End {
        let note = self.departure(status == KILLED).await;
        match note {
            Some(why) if departure::may_have_ended_with_dyno(status) => End::WithDyno { why },
            note => End::Own { status, note },
        }
    }

    /// Why the dyno ends, if it does. With `killed` something in it was killed, and it may end for that reason: nobody
    /// announces the end of a dyno that crashes.
    pub(super) async fn departure(&self, killed: bool) -> Option<String> {
        // Nobody knows where the store fails: then nothing is claimed.
        let now = self.words().ok()?;
        if now.is_some() || !killed {
            return now;
        }
        timeout(RECORD_PAUSE, one_off::ended(&self.state, self.dyno.id)).await.ok()?;
        self.words().ok()?
    }

    fn words(&self) -> Result<Option<String>, StoreError> {
        let store = &self.state.store;
        // The row of one that has crashed makes room for the next.
        let found = store.dyno(self.dyno.id)?;
        let dyno = found.unwrap_or_else(|| Dyno { state: DynoState::Crashed, ..self.dyno.clone() });
        let releases = store.live_releases(dyno.app)?;
        let serving = releases.iter().rev().find(|release| release.state == ReleaseState::Serving);
        let formation = store.formation(dyno.app)?;
        let entry = formation.iter().map(|row| &row.entry).find(|row| row.process_type == dyno.name.process_type);
        let visited = Visited {
            name: &dyno.name,
            kind: dyno.kind,
            state: dyno.state,
            request: dyno.request,
            release: dyno.release,
            size: &dyno.size,
        };
        let wanted = Wanted { serving: serving.map(|release| (release.id, release.version)), entry };
        Ok(departure::departure(&visited, &wanted))
    }
}

/// A line of ours between what a program writes, also where its terminal is one without line discipline.
pub(super) fn notice(text: &str) -> String {
    format!("\r\n !    {text}\r\n")
}
