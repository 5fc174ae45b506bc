//! What each blob may cost upstream, and what it did.

use std::collections::{BTreeMap, BTreeSet};

use roadstead::oci::Digest;

use super::world::{MIB, Thing};
use crate::support::server::Recorded;
use crate::support::{Registry, on};

/// What a kill may cost of one transfer: what came since it was last noted how much is durable, and what was on the way.
const LOST: u64 = 4 * MIB as u64;

/// The upstream's bytes per blob since the blob was last absent for a good reason.
#[derive(Default)]
pub(super) struct Accounts {
    by_digest: BTreeMap<Digest, Account>,
    /// How many downloads went on where an earlier run of the proxy had stopped.
    pub(super) resumed: usize,
    /// The bytes that were sent again, of all downloads.
    pub(super) again: u64,
}

#[derive(Default)]
struct Account {
    sent: u64,
    allowed: u64,
}

/// What happened to the store in one run of the proxy.
pub(super) struct Run<'a> {
    /// What was stored before and after.
    pub(super) before: &'a BTreeSet<Digest>,
    pub(super) after: &'a BTreeSet<Digest>,
    /// Content may have been evicted or passed through.
    pub(super) cramped: bool,
}

impl Accounts {
    /// The downloads of these may start over.
    pub(super) fn forgive(&mut self, blobs: &[Thing]) {
        for blob in blobs {
            self.of(blob).allowed += blob.bytes.len() as u64;
        }
    }

    /// Takes down what the upstream sent for these blobs in one run; afterwards it has forgotten.
    ///
    /// # Errors
    /// What was sent that need not have been.
    pub(super) fn close(&mut self, run: &Run<'_>, blobs: impl Iterator<Item = Thing>, hub: &Registry) -> Vec<String> {
        let faults = blobs.filter_map(|blob| self.close_one(run, &blob, hub).err()).collect();
        hub.forget();
        faults
    }

    fn close_one(&mut self, run: &Run<'_>, blob: &Thing, hub: &Registry) -> Result<(), String> {
        let transfers = hub.matching(on(blob.digest).get());
        let sent: u64 = transfers.iter().map(Recorded::sent).sum();
        let size = blob.bytes.len() as u64;
        let stored = run.after.contains(&blob.digest);
        if run.cramped {
            self.by_digest.insert(blob.digest, Account { sent: 0, allowed: if stored { 0 } else { size } });
            return Ok(());
        }
        if run.before.contains(&blob.digest) && !transfers.is_empty() {
            return Err(format!("{} of {size} bytes was stored and fetched again: {transfers:?}", blob.digest));
        }
        let first_range = transfers.first().and_then(|first| first.header("range").map(str::to_owned));
        let account = self.of(blob);
        let resumed = account.sent > 0 && first_range.is_some_and(|range| !range.starts_with("bytes=0-"));
        account.sent += sent;
        let (so_far, allowed) = (account.sent, account.allowed + size / 50);
        if !stored && sent > 0 {
            // More than one where ranges are fetched ahead of the rest.
            let cut = transfers.iter().filter(|transfer| transfer.sent() < asked_for(transfer, size)).count() as u64;
            account.allowed += LOST * cut.max(1);
        }
        self.resumed += usize::from(resumed);
        self.again += if stored && !run.before.contains(&blob.digest) { so_far.saturating_sub(size) } else { 0 };
        if blob.is_blob && so_far > allowed {
            let why = format!("{} of {size} bytes cost {so_far} where {allowed} were to be expected", blob.digest);
            return Err(format!("{why}; asked in this run: {transfers:?}"));
        }
        Ok(())
    }

    fn of(&mut self, blob: &Thing) -> &mut Account {
        let size = blob.bytes.len() as u64;
        self.by_digest.entry(blob.digest).or_insert(Account { sent: 0, allowed: size })
    }
}

/// How many bytes of a blob of this size a request wants.
fn asked_for(request: &Recorded, size: u64) -> u64 {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return size };
    let end = last.parse().map_or(size, |last: u64| last + 1);
    end.saturating_sub(first.parse().unwrap_or(0))
}
