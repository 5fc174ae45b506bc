//! What a server of ours does wrong, when it is told to.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use tokio::sync::watch;

use super::server::{Recorded, refusal};

/// One thing done wrong with an answer. Offsets count bytes of the answer's body, which with a range is not the blob's.
#[derive(Clone)]
pub enum Fault {
    /// This status, with an error body, whatever was asked.
    Status(u16),
    /// This status, and a `Retry-After`.
    Later(u16, &'static str),
    /// A 307 to this place.
    Redirect(String),
    /// This header, in place of the true one.
    Header(&'static str, String),
    /// Without this header. (Without a length: `NoLength`.)
    NoHeader(&'static str),
    /// `Content-Length` says this; the body stays, so that the connection is cut where it is shorter.
    Length(u64),
    /// No `Content-Length`: chunked on HTTP/1.1.
    NoLength,
    /// These bytes for a body.
    Body(Bytes),
    /// The byte at this offset is wrong.
    Flip(usize),
    /// Ends after so many bytes, and says that this was all.
    Short(usize),
    /// So many bytes too many, and says that this was all.
    Extra(usize),
    /// Takes the request and never answers.
    Hang,
    /// Answers when the gate opens.
    HoldHead(Gate),
    /// Goes on after so many bytes when the gate opens.
    HoldAfter(usize, Gate),
    /// Pauses for so long before every so many bytes.
    Trickle(usize, Duration),
    /// Closes the connection without an answer.
    Drop,
    /// Closes the connection after exactly so many bytes. On HTTP/2 it resets the stream, and what is not on the wire by
    /// then is lost, the head included: there, a `HoldAfter` at the same place before it makes it exact.
    CutAt(usize),
    /// Resets the connection after exactly so many bytes.
    ResetAt(usize),
    /// Answers in whole where a range was asked.
    IgnoreRange,
    /// Answers as if this range had been asked.
    OtherRange(&'static str),
    /// Where the request accepts gzip, the body is said to be gzip, and is not fit to be decoded.
    GzipIfAsked,
}

/// Which requests: by what their path and query contain, and their method.
#[derive(Clone)]
pub struct Which {
    part: String,
    method: Option<Method>,
    spared: usize,
    times: Option<usize>,
}

/// Requests whose path and query contain `part`: a digest, `/blobs/`, `/v2/acme/app/`.
pub fn on(part: impl Display) -> Which {
    Which { part: part.to_string(), method: None, spared: 0, times: None }
}

impl Which {
    pub fn get(self) -> Self {
        Self { method: Some(Method::GET), ..self }
    }

    pub fn head(self) -> Self {
        Self { method: Some(Method::HEAD), ..self }
    }

    /// Not the next so many, but those that come then.
    pub fn after(self, spared: usize) -> Self {
        Self { spared, ..self }
    }

    /// The next one only.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// The next so many only.
    pub fn times(self, times: usize) -> Self {
        Self { times: Some(times), ..self }
    }

    pub fn fits(&self, request: &Recorded) -> bool {
        self.method.as_ref().is_none_or(|method| *method == request.method) && request.target().contains(&self.part)
    }

    /// Uses this up by one; false while it spares, and when it is spent.
    pub(super) fn take(&mut self) -> bool {
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        let left = self.times.is_none_or(|times| times > 0);
        self.times = self.times.map(|times| times.saturating_sub(1));
        left
    }
}

/// A gate that answers wait at until a test opens it; closed at first.
#[derive(Clone, Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Gate {
    pub fn new() -> Self {
        Self { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }
    }

    /// Lets all through that wait, and all that come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until so many answers in all have come to this gate.
    pub async fn reached(&self, count: usize) {
        self.arrived.subscribe().wait_for(|arrived| *arrived >= count).await.unwrap();
    }

    async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// Something to do at a point of an answer.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Never,
    Wait(Gate),
    Sleep(Duration),
    Cut { reset: bool },
}

/// The connection is to be cut here.
#[derive(Debug)]
pub struct Cut {
    pub(super) reset: bool,
}

impl Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut as scripted")
    }
}

impl std::error::Error for Cut {}

impl Step {
    pub(super) async fn take(self) -> Result<(), Cut> {
        match self {
            Self::Never => std::future::pending().await,
            Self::Wait(gate) => gate.pass().await,
            Self::Sleep(pause) => tokio::time::sleep(pause).await,
            Self::Cut { reset } => return Err(Cut { reset }),
        }
        Ok(())
    }
}

/// What `Content-Length` will say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    Honest,
    Absent,
    Says(u64),
}

/// An answer as it will be played: the honest one, as changed by faults.
#[derive(Debug)]
pub(super) struct Script {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub length: Length,
    pub body: Bytes,
    /// Before the head.
    pub before: Vec<Step>,
    /// At offsets of the body.
    pub at: Vec<(usize, Step)>,
}

impl Script {
    pub(super) fn new(honest: http::Response<Bytes>) -> Self {
        let (head, body) = honest.into_parts();
        Self { status: head.status, headers: head.headers, length: Length::Honest, body, before: Vec::new(), at: Vec::new() }
    }

    pub(super) fn apply(&mut self, fault: Fault, request: &Recorded) {
        match fault {
            Fault::Status(status) => self.refuse(status, None),
            Fault::Later(status, when) => self.refuse(status, Some((RETRY_AFTER, when))),
            Fault::Redirect(to) => self.refuse(307, Some((LOCATION, &to))),
            Fault::Header(name, value) => self.header(HeaderName::from_static(name), &value),
            Fault::NoHeader(name) => drop(self.headers.remove(name)),
            Fault::Length(length) => self.length = Length::Says(length),
            Fault::NoLength => self.length = Length::Absent,
            Fault::Body(bytes) => self.body = bytes,
            Fault::Flip(at) => self.edit(|body| body[at] ^= 1),
            Fault::Short(length) => self.edit(|body| body.truncate(length)),
            Fault::Extra(more) => self.edit(|body| body.resize(body.len() + more, b'x')),
            Fault::Hang => self.before.push(Step::Never),
            Fault::HoldHead(gate) => self.before.push(Step::Wait(gate)),
            Fault::Drop => self.before.push(Step::Cut { reset: false }),
            Fault::HoldAfter(at, gate) => self.mark(at, Step::Wait(gate)),
            Fault::CutAt(at) => self.mark(at, Step::Cut { reset: false }),
            Fault::ResetAt(at) => self.mark(at, Step::Cut { reset: true }),
            Fault::Trickle(piece, pause) => (0..self.body.len()).step_by(piece).for_each(|at| self.mark(at, Step::Sleep(pause))),
            Fault::GzipIfAsked if request.header(ACCEPT_ENCODING).is_some_and(|value| value.contains("gzip")) => {
                self.header(CONTENT_ENCODING, "gzip");
            }
            // The server changes the range before it asks for the honest answer.
            Fault::GzipIfAsked | Fault::IgnoreRange | Fault::OtherRange(_) => {}
        }
    }

    fn refuse(&mut self, status: u16, header: Option<(HeaderName, &str)>) {
        *self = Self::new(refusal(status, "SCRIPTED", "as scripted"));
        header.into_iter().for_each(|(name, value)| self.header(name, value));
    }

    fn header(&mut self, name: HeaderName, value: &str) {
        self.headers.insert(name, value.parse().unwrap());
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut body = self.body.to_vec();
        edit(&mut body);
        self.body = body.into();
    }

    fn mark(&mut self, at: usize, step: Step) {
        self.at.push((at, step));
        self.at.sort_by_key(|(at, _)| *at);
    }
}
