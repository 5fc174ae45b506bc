//! What is asked of a blob, drawn at random, and what the answer must be: a plain function of the truth.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use crate::support::multipart;
use crate::support::{Blob, Reply};

/// The last bytes of a blob, which wait for its digest.
const TAIL: u64 = 64 << 10;
/// More than this are answered in whole.
const MOST_PARTS: usize = 16;

/// One range of a `Range` header.
#[derive(Clone, Copy, Debug)]
pub enum Spec {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

/// Whether a condition names the content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    Absent,
    Right,
    Wrong,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Question {
    pub head: bool,
    pub range: Vec<Spec>,
    pub if_range: Condition,
    pub if_none_match: Condition,
    /// The client leaves after so many bytes of the body.
    pub leaves_after: Option<usize>,
}

/// What the answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    NotModified,
    Head,
    Whole,
    Part(Range<u64>),
    Parts(Vec<Range<u64>>),
    Unsatisfiable,
}

impl Question {
    pub fn draw(rng: &mut StdRng, length: u64) -> Self {
        let condition = |rng: &mut StdRng, often: f64| match rng.random_bool(often) {
            true => *[Condition::Right, Condition::Wrong].choose(rng).unwrap(),
            false => Condition::Absent,
        };
        Self {
            head: rng.random_bool(0.1),
            range: ranges(rng, length),
            if_range: condition(rng, 0.2),
            if_none_match: condition(rng, 0.1),
            leaves_after: rng.random_bool(0.15).then(|| rng.random_range(0..=usize::try_from(length).unwrap())),
        }
    }

    pub fn method(&self) -> &'static str {
        if self.head { "HEAD" } else { "GET" }
    }

    pub fn headers(&self, blob: &Blob) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if !self.range.is_empty() {
            headers.push(("range", self.range_header()));
        }
        for (name, condition) in [("if-range", self.if_range), ("if-none-match", self.if_none_match)] {
            match condition {
                Condition::Absent => {}
                Condition::Right => headers.push((name, format!("\"{}\"", blob.digest))),
                Condition::Wrong => headers.push((name, "\"sha256:other\"".to_owned())),
            }
        }
        headers
    }

    fn range_header(&self) -> String {
        let mut header = "bytes=".to_owned();
        for (nth, spec) in self.range.iter().enumerate() {
            header += if nth > 0 { "," } else { "" };
            match spec {
                Spec::Between(first, last) => write!(header, "{first}-{last}"),
                Spec::From(first) => write!(header, "{first}-"),
                Spec::Last(count) => write!(header, "-{count}"),
            }
            .unwrap();
        }
        header
    }

    /// The right answer about a blob of this length.
    pub fn expected(&self, length: u64) -> Expected {
        if self.if_none_match == Condition::Right {
            return Expected::NotModified;
        }
        if self.head {
            return Expected::Head;
        }
        if self.range.is_empty() || self.if_range == Condition::Wrong || self.range.len() > MOST_PARTS {
            return Expected::Whole;
        }
        let selected = |spec: &Spec| {
            let (start, end) = match *spec {
                Spec::Between(first, last) => (first, (last + 1).min(length)),
                Spec::From(first) => (first, length),
                Spec::Last(count) => (length.saturating_sub(count), length),
            };
            (start < end).then_some(start..end)
        };
        let spans: Vec<Range<u64>> = self.range.iter().filter_map(selected).collect();
        match spans.as_slice() {
            [] => Expected::Unsatisfiable,
            [one] => Expected::Part(one.clone()),
            // Twice is an accident, more often an attack (RFC 9110 section 14.2).
            many if overlaps(many) > 1 => Expected::Whole,
            _ => Expected::Parts(spans),
        }
    }
}

fn overlaps(spans: &[Range<u64>]) -> usize {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.start);
    sorted.windows(2).filter(|pair| pair[1].start < pair[0].end).count()
}

/// Somewhere in or near a blob, often at an edge.
fn place(rng: &mut StdRng, length: u64) -> u64 {
    let edges = [0, 1, length / 2, length.saturating_sub(TAIL), length.saturating_sub(1), length, length + 1];
    match rng.random_bool(0.3) {
        true => *edges.choose(rng).unwrap(),
        false => rng.random_range(0..=length),
    }
}

fn ranges(rng: &mut StdRng, length: u64) -> Vec<Spec> {
    match rng.random_range(0..10) {
        0..2 => Vec::new(),
        2..7 => vec![range(rng, length)],
        // Apart from each other, in order or not.
        7..9 => {
            let mut cuts: Vec<u64> = (0..2 * rng.random_range(2..=MOST_PARTS)).map(|_| rng.random_range(0..=length)).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let mut specs: Vec<Spec> = cuts.chunks_exact(2).map(|pair| Spec::Between(pair[0], pair[1] - 1)).collect();
            if rng.random_bool(0.5) {
                specs.shuffle(rng);
            }
            specs
        }
        _ => (0..rng.random_range(2..=MOST_PARTS + 1)).map(|_| range(rng, length)).collect(),
    }
}

fn range(rng: &mut StdRng, length: u64) -> Spec {
    let (one, other) = (place(rng, length), place(rng, length));
    match rng.random_range(0..4) {
        0..2 => Spec::Between(one.min(other), one.max(other)),
        2 => Spec::From(one),
        _ => Spec::Last(length.saturating_sub(one)),
    }
}

impl Expected {
    /// What is wrong with an answer, if anything.
    pub fn fault(&self, reply: &Reply, blob: &Blob) -> Option<String> {
        let length = blob.len();
        let slice = |span: &Range<u64>| blob.bytes.slice(usize::try_from(span.start).unwrap()..usize::try_from(span.end).unwrap());
        let content_range = |span: &Range<u64>| format!("bytes {}-{}/{length}", span.start, span.end - 1);
        let (status, range, body) = match self {
            Self::NotModified => (304, String::new(), Bytes::new()),
            Self::Head => (200, String::new(), Bytes::new()),
            Self::Whole => (200, String::new(), blob.bytes.clone()),
            Self::Part(span) => (206, content_range(span), slice(span)),
            Self::Parts(spans) => {
                let wanted = spans.iter().map(|span| (content_range(span), slice(span)));
                let parts = multipart::parts(reply).map(|parts| parts.into_iter().map(|part| (part.range, part.body)).collect());
                return self.compared(reply, 206, "", parts == Some(wanted.collect::<Vec<_>>()), blob);
            }
            Self::Unsatisfiable => (416, format!("bytes */{length}"), reply.body.clone()),
        };
        self.compared(reply, status, &range, reply.body == body, blob)
    }

    fn compared(&self, reply: &Reply, status: u16, range: &str, right_bytes: bool, blob: &Blob) -> Option<String> {
        let told = reply.headers.get("content-length").map(|value| value.to_str().unwrap().to_owned());
        let length = if *self == Self::Head { blob.len() } else { reply.body.len() as u64 };
        let faults = [
            (reply.status != status, "status"),
            (!reply.complete(), "end"),
            (reply.header("content-range") != range, "content-range"),
            (reply.header("etag") != format!("\"{}\"", blob.digest), "etag"),
            (told.is_some_and(|told| told != length.to_string()) && *self != Self::NotModified, "content-length"),
            (!right_bytes, "bytes"),
        ];
        let (_, what) = faults.into_iter().find(|(wrong, _)| *wrong)?;
        let Reply { status, headers, body, end } = reply;
        Some(format!("{what}: {status}, {headers:?}, {} bytes, {end:?}", body.len()))
    }
}
