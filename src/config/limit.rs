//! `[[limit]]`: how much each tenant may take.

use globset::{Glob, GlobSet, GlobSetBuilder};
use ipnet::IpNet;

use super::fault::Complaint;
use super::policy::Around;
use super::raw::{Keys, Section, Value};
use super::statement;

pub(super) const KEYS: Keys = Keys { known: &["by", "of", "requests", "bytes", "connections", "downloads"], later: &[] };

/// More rules than this would only make every request slower.
const MAX_LIMITS: usize = 100;

/// `[[limit]]`: a cap for each tenant that it counts.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub enum Of {
    /// Endpoints or principals, by globs.
    Names(Vec<String>, GlobSet),
    /// Sources.
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

impl PartialEq for TenantLimit {
    fn eq(&self, other: &Self) -> bool {
        let caps = |limit: &Self| (limit.requests, limit.bytes, limit.connections, limit.downloads);
        self.by == other.by && caps(self) == caps(other) && self.of.as_ref().map(Of::texts) == other.of.as_ref().map(Of::texts)
    }
}

impl Of {
    /// As written in the file.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Names(texts, _) => texts.clone(),
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
        of: section.get("of").map(|value| of(by, &value, around)),
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

fn of(by: By, value: &Value<'_>, around: &Around<'_>) -> Of {
    if by == By::Source {
        return Of::Networks(value.parse_items(network));
    }
    let read = |item: &Value<'_>| {
        let glob = item.parse(glob)?;
        warn(by, item, glob.glob(), around);
        Some(glob.glob().to_owned())
    };
    let texts: Vec<String> = value.items().unwrap_or_default().iter().filter_map(read).collect();
    let mut set = GlobSetBuilder::new();
    for text in &texts {
        set.add(Glob::new(text).expect("it was one just now"));
    }
    match set.build() {
        Ok(set) => Of::Names(texts, set),
        Err(error) => {
            value.fault(format!("too large: {error}"), "write fewer or shorter patterns");
            Of::Names(Vec::new(), GlobSet::empty())
        }
    }
}

/// What stands for other text in a glob.
const WILD: [char; 5] = ['*', '?', '[', '{', '\\'];

/// A limit of nobody limits nothing.
fn warn(by: By, item: &Value<'_>, text: &str, around: &Around<'_>) {
    match by {
        By::Endpoint => statement::warn_of_no_endpoint(item, text, text.contains(WILD), around),
        By::Principal => statement::warn_of_nobody(item, text, &WILD),
        By::Source => {}
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

fn glob(text: &str) -> Result<Glob, Complaint> {
    Glob::new(text)
        .map_err(|error| Complaint::new(format!("{text:?} is not a pattern: {}", error.kind()), "write one such as \"aws:*\""))
}

fn network(text: &str) -> Result<IpNet, Complaint> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| Complaint::new(format!("{text:?} is not a network"), "write one such as \"10.0.0.0/8\", or an address"))
}
