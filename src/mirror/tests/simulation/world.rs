//! Everything that a seed decides beforehand: what there is, how each URL behaves, who comes when and wants what.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::dice::Dice;
use super::disk::Disk;
use super::vice::Vice;
use crate::mirror::tests::IMAGE;
use crate::oci::{Algorithm, Digest};

pub(super) const REPOSITORIES: [&str; 2] = ["app", "other"];
pub(super) const HOSTS: [&str; 3] = ["a.test", "b.test", "c.test"];
/// What is held back of an unverified blob.
pub(super) const HELD_BACK: u64 = 64 << 10;
/// Room for everything at once, the steps of a MiB included that are reserved where no length is known.
const AMPLE: u64 = 7 << 20;
const LONGEST: u64 = 400 << 10;
/// What is no longer is not kept for the next start.
const LONG: u64 = 1 << 20;

/// The world of one seed.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) repositories: usize,
    pub(super) sites: Vec<Site>,
    /// The repository whose manifest says wrong sizes, if one does.
    pub(super) mistaken: Option<usize>,
    /// The last one is for the end: it fills the cache to the brim, and no client asks for it before.
    pub(super) blobs: Vec<Blob>,
    pub(super) room: u64,
    pub(super) clients: Vec<Vec<Visit>>,
    /// How each run of the mirror but the last ends.
    pub(super) ends: Vec<End>,
    pub(super) disk: Disk,
}

/// A blob as it truly is.
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    /// Whether upstreams tell its length.
    pub(super) sized: bool,
    /// Whether the manifest of each repository that has it names it.
    pub(super) announced: bool,
    /// Which repositories have it.
    pub(super) holders: Vec<bool>,
}

/// One URL of the registry.
pub(super) struct Site {
    /// How often it misbehaves, for each blob.
    pub(super) budget: u32,
    pub(super) vices: Vec<Vice>,
    /// Whether it sends entity tags.
    pub(super) tagged: bool,
}

/// What one client does at one time.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) at: Duration,
    pub(super) repository: usize,
    pub(super) blob: usize,
    pub(super) wish: Wish,
    /// The longest pause between two pieces.
    pub(super) pace: Duration,
    pub(super) leaves: Option<Leave>,
    /// How often it asks until it gives up.
    pub(super) tries: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Wish {
    Head,
    Whole,
    /// With this `Range`.
    Range(String),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Leave {
    /// Before there is an answer, after so long.
    Early(Duration),
    /// After so many pieces.
    After(u64),
}

/// The end of a run of the mirror.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The process dies. `index`: whether what was put into the index shortly before was durable, or all of it is lost.
    Kill { at: Duration, index: bool },
    /// It is told to stop, and does.
    Stop { at: Duration },
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::of(&[seed]);
        let repositories = dice.between(1, 2) as usize;
        let honest = dice.chance(25);
        let mistaken = (!honest && dice.chance(10)).then(|| dice.index(repositories));
        let sites = (0..dice.between(1, 3)).map(|_| Site::new(&mut dice, honest)).collect();
        let mut blobs = blobs(&mut dice, repositories);
        let room = room(&mut dice, &blobs);
        let clients = (0..dice.between(1, 12)).map(|_| visits(&mut dice, repositories, &blobs)).collect();
        let ends = ends(&mut dice);
        let disk = Disk::new(&mut dice);
        blobs.push(Blob::new(dice.bytes(room), true, false, vec![true; repositories]));
        Self { seed, repositories, sites, mistaken, blobs, room, clients, ends, disk }
    }

    /// Whether there is room for everything at any time.
    pub(super) fn is_ample(&self) -> bool {
        self.room == AMPLE
    }

    /// Whether no URL ever misbehaves, and no manifest is wrong.
    pub(super) fn is_honest(&self) -> bool {
        self.mistaken.is_none() && self.sites.iter().all(Site::is_honest)
    }

    /// The manifest of a repository; the same digest every time.
    pub(super) fn manifest(&self, repository: usize) -> Bytes {
        let layer = |blob: &Blob| {
            let (digest, size) = (blob.digest, blob.len() + u64::from(self.mistaken == Some(repository)));
            format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#)
        };
        let announced = self.blobs.iter().filter(|blob| blob.announced && blob.holders[repository]);
        let layers = announced.map(layer).collect::<Vec<_>>().join(",");
        let config = Digest::of(Algorithm::Sha256, b"{}");
        let config = format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}}"#);
        let name = REPOSITORIES[repository];
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[{layers}],"annotations":{{"of":"{name}"}}}}"#
        )
        .into()
    }
}

impl Site {
    fn new(dice: &mut Dice, honest: bool) -> Self {
        let budget = if honest || dice.chance(25) { 0 } else { dice.between(1, 6) as u32 };
        let lies = dice.chance(25);
        let all: Vec<Vice> = Vice::ALL.into_iter().filter(|vice| lies || !vice.lies()).collect();
        let vices = (0..dice.between(1, 5)).map(|_| dice.pick(&all)).collect();
        Self { budget, vices, tagged: dice.chance(60) }
    }

    pub(super) fn is_honest(&self) -> bool {
        self.budget == 0
    }
}

impl Blob {
    fn new(bytes: Vec<u8>, sized: bool, announced: bool, holders: Vec<bool>) -> Self {
        let algorithm = if bytes.first() == Some(&7) { Algorithm::Sha512 } else { Algorithm::Sha256 };
        Self { digest: Digest::of(algorithm, &bytes), bytes: bytes.into(), sized, announced, holders }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn blobs(dice: &mut Dice, repositories: usize) -> Vec<Blob> {
    let (mut blobs, mut known) = (Vec::new(), BTreeSet::new());
    let mut long = dice.chance(25);
    for _ in 0..dice.between(1, 4) {
        let size = match dice.below(10) {
            _ if std::mem::take(&mut long) => dice.between(LONG + 1, 2 * LONG),
            0 => dice.below(2),
            1..=3 => HELD_BACK * dice.pick(&[1, 1, 2, 5]) + dice.between(0, 2) - 1,
            _ => dice.between(2, LONGEST),
        };
        let mut holders = vec![true; repositories];
        if dice.chance(25) {
            holders[dice.index(repositories)] = repositories == 1;
        }
        let blob = Blob::new(dice.bytes(size), dice.chance(75), dice.chance(50), holders);
        if known.insert(blob.digest.to_string()) {
            blobs.push(blob);
        }
    }
    blobs
}

fn room(dice: &mut Dice, blobs: &[Blob]) -> u64 {
    let all: u64 = blobs.iter().map(Blob::len).sum();
    match dice.below(10) {
        0 => 1000,
        1 => all / 2 + 1000,
        2 => all + 1000,
        _ => AMPLE,
    }
}

fn visits(dice: &mut Dice, repositories: usize, blobs: &[Blob]) -> Vec<Visit> {
    let mut visits: Vec<Visit> = (0..dice.between(1, 3)).map(|_| visit(dice, repositories, blobs)).collect();
    visits.sort_by_key(|visit| visit.at);
    visits
}

fn visit(dice: &mut Dice, repositories: usize, blobs: &[Blob]) -> Visit {
    let blob = dice.index(blobs.len());
    Visit {
        at: Duration::from_millis(if dice.chance(50) { dice.below(50) } else { dice.below(100_000) }),
        repository: dice.index(repositories),
        blob,
        wish: wish(dice, blobs[blob].len()),
        pace: Duration::from_millis(dice.pick(&[0, 0, 10, 1000, 15_000])),
        leaves: match dice.below(10) {
            0 => Some(Leave::Early(Duration::from_millis(dice.pick(&[0, 20, 5000])))),
            1 => Some(Leave::After(dice.below(4))),
            _ => None,
        },
        tries: dice.between(1, 4) as u32,
    }
}

fn wish(dice: &mut Dice, length: u64) -> Wish {
    let first = dice.below(length);
    let last = first + dice.below(length - first.min(length));
    let range = match dice.below(16) {
        0 | 1 => return Wish::Head,
        2..=8 => return Wish::Whole,
        9 => format!("0-{last}"),
        10 => format!("{first}-{last}"),
        11 => format!("{first}-"),
        12 => format!("-{}", dice.between(1, length + 1)),
        13 => format!("{}-", length + dice.below(3)),
        14 => "0-".to_owned(),
        _ => format!("{first}-{last},0-0,-1"),
    };
    Wish::Range(format!("bytes={range}"))
}

fn ends(dice: &mut Dice) -> Vec<End> {
    let lives = dice.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 2]);
    let end = |dice: &mut Dice| {
        let at = Duration::from_millis(if dice.chance(50) { dice.below(3000) } else { dice.below(120_000) });
        if dice.chance(60) { End::Kill { at, index: dice.chance(50) } } else { End::Stop { at } }
    };
    (0..lives).map(|_| end(dice)).collect()
}
