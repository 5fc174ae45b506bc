//! The lines that chain an audit log: each says what came before it, and hashes it.
//!
//! A link's hash is the SHA-256 of everything from behind the link before it up to its own `,"hash"`. It says the hash of the
//! link before, so it stands for all that was ever written.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// How a link begins, and no record does.
const BEGINNING: &str = "{\"chain\":{";

/// The SHA-256 of a part of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

/// One link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its place in the chain, from 0.
    pub(super) number: u64,
    /// How many lines it covers: all those since the link before it.
    pub(super) records: u64,
    /// How many of these were there when the program started: what a run before it left unchained.
    pub(super) adopted: u64,
    /// How many records were lost since the link before it.
    pub(super) lost: u64,
    /// The hash of the link before it; zeros where there is none.
    pub(super) previous: Hash,
    pub(super) hash: Hash,
}

#[derive(Deserialize)]
struct Outer {
    chain: Inner,
}

#[derive(Deserialize)]
struct Inner {
    number: u64,
    records: u64,
    adopted: u64,
    lost: u64,
    previous: String,
    hash: String,
}

impl Link {
    /// Completes `link` over the lines that `hasher` has taken in.
    pub(super) fn seal(mut link: Self, hasher: &Sha256) -> Self {
        link.hash = link.hash_over(hasher);
        link
    }

    /// What the hash has to be, over the lines that `hasher` has taken in.
    pub(super) fn hash_over(&self, hasher: &Sha256) -> Hash {
        let hasher = hasher.clone().chain_update(self.hashed());
        Hash(hasher.finalize().into())
    }

    /// What of the line itself is hashed.
    fn hashed(&self) -> String {
        let Self { number, records, adopted, lost, previous, .. } = self;
        format!(
            "{BEGINNING}\"number\":{number},\"records\":{records},\"adopted\":{adopted},\"lost\":{lost},\"previous\":\"{previous}\""
        )
    }

    /// The line, without its newline.
    pub(super) fn line(&self) -> String {
        format!("{},\"hash\":\"{}\"}}}}", self.hashed(), self.hash)
    }

    /// Reads a line without its newline. What differs from how it was written in any byte is none.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        if !line.starts_with(BEGINNING.as_bytes()) {
            return None;
        }
        let Outer { chain } = serde_json::from_slice(line).ok()?;
        let Inner { number, records, adopted, lost, previous, hash } = chain;
        let link = Self { number, records, adopted, lost, previous: previous.parse().ok()?, hash: hash.parse().ok()? };
        (link.line().as_bytes() == line).then_some(link)
    }

    /// Whether a log that begins like this begins with a link, or with what was going to be one when the program was killed.
    pub(super) fn is_begun(log: &[u8]) -> bool {
        let line = log.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let length = line.len().min(BEGINNING.len());
        line[..length] == BEGINNING.as_bytes()[..length]
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is not the hash of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hash of 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| NotAHash)?;
        Ok(Self(hash))
    }
}
