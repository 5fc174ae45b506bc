//! What an upstream said is not there, remembered briefly so that a storm of requests for it stays here.

use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::request::Target;

const REMEMBERED: Duration = Duration::from_secs(10);
const MOST: u64 = 10_000;

/// The targets that were absent a moment ago.
pub(super) struct Absent(Cache<Target, Instant>);

impl Absent {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST))
    }

    /// The upstream said 404 of `target` just now.
    pub(super) fn insert(&self, target: &Target) {
        self.0.insert(target.clone(), Instant::now());
    }

    /// Whether `target` was absent within the last 10 s.
    pub(super) fn contains(&self, target: &Target) -> bool {
        self.0.get(target).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    /// Forgets all, because an operator wants the upstream asked anew.
    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Item;

    #[tokio::test(start_paused = true)]
    async fn a_404_is_forgotten_after_ten_seconds() {
        let target = Target { registry: "docker.io".parse().unwrap(), repository: "a".parse().unwrap(), item: Item::Tags };
        let absent = Absent::new();
        assert!(!absent.contains(&target));
        absent.insert(&target);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(absent.contains(&target));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!absent.contains(&target));
    }
}
