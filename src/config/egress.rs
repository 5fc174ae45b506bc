//! `[egress]`.

use super::Egress;
use super::fault::Complaint;
use super::host::{self, HostPattern};
use super::raw::{Keys, Section};

pub(super) const KEYS: Keys = Keys { known: &["allow"], later: &[] };

/// Reads the section, or what holds where it is absent.
pub(super) fn check(section: Option<&Section<'_>>) -> Egress {
    let allow = section.and_then(|section| section.get("allow"));
    Egress { allow: allow.map(|value| value.parse_items(named)).unwrap_or_default() }
}

/// What holds for all registries must not open the way to an address of the own network.
fn named(text: &str) -> Result<HostPattern, Complaint> {
    let pattern = host::pattern(text)?;
    if pattern.is_literal() {
        let remedy = "name it in the realm or blob_hosts of its registry";
        return Err(Complaint::new(format!("{text:?} is an address, and would be open to every registry"), remedy));
    }
    Ok(pattern)
}
