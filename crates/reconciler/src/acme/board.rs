//! Answers to the challenges of orders under way, for the route table.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use wire::routes::ChallengeRoute;

use crate::router_link::RouterView;

/// How long a router that is restarting may take to answer.
const ROUTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Shared by the orders, which put answers up, and the main loop, which gives them to the router.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChallengeBoard(Arc<watch::Sender<Arc<Vec<ChallengeRoute>>>>);

impl ChallengeBoard {
    /// All of them, and a bell for when they change.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<ChallengeRoute>>> {
        self.0.subscribe()
    }

    /// Puts an answer up and waits until every thread of the router gives it. `None` if the router does not in time.
    pub(crate) async fn put(&self, route: ChallengeRoute, router: &mut watch::Receiver<RouterView>) -> Option<PutUp> {
        self.0.send_modify(|routes| Arc::make_mut(routes).push(route.clone()));
        let put_up = PutUp { board: self.clone(), route };
        let in_force = router.wait_for(|view| view.connected && view.challenges.contains(&put_up.route));
        match timeout(ROUTER_TIMEOUT, in_force).await {
            Ok(Ok(_view)) => Some(put_up),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

/// An answer that is given until this is dropped, however its order ends.
#[derive(Debug)]
pub(crate) struct PutUp {
    board: ChallengeBoard,
    route: ChallengeRoute,
}

impl Drop for PutUp {
    fn drop(&mut self) {
        self.board.0.send_modify(|routes| Arc::make_mut(routes).retain(|route| *route != self.route));
    }
}
