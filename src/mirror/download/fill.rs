//! The task behind a download: ask, receive, hash, write, verify, make durable.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::rests::Rests;
use super::resume::Resumes;
use super::{Download, Error, Kind, Place};
use crate::mirror::Mirror;
use crate::oci::{Digest, Hasher};
use crate::store::{self, Partial};
use crate::telemetry::Telemetry;
use crate::upstream::{BlobAsk, BlobReply};

/// Chunks between the network and the disk. Each is at most what one read from the connection brings.
const QUEUE: usize = 16;

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

/// Everything one download needs. Dropped half-way (the process stops), it leaves no blob and no wrong byte behind.
pub(super) struct Fill {
    pub(super) mirror: Arc<Mirror>,
    pub(super) place: Place,
    pub(super) digest: Digest,
    pub(super) expected: Option<u64>,
    pub(super) download: Arc<Download>,
    pub(super) rests: Arc<Rests>,
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
            tracing::warn!(registry = self.place.registry.label(), repository = %self.place.repository, digest = %self.digest,
                %error, "download failed");
        }
        fetched
    }

    async fn fetch(&self) -> Result<(), Error> {
        // It may have been stored between this request's look and the start of this task, also for another repository.
        if let Ok(Some(blob)) = self.mirror.store.open_blob(&self.digest).await {
            if !self.mirror.is_linked(&self.place, &self.digest).await {
                self.mirror.prove_blob(&self.place, &self.digest).await?;
            }
            self.download.adopt(&blob);
            return Ok(());
        }
        let reply = self.ask(0).await?;
        let length = self.checked_length(&reply)?;
        self.mirror.learn_link(&self.place, &self.digest).await;
        let partial = match self.mirror.store.begin(&self.place.name, &self.digest, length).await {
            Ok(partial) => Arc::new(partial),
            Err(error) => {
                tracing::info!(digest = %self.digest, %error, "cannot be stored; passing it through");
                self.download.no_room();
                return Ok(());
            }
        };
        self.download.begin(&partial, length);
        let url = reply.url;
        match self.transfer(reply, length, &partial).await {
            Ok(total) => {
                self.download.verified(total);
                self.rests.forgive(&self.place.name, &self.digest, url);
                self.keep(partial).await;
                Ok(())
            }
            Err(error) => {
                partial.discard().await;
                Err(error)
            }
        }
    }

    /// Asks for the blob from offset `from` on, leaving out the URLs that rest for it.
    async fn ask(&self, from: u64) -> Result<BlobReply, Error> {
        let registry = &self.place.registry;
        let resting = self.rests.resting(&self.place.name, &self.digest, registry.config().urls.len()).map_err(|wait| {
            let message = format!("{} sent wrong bytes for {} more than once; it rests", registry.label(), self.digest);
            Error::new(Kind::BadGateway, message).after(wait)
        })?;
        let ask = BlobAsk { from, skip: &resting, ..BlobAsk::default() };
        let asked = registry.get_blob(&self.place.repository, &self.digest, &ask).await;
        asked.map_err(|error| self.unless_resting(error.into(), &resting))
    }

    /// "Not there" holds only where every URL said so: one that rests was not asked.
    fn unless_resting(&self, error: Error, resting: &[usize]) -> Error {
        if error.kind != Kind::NotFound || resting.is_empty() {
            return error;
        }
        let message = format!("{error}; a url that sent wrong bytes for it before rests and was not asked");
        Error::new(Kind::BadGateway, message)
    }

    /// The length to promise: the upstream's, which must be the manifest's where both are known.
    fn checked_length(&self, reply: &BlobReply) -> Result<Option<u64>, Error> {
        match (reply.length, self.expected) {
            (Some(length), Some(expected)) if length != expected => {
                self.mirror.telemetry.metrics.mismatch(self.place.registry.label());
                let found = format!("{length} bytes where the manifest says {expected}");
                Err(Error::mismatch(self.place.registry.label(), &self.digest, found))
            }
            (length, expected) => Ok(length.or(expected)),
        }
    }

    /// Receives and writes side by side, so that neither waits for the other. The blob's length once its digest is right.
    async fn transfer(&self, reply: BlobReply, length: Option<u64>, partial: &Arc<Partial>) -> Result<u64, Error> {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let url = reply.url;
        // A failing disk ends receiving at once: the upstream may have nothing to say for as long as it may idle.
        let (total, found) = tokio::try_join!(self.receive(reply, length, chunks), self.write(queue, partial))?;
        if found == self.digest {
            return Ok(total);
        }
        self.rests.mismatched(&self.place.name, &self.digest, url);
        self.mirror.telemetry.metrics.mismatch(self.place.registry.label());
        Err(Error::mismatch(self.place.registry.label(), &self.digest, found))
    }

    /// Takes bytes from the upstream until all are there, taking up broken transfers where they stopped.
    async fn receive(&self, mut reply: BlobReply, length: Option<u64>, chunks: mpsc::Sender<Bytes>) -> Result<u64, Error> {
        let (mut received, mut resumes, mut at) = (0, Resumes::default(), reply.from);
        loop {
            let broken: Error = match reply.chunk().await {
                Ok(Some(mut bytes)) => {
                    // An upstream that ignores ranges sends again what is here already.
                    let again = (received - at).min(bytes.len() as u64);
                    at += bytes.len() as u64;
                    bytes.advance(usize::try_from(again).unwrap_or(bytes.len()));
                    if bytes.is_empty() {
                        continue;
                    }
                    received += bytes.len() as u64;
                    if length.is_some_and(|length| received > length) {
                        return Err(self.wrong_length("more bytes than it announced"));
                    }
                    resumes.progressed();
                    if chunks.send(bytes).await.is_err() {
                        return Err(Error::new(Kind::Internal, "the download's file could not be written"));
                    }
                    continue;
                }
                Ok(None) if length.is_none_or(|length| length == received) => return Ok(received),
                Ok(None) => self.wrong_length("fewer bytes than it announced"),
                Err(error) => error.into(),
            };
            reply = self.resume(received, length, &mut resumes, broken).await?;
            at = reply.from;
        }
    }

    /// Asks for the rest, a few times. `broken` is what is told when that does not help.
    async fn resume(&self, from: u64, length: Option<u64>, resumes: &mut Resumes, broken: Error) -> Result<BlobReply, Error> {
        // Without a length, there is no telling whether the rest belongs to the same answer.
        let Some(length) = length else { return Err(broken) };
        while let Some(wait) = resumes.broke() {
            tokio::time::sleep(wait).await;
            match self.ask(from).await {
                Ok(reply) if reply.length.is_none_or(|now| now == length) => return Ok(reply),
                Ok(_) => return Err(self.wrong_length("another length than before")),
                Err(error) => tracing::debug!(digest = %self.digest, from, %error, "resume failed"),
            }
        }
        Err(broken)
    }

    fn wrong_length(&self, found: &str) -> Error {
        Error::mismatch(self.place.registry.label(), &self.digest, found)
    }

    /// Hashes and writes what was received, in order, on the blocking pool. The digest of it all.
    async fn write(&self, mut queue: mpsc::Receiver<Bytes>, partial: &Arc<Partial>) -> Result<Digest, Error> {
        let mut hasher = self.digest.algorithm().hasher();
        let mut at = 0;
        let mut batch = Vec::with_capacity(QUEUE);
        while queue.recv_many(&mut batch, QUEUE).await > 0 {
            let (bytes, partial) = (std::mem::take(&mut batch), partial.clone());
            let written = tokio::task::spawn_blocking(move || append(&partial, hasher, at, &bytes)).await;
            (hasher, at) = written.map_err(|error| Error::new(Kind::Internal, error.to_string()))??;
            self.download.grown();
        }
        Ok(hasher.finish())
    }

    /// Makes the verified blob durable. Its readers have been released already; failing here costs only the cached copy.
    async fn keep(&self, partial: Arc<Partial>) {
        if let Err(error) = partial.commit().await {
            tracing::warn!(digest = %self.digest, %error, "served, but not stored");
        }
    }
}

fn append(partial: &Partial, mut hasher: Hasher, mut at: u64, batch: &[Bytes]) -> Result<(Hasher, u64), store::Error> {
    for bytes in batch {
        hasher.update(bytes);
        partial.write_at(at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok((hasher, at))
}
