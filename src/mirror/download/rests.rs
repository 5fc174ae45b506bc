//! Which URLs rest for which digest, because what they sent was not what the digest says.

use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::oci::{Digest, RegistryName};

const LONGEST: Duration = Duration::from_secs(300);

type Key = (RegistryName, Digest, usize);

/// The URLs (by index) that rest.
pub(super) struct Rests(Cache<Key, Rest>);

#[derive(Clone, Copy)]
struct Rest {
    mismatches: u32,
    until: Instant,
}

impl Default for Rests {
    fn default() -> Self {
        Self(Cache::new(10_000))
    }
}

/// How long a URL rests after so many mismatches.
fn rest_after(mismatches: u32) -> Duration {
    Duration::from_secs(1 << mismatches.saturating_sub(1).min(16)).min(LONGEST)
}

impl Rests {
    /// The URL sent wrong bytes for this digest.
    pub(super) fn mismatched(&self, registry: &RegistryName, digest: &Digest, url: usize) {
        let key = (registry.clone(), *digest, url);
        let mismatches = self.0.get(&key).map_or(0, |rest| rest.mismatches) + 1;
        self.0.insert(key, Rest { mismatches, until: Instant::now() + rest_after(mismatches) });
    }

    /// The URL sent the right bytes.
    pub(super) fn forgive(&self, registry: &RegistryName, digest: &Digest, url: usize) {
        self.0.invalidate(&(registry.clone(), *digest, url));
    }

    /// Which of `urls` URLs rest now; or, where all do, how long until the first may be asked again. Where no other is left, a
    /// first mismatch is forgiven: it may have been a passing fault.
    pub(super) fn resting(&self, registry: &RegistryName, digest: &Digest, urls: usize) -> Result<Vec<usize>, Duration> {
        let now = Instant::now();
        let rest = |url: usize| self.0.get(&(registry.clone(), *digest, url)).filter(|rest| rest.until > now);
        let mut resting: Vec<(usize, Rest)> = (0..urls).filter_map(|url| rest(url).map(|rest| (url, rest))).collect();
        if resting.len() == urls {
            resting.retain(|(_, rest)| rest.mismatches > 1);
        }
        match resting.iter().map(|(_, rest)| rest.until).min() {
            Some(first) if resting.len() == urls => Err(first - now),
            _ => Ok(resting.into_iter().map(|(url, _)| url).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_rest_grows() {
        let seconds: Vec<u64> = (1..6).map(|n| rest_after(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16]);
        assert_eq!(rest_after(1000), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resting_url_is_passed_over_until_its_time() {
        let (rests, hub, digest) = (Rests::default(), "docker.io".parse().unwrap(), Digest::of(Algorithm::Sha256, b""));
        rests.mismatched(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 2), Ok(vec![0]));
        assert_eq!(rests.resting(&hub, &digest, 1), Ok(vec![]), "the first is forgiven where there is no other");
        rests.mismatched(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 2), Ok(vec![0]));
        assert_eq!(rests.resting(&hub, &digest, 1), Err(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(rests.resting(&hub, &digest, 1), Ok(vec![]));
        rests.mismatched(&hub, &digest, 0);
        rests.forgive(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 1), Ok(vec![]));
    }
}
