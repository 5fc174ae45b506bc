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

/// How long a URL rests after so many mismatches. The first may have been a passing fault, so it is forgiven.
fn rest_after(mismatches: u32) -> Duration {
    match mismatches {
        0 | 1 => Duration::ZERO,
        more => Duration::from_secs(1 << (more - 2).min(16)).min(LONGEST),
    }
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

    /// Which of `urls` URLs rest now; or, where all do, how long until the first may be asked again.
    pub(super) fn resting(&self, registry: &RegistryName, digest: &Digest, urls: usize) -> Result<Vec<usize>, Duration> {
        let now = Instant::now();
        let until = |url: usize| self.0.get(&(registry.clone(), *digest, url)).map(|rest| rest.until).filter(|until| *until > now);
        let resting: Vec<(usize, Instant)> = (0..urls).filter_map(|url| until(url).map(|until| (url, until))).collect();
        match resting.iter().map(|(_, until)| *until).min() {
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
    fn the_first_mismatch_is_forgiven_and_the_rest_grows() {
        let seconds: Vec<u64> = (1..6).map(|n| rest_after(n).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8]);
        assert_eq!(rest_after(1000), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resting_url_is_passed_over_until_its_time() {
        let (rests, hub, digest) = (Rests::default(), "docker.io".parse().unwrap(), Digest::of(Algorithm::Sha256, b""));
        rests.mismatched(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 2), Ok(vec![]));
        rests.mismatched(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 2), Ok(vec![0]));
        assert_eq!(rests.resting(&hub, &digest, 1), Err(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rests.resting(&hub, &digest, 1), Ok(vec![]));
        rests.mismatched(&hub, &digest, 0);
        rests.forgive(&hub, &digest, 0);
        assert_eq!(rests.resting(&hub, &digest, 1), Ok(vec![]));
    }
}
