//! The configuration: one TOML file and what it means, checked.
//!
//! The file is read into a raw form that knows every value's line, then checked section by section into the types below.
//! Every fault is found in one run. Nothing below this room ever sees an unchecked value.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

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
}

/// `[cache]`: where content is kept and how much of it.
#[derive(Clone, Debug)]
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
    /// The most connections open at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
}

/// `tls = { … }` of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// PEM file with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// `[admin]`: the back door.
#[derive(Clone, Debug)]
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
    /// Connect to this address instead of the one the name resolves to; name and certificate unchanged.
    pub private_endpoint: Option<SocketAddr>,
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

/// A host that may be connected to: `host`, `host:port` or `*.suffix`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// `None` where the pattern begins with `*.`: then `host` is the suffix with its dot.
    pub wildcard: bool,
    /// The host, or the suffix with its dot.
    pub host: String,
    /// The port; where absent, the scheme's own.
    pub port: Option<u16>,
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
}

/// `[policy]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What holds where no statement does.
    pub default: Effect,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request may go on.
    Allow,
    /// The request is refused.
    Deny,
}

/// A secret. Prints as `***` everywhere; [`Secret::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Never log or print what this returns.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl HostPattern {
    /// Whether this pattern lets a URL with this host (lower case, no brackets round IPv6) and port through.
    /// `default_port` is the scheme's own.
    pub fn matches(&self, host: &str, port: u16, default_port: u16) -> bool {
        let host_fits = if self.wildcard { host.len() > self.host.len() && host.ends_with(&self.host) } else { host == self.host };
        host_fits && self.port.unwrap_or(default_port) == port
    }
}

impl Registry {
    /// The registry name in logs and metrics.
    pub fn label(&self) -> String {
        match &self.name {
            RegistryMatch::Exact(name) => name.to_string(),
            RegistryMatch::Suffix(suffix) => format!("*{suffix}"),
        }
    }
}

impl Config {
    /// Whether an address of ours stands outside loopback.
    pub fn listens_beyond_loopback(&self) -> bool {
        self.listeners.iter().any(|listener| !is_loopback(listener.address.ip()))
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
