//! A line of an audit log, as far as a policy can be asked about it again.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::oci::{Digest, Reference};
use crate::request::{Action, Caller, Endpoint, Item, Principal, Target, Tls, Verdict};

/// The shape of records that is known here.
const SCHEMA: u64 = 1;

/// What a line is.
#[derive(Debug)]
pub(super) enum Record {
    /// A request that the policy was asked about.
    Decided(Box<Decided>),
    /// A request that was answered before the policy was asked.
    Undecided,
    /// A refused connection, or a link of the chain.
    Other,
}

/// A request, and what the policy said to it then.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) caller: Caller,
    pub(super) target: Target,
    pub(super) user_agent: Option<String>,
    pub(super) time: Timestamp,
    pub(super) verdict: Verdict,
    /// What its tag meant.
    pub(super) resolved: Option<Digest>,
}

#[derive(Deserialize)]
struct Line {
    chain: Option<IgnoredAny>,
    schema: Option<u64>,
    event: Option<String>,
    time: Option<String>,
    listener: Option<String>,
    endpoint: Option<EndpointPart>,
    client_ip: Option<IpAddr>,
    client_port: Option<u16>,
    #[serde(default)]
    identity: Vec<String>,
    tls: Option<IgnoredAny>,
    action: Option<String>,
    registry: Option<String>,
    repository: Option<String>,
    reference: Option<ReferencePart>,
    resolved_digest: Option<String>,
    user_agent: Option<String>,
    decision: Option<String>,
}

#[derive(Deserialize)]
struct EndpointPart {
    cloud: Option<String>,
    id: String,
}

#[derive(Deserialize)]
struct ReferencePart {
    tag: Option<String>,
    digest: Option<String>,
}

impl Record {
    /// Reads a line without its newline.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| format!("not a record: {error}"))?;
        if line.chain.is_some() {
            return Ok(Self::Other);
        }
        if line.schema != Some(SCHEMA) {
            return Err(format!("not a record of schema {SCHEMA}"));
        }
        match (line.event.as_deref(), &line.decision) {
            (Some("connection"), _) => Ok(Self::Other),
            (Some("request"), None) => Ok(Self::Undecided),
            (Some("request"), Some(_)) => line.decided().map(|decided| Self::Decided(Box::new(decided))),
            _ => Err("neither of a request nor of a connection".to_owned()),
        }
    }
}

impl Line {
    fn decided(self) -> Result<Decided, String> {
        let verdicts = [Verdict::Allow, Verdict::Deny, Verdict::ShadowDeny];
        let verdict = verdicts.into_iter().find(|verdict| Some(verdict.as_str()) == self.decision.as_deref());
        let resolved = self.resolved_digest.as_deref().map(|text| read("resolved_digest", text)).transpose()?;
        Ok(Decided {
            verdict: verdict.ok_or("decision is no word for one")?,
            time: read("time", self.time.as_deref().unwrap_or_default())?,
            target: self.target()?,
            resolved,
            caller: self.caller()?,
            user_agent: self.user_agent,
        })
    }

    fn target(&self) -> Result<Target, String> {
        let reference = self.reference.as_ref();
        let digest = || read("reference.digest", reference.and_then(|part| part.digest.as_deref()).unwrap_or_default());
        let action = self.action.as_deref().unwrap_or_default();
        let item = match reference.and_then(|part| part.tag.as_deref()) {
            Some(tag) if action == Action::ManifestGet.as_str() => Item::Manifest(Reference::Tag(read("reference.tag", tag)?)),
            _ if action == Action::ManifestGet.as_str() => Item::Manifest(Reference::Digest(digest()?)),
            _ if action == Action::BlobGet.as_str() => Item::Blob(digest()?),
            _ if action == Action::ReferrersList.as_str() => Item::Referrers(digest()?),
            _ if action == Action::TagsList.as_str() => Item::Tags,
            _ => return Err("action is no word for one".to_owned()),
        };
        let registry = read("registry", self.registry.as_deref().unwrap_or_default())?;
        Ok(Target { registry, repository: read("repository", self.repository.as_deref().unwrap_or_default())?, item })
    }

    fn caller(&self) -> Result<Caller, String> {
        let part = self.endpoint.as_ref().ok_or("there is no endpoint")?;
        let endpoint: Endpoint = match &part.cloud {
            Some(cloud) => read("endpoint", &format!("{cloud}:{}", part.id))?,
            None => read("endpoint", &part.id)?,
        };
        let source = (self.client_ip.ok_or("there is no client_ip")?, self.client_port.unwrap_or_default()).into();
        let principals = self.identity.iter().map(|text| read("identity", text)).collect::<Result<Vec<Principal>, _>>()?;
        let listener: Arc<str> = self.listener.as_deref().unwrap_or(&part.id).into();
        // Of the encryption only that there is some decides.
        let tls = self.tls.map(|_| Arc::new(Tls { version: "1.3", server_name: None }));
        Ok(Caller { endpoint, tls, principals: principals.into(), ..Caller::direct(listener, source) })
    }
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{key} {text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

    fn line(keys: &str) -> String {
        format!(
            "{{\"schema\":1,\"time\":\"2026-08-21T10:11:12.345Z\",\"event\":\"request\",\"event_id\":\"1-1\",\
             \"listener\":\"nodes\",\"client_ip\":\"10.0.0.1\",\"client_port\":7,\"registry\":\"docker.io\",\
             \"repository\":\"library/app\",\"decision\":\"allow\",\"statement\":\"s\",{keys}}}"
        )
    }

    fn decided(keys: &str) -> Decided {
        match Record::parse(line(keys).as_bytes()) {
            Ok(Record::Decided(decided)) => *decided,
            other => panic!("{keys}: {other:?}"),
        }
    }

    #[test]
    fn whatever_a_policy_looks_at_is_read_back() {
        let read = decided(&format!(
            "\"endpoint\":{{\"cloud\":\"aws\",\"id\":\"vpce-1\",\"source\":\"proxy\"}},\"identity\":[\"spiffe://a/b\",\"user:ci\"],\
             \"tls\":{{\"version\":\"1.3\"}},\"action\":\"manifest\",\"reference\":{{\"tag\":\"v1\"}},\
             \"resolved_digest\":\"{DIGEST}\",\"user_agent\":\"containerd/2\""
        ));
        let caller = &read.caller;
        assert_eq!((caller.endpoint.as_str(), caller.source.to_string().as_str()), ("aws:vpce-1", "10.0.0.1:7"));
        assert_eq!((&*caller.name(), caller.principals.len(), caller.tls.is_some()), ("user:ci", 2, true));
        assert_eq!((&*caller.listener, read.user_agent.as_deref(), read.verdict), ("nodes", Some("containerd/2"), Verdict::Allow));
        assert_eq!(read.time, "2026-08-21T10:11:12.345Z".parse().unwrap());
        assert_eq!(read.resolved.map(|digest| digest.to_string()).as_deref(), Some(DIGEST));
        assert_eq!(read.target.repository.as_str(), "library/app");
    }

    #[test]
    fn every_action_has_its_item() {
        let digest: Digest = DIGEST.parse().unwrap();
        for (action, reference, item) in [
            ("manifest", format!("\"digest\":\"{DIGEST}\""), Item::Manifest(Reference::Digest(digest))),
            ("manifest", "\"tag\":\"v1\"".to_owned(), Item::Manifest(Reference::Tag("v1".parse().unwrap()))),
            ("blob", format!("\"digest\":\"{DIGEST}\""), Item::Blob(digest)),
            ("referrers", format!("\"digest\":\"{DIGEST}\""), Item::Referrers(digest)),
            ("tags", String::new(), Item::Tags),
        ] {
            let keys = format!("\"endpoint\":{{\"id\":\"nodes\"}},\"action\":\"{action}\",\"reference\":{{{reference}}}");
            let read = decided(&keys);
            assert_eq!(read.target.item, item);
            assert!(read.caller.endpoint == Endpoint::listener("nodes".into()) && read.caller.principals.is_empty());
        }
    }

    #[test]
    fn what_is_no_decision_is_passed_over_and_what_is_no_record_is_told() {
        let kind = |text: &str| Record::parse(text.as_bytes());
        assert!(matches!(kind("{\"chain\":{\"number\":3}}"), Ok(Record::Other)));
        assert!(matches!(kind("{\"schema\":1,\"event\":\"connection\",\"reason\":\"x\"}"), Ok(Record::Other)));
        assert!(matches!(kind("{\"schema\":1,\"event\":\"request\",\"path\":\"/v2/\",\"status\":401}"), Ok(Record::Undecided)));
        for (text, told) in [
            ("{\"schema\":1,\"eve".to_owned(), "not a record: EOF"),
            ("{\"schema\":2,\"event\":\"request\"}".to_owned(), "not a record of schema 1"),
            ("{\"schema\":1,\"event\":\"other\"}".to_owned(), "neither of a request"),
            (line("\"endpoint\":{\"id\":\"n\"},\"action\":\"manifest\""), "reference.digest \"\":"),
            (line("\"endpoint\":{\"id\":\"n\"},\"action\":\"push\""), "action is no word"),
            (line("\"endpoint\":{\"cloud\":\"x\",\"id\":\"n\"},\"action\":\"tags\""), "endpoint \"x:n\":"),
            (line("\"endpoint\":{\"id\":\"n\"},\"action\":\"tags\",\"identity\":[\"ci\"]"), "identity \"ci\":"),
            (line("\"action\":\"tags\""), "there is no endpoint"),
            (line("\"endpoint\":{\"id\":\"n\"},\"action\":\"tags\"").replace("allow", "perhaps"), "decision is no word"),
        ] {
            let error = kind(&text).unwrap_err();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
