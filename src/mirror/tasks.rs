//! Where work goes on that no client waits for.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Starts tasks on one tracker, and on the runtime that this was made on: who asks for the work may live on the runtime of a
/// few connections, which a download would keep from them.
#[derive(Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Tasks {
    /// Tasks that end when `stop` is cancelled. Must be called on a runtime.
    pub(super) fn new(tracker: TaskTracker, stop: CancellationToken) -> Self {
        Self { tracker, stop, runtime: Handle::current() }
    }

    /// Runs `task` to its end, or until the proxy stops.
    pub(super) fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.start_then(task, |_| ());
    }

    /// Runs `task` to its end, or until the proxy stops, and then `end` with what came of it, if it came that far.
    pub(super) fn start_then<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
        end: impl FnOnce(Option<T>) + Send + 'static,
    ) {
        let stop = self.stop.clone();
        let task = async move { end(stop.run_until_cancelled(task).await) };
        self.tracker.spawn_on(task, &self.runtime);
    }
}
