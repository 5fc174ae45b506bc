//! The configuration: one TOML file and what it means, checked.
//!
//! The file is read into a raw form that knows every value's line, then checked section by section into the types below.
//! Every fault is found in one run. Nothing below this room ever sees an unchecked value.

mod anonymous;
mod audit;
mod cache;
mod conditions;
mod effective;
mod egress;
mod fault;
mod file;
mod freshness;
pub(crate) mod glob;
mod host;
mod limit;
mod listener;
mod network;
mod policy;
mod private_endpoint;
mod proxy;
mod proxy_protocol;
mod raw;
mod registry;
mod resource;
mod secret;
mod source;
mod statement;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod urls;
mod users;
mod well_known;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub use audit::{Audit, AuditOutput, WhenFull};
pub use conditions::{Conditions, Day, Hours};
pub use effective::Effective;
use fault::Complaint;
pub use fault::{Fault, Faults, Warning};
pub use glob::Glob;
pub use host::HostPattern;
pub use limit::{By, Of, TenantLimit};
pub use private_endpoint::PrivateEndpoint;
pub use proxy::{Proxy, ProxyChoice, SharedProxy};
pub use proxy_protocol::ProxyProtocol;
use raw::{Keys, Reader, Section};
pub use resource::{Limit, Resource, ResourceError};
pub use secret::Secret;
pub use source::Source;
pub use statement::{ANONYMOUS, Actions, Statement, When};
pub use tls::{ClientAuth, KeyPair, ListenerTls};

use crate::oci::RegistryName;

/// Everything that the program was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[cache]`
    pub cache: Cache,
    /// `[[listener]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[admin]`
    pub admin: Admin,
    /// `[[registry]]`, at least one; names do not overlap and at most one is the default.
    pub registries: Vec<Arc<Registry>>,
    /// `[egress]`
    pub egress: Egress,
    /// `[policy]`
    pub policy: Policy,
    /// `[[limit]]`
    pub limits: Vec<TenantLimit>,
    /// `[audit]`, where there is one.
    pub audit: Option<Audit>,
}

/// `[cache]`: where content is kept and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The folder, created with mode 0700 where it is missing.
    pub directory: PathBuf,
    /// The most that stored content may take, in bytes. `None`: 80 % of the file system.
    pub max_size: Option<u64>,
    /// What the memory tier may take, in bytes.
    pub memory: u64,
}

/// `[[listener]]`: one private endpoint of this proxy.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The endpoint's name.
    pub name: Arc<str>,
    /// Where it listens. Port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, where the listener speaks it.
    pub tls: Option<ListenerTls>,
    /// Who sends headers of the PROXY protocol. `None`: nobody does.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Serves requests that name no registry, before the registry that is everybody's default. One of the registries.
    pub default_registry: Option<RegistryName>,
    /// Who may log in, where the listener asks.
    pub users: Option<ListenerUsers>,
    /// The most connections open at once; further ones are answered with 503.
    pub max_connections: usize,
}

/// `users = { … }` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerUsers {
    /// Names and bcrypt hashes of passwords, as `htpasswd -B` writes them. It could be read; what is in it is not known here.
    pub file: PathBuf,
    /// Whether everybody must log in.
    pub mode: UsersMode,
    /// Where clients get tokens. `None`: at the host that they asked for.
    pub realm: Option<Url>,
}

/// Whether everybody must log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsersMode {
    /// Nobody is served who has not.
    Require,
    /// Who has not is anonymous to the policy.
    Optional,
}

/// `[admin]`: the back door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where metrics, health and the API are served.
    pub address: SocketAddr,
}

/// `[[registry]]`: one upstream registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// What clients call it.
    pub name: RegistryMatch,
    /// Replicas of one registry, tried in order; at least one; scheme, host and optional path prefix. For a wildcard the
    /// host is `*` and stands for the concrete host.
    pub urls: Vec<Url>,
    /// `Host` headers by which requests name this registry.
    pub hosts: Vec<String>,
    /// Serves requests that name no registry.
    pub default: bool,
    /// PEM file with certificate authorities that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate shown to the upstream.
    pub client_certificate: Option<ClientCertificate>,
    /// The one token realm that may get our credentials (scheme, host, path). `None`: a realm on the registry's own origin.
    pub realm: Option<Url>,
    /// Hosts that blobs may be redirected to, beside the registry's own.
    pub blob_hosts: Vec<HostPattern>,
    /// Networks in which this registry's names may resolve though they are not public.
    pub addresses: Vec<IpNet>,
    /// Connect there instead of to what the name resolves to; name and certificate unchanged.
    pub private_endpoint: Option<PrivateEndpoint>,
    /// Where connections start from. `None`: wherever the system's routes say.
    pub source: Option<Source>,
    /// What of the proxies is used.
    pub proxy: ProxyChoice,
    /// The most connections (and so requests) in flight to this upstream at once.
    pub max_connections: usize,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
    /// How long tags stay fresh; the first rule that matches counts, and the last one matches all.
    pub freshness: Vec<Freshness>,
}

/// A registry's configured name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryMatch {
    /// One host.
    Exact(RegistryName),
    /// `*.suffix`: every host with exactly one or more labels in front of `.suffix`. The string holds the suffix with its dot.
    Suffix(String),
}

/// `client_certificate = { certificate, key }` of a registry.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// `credentials = { kind = "basic", … }`. They are sent as Basic to a registry that asks for Basic, and to its token realm
/// where it asks for Bearer.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password or access token.
    pub password: Secret,
}

/// `[[registry.freshness]]`: how long a tag's answer holds good.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// Which tags, as a glob.
    pub tags: globset::GlobMatcher,
    /// How long an answer is served without asking. `None`: forever.
    pub fresh: Option<Duration>,
    /// How long after that it may still be served while the upstream fails.
    pub stale_if_error: Duration,
}

/// `[egress]`: where the proxy may connect, beyond what the registries themselves declare.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Hosts for blob CDNs and token realms of all registries.
    pub allow: Vec<HostPattern>,
    /// The proxy for registries that say nothing of one.
    pub proxy: SharedProxy,
    /// Networks in which the names of proxies may resolve though they are not public.
    pub proxy_addresses: Vec<IpNet>,
}

/// `[policy]`: who may pull what. What denies counts before what allows, and that before the default.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What holds where no statement does.
    pub default: Effect,
    /// Whether it counts or is only recorded.
    pub mode: Mode,
    /// `[[policy.statement]]`, in the file's order.
    pub statements: Vec<Statement>,
}

/// Whether something counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It does.
    Enforce,
    /// It is tried out: what it would have done is recorded.
    Shadow,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The request may go on.
    Allow,
    /// The request is refused.
    Deny,
}

impl Listener {
    /// A listener without TLS, of whose clients nothing is known but their addresses.
    pub fn plain(name: &str, address: SocketAddr, max_connections: usize) -> Self {
        Self { name: name.into(), address, tls: None, proxy_protocol: None, users: None, default_registry: None, max_connections }
    }
}

impl fmt::Display for RegistryMatch {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl RegistryMatch {
    /// Whether a registry of this name is meant.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        }
    }
}

impl Listener {
    /// The files that it is made from.
    pub fn files(&self) -> Vec<PathBuf> {
        let pairs = self.tls.iter().flat_map(|tls| &tls.certificates);
        let authorities = self.tls.iter().filter_map(|tls| tls.clients.as_ref()).map(|clients| &clients.ca);
        let users = self.users.iter().map(|users| &users.file);
        pairs.flat_map(|pair| [&pair.certificate, &pair.key]).chain(authorities).chain(users).cloned().collect()
    }
}

impl Registry {
    /// The one of these that `name` means: that of this very name, else the wildcard that says most of it.
    pub fn meant_by<'r>(registries: &'r [Arc<Self>], name: &RegistryName) -> Option<&'r Arc<Self>> {
        let said = |registry: &&Arc<Self>| match &registry.name {
            RegistryMatch::Exact(_) => usize::MAX,
            RegistryMatch::Suffix(suffix) => suffix.len(),
        };
        registries.iter().filter(|registry| registry.name.covers(name.as_str())).max_by_key(said)
    }

    /// The registry name in logs and metrics.
    pub fn label(&self) -> String {
        self.name.to_string()
    }
}

const KEYS: Keys = Keys { known: &["cache", "listener", "admin", "registry", "egress", "policy", "limit", "audit"], later: &[] };

impl Config {
    /// Reads the file at `path` and the files that it names. Relative paths in it start at its folder; variables of the
    /// environment come from `environment`. Blocks on the disk; meant for the start and for reloads.
    pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), Faults> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let complaint = Complaint::new(format!("cannot be read: {error}"), "name a readable file with --config");
            Faults(vec![Fault::new(path, None, "", complaint)])
        })?;
        Self::parse(&text, path, environment)
    }

    /// Reads `text` as if it stood in the file at `path`. Every fault in it is found in one run.
    pub fn parse(text: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), Faults> {
        let reader = Reader::new(text, path, environment);
        let config = reader.parse().map(|table| check(&Section::root(&reader, table.get_ref(), &KEYS)));
        let warnings = reader.finish()?;
        Ok((config.expect("a text that does not parse has a fault"), warnings))
    }

    /// What holds without a file: the public registries, on loopback, with the cache in the user's cache folder.
    pub fn built_in(environment: &dyn Fn(&str) -> Option<String>) -> Result<(Self, Vec<Warning>), Faults> {
        Self::parse("", Path::new("built-in configuration"), environment)
    }

    /// The settings that hold, defaults included, to be shown or serialized. No secret is in them.
    pub fn effective(&self) -> Effective {
        Effective::new(self)
    }

    /// Whether requests for the registry of this name are made with credentials of ours.
    pub fn has_credentials(&self, name: &RegistryName) -> bool {
        Registry::meant_by(&self.registries, name).is_some_and(|registry| registry.credentials.is_some())
    }

    /// Whether an address of ours stands outside loopback.
    pub fn listens_beyond_loopback(&self) -> bool {
        self.listeners.iter().any(|listener| !is_loopback(listener.address.ip()))
    }
}

/// Checks section by section. What comes back counts only if no fault was noted.
fn check(root: &Section<'_>) -> Config {
    let one = |name, keys| root.get(name).and_then(|value| value.section(keys));
    let many = |name, keys| root.get(name).map(|value| value.sections(keys)).unwrap_or_default();
    let known = well_known::registries();
    let sections = many("registry", &registry::KEYS);
    let registries = if sections.is_empty() { known } else { registry::check(&sections, &known) };
    let mut addresses = listener::Addresses::default();
    let listeners = listener::check(&many("listener", &listener::KEYS), &registries, &mut addresses);
    // Before the admin address joins the others: policy is about listeners.
    let around = policy::Around::new(&listeners, &registries);
    let policy = policy::check(one("policy", &policy::KEYS).as_ref(), &addresses, around);
    anonymous::warn(&sections, &registries, &listeners, &policy);
    let limits = limit::check(&many("limit", &limit::KEYS), &around);
    let admin = listener::check_admin(one("admin", &listener::ADMIN_KEYS).as_ref(), &mut addresses);
    Config {
        cache: cache::check(root.reader, one("cache", &cache::KEYS).as_ref()),
        listeners,
        admin,
        registries,
        egress: egress::check(one("egress", &egress::KEYS).as_ref()),
        policy,
        limits,
        audit: audit::check(one("audit", &audit::KEYS).as_ref()),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
