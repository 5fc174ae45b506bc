//! How many requests are answered at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Turns for so many requests at a time, on all listeners that share it. Nobody waits for one, so it is no semaphore, which takes
/// a lock whenever a turn is given back.
#[derive(Debug)]
pub struct Turns {
    taken: AtomicUsize,
    most: usize,
}

/// One request's turn, over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// `most` at a time.
    pub fn new(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// For whoever asks.
    pub(super) fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// A turn, where one is free. In the moment in which one is refused another may be, though one has become free.
    pub(super) fn take(&self) -> Option<Turn<'_>> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(self);
        (before < self.most).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_said_and_a_refusal_takes_none() {
        let turns = Turns::new(2);
        let (first, second) = (turns.take(), turns.take());
        assert!(first.is_some() && second.is_some());
        assert!((0..5).all(|_| turns.take().is_none()));
        drop(first);
        let again = turns.take();
        assert!(again.is_some() && turns.take().is_none());
        drop((second, again));
        assert!(turns.take().is_some());
    }
}
