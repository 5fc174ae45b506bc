//! Who asks for what: plain data that the data side fills in once per request and everything below reads.
//!
//! There is no decision in here; `policy` makes those from this.

use std::net::IpAddr;
use std::sync::Arc;

use crate::oci::{Digest, Reference, RegistryName, RepositoryName};

/// Who stands at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The source address of the connection.
    pub source: IpAddr,
    /// The private endpoint the request came by: the listener's name.
    pub endpoint: Arc<str>,
    /// Whether the connection is encrypted.
    pub tls: bool,
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
