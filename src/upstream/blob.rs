//! Asking for blobs.

use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, StatusCode};

use super::content_range::ContentRange;
use super::fetch::Fetched;
use super::registry::{Connection, Use};
use super::{Error, Kind, Registry, status};
use crate::egress::Body;
use crate::oci::{Digest, RepositoryName};

/// What an upstream says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// Its length in bytes, where that is said.
    pub length: Option<u64>,
}

/// A blob on its way, from an offset to its end. Not verified. Holds one of the upstream's connections until it is over, well
/// or badly, or dropped.
#[derive(Debug)]
pub struct BlobReply {
    /// The length of the whole blob, where that is said.
    pub length: Option<u64>,
    /// The offset of the first byte that [`BlobReply::chunk`] gives.
    pub from: u64,
    /// Which of the registry's URLs sends it.
    pub url: usize,
    registry: String,
    /// Gone when it is over: whoever keeps the reply while asking for the rest must not wait for its own connection.
    transfer: Option<(Body, Connection)>,
    /// Bytes before `from` that an upstream sends which ignores ranges.
    skip: u64,
}

impl BlobReply {
    /// The next bytes, never empty; `None` at the body's well-formed end, which may come too early or too late: whoever
    /// reads compares with `length`. Nothing is lost by dropping the future.
    ///
    /// # Errors
    /// `TimedOut` where nothing came for 30 s, `Unreachable` where the connection broke. No more comes after.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some((body, _)) = &mut self.transfer else { return Err(self.failed("its transfer is over already")) };
            let next = body.chunk().await;
            if !matches!(next, Ok(Some(_))) {
                self.transfer = None;
            }
            let next = next.map_err(|error| Error::from_egress(&self.registry, &error))?;
            let Some(mut bytes) = next else { return self.end() };
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    fn end(&self) -> Result<Option<Bytes>, Error> {
        if self.skip == 0 {
            return Ok(None);
        }
        Err(self.failed(format!("the blob ended {} bytes before the offset {} asked for", self.skip, self.from)))
    }

    fn failed(&self, what: impl Into<String>) -> Error {
        Error::new(Kind::Failed, &self.registry, what)
    }
}

impl Registry {
    /// What the upstream says of a blob: proof that it has it in `repository`. Where HEAD is refused, one byte is asked for.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn head_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<BlobHead, Error> {
        let (head, _) = self.over_urls(Use::Question, &[], |url| self.head_blob_at(url, repository, digest)).await?;
        Ok(head)
    }

    /// A blob from offset `from` on. Returns with the answer's head, within 20 s; the bytes follow at the upstream's pace.
    /// `skip` are indices of URLs that are not to be asked, because they gave wrong bytes for this digest.
    ///
    /// # Errors
    /// See [`Error`]. Dropping the future, or the reply, closes the connection.
    pub async fn get_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: u64,
        skip: &[usize],
    ) -> Result<BlobReply, Error> {
        let attempt = |url| self.get_blob_at(url, repository, digest, from);
        let ((Start { length, skip, body }, url), connection) = self.over_urls(Use::Transfer, skip, attempt).await?;
        Ok(BlobReply { length, from, url, registry: self.label().to_owned(), transfer: Some((body, connection)), skip })
    }

    async fn head_blob_at(&self, url: usize, repository: &RepositoryName, digest: &Digest) -> Result<BlobHead, Error> {
        let mut ask = self.ask(url, Method::HEAD, repository, &format!("blobs/{digest}"));
        let answer = match self.fetch(url, &ask).await {
            Ok(answer) if !status::refuses_blob_head(answer.status) => answer,
            // Some registries let everybody read a blob, but want to know who asks for its head.
            Err(error) if error.kind != Kind::Unauthorized => return Err(error),
            _ => {
                ask.method = Method::GET;
                ask.range = Some(HeaderValue::from_static("bytes=0-0"));
                self.fetch(url, &ask).await?
            }
        };
        match answer.status {
            StatusCode::OK => Ok(BlobHead { length: answer.length() }),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                let range = ContentRange::parse(&answer.headers);
                // Nothing can be had of an empty blob: `bytes */0`.
                let fits = range.is_some_and(|range| range.first == Some(0) || range.total == Some(0));
                if !fits {
                    return Err(answer.nonsense(self.label(), "answers a range with another one"));
                }
                Ok(BlobHead { length: range.and_then(|range| range.total) })
            }
            _ => Err(answer.failure(self.label())),
        }
    }

    async fn get_blob_at(
        &self,
        url: usize,
        repository: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<(Start, usize), Error> {
        let mut ask = self.ask(url, Method::GET, repository, &format!("blobs/{digest}"));
        if from > 0 {
            ask.range = HeaderValue::try_from(format!("bytes={from}-")).ok();
        }
        let answer = self.fetch(url, &ask).await?;
        Ok((start(answer, from, self.label())?, url))
    }
}

/// Where a blob's bytes begin in an answer.
struct Start {
    length: Option<u64>,
    skip: u64,
    body: Body,
}

/// A 206 must begin where it was asked to; a 200 begins at 0 and is read up to there.
fn start(answer: Fetched, from: u64, registry: &str) -> Result<Start, Error> {
    match answer.status {
        StatusCode::OK => Ok(Start { length: answer.length(), skip: from, body: answer.body }),
        StatusCode::PARTIAL_CONTENT => match ContentRange::parse(&answer.headers) {
            Some(range) if range.first == Some(from) => Ok(Start { length: range.total, skip: 0, body: answer.body }),
            _ => Err(answer.nonsense(registry, "answers a range with another one")),
        },
        StatusCode::RANGE_NOT_SATISFIABLE => Err(answer.nonsense(registry, "has fewer bytes of the blob than are here already")),
        _ => Err(answer.failure(registry)),
    }
}
