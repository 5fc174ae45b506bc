//! Clients that know what is right, and tell right answers, honest cuts and wrong answers apart.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::RngExt as _;
use rand::rngs::StdRng;
use roadstead::oci::Digest;
use tokio::sync::watch;

use super::world::{KIB, Thing};
use crate::support::client::Head;
use crate::support::{Client, End};

/// Nobody is shown these before all is hashed.
const HELD_BACK: usize = 64 << 10;
/// How often an answer may be cut in a row where bytes on the disk were damaged: once when that is noticed, and once more
/// for who joined before it was.
const CUTS: usize = 2;

/// Making a blob of this size durable takes a moment.
const LARGE: usize = 256 * KIB;

/// What a client wants of a thing.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) thing: Thing,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Whole,
    Head,
    /// This header selects these bytes.
    Range(String, Range<usize>),
    /// Goes away after so many bytes.
    Leave(usize),
}

/// An answer that was whole and right.
#[derive(Clone, Debug)]
pub(super) struct Right {
    pub(super) digest: Digest,
    pub(super) is_blob: bool,
    /// It came from the store.
    pub(super) hit: bool,
}

/// What clients of one run of the proxy have in common.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) address: SocketAddr,
    /// From now on answers may be cut, and there may be none.
    pub(super) killed: Arc<AtomicBool>,
    /// Blobs whose bytes on the disk were damaged while the proxy was down, perhaps.
    pub(super) suspects: Arc<BTreeSet<Digest>>,
    /// What is passed through may come whole where a range was asked for.
    pub(super) may_ignore_ranges: bool,
    /// How many larger blobs came whole that were not stored.
    pub(super) cold: watch::Sender<usize>,
}

impl Ask {
    pub(super) fn whole(thing: Thing) -> Self {
        Self { thing, how: How::Whole }
    }

    /// One of everything a client may want.
    pub(super) fn any(thing: Thing, rng: &mut StdRng) -> Self {
        let size = thing.bytes.len();
        let how = match rng.random_range(0..10) {
            0..5 => How::Whole,
            5 => How::Head,
            6..9 if thing.is_blob => some_range(size, rng),
            _ => How::Leave(rng.random_range(0..size)),
        };
        Self { thing, how }
    }

    /// The bytes that an answer of this status has.
    fn wanted(&self, status: u16) -> Range<usize> {
        match &self.how {
            How::Range(_, bytes) if status == 206 => bytes.clone(),
            _ => 0..self.thing.bytes.len(),
        }
    }
}

fn some_range(size: usize, rng: &mut StdRng) -> How {
    let first = rng.random_range(0..size);
    let end = rng.random_range(first + 1..=size);
    match rng.random_range(0..3) {
        0 => How::Range(format!("bytes={first}-"), first..size),
        1 => How::Range(format!("bytes=-{}", size - first), first..size),
        _ => How::Range(format!("bytes={first}-{}", end - 1), first..end),
    }
}

impl Clients {
    /// Asks for all of these, one after the other, until the proxy is killed.
    ///
    /// # Errors
    /// What was wrong with an answer.
    pub(super) async fn run(self, asks: Vec<Ask>) -> Result<Vec<Right>, String> {
        let mut right = Vec::new();
        for ask in asks {
            if self.killed.load(Ordering::SeqCst) {
                break;
            }
            right.extend(self.ask(&ask).await.map_err(|fault| format!("{:?} {}: {fault}", ask.how, ask.thing.path))?);
        }
        Ok(right)
    }

    async fn ask(&self, ask: &Ask) -> Result<Option<Right>, String> {
        let mut cuts = 0;
        loop {
            match self.try_ask(ask).await {
                Err(Fault::Cut(_)) if self.killed.load(Ordering::SeqCst) => return Ok(None),
                Err(Fault::Cut(_)) if self.is_suspect(ask) && cuts < CUTS => cuts += 1,
                Err(Fault::Cut(what) | Fault::Wrong(what)) => return Err(what),
                Ok(right) => return Ok(right),
            }
        }
    }

    async fn try_ask(&self, ask: &Ask) -> Result<Option<Right>, Fault> {
        let cut = |what: &str| Fault::Cut(format!("{what} while the proxy ran"));
        let mut client = Client::try_connect(self.address).await.map_err(|_| cut("no connection"))?;
        let headers: Vec<_> = match &ask.how {
            How::Range(range, _) => vec![("range", range.as_str())],
            _ => Vec::new(),
        };
        client.request(if matches!(ask.how, How::Head) { "HEAD" } else { "GET" }, &ask.thing.path, &headers).await;
        let head = client.head().await.map_err(|_| cut("no answer"))?;
        if !matches!(head.status, 200 | 206) {
            let (body, _) = client.rest().await;
            return Err(Fault::Wrong(format!("status {} {}", head.status, String::from_utf8_lossy(&body))));
        }
        let wanted = ask.wanted(head.status);
        let range = matches!(ask.how, How::Range(..)) && !(self.may_ignore_ranges && head.status == 200);
        check_head(&ask.thing, &wanted, range, &head)?;
        let wanted = ask.thing.bytes.slice(wanted);
        match ask.how {
            How::Head => Ok(None),
            How::Leave(after) => {
                let body = client.read(after).await;
                self.check_beginning(ask, &wanted, &body).map(|()| None)
            }
            How::Whole | How::Range(..) => {
                let (body, end) = client.rest().await;
                if end != End::Whole {
                    self.check_beginning(ask, &wanted, &body)?;
                    return Err(cut("cut"));
                }
                if body != wanted && !self.may_be_spoiled(ask, &head) {
                    return Err(Fault::Wrong(format!("a whole answer of {} wrong bytes", body.len())));
                }
                Ok(Some(self.right(ask, &head)))
            }
        }
    }

    /// What came before an answer was cut is right, too, and not all of it.
    fn check_beginning(&self, ask: &Ask, wanted: &[u8], body: &[u8]) -> Result<(), Fault> {
        if body.len() >= wanted.len() {
            return Err(Fault::Wrong(format!("all {} bytes, and yet cut", body.len())));
        }
        // Where bytes were damaged on the disk, all but the last may be on their way before that shows.
        if !self.is_suspect(ask) && *body != wanted[..body.len()] {
            return Err(Fault::Wrong(format!("wrong bytes among the first {}", body.len())));
        }
        Ok(())
    }

    /// A part that does not hold the last bytes is over before the whole is hashed: until then it is as good as the disk.
    fn may_be_spoiled(&self, ask: &Ask, head: &Head) -> bool {
        let last = ask.wanted(head.status).end;
        self.is_suspect(ask) && head.status == 206 && last + HELD_BACK <= ask.thing.bytes.len()
    }

    fn is_suspect(&self, ask: &Ask) -> bool {
        self.suspects.contains(&ask.thing.digest)
    }

    fn right(&self, ask: &Ask, head: &Head) -> Right {
        let hit = head.headers.get("x-cache").is_some_and(|word| word == "hit");
        if ask.thing.bytes.len() >= LARGE && !hit && matches!(ask.how, How::Whole) {
            self.cold.send_modify(|cold| *cold += 1);
        }
        Right { digest: ask.thing.digest, is_blob: ask.thing.is_blob, hit }
    }
}

/// What an answer promises is what was asked for.
fn check_head(thing: &Thing, wanted: &Range<usize>, is_range: bool, head: &Head) -> Result<(), Fault> {
    let is = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let range = is_range.then(|| format!("bytes {}-{}/{}", wanted.start, wanted.end - 1, thing.bytes.len()));
    let right = head.status == if is_range { 206 } else { 200 }
        && is("content-range") == range
        && is("content-length") == Some(wanted.len().to_string())
        && is("docker-content-digest") == Some(thing.digest.to_string());
    if right { Ok(()) } else { Err(Fault::Wrong(format!("promises something else: {head:?}"))) }
}

enum Fault {
    /// It ended early, and what came was right.
    Cut(String),
    Wrong(String),
}
