//! `[egress]`.

use super::fault::Complaint;
use super::host::{self, HostPattern};
use super::raw::{Keys, Section};
use super::{Egress, proxy, registry};

pub(super) const KEYS: Keys =
    Keys { known: &["allow", "proxy", "proxy_credentials", "proxy_from_environment", "proxy_addresses"], later: &[] };

/// Reads the section, or what holds where it is absent.
pub(super) fn check(section: Option<&Section<'_>>) -> Egress {
    let Some(section) = section else { return Egress::default() };
    let allow = section.get("allow").map(|value| value.parse_items(named)).unwrap_or_default();
    let proxy_addresses = section.get("proxy_addresses").map(|value| registry::networks(&value)).unwrap_or_default();
    Egress { allow, proxy: proxy::shared(section), proxy_addresses }
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
