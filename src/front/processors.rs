//! Which processors a thread may run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A set of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Processors(CpuSet);

impl Processors {
    /// Those that the calling thread may run on; `None` where the system does not say.
    pub(super) fn of_this_thread() -> Option<Self> {
        sched_getaffinity(None).map(Self).ok()
    }

    /// Each of them by itself.
    pub(super) fn each(self) -> Vec<Self> {
        let alone = |number| {
            let mut set = CpuSet::new();
            set.set(number);
            Self(set)
        };
        (0..CpuSet::MAX_CPU).filter(|number| self.0.is_set(*number)).map(alone).collect()
    }

    /// Has the calling thread run on these alone, and those that it starts. Only a matter of speed, so a failure is no matter.
    pub(super) fn bind(self) {
        let _ = sched_setaffinity(None, &self.0);
    }
}
