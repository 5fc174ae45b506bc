//! `[[policy.statement]]`: whom, what and when a statement is about, and what it then says.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};

use super::conditions::{self, Conditions};
use super::fault::Complaint;
use super::policy::{Around, effect, mode};
use super::raw::{Keys, Once, Section, Value};
use super::resource::{self, Resource, is_pattern};
use super::{Effect, Mode, registry};

pub(super) const KEYS: Keys = Keys {
    known: &[
        "id",
        "effect",
        "mode",
        "endpoints",
        "not_endpoints",
        "sources",
        "not_sources",
        "except",
        "principals",
        "not_principals",
        "actions",
        "not_actions",
        "resources",
        "not_resources",
        "conditions",
    ],
    later: &[],
};

/// The word among principals that stands for a caller who has proved nothing.
pub const ANONYMOUS: &str = "anonymous";

/// What decides where no statement does; so no statement may be called that.
const DEFAULT: &str = "default";

const MAX_ID: usize = 64;
/// Of the items in one key.
const MAX_VALUES: usize = 1000;
/// Of one item, in bytes. The longest name of a registry with a repository and a tag is longer; patterns need not be.
const MAX_LENGTH: usize = 512;

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its name in decisions; no two statements share one.
    pub id: Arc<str>,
    /// What it says to a request that it matches.
    pub effect: Effect,
    /// Whether that counts or is only recorded.
    pub mode: Mode,
    /// What it matches.
    pub when: When,
    /// Where it stands in the file.
    pub line: usize,
}

/// What a statement matches: all that is written must hold, and what is not written always does. A list holds if one of its
/// items fits, its `not_` form if none does. No list is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct When {
    /// Private endpoints, by id or listener's name, as patterns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<String>>,
    /// Not these endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_endpoints: Option<Vec<String>>,
    /// Networks that the request comes from.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "networks")]
    pub sources: Option<Vec<IpNet>>,
    /// Not these networks.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "networks")]
    pub not_sources: Option<Vec<IpNet>>,
    /// Cut out of `sources`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "networks")]
    pub except: Option<Vec<IpNet>>,
    /// Names that the caller has proved, as patterns, or [`ANONYMOUS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principals: Option<Vec<String>>,
    /// None of these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_principals: Option<Vec<String>>,
    /// What is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Actions>>,
    /// Not this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_actions: Option<Vec<Actions>>,
    /// What it is to be done with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<Resource>>,
    /// Not with these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_resources: Option<Vec<Resource>>,
    /// Whatever else must hold.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
}

/// A word for actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Actions {
    /// Manifests and blobs.
    #[serde(rename = "pull")]
    Pull,
    /// Lists of tags.
    #[serde(rename = "list")]
    List,
    /// Lists of referrers.
    #[serde(rename = "referrers")]
    Referrers,
    /// Manifests.
    #[serde(rename = "manifest:get")]
    ManifestGet,
    /// Blobs.
    #[serde(rename = "blob:get")]
    BlobGet,
    /// All of them.
    #[serde(rename = "*")]
    All,
}

fn networks<S: Serializer>(networks: &Option<Vec<IpNet>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().flatten().map(ToString::to_string))
}

/// Reads one statement; none where a fault leaves nothing to go on with.
pub(super) fn check(section: &Section<'_>, ids: &mut Once, around: &Around<'_>) -> Option<Statement> {
    let named = section.require("id", "give the statement a name of its own, such as id = \"payments\"");
    let effect = section.require("effect", "write effect = \"allow\" or effect = \"deny\"");
    let mode = section.get("mode").and_then(|value| value.parse(mode)).unwrap_or(Mode::Enforce);
    let when = when(section, around);
    let named = named?;
    let id = named.parse(id)?;
    ids.claim(&named, &*id, &format!("another statement is named {id:?}"), "give each statement a name of its own");
    Some(Statement { id: id.into(), effect: effect?.parse(self::effect)?, mode, when, line: named.line })
}

fn when(section: &Section<'_>, around: &Around<'_>) -> When {
    let endpoints = |key| list(section, key, |item| endpoint(item, around));
    let networks = |key| list(section, key, |item| item.parse(network));
    let principals = |key| list(section, key, principal);
    let actions = |key| list(section, key, |item| item.parse(action));
    let resources = |key| list(section, key, |item| resource(item, around));
    let when = When {
        endpoints: endpoints("endpoints"),
        not_endpoints: endpoints("not_endpoints"),
        sources: networks("sources"),
        not_sources: networks("not_sources"),
        except: networks("except"),
        principals: principals("principals"),
        not_principals: principals("not_principals"),
        actions: actions("actions"),
        not_actions: actions("not_actions"),
        resources: resources("resources"),
        not_resources: resources("not_resources"),
        conditions: section
            .get("conditions")
            .and_then(|value| value.section(&conditions::KEYS))
            .map(|section| conditions::check(&section))
            .unwrap_or_default(),
    };
    if let (Some(value), None) = (section.get("except"), section.get("sources")) {
        value.fault("cuts out of sources, and there are none", "write sources, or not_sources instead of this");
    }
    when
}

/// The items of a list; none where the key is absent. An empty list would match nothing, which nobody means.
pub(super) fn list<T>(section: &Section<'_>, key: &str, read: impl Fn(&Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let value = section.get(key)?;
    let items = value.items()?;
    if items.is_empty() {
        value.fault("an empty list matches nothing", "leave the key out to match everything");
    }
    if items.len() > MAX_VALUES {
        value.fault(format!("more than {MAX_VALUES} items"), "use patterns, or several statements");
        return None;
    }
    Some(items.iter().filter_map(read).collect())
}

fn id(text: &str) -> Result<String, Complaint> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text == DEFAULT {
        return Err(Complaint::new(format!("{DEFAULT:?} is what decisions without a statement are called"), "choose another name"));
    }
    if text.len() <= MAX_ID && text.bytes().all(word) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(format!("{text:?} is not a name"), format!("use at most {MAX_ID} letters, digits, '.', '_' and '-'")))
}

/// A text that names are matched with.
pub(super) fn name(text: &str) -> Result<String, Complaint> {
    if text.len() > MAX_LENGTH {
        return Err(Complaint::new(format!("longer than {MAX_LENGTH} bytes"), "write a shorter pattern"));
    }
    if text.contains(char::is_control) {
        return Err(Complaint::new(format!("{text:?} has a control character"), "remove it"));
    }
    Ok(text.to_owned())
}

fn endpoint(item: &Value<'_>, around: &Around<'_>) -> Option<String> {
    let text = item.parse(name)?;
    warn_of_no_endpoint(item, &text, is_pattern(&text), around);
    Some(text)
}

/// Says so where `text`, which may be a pattern, is not in a form that endpoints have.
pub(super) fn warn_of_no_endpoint(item: &Value<'_>, text: &str, is_pattern: bool, around: &Around<'_>) {
    let is_known = match text.split_once(':') {
        _ if is_pattern => true,
        Some(("aws", id)) => !id.is_empty(),
        Some(("azure", id)) => id.parse::<u32>().is_ok(),
        Some(("gcp", id)) => id.parse::<u64>().is_ok(),
        Some(_) => false,
        None => around.has_listener(text),
    };
    if !is_known {
        let remedy = "write aws:vpce-…, azure:NUMBER, gcp:NUMBER, or the name of a [[listener]]";
        item.warn(format!("{text:?} is no endpoint of this proxy, so it never matches"), remedy);
    }
}

fn principal(item: &Value<'_>) -> Option<String> {
    let text = item.parse(name)?;
    warn_of_nobody(item, &text, &['*', '?']);
    Some(text)
}

/// Says so where `text`, which is a pattern where it has one of `wild`, is not in a form that principals have.
pub(super) fn warn_of_nobody(item: &Value<'_>, text: &str, wild: &[char]) {
    const FORMS: [&str; 4] = ["user:", "spiffe://", "dns:", "cn:"];
    let start = text.split(wild).next().unwrap_or_default();
    let fits = |form: &str| start.starts_with(form) || (start.len() < text.len() && form.starts_with(start));
    if text != ANONYMOUS && !FORMS.into_iter().any(fits) {
        let remedy = "write user:NAME, spiffe://…, dns:NAME, cn:NAME, or anonymous";
        item.warn(format!("{text:?} is nobody's name, so it never matches"), remedy);
    }
}

fn action(text: &str) -> Result<Actions, Complaint> {
    Ok(match text {
        "pull" => Actions::Pull,
        "list" => Actions::List,
        "referrers" => Actions::Referrers,
        "manifest:get" => Actions::ManifestGet,
        "blob:get" => Actions::BlobGet,
        "*" => Actions::All,
        _ => {
            let remedy = "write pull, list, referrers, manifest:get, blob:get or *";
            return Err(Complaint::new(format!("{text:?} is not an action"), remedy));
        }
    })
}

fn resource(item: &Value<'_>, around: &Around<'_>) -> Option<Resource> {
    let resource = item.parse(|text| resource::resource(&name(text)?))?;
    if let Some(registry) = resource.registry()
        && !around.has_registry(registry)
    {
        item.warn(
            format!("{registry} is not a registry of this proxy, so this never matches"),
            "configure it, or correct the name",
        );
    }
    Some(resource)
}

/// A network, or an address that stands for itself alone. An IPv4 network in an IPv6 dress is undressed, as callers are.
fn network(text: &str) -> Result<IpNet, Complaint> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => registry::network(text)?,
    };
    let mapped = |network: &IpNet| match network.addr() {
        IpAddr::V6(address) if network.prefix_len() >= MAPPED_PREFIX => address.to_ipv4_mapped(),
        _ => None,
    };
    match mapped(&network).map(|address| Ipv4Net::new(address, network.prefix_len() - MAPPED_PREFIX)) {
        Some(Ok(undressed)) => Ok(undressed.into()),
        _ => Ok(network),
    }
}

/// How many bits of an IPv6 address are in front of the IPv4 address that it may hold, `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = (Ipv6Addr::BITS - std::net::Ipv4Addr::BITS) as u8;
