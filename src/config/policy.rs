//! `[policy]`.

use super::fault::Complaint;
use super::listener::Addresses;
use super::raw::{Keys, Section};
use super::{Effect, Policy};

pub(super) const KEYS: Keys = Keys { known: &["default"], later: &["statement", "mode"] };

/// Reads the section, or what holds where it is absent: on loopback everybody may, elsewhere somebody has to say so.
pub(super) fn check(section: Option<&Section<'_>>, addresses: &Addresses<'_>) -> Policy {
    let Some(value) = section.and_then(|section| section.get("default")) else {
        refuse_open_proxy(addresses);
        return Policy { default: Effect::Allow };
    };
    let default = value.parse(effect).unwrap_or(Effect::Deny);
    if default == Effect::Deny {
        value.warn("without statements this refuses every request", "write default = \"allow\" to serve");
    }
    Policy { default }
}

fn refuse_open_proxy(addresses: &Addresses<'_>) {
    if let Some(value) = addresses.beyond_loopback() {
        let remedy = "write [policy] default = \"allow\" to let everybody who reaches it pull, or listen on 127.0.0.1";
        value.fault("other machines reach this address and there is no policy", remedy);
    }
}

fn effect(text: &str) -> Result<Effect, Complaint> {
    match text {
        "allow" => Ok(Effect::Allow),
        "deny" => Ok(Effect::Deny),
        _ => Err(Complaint::new(format!("{text:?} is not an effect"), "write \"allow\" or \"deny\"")),
    }
}
