//! How much the process takes on at once, so that neither clients nor blobs ever want for descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::front::MAX_REFUSALS;
use crate::mirror::MAX_DOWNLOADS;
use crate::store::OPEN_FILES;

/// Connections of the admin listener; it serves people and scrapers, not clusters.
pub(super) const ADMIN_CONNECTIONS: usize = 256;
/// Requests under way on all data listeners together: memory and processor time have bounds too.
const MAX_REQUESTS: usize = 16_384;
/// Where descriptors are short, connections leave a quarter of them to requests, but no more than this.
const MOST_KEPT_FREE: usize = 4_096;
/// A download has its file and the note of what is in it, and the blob that it becomes may be open beside them.
const PER_DOWNLOAD: usize = 3;
/// The index, logs, look-ups of names, connections upstream that are idle, and whatever else there is.
const RESERVE: usize = 512;
/// What each thread that serves connections waits for events with.
const PER_THREAD: usize = 4;

/// What is served at once.
#[derive(Debug, PartialEq, Eq)]
struct Limits {
    /// Connections of each data listener.
    connections: Vec<usize>,
    /// Requests under way on all of them. Each may hold a blob open.
    requests: usize,
    /// Descriptors with which no connection fewer than wanted is allowed.
    needed: usize,
}

impl Limits {
    /// Shares `descriptors` out among data listeners that want so many connections each, beside `upstream` for connections to
    /// registries and the like. There is room for a few in any case, though then it may be too much.
    fn of(descriptors: usize, wanted: &[usize], upstream: usize) -> Self {
        let admin = ADMIN_CONNECTIONS + MAX_REFUSALS;
        let others = [admin, wanted.len() * MAX_REFUSALS, MAX_DOWNLOADS * PER_DOWNLOAD, OPEN_FILES, RESERVE];
        let others = others.iter().sum::<usize>().saturating_add(upstream);
        let room = descriptors.saturating_sub(others).max(descriptors / 4);
        let all = wanted.iter().fold(0, |all: usize, one| all.saturating_add(*one));
        let requests = room.saturating_sub(all).max(MOST_KEPT_FREE.min(room / 4)).clamp(1, MAX_REQUESTS);
        let connections = room.saturating_sub(requests).min(all);
        Self {
            connections: wanted.iter().map(|one| share(*one, connections, all)).collect(),
            requests,
            needed: others.saturating_add(all).saturating_add(MOST_KEPT_FREE.min(all.div_ceil(3))),
        }
    }
}

/// What one listener gets of `connections` that are fewer than the `all` that are wanted: at least one.
fn share(one: usize, connections: usize, all: usize) -> usize {
    let share = one as u128 * connections as u128 / (all.max(1) as u128);
    usize::try_from(share).unwrap_or(usize::MAX).max(1)
}

/// Raises the limit of open files as far as the system allows, and lowers the listeners' caps on connections to what fits
/// into it, with a word in the log. Returns how many requests may be under way on all data listeners together.
pub(super) fn fit(config: &mut Config) -> usize {
    let descriptors = raise_descriptor_limit();
    let wanted: Vec<usize> = config.listeners.iter().map(|listener| listener.max_connections).collect();
    let upstream = config.registries.iter().fold(0, |all: usize, registry| all.saturating_add(registry.max_connections));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let limits = Limits::of(descriptors, &wanted, upstream.saturating_add(threads * PER_THREAD));
    if limits.connections != wanted {
        let Limits { connections, needed, .. } = &limits;
        tracing::warn!(
            ?connections,
            ?wanted,
            "the limit of {descriptors} open files is too low for the connections that are configured; fewer are allowed, until \
             it is {needed} (LimitNOFILE= in a systemd unit, else ulimit -n)"
        );
    }
    for (listener, connections) in config.listeners.iter_mut().zip(&limits.connections) {
        listener.max_connections = *connections;
    }
    limits.requests
}

/// Connections and open files share the limit, and systems start programs with a soft one that is far below the hard one.
/// The limit that holds now.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        _ if limit.current == limit.maximum => limit.current,
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, current = limit.current, "the limit of open files could not be raised");
            limit.current
        }
    };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_fits_the_descriptors() {
        for (descriptors, wanted, connections, requests) in [
            // Without a limit, and with that of most systems.
            (usize::MAX, &[10_000][..], &[10_000][..], 16_384),
            (524_288, &[10_000], &[10_000], 16_384),
            // Requests give way first, as far as a quarter.
            (20_512, &[10_000], &[10_000], 6_416),
            (20_512, &[10_000, 2_000], &[10_000, 2_000], 4_352),
            (14_096 + 3_333, &[10_000], &[10_000], 3_333),
            (14_096, &[10_000], &[7_500], 2_500),
            // Listeners share what there is as they would have shared all.
            (14_096, &[20_000, 10_000], &[4_968, 2_484], 2_484),
            // Not enough for the rest of the proxy: a few are allowed all the same.
            (1_024, &[10_000], &[192], 64),
            (1_024, &[100], &[100], 156),
            (8, &[10_000, 1], &[1, 1], 1),
            (0, &[usize::MAX, usize::MAX], &[1, 1], 1),
        ] {
            let limits = Limits::of(descriptors, wanted, 640);
            assert_eq!((&limits.connections[..], limits.requests), (connections, requests), "{descriptors} for {wanted:?}");
        }
    }

    #[test]
    fn what_is_said_to_be_needed_is_enough_and_nothing_less_is() {
        for wanted in [10_000, 12_289, 100_000] {
            let needed = Limits::of(1_024, &[wanted], 640).needed;
            assert_eq!(Limits::of(needed, &[wanted], 640).connections, [wanted]);
            assert_ne!(Limits::of(needed - 2, &[wanted], 640).connections, [wanted], "{wanted}");
        }
    }
}
