//! A disk that fails as told.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::Operation;

/// What fails on a disk, and how. Clones are handles on the same rules, which may be changed while the disk is in use.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Rules>>);

type Decide = Box<dyn FnMut(Operation) -> Option<Errno> + Send>;

#[derive(Default)]
struct Rules {
    rules: Vec<Decide>,
    struck: u64,
}

impl Faults {
    /// From now on every such operation fails.
    pub(crate) fn always(&self, operation: Operation, error: Errno) {
        self.decide(move |asked| (asked == operation).then_some(error));
    }

    /// Of such operations, that after `n` more fails, once.
    pub(crate) fn after(&self, n: u64, operation: Operation, error: Errno) {
        let mut left = Some(n);
        self.decide(move |asked| {
            if asked != operation {
                return None;
            }
            let strikes = left == Some(0);
            left = left.and_then(|n| n.checked_sub(1));
            strikes.then_some(error)
        });
    }

    /// `decide` is asked at every operation, besides all other rules. A closure with a seed makes the same faults again.
    pub(crate) fn decide(&self, decide: impl FnMut(Operation) -> Option<Errno> + Send + 'static) {
        self.rules().rules.push(Box::new(decide));
    }

    /// The disk works again.
    pub(crate) fn lift(&self) {
        self.rules().rules.clear();
    }

    /// How many operations failed so far.
    pub(crate) fn struck(&self) -> u64 {
        self.rules().struck
    }

    pub(in crate::store) fn check(&self, operation: Operation) -> io::Result<()> {
        let mut rules = self.rules();
        // Every rule counts every operation.
        let errors: Vec<Errno> = rules.rules.iter_mut().filter_map(|decide| decide(operation)).collect();
        let Some(error) = errors.first() else { return Ok(()) };
        rules.struck += 1;
        Err((*error).into())
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}
