//! `[audit]`.

use std::path::PathBuf;

use super::fault::Complaint;
use super::file;
use super::raw::{Keys, Section, Value};

pub(super) const KEYS: Keys = Keys { known: &["output", "rotate", "keep", "when_full"], later: &[] };

/// The word for standard output.
pub(super) const STDOUT: &str = "stdout";
const ROTATE: u64 = 100 << 20;
const KEEP: usize = 10;

/// `[audit]`: the record of who pulled what, and of who was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where the records go.
    pub output: AuditOutput,
    /// What happens to requests when records cannot be written as fast as they come.
    pub when_full: WhenFull,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutput {
    /// Standard output, beside the access log.
    Stdout,
    /// A file that is appended to.
    File {
        /// The file; its folder must exist.
        path: PathBuf,
        /// From this many bytes on a new file is begun, and the old one gets a number. `None`: never.
        rotate: Option<u64>,
        /// How many numbered files are kept; at least one.
        keep: usize,
    },
}

/// What happens when audit records cannot be written as fast as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Records are dropped and counted; requests go on.
    Drop,
    /// Requests wait, and are refused after a while; what is answered is recorded.
    Block,
}

/// Reads the section. Without it there is no audit log.
pub(super) fn check(section: Option<&Section<'_>>) -> Option<Audit> {
    let section = section?;
    let output = section.require("output", "write output = \"FILE\" or output = \"stdout\"");
    let (rotate, keep) = (section.get("rotate"), section.get("keep"));
    let when_full = section.get("when_full").and_then(|value| value.parse(when_full)).unwrap_or(WhenFull::Drop);
    let output = output?;
    if output.is_word(STDOUT) {
        for value in rotate.iter().chain(&keep) {
            value.warn("standard output is not rotated", "remove it, or name a file as output");
        }
        return Some(Audit { output: AuditOutput::Stdout, when_full });
    }
    let rotate = rotate.and_then(|value| rotation(&value)).unwrap_or(Some(ROTATE));
    let keep = keep.and_then(|value| value.count()).unwrap_or(KEEP);
    Some(Audit { output: AuditOutput::File { path: file::path(&output)?, rotate, keep }, when_full })
}

fn rotation(value: &Value<'_>) -> Option<Option<u64>> {
    if value.is_word("never") { Some(None) } else { value.size().map(Some) }
}

fn when_full(text: &str) -> Result<WhenFull, Complaint> {
    match text {
        "drop" => Ok(WhenFull::Drop),
        "block" => Ok(WhenFull::Block),
        _ => Err(Complaint::new(format!("{text:?} is not what can be done"), "write \"drop\" or \"block\"")),
    }
}
