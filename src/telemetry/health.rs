//! Which parts are well, for `/readyz`, the log and a metric.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts that have said something of their health. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Part>>>,
}

#[derive(Debug)]
struct Part {
    /// What is wrong, where something is.
    trouble: Option<String>,
    /// Whether the trouble keeps the proxy from serving at all.
    fatal: bool,
}

impl Health {
    /// `part` works.
    pub fn well(&self, part: &'static str) {
        let before = self.set(part, Part { trouble: None, fatal: false });
        if before.is_some_and(|part| part.trouble.is_some() && !part.fatal) {
            tracing::info!(part, "works again");
        }
    }

    /// `part` does not work, and the proxy goes on without it.
    pub fn troubled(&self, part: &'static str, trouble: impl Into<String>) {
        let trouble = trouble.into();
        let before = self.set(part, Part { trouble: Some(trouble.clone()), fatal: false });
        if before.is_none_or(|part| part.trouble.is_none()) {
            tracing::warn!(part, trouble, "in trouble; the proxy goes on without it");
        }
    }

    /// `part` is not there yet, or going away, and the proxy is not to be sent requests meanwhile.
    pub fn not_ready(&self, part: &'static str, why: impl Into<String>) {
        self.set(part, Part { trouble: Some(why.into()), fatal: true });
    }

    /// Whether requests are welcome.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(|part| part.trouble.is_none() || !part.fatal)
    }

    /// One line per part: its name and `ok` or what is wrong.
    pub fn report(&self) -> String {
        let line = |(name, part): (&&str, &Part)| format!("{name}: {}\n", part.trouble.as_deref().unwrap_or("ok"));
        self.lock().iter().map(line).collect()
    }

    /// Names of the parts that are in trouble, and of those that are well.
    pub(super) fn states(&self) -> Vec<(&'static str, bool)> {
        self.lock().iter().map(|(name, part)| (*name, part.trouble.is_none())).collect()
    }

    fn set(&self, part: &'static str, state: Part) -> Option<Part> {
        self.lock().insert(part, state)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_unless_a_part_says_it_is_not() {
        let health = Health::default();
        assert!(health.is_ready());
        health.not_ready("listeners", "starting");
        assert!(!health.is_ready());
        health.well("listeners");
        health.troubled("disk", "full");
        assert!(health.is_ready());
        assert_eq!(health.report(), "disk: full\nlisteners: ok\n");
    }
}
