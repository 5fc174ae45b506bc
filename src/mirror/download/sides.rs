//! Small transfers beside the main one, for readers that are far ahead of it. What they bring, the main one skips.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::phase::Event;
use super::sink::SLOW_DISK;
use super::{hold, plan};
use crate::oci::Span;
use crate::store::{self, Partial};
use crate::upstream::{BlobAsk, BlobReply};

/// So many at once for one download.
const MOST: usize = 4;
/// How often it is looked whether those who wait still have to.
const TICK: Duration = Duration::from_millis(250);
/// After one failed.
const PAUSE: Duration = Duration::from_secs(2);
/// When the main transfer has come up to where one is at work, it waits for it this long, then takes over.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which bytes are being fetched beside the main transfer.
#[derive(Debug, Default)]
pub(super) struct Claims {
    open: Mutex<Vec<(Span, CancellationToken)>>,
    ended: Notify,
    no_ranges: AtomicBool,
}

/// One of them, until it is dropped.
struct Claim<'a> {
    claims: &'a Claims,
    span: Span,
    given_up: CancellationToken,
}

impl Claims {
    pub(super) fn spans(&self) -> Vec<Span> {
        self.lock().iter().map(|(span, _)| *span).collect()
    }

    /// Waits for the claim on the byte at `at` to end, and ends it where that takes long. Whether it has ended: a write that
    /// is under way ends when the disk lets it.
    pub(super) async fn wait(&self, at: u64) -> bool {
        let free = async {
            loop {
                let ended = self.ended.notified();
                if !self.spans().iter().any(|span| span.contains(at)) {
                    return;
                }
                ended.await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, free).await.is_ok();
        if !ended {
            self.lock().iter().filter(|(span, _)| span.contains(at)).for_each(|(_, claim)| claim.cancel());
        }
        ended
    }

    /// Whether the upstream does as a range says, as far as is known.
    pub(super) fn ranges_work(&self) -> bool {
        !self.no_ranges.load(Ordering::Relaxed)
    }

    /// The upstream sends everything, whatever range is asked for.
    pub(super) fn ranges_fail(&self) {
        self.no_ranges.store(true, Ordering::Relaxed);
    }

    fn claim(&self, span: Span) -> Claim<'_> {
        let given_up = CancellationToken::new();
        self.lock().push((span, given_up.clone()));
        Claim { claims: self, span, given_up }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Span, CancellationToken)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.lock().retain(|(span, _)| *span != self.span);
        self.claims.ended.notify_waiters();
    }
}

/// The side transfers of one attempt.
pub(super) struct Sides<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) claims: &'a Claims,
    pub(super) partial: &'a Arc<Partial>,
    pub(super) length: u64,
    /// The main transfer has ended.
    pub(super) over: CancellationToken,
}

impl Sides<'_> {
    /// Fetches what readers far ahead wait for, until the main transfer has ended and no write is under way. `false` where one
    /// is all the same, because the disk hangs. Dropping the future may leave a write behind, which ends by itself.
    pub(super) async fn run(&self) -> bool {
        let (mut running, mut pause) = (FuturesUnordered::<_>::new(), Instant::now());
        let readers = &self.attempt.download().readers;
        loop {
            let waiting = !readers.waiting().is_empty();
            tokio::select! {
                biased;
                () = self.over.cancelled() => break,
                Some(fetched) = running.next(), if !running.is_empty() => {
                    if Option::<()>::is_none(&fetched) {
                        pause = Instant::now() + PAUSE;
                    }
                }
                () = readers.wanted() => {}
                () = tokio::time::sleep(TICK), if waiting => {}
            }
            while running.len() < MOST && pause <= Instant::now() && self.are_of_use() {
                let Some(span) = self.piece() else { break };
                running.push(self.fetch(self.claims.claim(span)));
            }
        }
        let ended = async { while running.next().await.is_some() {} };
        tokio::time::timeout(SLOW_DISK, ended).await.is_ok()
    }

    /// Whether pieces can be asked for, and kept.
    fn are_of_use(&self) -> bool {
        self.claims.ranges_work() && self.attempt.download().is_kept()
    }

    /// What is to be fetched for one of those who wait. The tail is shown to nobody before all is there.
    fn piece(&self) -> Option<Span> {
        let shown = hold::tail(self.length);
        let (front, rate, claims) = (self.attempt.download().front(), self.attempt.rate(), self.claims.spans());
        let wanted = |(at, end): (u64, u64)| {
            let missing = self.partial.first_gap(Span::new(at.min(self.length), self.length));
            plan::piece(at, end.min(self.length), front, rate, missing, &claims)
        };
        self.attempt.download().readers.waiting().into_iter().filter(|(at, _)| *at < shown).find_map(wanted)
    }

    /// Fetches one piece. `None` where that failed; what came of it is kept.
    async fn fetch(&self, claim: Claim<'_>) -> Option<()> {
        let ask = BlobAsk { from: claim.span.start, until: Some(claim.span.end), ..BlobAsk::default() };
        let mut reply = self.unless_over(&claim, self.attempt.ask(&ask)).await?.ok()?;
        if reply.from != claim.span.start {
            self.claims.ranges_fail();
            return None;
        }
        if reply.length.is_some_and(|length| length != self.length) {
            return None;
        }
        self.fill(&claim, &mut reply).await
    }

    async fn fill(&self, claim: &Claim<'_>, reply: &mut BlobReply) -> Option<()> {
        let mut at = claim.span.start;
        while at < claim.span.end {
            let mut bytes = self.unless_over(claim, reply.chunk()).await?.ok()??;
            bytes.truncate(usize::try_from(claim.span.end - at).unwrap_or(usize::MAX));
            let (offset, partial) = (at, self.partial.clone());
            at += bytes.len() as u64;
            self.attempt.contributed(reply.url);
            store::blocking(move || partial.write_at(offset, &bytes)).await.ok()?;
            self.attempt.download().happened(Event::More);
        }
        Some(())
    }

    async fn unless_over<T>(&self, claim: &Claim<'_>, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.over.cancelled() => None,
            () = claim.given_up.cancelled() => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_one_claim_is_not_held_up_by_the_ends_of_others() {
        let (claims, started) = (Claims::default(), Instant::now());
        let slow = claims.claim(Span::new(10, 20));
        let others = async {
            while !slow.given_up.is_cancelled() {
                let other = claims.claim(Span::new(20, 30));
                tokio::time::sleep(PATIENCE / 2).await;
                drop(other);
            }
        };
        let wait = async {
            while !slow.given_up.is_cancelled() {
                claims.wait(10).await;
            }
            started.elapsed()
        };
        let (waited, ()) = tokio::time::timeout(PATIENCE * 10, async { tokio::join!(wait, others) }).await.unwrap();
        assert_eq!(waited, PATIENCE);
        drop(slow);
        claims.wait(10).await;
        assert_eq!(claims.spans(), []);
    }
}
