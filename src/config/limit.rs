//! `[[limit]]`: how much each tenant may take.

use ipnet::IpNet;

use super::Glob;
use super::fault::Complaint;
use super::network::network;
use super::policy::Around;
use super::raw::{Keys, Section};
use super::statement::{endpoint, list, principal};

pub(super) const KEYS: Keys = Keys { known: &["by", "of", "requests", "bytes", "connections", "downloads"], later: &[] };

/// More rules than this would only make every request slower.
const MAX_LIMITS: usize = 100;

/// `[[limit]]`: a cap for each tenant that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimit {
    /// What makes two requests one tenant's.
    pub by: By,
    /// Which tenants; none: all.
    pub of: Option<Of>,
    /// Requests per second, with as many at once.
    pub requests: Option<u64>,
    /// Body bytes per second.
    pub bytes: Option<u64>,
    /// Connections open at once.
    pub connections: Option<u64>,
    /// Downloads from upstreams at once that were started for it.
    pub downloads: Option<u64>,
}

/// What makes two requests one tenant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The private endpoint.
    Endpoint,
    /// The user, else the first name of the certificate; all that are anonymous are one.
    Principal,
    /// The address; of IPv6 its first 64 bits, because one host has all of these.
    Source,
}

/// Which tenants a limit is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Endpoints or principals of which a pattern matches the name.
    Names(Vec<Glob>),
    /// Sources in these networks.
    Networks(Vec<IpNet>),
}

impl By {
    /// The word in the file, in metrics and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Principal => "principal",
            Self::Source => "source",
        }
    }
}

impl Of {
    /// As written in the file.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Names(globs) => globs.iter().map(|glob| glob.as_str().to_owned()).collect(),
            Self::Networks(networks) => networks.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads all limits.
pub(super) fn check(sections: &[Section<'_>], around: &Around<'_>) -> Vec<TenantLimit> {
    if let Some(value) = sections.get(MAX_LIMITS).and_then(|section| section.get("by")) {
        value.fault(format!("more than {MAX_LIMITS} limits"), "say the same with fewer");
    }
    sections.iter().filter_map(|section| limit(section, around)).collect()
}

fn limit(section: &Section<'_>, around: &Around<'_>) -> Option<TenantLimit> {
    let named = section.require("by", "write by = \"endpoint\", \"principal\" or \"source\"")?;
    let by = named.parse(by)?;
    let count = |key| section.get(key).and_then(|value| value.count()).map(|count| count as u64);
    let limit = TenantLimit {
        by,
        of: of(by, section, around),
        requests: count("requests"),
        bytes: section.get("bytes").and_then(|value| value.size()),
        connections: count("connections"),
        downloads: count("downloads"),
    };
    let written = |key: &&str| section.get(key).is_some();
    if !["requests", "bytes", "connections", "downloads"].iter().any(written) {
        named.fault("this limits nothing", "write requests, bytes, connections or downloads");
    }
    Some(limit)
}

fn of(by: By, section: &Section<'_>, around: &Around<'_>) -> Option<Of> {
    let names = |texts: Vec<String>| Of::Names(texts.iter().map(|text| Glob::flat(text)).collect());
    match by {
        By::Endpoint => list(section, "of", |item| endpoint(item, around)).map(names),
        By::Principal => list(section, "of", principal).map(names),
        By::Source => list(section, "of", |item| item.parse(network)).map(Of::Networks),
    }
}

fn by(text: &str) -> Result<By, Complaint> {
    match text {
        "endpoint" => Ok(By::Endpoint),
        "principal" => Ok(By::Principal),
        "source" => Ok(By::Source),
        _ => Err(Complaint::new(format!("{text:?} tells no tenants apart"), "write \"endpoint\", \"principal\" or \"source\"")),
    }
}
