//! One piece of work for all who want its result: whoever comes first starts it, everyone waits for the same answer.
//!
//! The work is a task on the tracker and belongs to no caller: a caller that is dropped while it waits takes nothing along.
//! A task that dies without an answer (a panic), or that is stopped with the proxy, frees its key and leaves its waiters an error
//! instead of stranding them.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{Error, Kind};
use super::tasks::Tasks;

type Answer<V> = Result<V, Error>;

/// Work under way, by key.
pub(super) struct Flights<K, V> {
    open: Arc<Mutex<HashMap<K, Flight<V>>>>,
    tasks: Tasks,
}

/// A place among those who wait.
pub(super) struct Flight<V> {
    answer: watch::Receiver<Option<Answer<V>>>,
    /// When the work began.
    pub(super) started: Instant,
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self { answer: self.answer.clone(), started: self.started }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The work is done by `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { open: Arc::default(), tasks }
    }

    /// Joins the work on `key`, or starts `work` where there is none. The flag says whether it was joined.
    pub(super) fn join_or_start<F>(&self, key: &K, work: impl FnOnce() -> F) -> (Flight<V>, bool)
    where
        F: Future<Output = Answer<V>> + Send + 'static,
    {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(key) {
            return (flight.clone(), true);
        }
        let (sender, answer) = watch::channel(None);
        let flight = Flight { answer, started: Instant::now() };
        open.insert(key.clone(), flight.clone());
        let landing = Landing { open: self.open.clone(), key: key.clone() };
        self.tasks.start_then(work(), move |answer| {
            let answer = answer.unwrap_or_else(|| Err(Error::stopped()));
            // The key goes first, so that nobody joins a flight whose answer others may already have acted on.
            drop(landing);
            sender.send_replace(Some(answer));
        });
        (flight, false)
    }

    /// How many are under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<V: Clone> Flight<V> {
    /// The answer, once it is there. Dropping this future leaves the work going on.
    pub(super) async fn wait(mut self) -> Answer<V> {
        match self.answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().expect("waited for"),
            Err(_) => Err(Error::new(Kind::Internal, "the work ended without an answer; the log has the reason")),
        }
    }
}

/// Frees the key however the work ends.
struct Landing<K: Eq + Hash, V> {
    open: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn all_who_come_while_it_runs_get_one_answer() {
        let flights: Flights<u8, u32> = Flights::new(tasks());
        let (release, held) = oneshot::channel::<()>();
        let (first, joined) = flights.join_or_start(&1, || async move {
            held.await.unwrap();
            Ok(7)
        });
        assert!(!joined);
        let (second, joined) = flights.join_or_start(&1, || async { panic!("started twice") });
        assert!(joined);
        drop(first);
        release.send(()).unwrap();
        assert_eq!(second.wait().await.unwrap(), 7);
        let (third, joined) = flights.join_or_start(&1, || async { Ok(8) });
        assert!(!joined);
        assert_eq!(third.wait().await.unwrap(), 8);
    }

    fn tasks() -> Tasks {
        Tasks::new(TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_panic_strands_nobody() {
        let flights: Flights<u8, u32> = Flights::new(tasks());
        let (flight, _) = flights.join_or_start(&1, || async { panic!("meant") });
        assert_eq!(flight.wait().await.unwrap_err().kind, Kind::Internal);
        let (flight, joined) = flights.join_or_start(&1, || async { Ok(1) });
        assert!(!joined);
        assert_eq!(flight.wait().await.unwrap(), 1);
    }
}
