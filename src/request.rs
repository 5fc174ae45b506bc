//! Who asks for what: plain data that the data side fills in once per request and everything below reads.
//!
//! There is no decision in here; `policy` makes those from this.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::oci::{Digest, Reference, RegistryName, RepositoryName};

/// Who stands at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where the request comes from: what a trusted PROXY protocol header says, else the connection's other end. Canonical,
    /// so an IPv4 address is never in an IPv6 dress.
    pub source: SocketAddr,
    /// The connection's other end, a load balancer perhaps.
    pub peer: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The private endpoint the request came by.
    pub endpoint: Endpoint,
    /// Whether this is a load balancer's own connection (PROXY protocol LOCAL), which speaks for no client.
    pub is_probe: bool,
    /// What is known of the encryption, where there is any.
    pub tls: Option<Arc<Tls>>,
    /// Who it has proved to be: the names of its certificate, then its user. Empty: anonymous.
    pub principals: Arc<[Principal]>,
}

/// A private endpoint: the cloud's id of it, or the name of the listener where a connection has none. Ids of different
/// clouds are never equal, nor is one equal to a listener's name, which has no colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    text: Arc<str>,
    cloud: Option<Cloud>,
}

/// Whose private link an endpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// AWS PrivateLink; the id is a VPC endpoint's.
    Aws,
    /// Azure Private Link; the id is the connection's link identifier.
    Azure,
    /// Google Private Service Connect; the id is the connection's.
    Gcp,
}

/// An encrypted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The version, as `1.3`.
    pub version: &'static str,
    /// The host that the client wanted (SNI), at most 255 characters.
    pub server_name: Option<Arc<str>>,
}

/// A proved name: `user:NAME`, `spiffe://…`, `dns:NAME` or `cn:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Caller {
    /// Somebody who connected to `listener` from `peer`, of whom nothing else is known.
    pub fn direct(listener: Arc<str>, peer: SocketAddr) -> Self {
        let endpoint = Endpoint::listener(listener.clone());
        let source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Self { source, peer: source, listener, endpoint, is_probe: false, tls: None, principals: Arc::default() }
    }

    /// The one name that it goes by where there is room for one only: its user, else the first of its certificate, else
    /// `anonymous`.
    pub fn name(&self) -> Arc<str> {
        let user = self.principals.iter().find(|principal| principal.as_str().starts_with("user:"));
        user.or(self.principals.first()).map_or_else(|| "anonymous".into(), |principal| principal.0.clone())
    }
}

impl Endpoint {
    /// The endpoint of connections that bring no id.
    pub fn listener(name: Arc<str>) -> Self {
        Self { text: name, cloud: None }
    }

    /// `aws:ID`.
    pub fn aws(id: &str) -> Self {
        Self { text: format!("aws:{id}").into(), cloud: Some(Cloud::Aws) }
    }

    /// `azure:ID`.
    pub fn azure(id: u32) -> Self {
        Self { text: format!("azure:{id}").into(), cloud: Some(Cloud::Azure) }
    }

    /// `gcp:ID`.
    pub fn gcp(id: u64) -> Self {
        Self { text: format!("gcp:{id}").into(), cloud: Some(Cloud::Gcp) }
    }

    /// As policies and logs write it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<str> {
        self.text.clone()
    }

    /// Whose it is; none for a listener's name.
    pub fn cloud(&self) -> Option<Cloud> {
        self.cloud
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text names no endpoint or principal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// No endpoint.
    #[error("{0:?} is not an endpoint: write aws:ID, azure:NUMBER, gcp:NUMBER or a listener's name")]
    Endpoint(String),
    /// No principal.
    #[error("{0:?} is not a principal: write user:NAME, spiffe://…, dns:NAME or cn:NAME")]
    Principal(String),
}

impl FromStr for Endpoint {
    type Err = NotAName;

    /// Reads what [`Endpoint::as_str`] writes.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let endpoint = match text.split_once(':') {
            None => Some(Self::listener(text.into())),
            Some(("aws", id)) => Some(Self::aws(id)),
            Some(("azure", id)) => id.parse().ok().map(Self::azure),
            Some(("gcp", id)) => id.parse().ok().map(Self::gcp),
            Some(_) => None,
        };
        endpoint.ok_or_else(|| NotAName::Endpoint(text.to_owned()))
    }
}

impl FromStr for Principal {
    type Err = NotAName;

    /// Reads what [`Principal::as_str`] writes.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        match text.split_once(':') {
            Some(("user" | "dns" | "cn", _)) => Ok(Self(text.into())),
            Some(("spiffe", rest)) if rest.starts_with("//") => Ok(Self(text.into())),
            _ => Err(NotAName::Principal(text.to_owned())),
        }
    }
}

impl Principal {
    /// A user that gave the right password or a token for it.
    pub fn user(name: &str) -> Self {
        Self(format!("user:{name}").into())
    }

    /// The URI of a SPIFFE id, `spiffe://…`, from a certificate.
    pub fn spiffe(uri: &str) -> Self {
        Self(uri.into())
    }

    /// A DNS name of a certificate.
    pub fn dns(name: &str) -> Self {
        Self(format!("dns:{name}").into())
    }

    /// The common name of a certificate.
    pub fn common_name(name: &str) -> Self {
        Self(format!("cn:{name}").into())
    }

    /// As policies and logs write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the policy said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it came to.
    pub verdict: Verdict,
    /// The id of the statement that decided, or `default`.
    pub statement: Arc<str>,
    /// Names the policy that was in force: the first 16 hexadecimal digits of the SHA-256 of its statements.
    pub policy: Arc<str>,
}

/// What a decision came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The request goes on.
    Allow,
    /// The request is refused.
    Deny,
    /// The request goes on; a statement or policy that is only tried out (shadow) would have refused it.
    ShadowDeny,
}

impl Verdict {
    /// The word in the audit record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::ShadowDeny => "shadow-deny",
        }
    }
}

/// What is to be done with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read a manifest.
    ManifestGet,
    /// Read a blob.
    BlobGet,
    /// Read the list of tags.
    TagsList,
    /// Read the list of referrers.
    ReferrersList,
}

/// What one request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The registry, by the name it is configured under (a wildcard's concrete host).
    pub registry: RegistryName,
    /// The repository, by the name the upstream knows it by.
    pub repository: RepositoryName,
    /// The thing in it.
    pub item: Item,
}

/// One thing in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// A manifest by tag or digest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
    /// The list of tags.
    Tags,
    /// What refers to this digest.
    Referrers(Digest),
}

impl Target {
    /// What reading this target is.
    pub fn action(&self) -> Action {
        match self.item {
            Item::Manifest(_) => Action::ManifestGet,
            Item::Blob(_) => Action::BlobGet,
            Item::Tags => Action::TagsList,
            Item::Referrers(_) => Action::ReferrersList,
        }
    }
}

impl Action {
    /// The word used for it in policies, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManifestGet => "manifest",
            Self::BlobGet => "blob",
            Self::TagsList => "tags",
            Self::ReferrersList => "referrers",
        }
    }
}

/// Where an answer came from: the value of `X-Cache`, and a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Served {
    /// Held, and no upstream was asked.
    Hit,
    /// Fetched for this request.
    Miss,
    /// From a download that another request had started.
    Joined,
    /// Held and out of date, because the upstream could not be asked.
    Stale,
    /// Held, and the upstream said that it still holds good.
    Revalidated,
}

impl Served {
    /// The word in `X-Cache`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Joined => "joined",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
        }
    }
}
