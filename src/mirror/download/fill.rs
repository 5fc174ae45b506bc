//! The task behind a download: one attempt after the other, and what becomes of the file.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::attempt::Attempt;
use super::feed::{self, Ending};
use super::origins::Origins;
use super::phase::Event;
use super::rests::Rests;
use super::resume::Resumes;
use super::sink::SLOW_DISK;
use super::{Download, Error, Kind, LATER, Place};
use crate::mirror::Mirror;
use crate::oci::{Digest, Span};
use crate::store::{self, Partial};
use crate::telemetry::Telemetry;
use crate::upstream::{BlobAsk, BlobReply};

/// Counts a download as under way until it is dropped, however its task ends.
struct Counted<'a>(&'a Telemetry);

impl<'a> Counted<'a> {
    fn new(telemetry: &'a Telemetry) -> Self {
        telemetry.metrics.fill_started();
        Self(telemetry)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.fill_ended();
    }
}

/// Everything one download needs. Dropped half-way (the process stops), it leaves no blob and no wrong byte behind, and what
/// it has received for the next one.
pub(super) struct Fill {
    pub(super) mirror: Arc<Mirror>,
    pub(super) place: Place,
    pub(super) digest: Digest,
    pub(super) expected: Option<u64>,
    pub(super) download: Arc<Download>,
    pub(super) rests: Arc<Rests>,
    pub(super) windows: Arc<Semaphore>,
}

/// What an attempt begins with.
struct Start {
    reply: Option<BlobReply>,
    origins: Origins,
}

/// What the upstream told, and where its bytes go.
pub(super) struct Course {
    pub(super) length: Option<u64>,
    pub(super) partial: Option<Arc<Partial>>,
}

impl Fill {
    /// Runs the download to its end, whatever that is.
    ///
    /// # Errors
    /// Why there is no blob; its readers are yet to be told.
    pub(super) async fn run(self) -> Result<(), Error> {
        let _counted = Counted::new(&self.mirror.telemetry);
        let fetched = self.fetch().await;
        if let Err(error) = &fetched {
            let (registry, repository) = (self.place.registry.label(), &self.place.repository);
            // Where nobody reads, nobody misses it.
            match self.download.readers.are_none() {
                false => tracing::warn!(registry, %repository, digest = %self.digest, %error, "download failed"),
                true => tracing::debug!(registry, %repository, digest = %self.digest, %error, "download given up"),
            }
        }
        fetched
    }

    async fn fetch(&self) -> Result<(), Error> {
        // It may have been stored between this request's look and the start of this task, also for another repository. Then it
        // is at hand, and for all else there is no second look at the disk.
        if self.mirror.store.at_hand(&self.digest).is_some()
            && let Ok(Some(blob)) = self.mirror.store.open_blob(&self.digest).await
        {
            self.prove().await?;
            self.download.adopt(&blob);
            return Ok(());
        }
        let (course, start) = match self.left_behind().await {
            Some(partial) => self.take_up(partial).await?,
            None => self.begin(None).await?,
        };
        self.download.begin(course.partial.as_ref(), course.length);
        match self.attempts(&course, start).await {
            Ok((total, origins)) => {
                self.download.happened(Event::Right { length: total });
                origins.urls().for_each(|url| self.rests.forgive(&self.place.name, &self.digest, url));
                self.keep(&course).await;
                Ok(())
            }
            Err(ending) => {
                if let Some(partial) = course.partial {
                    self.put_away(partial, matches!(ending, Ending::Broken(_)) && self.download.is_kept()).await;
                }
                Err(ending.into_error())
            }
        }
    }

    /// What an earlier download received of this blob, with its length.
    async fn left_behind(&self) -> Option<(Arc<Partial>, u64)> {
        let taken_up = self.mirror.store.take_up(&self.place.name, &self.digest);
        let partial = tokio::time::timeout(SLOW_DISK, taken_up).await.ok()??;
        let length = partial.length()?;
        Some((Arc::new(partial), length))
    }

    /// Goes on where an earlier download stopped, if the upstream still has that blob.
    async fn take_up(&self, (partial, length): (Arc<Partial>, u64)) -> Result<(Course, Start), Error> {
        match self.reply_to_rest(&partial, length).await {
            Ok(Some(reply)) if reply.length.is_some_and(|told| told != length) => {
                self.put_away(partial, false).await;
                self.begin(Some(reply).filter(|reply| reply.from == 0 && reply.until == reply.length)).await
            }
            Ok(reply) => {
                let (course, mut origins) = (Course { length: Some(length), partial: Some(partial) }, Origins::default());
                origins.add_earlier();
                Ok((course, Start { reply, origins }))
            }
            Err(error) if error.is_past_the_end() => {
                self.put_away(partial, false).await;
                self.begin(None).await
            }
            Err(error) => {
                self.put_away(partial, true).await;
                Err(error)
            }
        }
    }

    /// The answer to the question for the first bytes that are missing; `None` where none are. In any case it is known then
    /// that the upstream has the blob in this repository.
    async fn reply_to_rest(&self, partial: &Partial, length: u64) -> Result<Option<BlobReply>, Error> {
        let Some(gap) = partial.first_gap(Span::new(0, length)) else {
            return self.prove().await.map(|()| None);
        };
        let until = Some(gap.end).filter(|end| *end < length);
        let reply = self.ask_first(&BlobAsk { from: gap.start, until, ..BlobAsk::default() }).await?;
        self.checked_length(&reply)?;
        self.mirror.learn_link(&self.place, &self.digest).await;
        Ok(Some(reply))
    }

    /// Asks for the blob from its first byte on, unless `reply` is the answer to that, and finds room for it.
    async fn begin(&self, reply: Option<BlobReply>) -> Result<(Course, Start), Error> {
        let reply = match reply {
            Some(reply) => reply,
            None => self.ask_first(&BlobAsk::default()).await?,
        };
        let length = self.checked_length(&reply)?;
        self.mirror.learn_link(&self.place, &self.digest).await;
        let partial = self.room(length).await;
        if partial.is_none() {
            self.open_window(0)?;
        }
        Ok((Course { length, partial }, Start { reply: Some(reply), origins: Origins::default() }))
    }

    /// A file for the bytes, where there is room for it.
    async fn room(&self, length: Option<u64>) -> Option<Arc<Partial>> {
        let begun = self.mirror.store.begin(&self.place.name, &self.digest, length);
        match tokio::time::timeout(SLOW_DISK, begun).await {
            Ok(Ok(partial)) => return Some(Arc::new(partial)),
            Ok(Err(error)) => tracing::info!(digest = %self.digest, %error, "cannot be stored; passing it through"),
            Err(_) => tracing::warn!(digest = %self.digest, "the disk is too slow to store it; passing it through"),
        }
        None
    }

    /// Sees to it that what is here already may be served in this repository.
    async fn prove(&self) -> Result<(), Error> {
        if !self.mirror.is_linked(&self.place, &self.digest).await {
            self.mirror.prove_blob(&self.place, &self.digest).await?;
        }
        Ok(())
    }

    /// Attempt after attempt, until the bytes are right or there is nobody else to ask. The blob's length, and who sent it.
    async fn attempts(&self, course: &Course, mut start: Start) -> Result<(u64, Origins), Ending> {
        let mut wrong = Vec::new();
        // Bytes of several senders are blamed on none; after that, each URL may be wrong once.
        for _ in 0..self.place.registry.config().urls.len() + 2 {
            let attempt = Attempt::new(self, course, &wrong, start.origins);
            let ended = attempt.run(start.reply).await;
            let origins = attempt.into_origins();
            start = match ended {
                Ok(total) => return Ok((total, origins)),
                Err(Ending::Changed(reply)) => {
                    self.start_over(course).await?;
                    Start { reply: reply.map(|reply| *reply), origins: Origins::default() }
                }
                Err(Ending::Wrong(error)) => self.elsewhere(course, &origins, &mut wrong, error).await?,
                Err(ending) => return Err(ending),
            };
        }
        Err(Ending::Wrong(Error::mismatch(self.place.registry.label(), &self.digest, "other bytes again and again")))
    }

    /// What came was wrong: starts over, and asks those who did not send it. `error` is what is told where there is nobody.
    async fn elsewhere(&self, course: &Course, origins: &Origins, wrong: &mut Vec<usize>, error: Error) -> Result<Start, Ending> {
        self.mirror.telemetry.metrics.mismatch(self.place.registry.label());
        tracing::warn!(registry = self.place.registry.label(), digest = %self.digest, %error, "wrong bytes");
        if let Some(url) = origins.culprit() {
            self.rests.mismatched(&self.place.name, &self.digest, url);
            wrong.push(url);
        }
        if wrong.len() >= self.place.registry.config().urls.len() {
            return Err(Ending::Wrong(error));
        }
        // Before they answer: who reads meanwhile must not take what is known to be wrong.
        self.start_over(course).await?;
        match self.ask(&BlobAsk::default(), wrong).await {
            Ok(reply) if reply.length.is_none() || course.length.is_none() || reply.length == course.length => {
                Ok(Start { reply: Some(reply), origins: Origins::default() })
            }
            _ => Err(Ending::Wrong(error)),
        }
    }

    /// Nothing of what came counts any more. Readers go on once it is known that they have had no wrong byte.
    async fn start_over(&self, course: &Course) -> Result<(), Ending> {
        match (course.partial.clone(), self.download.is_kept()) {
            (Some(partial), true) => {
                let started = store::blocking(move || partial.start_over());
                tokio::time::timeout(SLOW_DISK, started).await.map_err(|_| Ending::Lost(feed::hanging()))?;
            }
            (None, _) => self.download.readers.start_over(),
            (Some(_), false) => {
                let error = Error::new(Kind::BadGateway, "what came first was not the blob, and it cannot be stored; ask again");
                return Err(Ending::Wrong(error));
            }
        }
        self.download.started_over();
        Ok(())
    }

    /// Asks until there is an answer: an upstream that restarts is away for a moment, and podman, who has its manifest from
    /// here, goes nowhere else for the blob.
    async fn ask_first(&self, ask: &BlobAsk<'_>) -> Result<BlobReply, Error> {
        let mut resumes = Resumes::default();
        loop {
            let error = match self.ask(ask, &[]).await {
                Err(error) if error.is_unreachable() && !self.download.readers.are_none() => error,
                asked => return asked,
            };
            let Some(wait) = resumes.broke() else { return Err(error) };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for a part of the blob, leaving out the URLs that rest for it and those that were `wrong` just now.
    pub(super) async fn ask(&self, ask: &BlobAsk<'_>, wrong: &[usize]) -> Result<BlobReply, Error> {
        let registry = &self.place.registry;
        let resting = self.rests.resting(&self.place.name, &self.digest, registry.config().urls.len()).map_err(|wait| {
            let message = format!("{} sent wrong bytes for {} more than once; it rests", registry.label(), self.digest);
            Error::new(Kind::BadGateway, message).after(wait)
        })?;
        let skip = [ask.skip, wrong, &resting].concat();
        let asked = registry.get_blob(&self.place.repository, &self.digest, &BlobAsk { skip: &skip, ..*ask }).await;
        asked.map_err(|error| self.unless_resting(error.into(), &skip))
    }

    /// "Not there" holds only where every URL said so: one that rests was not asked.
    fn unless_resting(&self, error: Error, skipped: &[usize]) -> Error {
        if error.kind != Kind::NotFound || skipped.is_empty() {
            return error;
        }
        let message = format!("{error}; a url that sent wrong bytes for it before rests and was not asked");
        Error::new(Kind::BadGateway, message)
    }

    /// The upstream's length, which must be the manifest's where both are known. A manifest alone is no word on the blob: it
    /// speaks for its own repository, and others may join.
    fn checked_length(&self, reply: &BlobReply) -> Result<Option<u64>, Error> {
        match (reply.length, self.expected) {
            (Some(length), Some(expected)) if length != expected => {
                self.mirror.telemetry.metrics.mismatch(self.place.registry.label());
                Err(self.wrong(format_args!("{length} bytes where the manifest says {expected}")))
            }
            (length, _) => Ok(length),
        }
    }

    pub(super) fn wrong(&self, found: impl Display) -> Error {
        Error::mismatch(self.place.registry.label(), &self.digest, found)
    }

    /// From now on bytes go by in a window that begins at `offset`.
    pub(super) fn open_window(&self, offset: u64) -> Result<(), Error> {
        let right = self.windows.clone().try_acquire_owned().map_err(|_| {
            Error::new(Kind::Overloaded, "too many blobs that cannot be stored are passed through already; ask again").after(LATER)
        })?;
        self.download.readers.begin_window(offset);
        self.download.window.set(right).expect("a download has one window");
        self.mirror.telemetry.metrics.passed_through();
        Ok(())
    }

    /// Makes the verified blob durable. Its readers have been released already; failing here costs only the cached copy.
    async fn keep(&self, course: &Course) {
        let Some(partial) = course.partial.clone() else { return };
        if !self.download.is_kept() {
            return self.put_away(partial, false).await;
        }
        if let Err(error) = partial.commit().await {
            tracing::warn!(digest = %self.digest, %error, "served, but not stored");
        }
    }

    /// What came of a download that failed is kept for the next one, unless it may be wrong or is not complete on the disk.
    async fn put_away(&self, partial: Arc<Partial>, of_use: bool) {
        let put_away = async {
            match of_use {
                true => partial.park().await,
                false => partial.discard().await,
            }
        };
        // It goes on without being waited for: a disk that hangs must not keep anybody from being told.
        if tokio::time::timeout(SLOW_DISK, put_away).await.is_err() {
            tracing::warn!(digest = %self.digest, "the disk takes long to put away what was received");
        }
    }
}
