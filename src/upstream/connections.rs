//! The connections that one registry may have, and who may wait for one.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A head, a manifest or a list: over within the deadline for all URLs.
    Question,
    /// A blob, which takes as long as its bytes do. One in eight connections is not for these, so that downloads that are
    /// slow or stand still keep nobody from asking.
    Transfer,
}

/// The right to one connection.
#[derive(Debug)]
pub(super) struct Connection {
    _one: OwnedSemaphorePermit,
    _transfer: Option<OwnedSemaphorePermit>,
}

/// As many wait as may.
#[derive(Debug)]
pub(super) struct Full;

/// A registry's connections. For each use, no more wait than it has connections: who would be one more waits for those who are
/// waited for already, and is better told at once.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    all: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    /// Those who wait hold one.
    question_seats: Semaphore,
    transfer_seats: Semaphore,
}

impl Connections {
    /// `most` of them, at least one.
    pub(super) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let transfers = transfers(most);
        Self {
            most,
            all: Arc::new(Semaphore::new(most)),
            transfers: Arc::new(Semaphore::new(transfers)),
            question_seats: Semaphore::new(most),
            transfer_seats: Semaphore::new(transfers),
        }
    }

    /// How many are for `purpose`.
    pub(super) fn most(&self, purpose: Use) -> usize {
        match purpose {
            Use::Question => self.most,
            Use::Transfer => transfers(self.most),
        }
    }

    /// A connection, as soon as one is free. First come, first served; dropping the future gives the place up.
    ///
    /// # Errors
    /// `Full`, at once, where as many wait already as there are connections for `purpose`.
    pub(super) async fn get(&self, purpose: Use) -> Result<Connection, Full> {
        if let Some(connection) = self.try_get(purpose) {
            return Ok(connection);
        }
        let seats = match purpose {
            Use::Question => &self.question_seats,
            Use::Transfer => &self.transfer_seats,
        };
        let _seat = seats.try_acquire().map_err(|_| Full)?;
        // The transfer's first: who waits for that must not keep a connection from others.
        let transfer = match purpose {
            Use::Transfer => Some(acquire(&self.transfers).await),
            Use::Question => None,
        };
        Ok(Connection { _one: acquire(&self.all).await, _transfer: transfer })
    }

    /// A connection, where one is free and nobody waits for it.
    fn try_get(&self, purpose: Use) -> Option<Connection> {
        let transfer = match purpose {
            Use::Transfer => Some(self.transfers.clone().try_acquire_owned().ok()?),
            Use::Question => None,
        };
        Some(Connection { _one: self.all.clone().try_acquire_owned().ok()?, _transfer: transfer })
    }
}

/// How many of `connections` blobs may use.
fn transfers(connections: usize) -> usize {
    let spared = if connections > 1 { connections.div_ceil(8) } else { 0 };
    connections - spared
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("nobody closes it")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn blobs_leave_one_in_eight_to_questions() {
        for (most, blobs) in [(0, 1), (1, 1), (2, 1), (8, 7), (9, 7), (64, 56)] {
            let connections = Connections::new(most);
            assert_eq!((connections.most(Use::Question), connections.most(Use::Transfer)), (most.max(1), blobs));
        }
    }

    #[test]
    fn as_many_wait_as_there_are_connections_for_it() {
        for purpose in [Use::Question, Use::Transfer] {
            let connections = Connections::new(8);
            let most = connections.most(purpose);
            let held: Vec<_> = (0..most).map(|_| connections.get(purpose).now_or_never().unwrap().unwrap()).collect();
            let mut waiting: Vec<_> = (0..most).map(|_| Box::pin(connections.get(purpose))).collect();
            assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
            assert!(connections.get(purpose).now_or_never().unwrap().is_err(), "{purpose:?}");
            // Who gives up makes room for another.
            drop(waiting.pop());
            let mut late = Box::pin(connections.get(purpose));
            assert!((&mut late).now_or_never().is_none());
            assert!(connections.get(purpose).now_or_never().unwrap().is_err(), "{purpose:?}");
            drop(held);
            assert!(waiting.into_iter().chain([late]).all(|waiting| waiting.now_or_never().unwrap().is_ok()));
            assert!(connections.get(purpose).now_or_never().unwrap().is_ok());
        }
    }

    #[test]
    fn who_waits_for_one_use_takes_no_place_of_the_other() {
        let connections = Connections::new(1);
        let held = connections.get(Use::Transfer).now_or_never().unwrap().unwrap();
        let mut transfer = Box::pin(connections.get(Use::Transfer));
        let mut question = Box::pin(connections.get(Use::Question));
        assert!((&mut transfer).now_or_never().is_none());
        assert!((&mut question).now_or_never().is_none());
        drop((held, transfer));
        assert!(question.now_or_never().unwrap().is_ok());
    }
}
