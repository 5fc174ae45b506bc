//! The other side: what each URL answers, and a record of what it said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::dice::Dice;
use super::log::{Log, Rule};
use super::vice::Vice;
use super::world::{Blob, HOSTS, REPOSITORIES, World};
use crate::mirror::tests::{Asked, IMAGE, digest_of};
use crate::upstream::scripted::{Kind, Reply, Step};

/// All URLs of the registry.
pub(super) struct Upstream {
    world: Arc<World>,
    log: Arc<Log>,
    record: Mutex<Record>,
}

/// What was asked and answered so far.
#[derive(Default)]
pub(super) struct Record {
    asked: BTreeMap<(usize, usize, usize), u64>,
    vices: BTreeMap<(usize, usize), u32>,
    /// All URLs are honest from now on.
    healed: bool,
    /// When a URL last said this status of a blob in a repository.
    said: BTreeMap<(u16, usize, usize, usize), Duration>,
    /// Which blobs were vouched for, in which repositories.
    pub(super) vouched: BTreeSet<(usize, usize)>,
    /// Blobs of which wrong bytes were sent.
    pub(super) lied: BTreeSet<usize>,
    /// Blobs of which a wrong length was told.
    pub(super) missized: BTreeSet<usize>,
    /// How many transfers of a blob from its first byte to its end are under way.
    open: BTreeMap<usize, usize>,
    /// How many there were in this life.
    pub(super) whole: BTreeMap<usize, usize>,
    /// How many bytes of each blob were sent in this life.
    pub(super) sent: BTreeMap<usize, u64>,
}

/// One request for a blob, understood.
struct Ask<'a> {
    site: usize,
    repository: usize,
    blob: usize,
    truth: &'a Blob,
    head: bool,
    /// First byte and last, if any.
    range: Option<(u64, Option<u64>)>,
    if_range: Option<&'a str>,
}

/// What is answered where nothing goes wrong, to be spoilt.
struct Plan {
    status: u16,
    /// The offset of the first byte.
    from: u64,
    body: Bytes,
    /// The length in `Content-Length`, or the total in `Content-Range`.
    length: Option<u64>,
    tag: Option<String>,
}

impl Upstream {
    pub(super) fn new(world: Arc<World>, log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self { world, log, record: Mutex::default() })
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// From now on, all is well.
    pub(super) fn heal(&self) {
        self.record().healed = true;
    }

    /// The proxy starts anew.
    pub(super) fn begin_life(&self) {
        let mut record = self.record();
        record.whole.clear();
        record.sent.clear();
    }

    /// Whether URL `site` answered so within the last time. What is told of it later is stale.
    pub(super) fn said(&self, status: u16, site: usize, repository: usize, blob: usize, within: Duration) -> bool {
        let record = self.record();
        let when = record.said.get(&(status, site, repository, blob));
        when.is_some_and(|when| self.log.now() - *when <= within)
    }

    /// Answers a request.
    pub(super) fn reply(self: &Arc<Self>, asked: &Asked) -> Reply {
        let site = HOSTS.iter().position(|host| *host == asked.host).unwrap();
        let parts: Vec<&str> = asked.path.split('/').collect();
        let repository = REPOSITORIES.iter().position(|name| *name == parts[2]).unwrap();
        if parts[3] == "manifests" {
            return manifest(&self.world.manifest(repository), asked.is_head());
        }
        let Some(blob) = self.world.blobs.iter().position(|blob| blob.digest.to_string() == parts[4]) else {
            return Reply::status(404);
        };
        let range = asked.range.as_deref().map(|range| range_of(range).unwrap_or_else(|| panic!("asked for {range}")));
        let (truth, if_range) = (&self.world.blobs[blob], asked.if_range.as_deref());
        let reply = self.blob(&Ask { site, repository, blob, truth, head: asked.is_head(), range, if_range });
        let whole = !asked.is_head() && range.is_none_or(|range| range == (0, None));
        if whole { self.fill(site, blob, reply) } else { reply }
    }

    /// Watches over a transfer of all of a blob.
    fn fill(self: &Arc<Self>, site: usize, blob: usize, reply: Reply) -> Reply {
        let mut record = self.record();
        *record.whole.entry(blob).or_default() += 1;
        let open = record.open.entry(blob).or_default();
        *open += 1;
        let open = *open;
        drop(record);
        if super::judge::most_fills(&self.world, blob).is_some_and(|most| open > most) {
            self.log.fault(Rule::OneFill, HOSTS[site], format_args!("blob {blob} is fetched {open} times at once"));
        }
        hold(reply, Under { upstream: self.clone(), blob })
    }

    fn blob(self: &Arc<Self>, ask: &Ask<'_>) -> Reply {
        let nth = {
            let mut record = self.record();
            let nth = record.asked.entry((ask.site, ask.repository, ask.blob)).or_default();
            *nth += 1;
            *nth
        };
        let mut dice = Dice::of(&[self.world.seed, 1, ask.site as u64, ask.repository as u64, ask.blob as u64, nth]);
        let vice = self.vice(ask, &mut dice);
        let method = if ask.head { "HEAD" } else { "GET" };
        let what = format!("{method} {}/{} {}", REPOSITORIES[ask.repository], ask.blob, told(ask.range));
        self.log.note(HOSTS[ask.site], format_args!("{what} {}", vice.map_or(String::new(), |vice| format!("{vice:?}"))));
        if !ask.truth.holders[ask.repository] {
            return self.status(ask, 404);
        }
        match vice {
            Some(Vice::Status(status)) => self.status(ask, status),
            Some(Vice::SlowHead) => {
                let wait = Duration::from_millis(dice.between(1000, 25_000));
                Reply::After(wait, self.answer(ask, None, &mut dice).into())
            }
            Some(Vice::NoHead) => Reply::After(Duration::from_secs(3600), self.status(ask, 500).into()),
            Some(Vice::Down) => Reply::Fail(Kind::Unreachable),
            vice => {
                let wait = Duration::from_millis(dice.pick(&[0, 5, 200, 3000]));
                Reply::After(wait, self.answer(ask, vice, &mut dice).into())
            }
        }
    }

    /// How the URL misbehaves this time, if it does.
    fn vice(&self, ask: &Ask<'_>, dice: &mut Dice) -> Option<Vice> {
        let site = &self.world.sites[ask.site];
        let mut record = self.record();
        let healed = record.healed;
        let spent = record.vices.entry((ask.site, ask.blob)).or_default();
        if healed || *spent >= site.budget || !dice.chance(75) {
            return None;
        }
        *spent += 1;
        Some(dice.pick(&site.vices))
    }

    fn status(&self, ask: &Ask<'_>, status: u16) -> Reply {
        let now = self.log.now();
        self.record().said.insert((status, ask.site, ask.repository, ask.blob), now);
        Reply::status(status)
    }

    /// An answer with bytes, spoilt by `vice`.
    fn answer(self: &Arc<Self>, ask: &Ask<'_>, vice: Option<Vice>, dice: &mut Dice) -> Reply {
        let plan = match honest(ask, self.tag(ask, vice, dice), vice == Some(Vice::IgnoresRange)) {
            Some(plan) => plan,
            None => {
                let range = format!("bytes */{}", ask.truth.len());
                self.record().vouched.insert((ask.repository, ask.blob));
                return self.status(ask, 416).header("content-range", &range);
            }
        };
        let plan = plan.spoilt(ask, vice, dice);
        self.vouch(ask, &plan);
        let reply = plan.head(vice);
        if ask.head {
            return reply;
        }
        let mut steps = self.steps(ask, &plan, dice);
        end(&mut steps, vice, dice);
        steps.into_iter().fold(reply, Reply::step)
    }

    fn tag(&self, ask: &Ask<'_>, vice: Option<Vice>, dice: &mut Dice) -> Option<String> {
        match vice {
            Some(Vice::OtherTag) => Some(format!("\"other-{}\"", dice.below(1000))),
            _ => self.world.sites[ask.site].tagged.then(|| format!("\"{}\"", &ask.truth.digest.to_hex()[..16])),
        }
    }

    fn vouch(&self, ask: &Ask<'_>, plan: &Plan) {
        let mut record = self.record();
        record.vouched.insert((ask.repository, ask.blob));
        if plan.length.is_some_and(|length| length != ask.truth.len()) {
            record.missized.insert(ask.blob);
        }
    }

    /// The body in chunks, with pauses, and with notes of how far it came and whether that was true.
    fn steps(self: &Arc<Self>, ask: &Ask<'_>, plan: &Plan, dice: &mut Dice) -> Vec<Step> {
        let count = dice.pick(&[0, 1, 3, 8, 24]);
        // Slower than this would be too slow for small blobs.
        let longest = dice.pick(&[0, 0, 20, 1000, 20_000]).min(40_000 / (count + 1));
        let mut cuts: Vec<usize> = (0..count).map(|_| dice.index(plan.body.len() + 1)).collect();
        cuts.push(plan.body.len());
        cuts.sort_unstable();
        let (mut steps, mut from) = (Vec::new(), 0);
        for to in cuts {
            let (chunk, at) = (plan.body.slice(from..to), plan.from + from as u64);
            if longest > 0 {
                steps.push(Step::Pause(Duration::from_millis(dice.below(longest))));
            }
            let (upstream, blob) = (self.clone(), ask.blob);
            let (length, lie) = (chunk.len() as u64, !is_part(&ask.truth.bytes, at, &chunk));
            steps.push(Step::Note(Box::new(move || upstream.sends(blob, length, lie))));
            steps.push(Step::Bytes(chunk));
            from = to;
        }
        steps
    }

    fn sends(&self, blob: usize, bytes: u64, lie: bool) {
        let mut record = self.record();
        *record.sent.entry(blob).or_default() += bytes;
        if lie {
            record.lied.insert(blob);
        }
    }
}

impl Plan {
    fn spoilt(mut self, ask: &Ask<'_>, vice: Option<Vice>, dice: &mut Dice) -> Self {
        let (length, total) = (self.body.len(), ask.truth.len());
        match vice {
            Some(Vice::Late) => self.body = [&self.body[..], &dice.bytes(1 + total % 2000)].concat().into(),
            Some(Vice::WrongByte) if length > 0 => {
                let (mut bytes, at) = (self.body.to_vec(), dice.index(length));
                bytes[at] ^= 1;
                self.body = bytes.into();
            }
            Some(Vice::WrongBytes) => self.body = dice.bytes(length as u64).into(),
            Some(Vice::WrongLength) => self.length = Some(wrong_length(total, self.from + length as u64, self.status, dice)),
            Some(Vice::NoLength) => self.length = None,
            Some(Vice::OtherRange | Vice::WrongRange) if self.status == 206 => {
                let from = dice.below(total);
                self.body = ask.truth.bytes.slice(usize::try_from(from).unwrap()..);
                if vice == Some(Vice::OtherRange) {
                    self.from = from;
                }
            }
            _ => {}
        }
        self
    }

    fn head(&self, vice: Option<Vice>) -> Reply {
        let reply = self.tag.iter().fold(Reply::status(self.status), |reply, tag| reply.header("etag", tag));
        match (self.status, self.length) {
            (206, length) => {
                let total = length.map_or("*".to_owned(), |length| length.to_string());
                let last = self.from + (self.body.len() as u64).max(1) - 1;
                let last = length.map_or(last, |length| last.min(length - 1));
                reply.header("content-range", &format!("bytes {}-{last}/{total}", self.from))
            }
            (_, Some(length)) if vice != Some(Vice::NoLength) => reply.header("content-length", &length.to_string()),
            _ => reply,
        }
    }
}

/// Counts a transfer as under way until nobody reads it any more.
struct Under {
    upstream: Arc<Upstream>,
    blob: usize,
}

impl Drop for Under {
    fn drop(&mut self) {
        if let Some(open) = self.upstream.record().open.get_mut(&self.blob) {
            *open -= 1;
        }
    }
}

/// What an upstream answers that is well. `None`: nothing can be had of that range.
fn honest(ask: &Ask<'_>, tag: Option<String>, ignores_range: bool) -> Option<Plan> {
    let total = ask.truth.len();
    let moved = ask.if_range.is_some_and(|wanted| tag.as_deref() != Some(wanted));
    let length = ask.truth.sized.then_some(total);
    match ask.range.filter(|_| !moved && !ignores_range) {
        Some((first, _)) if first >= total => None,
        Some((first, last)) => {
            let end = last.map_or(total, |last| (last + 1).min(total));
            let body = ask.truth.bytes.slice(usize::try_from(first).unwrap()..usize::try_from(end).unwrap());
            Some(Plan { status: 206, from: first, body, length: Some(total), tag })
        }
        None => Some(Plan { status: 200, from: 0, body: ask.truth.bytes.clone(), length, tag }),
    }
}

/// Another length than the true one; in a `Content-Range` it must still hold the last byte that is sent.
fn wrong_length(total: u64, end: u64, status: u16, dice: &mut Dice) -> u64 {
    let longer = total + dice.pick(&[1, 100, super::world::HELD_BACK + 1]);
    let shorter = total - dice.below(total.min(1000) + 1);
    let fits = shorter != total && (status != 206 || shorter >= end);
    if fits && dice.chance(50) { shorter } else { longer }
}

/// Lets a body end as `vice` has it.
fn end(steps: &mut Vec<Step>, vice: Option<Vice>, dice: &mut Dice) {
    match vice {
        Some(Vice::Cut) => cut(steps, dice, Some(Step::Break)),
        Some(Vice::Stall) => cut(steps, dice, Some(Step::Hang)),
        Some(Vice::Early) => cut(steps, dice, None),
        Some(Vice::Doze) => {
            let at = dice.index(steps.len() + 1);
            steps.insert(at, Step::Pause(Duration::from_millis(dice.between(25_000, 40_000))));
        }
        Some(Vice::Trickle) => trickle(steps),
        _ => {}
    }
}

/// Ends a body in the middle of one of its chunks.
fn cut(steps: &mut Vec<Step>, dice: &mut Dice, last: Option<Step>) {
    steps.truncate(dice.index(steps.len() + 1));
    if let Some(Step::Bytes(bytes)) = steps.last_mut() {
        bytes.truncate(dice.index(bytes.len() + 1));
    }
    steps.extend(last);
}

/// Makes the first bytes of a body come one by one.
fn trickle(steps: &mut Vec<Step>) {
    let Some(at) = steps.iter().position(|step| matches!(step, Step::Bytes(bytes) if !bytes.is_empty())) else { return };
    let Step::Bytes(mut bytes) = steps.remove(at) else { return };
    let slow = bytes.split_to(bytes.len().min(6));
    let one_by_one = (0..slow.len()).flat_map(|i| [Step::Pause(Duration::from_secs(29)), Step::Bytes(slow.slice(i..=i))]);
    let steps_then: Vec<Step> = one_by_one.chain([Step::Bytes(bytes)]).collect();
    steps.splice(at..at, steps_then);
}

/// Whether `bytes` are what the truth has from `at` on.
pub(super) fn is_part(truth: &Bytes, at: u64, bytes: &[u8]) -> bool {
    let at = usize::try_from(at).unwrap();
    at.checked_add(bytes.len()).and_then(|end| truth.get(at..end)).is_some_and(|truth| truth == bytes)
}

/// Puts a guard on the answer that a reply comes to, if it comes to one.
fn hold(reply: Reply, guard: Under) -> Reply {
    match reply {
        Reply::After(wait, reply) => Reply::After(wait, hold(*reply, guard).into()),
        Reply::Answer(_) => reply.holding(guard),
        other => other,
    }
}

fn manifest(body: &Bytes, head: bool) -> Reply {
    let digest = digest_of(body).to_string();
    let reply = Reply::status(200).header("content-type", IMAGE).header("docker-content-digest", &digest);
    let reply = reply.header("content-length", &body.len().to_string());
    if head { reply } else { reply.step(Step::Bytes(body.clone())) }
}

/// `bytes=first-` or `bytes=first-last`: what the mirror asks for, and nothing else.
fn range_of(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    Some((first.parse().ok()?, last))
}

fn told(range: Option<(u64, Option<u64>)>) -> String {
    range.map_or(String::new(), |(first, last)| format!("{first}-{}", last.map_or(String::new(), |last| last.to_string())))
}
