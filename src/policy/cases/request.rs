//! A request as a case describes it.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::config::{ANONYMOUS, Limit, Resource};
use crate::oci::Reference;
use crate::request::{Caller, Endpoint, Item, Principal, Target, Tls};

/// A request. What is left out is what a plain request from this machine would have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// `registry/repository[:tag|@digest]`; without tag and digest, the list of tags.
    resource: String,
    /// What of a digest is wanted: `manifest:get` where it is left out, `blob:get` or `referrers`.
    action: Option<String>,
    source: Option<IpAddr>,
    /// `aws:ID`, `azure:NUMBER`, `gcp:NUMBER`, or a listener's name.
    endpoint: Option<String>,
    #[serde(default)]
    principals: Vec<String>,
    #[serde(default)]
    tls: bool,
    user_agent: Option<String>,
    time: Option<String>,
    /// Whether the registry is asked with credentials of ours.
    #[serde(default)]
    private: bool,
}

/// A request, ready to be asked about.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) target: Target,
    pub(super) user_agent: Option<String>,
    pub(super) is_private: bool,
    pub(super) time: Option<Timestamp>,
}

const LISTENER: &str = "default";

impl Request {
    /// What it means, with `names` put in for the words that stand for them.
    pub(super) fn check(self, names: &dyn Fn(&str) -> String) -> Result<Asked, String> {
        let time = self.time.map(|text| text.parse().map_err(|_| format!("{text:?} is not a time: write 2026-01-31T06:00:00Z")));
        Ok(Asked {
            target: target(&names(&self.resource), self.action.as_deref())?,
            caller: Caller {
                tls: self.tls.then(|| Arc::new(Tls { version: "1.3", server_name: None })),
                principals: self.principals.iter().map(|text| principal(text)).collect::<Result<_, _>>()?,
                ..caller(self.endpoint.as_deref().unwrap_or(LISTENER), self.source.unwrap_or([127, 0, 0, 1].into()))?
            },
            user_agent: self.user_agent,
            is_private: self.private,
            time: time.transpose()?,
        })
    }
}

fn caller(endpoint: &str, source: IpAddr) -> Result<Caller, String> {
    let (listener, endpoint) = match endpoint.split_once(':') {
        None => (endpoint, Some(Endpoint::listener(endpoint.into()))),
        Some((cloud, id)) => (LISTENER, of_cloud(cloud, id)),
    };
    let wrong = || "not an endpoint: write aws:ID, azure:NUMBER, gcp:NUMBER or a listener's name".to_owned();
    let endpoint = endpoint.ok_or_else(wrong)?;
    Ok(Caller { endpoint, ..Caller::direct(listener.into(), (source, 40_000).into()) })
}

fn of_cloud(cloud: &str, id: &str) -> Option<Endpoint> {
    match cloud {
        "aws" => Some(Endpoint::aws(id)),
        "azure" => id.parse().ok().map(Endpoint::azure),
        "gcp" => id.parse().ok().map(Endpoint::gcp),
        _ => None,
    }
}

fn principal(text: &str) -> Result<Principal, String> {
    match text.split_once(':') {
        Some(("user", name)) => Ok(Principal::user(name)),
        Some(("dns", name)) => Ok(Principal::dns(name)),
        Some(("cn", name)) => Ok(Principal::common_name(name)),
        Some(("spiffe", _)) => Ok(Principal::spiffe(text)),
        _ if text == ANONYMOUS => Err("an anonymous caller has no principals: leave them out".to_owned()),
        _ => Err(format!("{text:?} is not a principal: write user:NAME, spiffe://…, dns:NAME or cn:NAME")),
    }
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
