//! Replaces dynos whose places are held by requests that nobody waits for any more.
//!
//! The router says which ones there are; [`domain::wedge`] decides.

use std::time::Duration;

use domain::duration_text;
use domain::id::DynoId;
use domain::rollout::DynoRequest;
use domain::wedge::{self, StuckDyno};
use store::StoreError;
use store::dyno::DynoSelection;
use wire::routes::StuckRequest;

use crate::health::checked_dynos;
use crate::main_loop::MainLoop;
use crate::router_link::RouterView;
use crate::world::AppWorld;

impl MainLoop {
    /// Replaces a wedged dyno: a successor first, one at a time. The log says what it was at work on.
    pub(crate) async fn replace_wedged(&self, world: &AppWorld, router: &RouterView) -> Result<(), StoreError> {
        if router.status.stuck.is_empty() || world.under_way().is_some() {
            return Ok(());
        }
        let stuck = router.status.stuck.iter();
        let stuck: Vec<StuckDyno> = stuck
            .map(|stuck| StuckDyno { id: DynoId::from_uuid(stuck.dyno), stuck: stuck.held, limit: stuck.limit })
            .collect();
        let Some(id) = wedge::replace(&checked_dynos(world), &stuck) else { return Ok(()) };
        let told = router.status.stuck.iter().find(|stuck| stuck.dyno == id.uuid());
        let dyno = world.dynos.iter().find(|dyno| dyno.id == id);
        let (Some(told), Some(dyno)) = (told, dyno) else { return Ok(()) };
        let name = dyno.name.to_string();
        self.log.dyno(world.app.id, &name, &text(told.held, told.limit, &told.requests));
        self.store.request_dynos(world.app.id, DynoSelection::One(id.to_string()), DynoRequest::Restart).await?;
        Ok(())
    }
}

fn text(held: u32, limit: u32, requests: &[StuckRequest]) -> String {
    let mut paths: Vec<String> = requests
        .iter()
        .map(|request| {
            let age = duration_text::show(Duration::from_secs(request.seconds));
            format!("{} {} for {age}", request.method, request.path)
        })
        .collect();
    let untold = (held as usize).saturating_sub(requests.len());
    if untold > 0 {
        paths.push(format!("and {untold} more"));
    }
    format!(
        "Wedged: {held} of {limit} places are held by requests that got no answer and that nobody waits for any more \
         ({}); replacing it",
        paths.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_a_dyno_was_at_work_on() {
        let request = StuckRequest { method: "GET".to_owned(), path: "/export".to_owned(), seconds: 75 };
        assert_eq!(
            text(3, 4, &[request]),
            "Wedged: 3 of 4 places are held by requests that got no answer and that nobody waits for any more \
             (GET /export for 75s, and 2 more); replacing it"
        );
    }
}
