//! One attempt to get a blob, from its first byte on: what its parts share, and how they run side by side.

use std::fmt::Display;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::feed::{self, Ending, Feed, Item};
use super::fill::{Course, Fill};
use super::origins::Origins;
use super::phase::Event;
use super::plan::Rate;
use super::readers::Readers;
use super::sides::{Claims, Sides};
use super::sink::{QUEUE, ROOM, Sink};
use super::{Download, Error, Kind};
use crate::oci::{Hasher, Span};
use crate::upstream::{BlobAsk, BlobReply};

/// One attempt to get all bytes, from the first on: what its parts share.
pub(super) struct Attempt<'a> {
    fill: &'a Fill,
    course: &'a Course,
    /// URLs that sent wrong bytes in an earlier attempt.
    wrong: &'a [usize],
    origins: Mutex<Origins>,
    rate: Mutex<Rate>,
    /// Bytes that may be handed on before some were taken.
    room: Semaphore,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(fill: &'a Fill, course: &'a Course, wrong: &'a [usize], origins: Origins) -> Self {
        Self {
            fill,
            course,
            wrong,
            origins: Mutex::new(origins),
            rate: Mutex::new(Rate::new(Instant::now())),
            room: Semaphore::new(ROOM),
        }
    }

    /// Receives, writes and fetches ahead side by side, so that none waits for the others. The blob's length once its digest is
    /// right. When this returns, nothing is written any more.
    pub(super) async fn run(&self, reply: Option<BlobReply>) -> Result<u64, Ending> {
        let (items, queue) = mpsc::channel(QUEUE);
        let (claims, over) = (Claims::default(), CancellationToken::new());
        let kept = self.course.partial.clone().filter(|_| self.download().is_kept());
        let feed = Feed::new(self, &claims, reply, self.course.length, items);
        let feed = async {
            let ended = feed.run().await;
            over.cancel();
            ended
        };
        let sides = async {
            match (&self.course.partial, self.course.length) {
                (Some(partial), Some(length)) => {
                    Sides { attempt: self, claims: &claims, partial, length, over: over.clone() }.run().await
                }
                _ => true,
            }
        };
        let (fed, sunk, ended) = tokio::join!(feed, Sink::new(self, kept).run(queue), sides);
        if !ended {
            return Err(Ending::Lost(feed::hanging()));
        }
        match (fed, sunk) {
            (Ok(total), Ok(found)) if found == self.fill.digest => Ok(total),
            (Ok(_), Ok(found)) => Err(Ending::Wrong(self.wrong(found))),
            (_, Err(error)) => Err(Ending::Lost(error)),
            (Err(ending), Ok(_)) => Err(ending),
        }
    }

    /// Waits until `item` may be handed on: what a download holds in memory is bounded, however slow the disk is.
    pub(super) async fn wait_for_room(&self, item: &Item) {
        // It is never closed.
        let _ = self.room.acquire_many(item.weight()).await.map(SemaphorePermit::forget);
    }

    /// `items` that were handed on are not held any more.
    pub(super) fn make_room(&self, weight: usize) {
        self.room.add_permits(weight);
    }

    pub(super) fn into_origins(self) -> Origins {
        self.origins.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hasher(&self) -> Hasher {
        self.fill.digest.algorithm().hasher()
    }

    /// What its readers see of it.
    pub(super) fn download(&self) -> &Download {
        &self.fill.download
    }

    /// The same, for what may go on when this attempt is over.
    pub(super) fn shared_download(&self) -> Arc<Download> {
        self.fill.download.clone()
    }

    pub(super) async fn ask(&self, ask: &BlobAsk<'_>) -> Result<BlobReply, Error> {
        self.fill.ask(ask, self.wrong).await
    }

    /// Whether no URL is left but those that are `unfit` or were wrong.
    pub(super) fn asked_all(&self, unfit: &[usize]) -> bool {
        (0..self.fill.place.registry.config().urls.len()).all(|url| unfit.contains(&url) || self.wrong.contains(&url))
    }

    pub(super) fn wrong(&self, found: impl Display) -> Error {
        self.fill.wrong(found)
    }

    /// The first run of missing bytes in `span`.
    pub(super) fn first_gap(&self, span: Span) -> Option<Span> {
        match &self.course.partial {
            Some(partial) => partial.first_gap(span),
            None => Some(span).filter(|span| !span.is_empty()),
        }
    }

    /// The main transfer received bytes.
    pub(super) fn received(&self, now: Instant, url: usize, bytes: u64) {
        lock(&self.rate).add(now, bytes);
        self.contributed(url);
    }

    /// The main transfer's speed in bytes per second, where it can be told.
    pub(super) fn rate(&self) -> Option<f64> {
        lock(&self.rate).per_second(Instant::now())
    }

    /// A URL sent some of the bytes.
    pub(super) fn contributed(&self, url: usize) {
        lock(&self.origins).add(url);
    }

    /// The file that bytes were written to.
    pub(super) fn file(&self) -> Result<Arc<File>, Error> {
        let file = self.course.partial.as_ref().map(|partial| partial.file().clone());
        file.ok_or_else(|| Error::new(Kind::Internal, "bytes are in a file that is not there"))
    }

    /// Has what came made durable from time to time, behind everybody's back.
    pub(super) fn make_durable(&self) {
        if let Some(partial) = self.course.partial.as_ref().filter(|partial| partial.is_sync_due()) {
            self.fill.mirror.spawn(partial.clone().sync());
        }
    }

    /// The file takes nothing from `offset` on: from there, bytes only go by.
    ///
    /// # Errors
    /// `Overloaded` where there is no memory for that.
    pub(super) fn stop_keeping(&self, offset: u64, why: &str) -> Result<(), Error> {
        tracing::warn!(digest = %self.fill.digest, why, "cannot be stored any more; passing the rest through");
        self.fill.open_window(offset)?;
        self.download().happened(Event::DiskFailed);
        Ok(())
    }

    /// Passes bytes on to whoever reads. `false` where nobody does any more.
    pub(super) async fn pass(&self, at: u64, bytes: Bytes) -> bool {
        let mut rest = bytes;
        let mut offset = at;
        while !rest.is_empty() {
            let piece = Readers::split(&mut rest);
            let length = piece.len() as u64;
            if !self.download().readers.pass(offset, piece).await {
                return false;
            }
            offset += length;
            self.download().happened(Event::More);
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
