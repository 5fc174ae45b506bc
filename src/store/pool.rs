//! The way to the blocking pool.

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// Runs `work`, which may block, on the blocking pool, to its end even if the future is dropped once it was polled. A panic in
/// it goes on here. Under [`inline_blocking`] in tests, it runs on the calling thread when that is next idle.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match start(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is shutting down and polls nothing any more.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// As [`blocking`], begun at once and for whoever does not wait. Must be called on a runtime.
pub(super) fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if is_inline() {
        return tokio::spawn(async move {
            tokio::task::yield_now().await;
            work()
        });
    }
    tokio::task::spawn_blocking(work)
}

/// As [`start`], for what must be done though nobody waits. Where there is no runtime, or it is shutting down and takes nothing
/// any more, it runs here.
pub(super) fn in_any_case(work: impl FnOnce() + Send + 'static) {
    let work = AtTheLatest(Some(work));
    match Handle::try_current() {
        Ok(_) => drop(start(move || drop(work))),
        Err(_) => drop(work),
    }
}

/// Does its work when it is dropped.
struct AtTheLatest<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for AtTheLatest<F> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// Whether work for the pool runs on the calling thread: in some tests, and never in the program.
pub(super) fn is_inline() -> bool {
    #[cfg(test)]
    return INLINE.get();
    #[cfg(not(test))]
    false
}

#[cfg(test)]
thread_local! {
    static INLINE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Until it is dropped, work for the blocking pool that begins on this thread runs on it too, after one turn of its
/// runtime. On a runtime of one thread with paused time, the order of all that the store does then depends on nothing but
/// the order in which it was asked.
///
/// One thread remains: the index commits on its own. What is read does not depend on when, because what it has not
/// committed is answered from memory; `Store::flush`, and so `Store::run`, does wait for it and is not for such tests.
#[cfg(test)]
pub(crate) fn inline_blocking() -> Inline {
    Inline { before: INLINE.replace(true), _of_this_thread: std::marker::PhantomData }
}

/// See [`inline_blocking`].
#[cfg(test)]
#[must_use]
pub(crate) struct Inline {
    before: bool,
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

#[cfg(test)]
impl Drop for Inline {
    fn drop(&mut self) {
        INLINE.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_elsewhere_unless_a_test_wants_it_here() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_ne!(blocking(thread).await, here);
        let inline = inline_blocking();
        assert_eq!(blocking(thread).await, here);
        drop(inline);
        assert_ne!(blocking(thread).await, here);
    }

    #[tokio::test]
    async fn inline_work_ends_without_who_asked_for_it_too() {
        let _inline = inline_blocking();
        let (done, ended) = tokio::sync::oneshot::channel();
        {
            let mut asked = std::pin::pin!(blocking(move || done.send(7).unwrap()));
            assert!(futures_util::poll!(asked.as_mut()).is_pending());
        }
        assert_eq!(ended.await, Ok(7));
    }
}
