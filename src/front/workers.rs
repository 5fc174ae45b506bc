//! The threads that serve connections.
//!
//! Each has a runtime of its own, so that an answer is made by the thread that its request woke. A runtime that shares its
//! tasks among threads wakes another for each burst of requests, and answers wait for that (`benches/README.md` has what it
//! cost). A connection stays with its worker to the end.

use std::io;
use std::sync::{Arc, mpsc};

use tokio::runtime::{self, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;

/// Threads that may wait for the disk or compare passwords, of all workers together.
const BLOCKING: usize = 512;
/// Of each worker at least, however many there are.
const LEAST_BLOCKING: usize = 16;

/// Threads for the connections of all listeners. Dropping it breaks off the connections that are left.
pub struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
}

struct Worker {
    runtime: Handle,
    /// Each of its connections holds a clone.
    connections: Arc<()>,
}

impl Workers {
    /// Starts so many threads, and at least one.
    ///
    /// # Errors
    /// The system has no more threads or descriptors.
    pub fn start(threads: usize) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        // Ends those that were started, should another not start.
        let started = stop.clone().drop_guard();
        let threads = threads.max(1);
        let blocking = (BLOCKING / threads).max(LEAST_BLOCKING);
        let workers = (0..threads).map(|number| Worker::start(number, blocking, stop.clone())).collect::<io::Result<_>>();
        let workers = workers.map_err(Error::Threads)?;
        started.disarm();
        Ok(Self { workers, stop })
    }

    /// No threads of its own: connections are served by the runtime that this is called on.
    pub(super) fn here() -> Self {
        Self { workers: vec![Worker::new(Handle::current())], stop: CancellationToken::new() }
    }

    /// Serves a connection on the worker that has the fewest.
    pub(super) fn spawn(&self, tracker: &TaskTracker, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.connections()) else { return };
        let place = worker.connections.clone();
        let connection = async move {
            let _place = place;
            connection.await;
        };
        tracker.spawn_on(connection, &worker.runtime);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Worker {
    fn new(runtime: Handle) -> Self {
        Self { runtime, connections: Arc::default() }
    }

    fn start(number: usize, blocking: usize, stop: CancellationToken) -> io::Result<Self> {
        let mut builder = runtime::Builder::new_current_thread();
        builder.enable_all().thread_name("front-blocking").max_blocking_threads(blocking);
        let (made, runtime) = mpsc::sync_channel(1);
        let serve = move || match builder.build() {
            Ok(runtime) => {
                // Who waits for it is there until it comes.
                let _ = made.send(Ok(runtime.handle().clone()));
                runtime.block_on(stop.cancelled());
                // What still blocks is for nobody.
                runtime.shutdown_background();
            }
            Err(error) => drop(made.send(Err(error))),
        };
        // The runtime is made there, because here, where this runs on another, none may be dropped.
        std::thread::Builder::new().name(format!("front-{number}")).spawn(serve)?;
        Ok(Self::new(runtime.recv().map_err(io::Error::other)??))
    }

    fn connections(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A connection that tells its thread's name and goes on until the sender is dropped.
    async fn connect(workers: &Workers, tracker: &TaskTracker) -> (String, oneshot::Sender<()>) {
        let ((told, name), (end, ended)) = (oneshot::channel(), oneshot::channel::<()>());
        workers.spawn(tracker, async move {
            told.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
            drop(ended.await);
        });
        (name.await.unwrap(), end)
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_worker_that_has_the_fewest() {
        let (workers, tracker) = (Workers::start(3).unwrap(), TaskTracker::new());
        let mut open = Vec::new();
        for _ in 0..6 {
            open.push(connect(&workers, &tracker).await);
        }
        let names: Vec<&str> = open.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["front-0", "front-1", "front-2", "front-0", "front-1", "front-2"]);
        for (_, end) in open.drain(1..2) {
            end.send(()).unwrap();
        }
        while workers.workers[1].connections() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(connect(&workers, &tracker).await.0, "front-1");
        drop(open);
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn what_is_left_is_broken_off_with_the_workers() {
        let (workers, tracker) = (Workers::start(1).unwrap(), TaskTracker::new());
        let _open = connect(&workers, &tracker).await;
        tracker.close();
        drop(workers);
        tracker.wait().await;
    }
}
