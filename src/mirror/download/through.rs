//! A blob that cannot be stored, handed straight on to one client.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Error, hold};
use crate::oci::{Digest, Hasher};
use crate::upstream::BlobReply;

/// Passes one upstream answer on. Memory stays at the held-back tail and one chunk. The upstream is read only as fast as the
/// client takes it; dropping this ends the transfer.
pub(crate) struct Through {
    reply: BlobReply,
    registry: String,
    digest: Digest,
    hasher: Option<Hasher>,
    held: VecDeque<Bytes>,
    held_bytes: u64,
    received: u64,
}

impl Through {
    pub(crate) fn new(reply: BlobReply, registry: &str, digest: Digest) -> Self {
        let hasher = Some(digest.algorithm().hasher());
        Self { reply, registry: registry.to_owned(), digest, hasher, held: VecDeque::new(), held_bytes: 0, received: 0 }
    }

    /// The blob's length, where the upstream gave one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.reply.length
    }

    /// The next bytes; `None` at the end, which comes only after the digest proved right.
    ///
    /// # Errors
    /// The upstream broke off, or sent something else.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.hasher.is_none() || self.may_release() {
                return self.release().map(Ok);
            }
            match self.reply.chunk().await {
                Ok(Some(bytes)) => {
                    if let Err(error) = self.hold(bytes) {
                        return Some(Err(error));
                    }
                }
                Ok(None) => {
                    if let Err(error) = self.verify() {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// The tail is held back from the end that was announced: what goes beyond it is refused before anything more is released.
    fn hold(&mut self, bytes: Bytes) -> Result<(), Error> {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.received += bytes.len() as u64;
        self.held_bytes += bytes.len() as u64;
        self.held.push_back(bytes);
        if self.reply.length.is_some_and(|length| self.received > length) {
            return Err(self.refuse("more bytes than it announced"));
        }
        Ok(())
    }

    fn may_release(&self) -> bool {
        self.held.front().is_some_and(|front| self.held_bytes - front.len() as u64 >= hold::HELD_BACK)
    }

    fn release(&mut self) -> Option<Bytes> {
        let bytes = self.held.pop_front()?;
        self.held_bytes -= bytes.len() as u64;
        Some(bytes)
    }

    fn verify(&mut self) -> Result<(), Error> {
        let found = self.hasher.take().map(Hasher::finish);
        if found != Some(self.digest) || self.reply.length.is_some_and(|length| length != self.received) {
            return Err(self.refuse("other bytes"));
        }
        Ok(())
    }

    fn refuse(&mut self, found: &str) -> Error {
        self.hasher = None;
        self.held.clear();
        Error::mismatch(&self.registry, &self.digest, found)
    }
}
