//! An attempt's upstream side: the main transfer, which takes what is missing in order and is resumed as often as need be.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::attempt::Attempt;
use super::plan::{self, Next};
use super::resume::{self, Rest, Resumes};
use super::sides::Claims;
use super::{Error, Kind, LATER};
use crate::oci::Span;
use crate::upstream::{BlobAsk, BlobReply, Validator};

/// What is present is handed on in steps, so that hashing it from the disk is no long wait.
const SKIP: u64 = 8 << 20;

/// An upstream that asks to be left alone for longer is asked all the same: readers wait.
const LONGEST_LATER: Duration = Duration::from_secs(10);

/// A piece that was fetched beside and given up, and still does not end after so many waits, hangs in a write.
const MOST_WAITS: usize = 3;

/// What the main transfer hands on, in the order of the blob.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Bytes at an offset.
    Bytes(u64, Bytes),
    /// Bytes that are in the file already.
    Present(Span),
}

/// Why an attempt ended without the blob.
#[derive(Debug)]
pub(super) enum Ending {
    /// No more can be had now. What is here may be of use later.
    Broken(Error),
    /// What came is not the blob.
    Wrong(Error),
    /// The upstream has another content now. Here it comes from the first byte on, where it was sent so.
    Changed(Option<Box<BlobReply>>),
    /// What was received is lost to us, or nobody wants it any more.
    Lost(Error),
    /// Nobody takes what comes.
    Closed,
}

/// The main transfer of one attempt.
pub(super) struct Feed<'a> {
    attempt: &'a Attempt<'a>,
    claims: &'a Claims,
    items: mpsc::Sender<Item>,
    line: Option<Line>,
    length: Option<u64>,
    validator: Option<Validator>,
    resumes: Resumes,
    /// URLs whose answers do not fit what is known of the blob.
    unfit: Vec<usize>,
    /// URLs that broke off since there was progress: others are asked before them.
    broke: Vec<usize>,
    /// What went wrong first since the last progress.
    trouble: Option<Error>,
}

/// An answer that is being read.
struct Line {
    reply: BlobReply,
    at: u64,
    /// Bytes that were received and not taken.
    pending: Bytes,
    /// How many bytes it brought that were wanted.
    brought: u64,
    /// After the last byte that was asked for, where that is known.
    wanted: Option<u64>,
}

impl Line {
    /// A range may be answered by less than it asks for; but whoever answers by next to nothing would be asked for ever.
    fn is_worth_asking_on(&self) -> bool {
        self.wanted.is_none_or(|wanted| self.at >= wanted) || resume::is_progress(self.brought)
    }
}

impl<'a> Feed<'a> {
    /// A transfer that begins with `reply`, where there is one already. `length` is the blob's.
    pub(super) fn new(
        attempt: &'a Attempt<'a>,
        claims: &'a Claims,
        reply: Option<BlobReply>,
        length: Option<u64>,
        items: mpsc::Sender<Item>,
    ) -> Self {
        let (resumes, unfit) = (Resumes::default(), Vec::new());
        let mut feed =
            Self { attempt, claims, items, line: None, length, validator: None, resumes, unfit, broke: Vec::new(), trouble: None };
        if let Some(reply) = reply {
            let whole = Span::new(0, length.unwrap_or(u64::MAX));
            let gap = attempt.first_gap(whole);
            let until = gap.and_then(|gap| Some(gap.end).filter(|end| length.is_some_and(|length| *end < length)));
            feed.follow(reply, gap.map_or(0, |gap| gap.start), until);
        }
        feed
    }

    /// Takes all bytes, those present included. The blob's length. Dropping the future ends the transfer.
    pub(super) async fn run(mut self) -> Result<u64, Ending> {
        let items = self.items.clone();
        tokio::select! {
            biased;
            ended = self.take_all() => ended,
            () = items.closed() => Err(Ending::Closed),
        }
    }

    async fn take_all(&mut self) -> Result<u64, Ending> {
        let mut at = 0;
        loop {
            match self.next(at) {
                Next::End => return Ok(at),
                Next::Skip(until) => {
                    let step = Span::new(at, until.min(at + SKIP));
                    self.hand_on(Item::Present(step)).await?;
                    at = step.end;
                }
                Next::Wait => self.wait(at).await?,
                Next::HangUp => self.line = None,
                Next::Read(_) => at = self.read(at).await?,
                Next::Drain(until) => self.drain(until).await?,
                Next::Ask { from, until } => self.ask(from, until).await?,
            }
            self.attempt.download().reached(at);
        }
    }

    /// Waits for whoever fetches the byte at `at`.
    async fn wait(&mut self, at: u64) -> Result<(), Ending> {
        for _ in 0..MOST_WAITS {
            if self.claims.wait(at).await {
                return Ok(());
            }
        }
        Err(Ending::Lost(hanging()))
    }

    fn next(&self, at: u64) -> Next {
        let length = self.length.unwrap_or(u64::MAX);
        let missing = self.attempt.first_gap(Span::new(at.min(length), length));
        let line = self.line.as_ref().map(|line| plan::Line { at: line.at, ranged: self.claims.ranges_work() });
        plan::next(at, length, missing, &self.claims.spans(), line)
    }

    async fn read(&mut self, at: u64) -> Result<u64, Ending> {
        let Some((mut bytes, url)) = self.chunk().await? else { return Ok(at) };
        if let Some(length) = self.length.filter(|length| bytes.len() as u64 > length - at) {
            return Err(Ending::Wrong(self.attempt.wrong(format_args!("more than the {length} bytes announced"))));
        }
        // Meanwhile others may have fetched some of these, or begun to. No byte is written twice, for only one of them is hashed.
        let until = if let Next::Read(until) = self.next(at) { until } else { at };
        let wanted = usize::try_from(until - at).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.split_off(wanted);
        let taken = bytes.len() as u64;
        if let Some(line) = &mut self.line {
            line.at += taken;
            line.pending = rest;
            line.brought += taken;
        }
        self.trouble = None;
        self.attempt.received(Instant::now(), url, taken);
        if self.resumes.progressed(taken) {
            self.broke.clear();
        }
        // Before anybody is waited for: behind it, nothing is fetched beside.
        self.attempt.download().reached(at + taken);
        self.hand_on(Item::Bytes(at, bytes)).await?;
        Ok(at + taken)
    }

    async fn drain(&mut self, until: u64) -> Result<(), Ending> {
        let Some((mut bytes, _)) = self.chunk().await? else { return Ok(()) };
        if let Some(line) = &mut self.line {
            let unwanted = usize::try_from(until - line.at).unwrap_or(usize::MAX).min(bytes.len());
            line.pending = bytes.split_off(unwanted);
            line.at += unwanted as u64;
        }
        Ok(())
    }

    /// The next bytes, and which URL sent them; `None` where the answer is over, well or badly.
    async fn chunk(&mut self) -> Result<Option<(Bytes, usize)>, Ending> {
        let Some(line) = &mut self.line else { return Ok(None) };
        if !line.pending.is_empty() {
            return Ok(Some((std::mem::take(&mut line.pending), line.reply.url)));
        }
        let broken: Error = match line.reply.chunk().await {
            Ok(Some(bytes)) => return Ok(Some((bytes, line.reply.url))),
            Ok(None) if self.length.is_none() && line.reply.until.is_none() => {
                self.length = Some(line.at);
                self.line = None;
                return Ok(None);
            }
            Ok(None) if line.reply.until == Some(line.at) && line.is_worth_asking_on() => {
                self.line = None;
                return Ok(None);
            }
            Ok(None) => self.attempt.wrong("fewer bytes than it announced"),
            Err(error) => error.into(),
        };
        // Who brought something is asked for the rest once: what comes from one URL can be blamed on it.
        if line.brought == 0 || self.resumes.has_broken() {
            self.broke.push(line.reply.url);
        }
        self.break_off(broken).await?;
        Ok(None)
    }

    /// Asks for what comes next, at any of the URLs that still fit.
    async fn ask(&mut self, from: u64, until: Option<u64>) -> Result<(), Ending> {
        self.line = None;
        let ask = BlobAsk { from, until, validator: self.validator.as_ref(), skip: &self.unfit, last: &self.broke };
        let reply = match self.attempt.ask(&ask).await {
            Ok(reply) => reply,
            Err(error) if error.kind == Kind::Overloaded && self.resumes.busy() => {
                tokio::time::sleep(error.retry_after.unwrap_or(LATER)).await;
                return Ok(());
            }
            Err(error) if error.is_past_the_end() && self.length.is_none() => {
                self.length = Some(from);
                return Ok(());
            }
            Err(error) => return self.break_off(error).await,
        };
        let same = self.validator.as_ref().zip(reply.validator.as_ref()).filter(|(had, has)| from > 0 && had.url() == has.url());
        let same = same.map(|(had, has)| had == has);
        match resume::judge(self.length, reply.length, same, reply.from) {
            Rest::GoOn => {
                self.length = self.length.or(reply.length);
                self.follow(reply, from, until);
                Ok(())
            }
            Rest::StartOver => Err(Ending::Changed(Some(Box::new(reply)))),
            rest @ (Rest::OtherPart | Rest::Unfit) => {
                self.unfit.push(reply.url);
                if rest == Rest::OtherPart && self.attempt.asked_all(&self.unfit) {
                    return Err(Ending::Changed(None));
                }
                self.break_off(self.attempt.wrong("another content than before")).await
            }
        }
    }

    /// Reads an answer to the question for what comes from `from` on.
    fn follow(&mut self, reply: BlobReply, from: u64, until: Option<u64>) {
        if reply.from < from {
            self.claims.ranges_fail();
        }
        self.validator = reply.validator.clone();
        let wanted = until.or(self.length);
        self.line = Some(Line { at: reply.from, reply, pending: Bytes::new(), brought: 0, wanted });
    }

    /// Waits before the transfer is taken up again.
    async fn break_off(&mut self, error: Error) -> Result<(), Ending> {
        self.line = None;
        tracing::debug!(%error, "a transfer broke off");
        let later = error.retry_after.unwrap_or_default().min(LONGEST_LATER);
        let first = self.trouble.get_or_insert(error).clone();
        let Some(wait) = self.resumes.broke() else { return Err(Ending::Broken(first)) };
        tokio::time::sleep(wait.max(later)).await;
        Ok(())
    }

    async fn hand_on(&mut self, item: Item) -> Result<(), Ending> {
        self.attempt.wait_for_room(&item).await;
        self.items.send(item).await.map_err(|_| Ending::Closed)
    }
}

/// The disk takes nothing, and does not say so either.
pub(super) fn hanging() -> Error {
    Error::new(Kind::Internal, "the proxy's disk hangs; ask again")
}

impl Ending {
    /// What is told to those who wait.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Broken(error) | Self::Wrong(error) | Self::Lost(error) => error,
            Self::Changed(_) => Error::new(Kind::BadGateway, "the upstream changed the blob again and again"),
            Self::Closed => Error::stopped(),
        }
    }
}
