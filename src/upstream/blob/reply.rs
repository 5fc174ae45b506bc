//! A blob on its way.

use std::pin::pin;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, timeout};

use super::BlobAsk;
use crate::egress::{self, Body};
use crate::upstream::connections::Connection;
use crate::upstream::content_range::ContentRange;
use crate::upstream::fetch::Fetched;
use crate::upstream::pace::{Pace, Verdict};
use crate::upstream::{Error, Kind, Validator};

/// A blob, or a part of one, on its way. Not verified. Holds one of the upstream's connections until it is over, well or badly,
/// or dropped.
#[derive(Debug)]
pub struct BlobReply {
    /// The length of the whole blob, where that is said.
    pub length: Option<u64>,
    /// The offset of the first byte that [`BlobReply::chunk`] gives: what was asked for, or 0 where the upstream sends the whole
    /// blob instead of a part, because it knows no ranges or has something else than the validator says.
    pub from: u64,
    /// The offset after the last byte that this brings, where that is known. A range may be answered with less than it asked for.
    pub until: Option<u64>,
    /// Which of the registry's URLs sends it.
    pub url: usize,
    /// What the URL says of its content, to know it again by. Not compared here with what was asked by.
    pub validator: Option<Validator>,
    registry: String,
    host: String,
    /// Offset of the next byte.
    at: u64,
    /// Gone when it is over: whoever keeps the reply while asking for the rest must not wait for its own connection.
    transfer: Option<Transfer>,
}

#[derive(Debug)]
struct Transfer {
    body: Body,
    pace: Pace,
    _connection: Connection,
}

/// Which bytes an answer says it brings.
#[derive(Debug)]
pub(super) struct Part {
    length: Option<u64>,
    from: u64,
    until: Option<u64>,
}

impl Part {
    /// A 206 must begin where it was asked to, and may end early, but not late. A 200 is the whole blob, whatever was asked for.
    pub(super) fn of(answer: &Fetched, ask: &BlobAsk<'_>, registry: &str) -> Result<Self, Error> {
        match answer.status {
            StatusCode::OK => Ok(Self { length: answer.length(), from: 0, until: answer.length() }),
            StatusCode::PARTIAL_CONTENT => {
                let part = ContentRange::parse(&answer.headers).and_then(|range| Self::within(&range, ask));
                part.ok_or_else(|| answer.nonsense(registry, "answers a range with another one"))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(answer.nonsense(registry, "has fewer bytes of the blob than the offset asked for").of_kind(Kind::Ended))
            }
            _ => Err(answer.failure(registry)),
        }
    }

    fn within(range: &ContentRange, ask: &BlobAsk<'_>) -> Option<Self> {
        let sent = range.sent.as_ref()?;
        let fits = sent.start == ask.from && ask.until.is_none_or(|until| sent.end <= until);
        fits.then_some(Self { length: range.total, from: sent.start, until: Some(sent.end) })
    }
}

impl BlobReply {
    pub(super) fn new(part: &Part, url: usize, answer: Fetched, registry: &str, connection: Connection) -> Self {
        Self {
            length: part.length,
            from: part.from,
            until: part.until,
            url,
            validator: Validator::of(&answer.headers, url),
            registry: registry.to_owned(),
            host: answer.host,
            at: part.from,
            transfer: Some(Transfer { body: answer.body, pace: Pace::default(), _connection: connection }),
        }
    }

    /// The next bytes, never empty; `None` at the body's well-formed end, which may come too early: whoever reads compares with
    /// `until`. Nothing is lost by dropping the future, and the time waited so far counts.
    ///
    /// # Errors
    /// `TimedOut` where nothing came for 30 s, or less than 8 KiB a second over 60 s of waiting; `Unreachable` where the
    /// connection broke; `Failed` where there is more than `until`. No more comes after.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(transfer) = &mut self.transfer else { return Err(self.error(Kind::Failed, "its transfer is over already")) };
        let next = transfer.next().await;
        let next = self.judged(next);
        if !matches!(next, Ok(Some(_))) {
            self.transfer = None;
        }
        next
    }

    fn judged(&mut self, next: Result<Option<Bytes>, Broken>) -> Result<Option<Bytes>, Error> {
        let next = next.map_err(|broken| match broken {
            Broken::Way(error) => Error::from_egress(&self.registry, &error),
            Broken::TooSlow => self.error(Kind::TimedOut, "less than 8 KiB a second came for 60 s; the transfer is given up"),
        })?;
        self.at += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if self.until.is_some_and(|until| self.at > until) {
            return Err(self.error(Kind::Failed, "more of the blob came than was announced"));
        }
        Ok(next)
    }

    fn error(&self, kind: Kind, what: &str) -> Error {
        Error::new(kind, &self.registry, format!("{}: {what}", self.host))
    }
}

/// Why no more comes.
enum Broken {
    Way(egress::Error),
    TooSlow,
}

impl Transfer {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let mut wait = Wait { pace: &mut self.pace, since: Instant::now() };
        let mut next = pin!(self.body.chunk());
        loop {
            match timeout(wait.pace.left(), next.as_mut()).await {
                Ok(next) => {
                    let next = next.map_err(Broken::Way)?;
                    // Too late a chunk is still one: it is the next wait that ends at once.
                    wait.count(next.as_ref().map_or(0, Bytes::len));
                    return Ok(next);
                }
                Err(_) if wait.count(0) == Verdict::TooSlow => return Err(Broken::TooSlow),
                Err(_) => {}
            }
        }
    }
}

/// A wait for bytes, counted however it ends: who looks in every second waits all the same.
struct Wait<'a> {
    pace: &'a mut Pace,
    since: Instant,
}

impl Wait<'_> {
    fn count(&mut self, bytes: usize) -> Verdict {
        let now = Instant::now();
        let time = now - std::mem::replace(&mut self.since, now);
        self.pace.waited(time, bytes as u64)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.count(0);
    }
}
