//! Asking for blobs.

mod reply;

use http::{HeaderValue, Method, StatusCode};

use super::connections::Use;
use super::content_range::ContentRange;
use super::fetch::Fetched;
use super::registry::Choice;
use super::{Error, Kind, Registry, Validator, status};
use crate::oci::{Digest, RepositoryName};
pub use reply::BlobReply;
use reply::Part;

/// What an upstream says of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobHead {
    /// Its length in bytes, where that is said.
    pub length: Option<u64>,
}

/// Which part of a blob is asked for, and of which URLs.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlobAsk<'a> {
    /// Offset of the first byte wanted.
    pub from: u64,
    /// Offset after the last byte wanted, more than `from`; `None`: to the end.
    pub until: Option<u64>,
    /// What an earlier answer said of its content: where it has changed, the whole blob comes instead of a part. Sent to the URL
    /// that said so, and to no other (RFC 9110 section 13.1.5).
    pub validator: Option<&'a Validator>,
    /// URLs (by index) never to be asked, because they gave wrong bytes for this digest.
    pub skip: &'a [usize],
    /// URLs to be asked only after all others have failed, because they broke off last time.
    pub last: &'a [usize],
}

impl BlobAsk<'_> {
    fn range(&self) -> Option<HeaderValue> {
        let range = match self.until {
            None if self.from == 0 => return None,
            None => format!("bytes={}-", self.from),
            Some(until) => format!("bytes={}-{}", self.from, until.saturating_sub(1)),
        };
        HeaderValue::try_from(range).ok()
    }

    /// Goes with a range only.
    fn if_range(&self, url: usize) -> Option<HeaderValue> {
        self.range()?;
        self.validator.filter(|validator| validator.url() == url).map(|validator| validator.etag().clone())
    }
}

impl Registry {
    /// What the upstream says of a blob: proof that it has it in `repository`. Where HEAD is refused, one byte is asked for.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn head_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<BlobHead, Error> {
        let (head, _) = self.over_urls(Use::Question, Choice::default(), |url| self.head_blob_at(url, repository, digest)).await?;
        Ok(head)
    }

    /// A blob, or a part of one. Returns with the answer's head, within 20 s; the bytes follow at the upstream's pace.
    ///
    /// # Errors
    /// See [`Error`]. Dropping the future, or the reply, closes the connection.
    pub async fn get_blob(&self, repository: &RepositoryName, digest: &Digest, ask: &BlobAsk<'_>) -> Result<BlobReply, Error> {
        if ask.until.is_some_and(|until| until <= ask.from) {
            return Err(self.error(Kind::Failed, "a part of a blob was asked for that has no bytes"));
        }
        let choice = Choice { skip: ask.skip, last: ask.last };
        let attempt = |url| self.get_blob_at(url, repository, digest, ask);
        let ((part, url, answer), connection) = self.over_urls(Use::Transfer, choice, attempt).await?;
        Ok(BlobReply::new(&part, url, answer, self.label(), connection))
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
                let fits = range
                    .as_ref()
                    .is_some_and(|range| range.total == Some(0) || range.sent.as_ref().is_some_and(|sent| sent.start == 0));
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
        part: &BlobAsk<'_>,
    ) -> Result<(Part, usize, Fetched), Error> {
        let mut ask = self.ask(url, Method::GET, repository, &format!("blobs/{digest}"));
        (ask.range, ask.if_range) = (part.range(), part.if_range(url));
        let answer = self.fetch(url, &ask).await?;
        Ok((Part::of(&answer, part, self.label())?, url, answer))
    }
}
