//! A request as a case describes it.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::config::{ANONYMOUS, Limit, Resource};
use crate::oci::{Digest, Reference, RegistryName};
use crate::policy::Question;
use crate::request::{Caller, Endpoint, Item, NotAName, Principal, Target, Tls};

/// A request in words. What is left out is what a plain request from this machine would have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `registry/repository[:tag|@digest]`; without tag and digest, the list of tags.
    pub resource: String,
    /// What of a digest is wanted: `manifest:get` where it is left out, `blob:get` or `referrers`.
    pub action: Option<String>,
    /// Where it comes from.
    pub source: Option<IpAddr>,
    /// `aws:ID`, `azure:NUMBER`, `gcp:NUMBER`, or a listener's name.
    pub endpoint: Option<String>,
    /// `user:NAME`, `spiffe://…`, `dns:NAME` or `cn:NAME`; none: anonymous.
    #[serde(default)]
    pub principals: Vec<String>,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: bool,
    /// The client's name for itself.
    pub user_agent: Option<String>,
    /// When, in RFC 3339.
    pub time: Option<String>,
    /// Whether the registry is asked with credentials of ours, where that is not for the configuration to say.
    pub private: Option<bool>,
}

/// A request, ready to be asked about.
#[derive(Clone, Debug)]
pub struct Asked {
    pub(super) caller: Caller,
    pub(super) target: Target,
    pub(super) user_agent: Option<String>,
    pub(super) private: Option<bool>,
    pub(super) time: Option<Timestamp>,
}

/// A request that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotARequest(pub(super) String);

const LISTENER: &str = "default";

impl Request {
    /// What it means.
    ///
    /// # Errors
    /// The first word that means nothing.
    pub fn check(self) -> Result<Asked, NotARequest> {
        self.check_with(&str::to_owned).map_err(NotARequest)
    }

    /// What it means with `names` put in for the words that stand for them.
    pub(super) fn check_with(self, names: &dyn Fn(&str) -> String) -> Result<Asked, String> {
        let time = self.time.map(|text| text.parse().map_err(|_| format!("{text:?} is not a time: write 2026-01-31T06:00:00Z")));
        Ok(Asked {
            target: target(&names(&self.resource), self.action.as_deref())?,
            caller: Caller {
                tls: self.tls.then(|| Arc::new(Tls { version: "1.3", server_name: None })),
                principals: self.principals.iter().map(|text| principal(text)).collect::<Result<_, _>>()?,
                ..caller(self.endpoint.as_deref().unwrap_or(LISTENER), self.source.unwrap_or([127, 0, 0, 1].into()))?
            },
            user_agent: self.user_agent,
            private: self.private,
            time: time.transpose()?,
        })
    }
}

impl Asked {
    /// The question that this is to a policy, made `now` where it does not say when. `has_credentials` says of which registries
    /// the configuration has credentials.
    pub fn question(&self, has_credentials: impl Fn(&RegistryName) -> bool, now: Timestamp) -> Question<'_> {
        Question {
            caller: &self.caller,
            target: &self.target,
            user_agent: self.user_agent.as_deref(),
            is_private: self.private.unwrap_or_else(|| has_credentials(&self.target.registry)),
            now: self.time.unwrap_or(now),
        }
    }

    pub(super) fn digest(&self) -> Option<Digest> {
        match &self.target.item {
            Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest) => Some(*digest),
            Item::Manifest(_) | Item::Tags => None,
        }
    }
}

fn caller(endpoint: &str, source: IpAddr) -> Result<Caller, String> {
    let endpoint: Endpoint = endpoint.parse().map_err(|error: NotAName| error.to_string())?;
    let listener = if endpoint.cloud().is_none() { endpoint.shared() } else { LISTENER.into() };
    Ok(Caller { endpoint, ..Caller::direct(listener, (source, 40_000).into()) })
}

fn principal(text: &str) -> Result<Principal, String> {
    if text == ANONYMOUS {
        return Err("an anonymous caller has no principals: leave them out".to_owned());
    }
    text.parse().map_err(|error: NotAName| error.to_string())
}

fn target(text: &str, action: Option<&str>) -> Result<Target, String> {
    let resource: Resource = text.parse().map_err(|error| format!("{error}"))?;
    let name = resource.name.split_once('/').and_then(|(registry, name)| Some((registry.parse().ok()?, name.parse().ok()?)));
    let (registry, repository) = name.ok_or_else(|| format!("{text:?} does not name one repository"))?;
    Ok(Target { registry, repository, item: item(resource.limit, action)? })
}

fn item(limit: Option<Limit>, action: Option<&str>) -> Result<Item, String> {
    let digest = |text: &str| text.parse().map_err(|_| format!("{text:?} is not one digest"));
    Ok(match (limit, action) {
        (None, None | Some("list")) => Item::Tags,
        (Some(Limit::Tag(tag)), None | Some("manifest:get")) => {
            Item::Manifest(Reference::Tag(tag.parse().map_err(|_| format!("{tag:?} is not one tag"))?))
        }
        (Some(Limit::Digest(text)), None | Some("manifest:get")) => Item::Manifest(Reference::Digest(digest(&text)?)),
        (Some(Limit::Digest(text)), Some("blob:get")) => Item::Blob(digest(&text)?),
        (Some(Limit::Digest(text)), Some("referrers")) => Item::Referrers(digest(&text)?),
        (_, action) => return Err(format!("{:?} does not go with this resource", action.unwrap_or_default())),
    })
}
