//! What must hold: each client's bytes and errors against the truth and against what the upstream really said.

use std::sync::Arc;
use std::time::Duration;

use super::log::{Log, Rule};
use super::upstream::{Upstream, is_part};
use super::vice::Vice;
use super::world::{HELD_BACK, REPOSITORIES, World};
use crate::mirror::{BlobAnswer, Error, Kind};
use crate::oci::Span;
use crate::request::Served;

/// How many transfers of a blob from its first byte to its end may be under way at once; `None` where it may not fit, or
/// the disk may not take it, and it is passed through to each client.
pub(super) fn most_fills(world: &World, blob: usize) -> Option<usize> {
    let last = blob + 1 == world.blobs.len();
    ((world.is_ample() && world.disk.is_well()) || last).then_some(1)
}

/// Who judges.
pub(super) struct Judge {
    pub(super) world: Arc<World>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) log: Arc<Log>,
}

/// One answer being read, by whom, and how far.
pub(super) struct Reading {
    pub(super) who: String,
    blob: usize,
    /// The length that was told.
    told: Option<u64>,
    /// Whether the answer was from the store, so that nothing of it may be wrong.
    stored: bool,
    /// `None`: to the end.
    span: Option<Span>,
    pub(super) at: u64,
    /// Wrong bytes were shown, as they may be.
    wrong: bool,
}

impl Reading {
    pub(super) fn new(who: &str, blob: usize, answer: &BlobAnswer) -> Self {
        let stored = matches!(answer.served, Served::Hit | Served::Revalidated);
        Self { who: who.to_owned(), blob, told: answer.length, stored, span: None, at: 0, wrong: false }
    }

    /// The same answer's bytes of one span.
    pub(super) fn of(&self, span: Span) -> Self {
        Self { who: self.who.clone(), span: Some(span), at: span.start, ..*self }
    }
}

/// What a client had asked for.
pub(super) struct Question<'a> {
    pub(super) who: &'a str,
    pub(super) repository: usize,
    pub(super) blob: usize,
    /// Whether a manifest told the length in this life of the mirror.
    pub(super) announced: bool,
    /// Whether an answer has begun.
    pub(super) begun: bool,
    /// Whether the mirror was told to stop.
    pub(super) stopping: bool,
    /// How long the client may pause between two pieces.
    pub(super) pace: Duration,
    /// Whether it asks for several spans.
    pub(super) several: bool,
}

impl Judge {
    /// There is an answer.
    pub(super) fn answered(&self, question: &Question<'_>, answer: &BlobAnswer) {
        let Question { who, repository, blob, .. } = *question;
        let truth = self.world.blobs[blob].len();
        let (vouched, missized) = {
            let record = self.upstream.record();
            (record.vouched.contains(&(repository, blob)), record.missized.contains(&blob))
        };
        if !vouched {
            self.log.fault(Rule::Private, who, format_args!("blob {blob}: nobody said that {} has it", REPOSITORIES[repository]));
        }
        // A HEAD is not held against the manifest.
        let checked = question.announced && answer.content.is_some();
        let mistaken = self.world.mistaken == Some(repository) && self.world.blobs[blob].announced;
        let excused = (missized && !checked) || mistaken;
        if answer.length.is_some_and(|length| length != truth) && !excused {
            self.log.fault(Rule::Length, who, format_args!("told {:?} of blob {blob} with {truth} bytes", answer.length));
        }
    }

    /// Bytes were shown.
    pub(super) fn piece(&self, reading: &mut Reading, bytes: &[u8]) {
        let (at, truth) = (reading.at, &self.world.blobs[reading.blob]);
        reading.at += bytes.len() as u64;
        let end = reading.span.map(|span| span.end).or(reading.told);
        if end.is_some_and(|end| reading.at > end) {
            self.fault(reading, Rule::Truth, format_args!("{} bytes at {at} go past {end:?}", bytes.len()));
        }
        if is_part(&truth.bytes, at, bytes) {
            return;
        }
        reading.wrong = true;
        if reading.stored || !self.upstream.record().lied.contains(&reading.blob) {
            self.fault(reading, Rule::Truth, format_args!("{} wrong bytes at {at}", bytes.len()));
        }
        let tail = truth.len().saturating_sub(HELD_BACK);
        let (from, skipped) = if at < tail { (tail, tail - at) } else { (at, 0) };
        let shown = usize::try_from(skipped).ok().and_then(|skipped| bytes.get(skipped..)).unwrap_or_default();
        if reading.told == Some(truth.len()) && !is_part(&truth.bytes, from, shown) {
            self.fault(reading, Rule::Tail, format_args!("wrong bytes at {at} of the tail"));
        }
    }

    /// The answer ended as if it were complete.
    pub(super) fn ended(&self, reading: &Reading) {
        let truth = self.world.blobs[reading.blob].len();
        let told = reading.told.unwrap_or(truth);
        let end = reading.span.map_or(told, |span| span.end);
        if reading.at != end {
            self.fault(reading, Rule::Truth, format_args!("ends at {} instead of {end}", reading.at));
        }
        // A range that does not touch the tail is over before anybody knows the digest.
        let verified = reading.stored || reading.span.is_none() || end > told.saturating_sub(HELD_BACK);
        if verified && (reading.wrong || told != truth) {
            self.fault(reading, Rule::Truth, format_args!("completes a wrong answer of {told} bytes"));
        }
    }

    /// There is no answer, or it broke off.
    pub(super) fn refused(&self, question: &Question<'_>, error: &Error) {
        let Question { who, repository, blob, .. } = *question;
        let sites = 0..self.world.sites.len();
        let said = |status, repository| {
            let within = Duration::from_secs(if question.begun { 300 } else { 60 });
            sites.clone().filter(|site| self.upstream.said(status, *site, repository, blob, within)).count()
        };
        let anywhere = |status| (0..self.world.repositories).any(|repository| said(status, repository) > 0);
        // What cuts an answer that has begun may be about the repository that it is fetched through.
        let here = |status| said(status, repository) > 0 || (question.begun && anywhere(status));
        let absent = said(404, repository) == sites.len() || (question.begun && anywhere(404));
        let overloaded = error.kind == Kind::Overloaded;
        // What is not stored waits ten seconds for a client; and of several spans that are read one after the other, the later
        // ones keep it waiting where the disk fails in between.
        let slow = question.pace > Duration::from_secs(10) || question.several;
        let too_slow = most_fills(&self.world, blob).is_none() && slow;
        let cut = too_slow && error.to_string().contains("nothing of it was taken");
        let excused = overloaded && (question.stopping || cut);
        let honest = match error.kind {
            Kind::NotFound => absent,
            Kind::Denied => here(403),
            Kind::Unauthorized => here(401),
            // How much may be asked is the same for all repositories.
            Kind::RateLimited => anywhere(429),
            Kind::BadGateway | Kind::TimedOut => !self.world.is_honest(),
            Kind::Overloaded => excused || error.to_string().contains("through other repositories"),
            Kind::Internal | Kind::Withheld => false,
        };
        if !honest {
            self.log.fault(Rule::Honest, who, format_args!("{:?}, but nobody said so: {error}", error.kind));
        } else if self.heals(question) && !excused && error.kind != Kind::NotFound {
            self.log.fault(Rule::Heals, who, format_args!("{:?} though one URL is well: {error}", error.kind));
        }
    }

    /// Whether a client may expect to see no error: one URL always behaves, none lies or speaks for all, and the length is
    /// known, so that a transfer can be taken up elsewhere.
    fn heals(&self, question: &Question<'_>) -> bool {
        let truth = &self.world.blobs[question.blob];
        let mut vices = self.world.sites.iter().filter(|site| !site.is_honest()).flat_map(|site| &site.vices);
        let good = |vice: &Vice| !vice.lies() && !vice.is_final() && *vice != Vice::OtherTag && *vice != Vice::NoLength;
        let one_is_well = self.world.sites.iter().any(super::world::Site::is_honest);
        let mistaken = self.world.blobs[question.blob].announced && self.world.mistaken.is_some();
        one_is_well && !mistaken && truth.holders[question.repository] && (truth.sized || question.announced) && vices.all(good)
    }

    fn fault(&self, reading: &Reading, rule: Rule, what: std::fmt::Arguments<'_>) {
        self.log.fault(rule, &reading.who, format_args!("blob {}: {what}", reading.blob));
    }
}
