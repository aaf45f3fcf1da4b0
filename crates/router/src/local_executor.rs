//! Where hyper's HTTP/2 puts its tasks: on the worker thread that the connection belongs to.

use hyper::rt::Executor;
use tokio::task::spawn_local;

#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // Ends with its connection.
        drop(spawn_local(async move { drop(future.await) }));
    }
}
