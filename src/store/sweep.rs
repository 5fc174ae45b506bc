//! Finding out what is on the disk, after the process has begun to serve.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::content::{Content, now};
use super::eviction::{Use, Victim};
use super::index::Table;
use super::layout::{Entry, Leftover, Shelf};
use super::records::{algorithm_byte, blob_key, seconds, split_digest};
use crate::oci::Digest;

/// How many blobs are added to the table under one hold of its lock.
const STEP: usize = 256;
/// Between two such steps, so that who waits for the lock gets it.
const PAUSE: Duration = Duration::from_micros(50);

/// Deletes what earlier runs left unfinished, adds all stored content to the table in the order of its last use, and drops
/// records of what is gone. Content that is asked for meanwhile is served. Blocks: seconds for a million blobs; ends soon
/// after `stop`. Takes about 80 bytes of memory per blob while it runs.
pub(super) fn sweep(content: &Content, stop: &CancellationToken) {
    let started = Instant::now();
    delete_leftovers(content);
    content.table().begin_sweep();
    let found = list(content, stop);
    let blobs = found.len();
    load(content, found, stop);
    content.table().end_sweep();
    if !stop.is_cancelled() {
        content.trim_lineage(now());
    }
    content.report_usage();
    tracing::info!(blobs, seconds = started.elapsed().as_secs_f64(), "swept the cache folder");
}

fn delete_leftovers(content: &Content) {
    let leftovers = content.layout.leftovers().unwrap_or_else(|error| {
        content.failed("sweep", "cannot list", content.layout.root(), error);
        Vec::new()
    });
    for leftover in leftovers {
        match leftover {
            Leftover::Kept(name) => content.delete_unparked(&name),
            Leftover::Unfinished(path) => {
                if let Err(error) = content.disk.remove(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot delete what an earlier run left; delete it by hand");
                }
            }
        }
    }
}

fn list(content: &Content, stop: &CancellationToken) -> Vec<Use> {
    let mut found = Vec::new();
    for shelf in Shelf::all().take_while(|_| !stop.is_cancelled()) {
        list_shelf(content, shelf, &mut found);
    }
    found
}

/// The files of a shelf, joined with what is recorded of them.
fn list_shelf(content: &Content, shelf: Shelf, found: &mut Vec<Use>) {
    let mut rows = content.index.scan(Table::Blobs, &[algorithm_byte(shelf.algorithm), shelf.first], |_| true);
    let entries = content.layout.entries(shelf).unwrap_or_else(|error| {
        content.failed("sweep", "cannot list a shelf of", content.layout.root(), error);
        rows.clear();
        Vec::new()
    });
    for entry in entries {
        match entry {
            Entry::Stray(path) => tracing::warn!(path = %path.display(), "not a file of this cache; leaving it alone"),
            Entry::Blob { digest, size, written } => {
                let row = rows.remove(&blob_key(&digest).bytes).and_then(|row| Use::decode(digest, &row));
                match row {
                    Some(row) if row.size != size => discard(content, &row),
                    Some(row) => found.push(row),
                    None => found.push(Use { digest, size, used: seconds(written) }),
                }
            }
        }
    }
    for (digest, _) in rows.keys().filter_map(|key| split_digest(key)) {
        forget(content, &digest);
    }
}

fn discard(content: &Content, row: &Use) {
    let _stripe = content.stripe(&row.digest);
    if content.table().size(&row.digest).is_none() {
        content.discard(&row.digest, "its length has changed");
    }
}

/// A record whose file is not there; unless it came meanwhile.
fn forget(content: &Content, digest: &Digest) {
    let _stripe = content.stripe(digest);
    if content.table().size(digest).is_none() {
        content.forget(digest);
    }
}

/// Adds what was found, the last used first; what the cap has no room for is deleted.
fn load(content: &Content, mut found: Vec<Use>, stop: &CancellationToken) {
    found.sort_unstable_by_key(|found| (std::cmp::Reverse(found.used), found.digest));
    for some in found.chunks(STEP).take_while(|_| !stop.is_cancelled()) {
        let refused: Vec<Victim> = {
            let mut table = content.table();
            some.iter().filter_map(|found| table.load(found)).collect()
        };
        content.evict(refused);
        std::thread::sleep(PAUSE);
    }
}
