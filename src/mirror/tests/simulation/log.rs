//! What happened in one seed, when, and what of it should not have.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// What ends well is the truth of what was asked for, and what is shown before is its beginning.
    Truth,
    /// Nothing of the last 64 KiB is shown before it is known to be right.
    Tail,
    /// A length is told as the upstream or the manifest said it.
    Length,
    /// A blob leaves the upstream once at a time.
    OneFill,
    /// A blob leaves an honest upstream once.
    Once,
    /// An error says what happened.
    Honest,
    /// Where the upstream is honest, or one of its URLs is, no client sees an error.
    Heals,
    /// A repository gives only what an upstream said it has.
    Private,
    /// Nothing is left of what ended.
    Leftover,
    /// Everything ends.
    Hang,
    /// Nothing panics.
    Panic,
}

/// A broken promise, with who saw it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) rule: Rule,
    pub(super) text: String,
}

/// The log of one seed. Its clock is the simulated time since the first start.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    faults: Vec<Fault>,
    /// The time of the lives that are over.
    before: Duration,
    born: Option<Instant>,
}

impl Log {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A life begins: from now on, time is that of its runtime.
    pub(super) fn begin(&self) {
        self.lock().born = Some(Instant::now());
    }

    /// A life ends, and its clock with it.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.before = inner.now();
        inner.born = None;
    }

    /// The simulated time.
    pub(super) fn now(&self) -> Duration {
        self.lock().now()
    }

    /// `who` did something.
    pub(super) fn note(&self, who: impl fmt::Display, what: impl fmt::Display) {
        self.lock().line(&who, &what);
    }

    /// `who` saw a broken promise.
    pub(super) fn fault(&self, rule: Rule, who: impl fmt::Display, what: impl fmt::Display) {
        let mut inner = self.lock();
        inner.line(&who, &format_args!("!! {rule:?}: {what}"));
        inner.faults.push(Fault { rule, text: format!("{who}: {what}") });
    }

    /// All lines and all faults.
    pub(super) fn take(&self) -> (Vec<String>, Vec<Fault>) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.lines), std::mem::take(&mut inner.faults))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Inner {
    fn now(&self) -> Duration {
        self.before + self.born.map_or(Duration::ZERO, |born| born.elapsed())
    }

    fn line(&mut self, who: &dyn fmt::Display, what: &dyn fmt::Display) {
        let line = format!("{:10.3} {who:<10} {what}", self.now().as_secs_f64());
        self.lines.push(line);
    }
}
