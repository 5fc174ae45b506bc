//! A request that is described by arguments, and what was decided about it.

use std::net::IpAddr;

use serde::Serialize;

use super::{Faulty, complain};
use crate::config::Config;
use crate::policy::cases::{Answer, Asked, Request};
use crate::policy::{Permit, Reason, Refusal};

/// Who asks, and how. What is left out is what a plain request from this machine has.
#[derive(Debug, clap::Args)]
pub(super) struct Described {
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The private endpoint that it comes by: aws:ID, azure:NUMBER, gcp:NUMBER, or a listener's name.
    #[arg(long)]
    endpoint: Option<String>,
    /// A name that the caller has proved: user:NAME, spiffe://…, dns:NAME or cn:NAME. May be repeated; without one it is anonymous.
    #[arg(long = "principal", value_name = "PRINCIPAL")]
    principals: Vec<String>,
    /// What is to be done: pull, list, referrers, manifest:get or blob:get. Without it, the manifest is read, or the list of tags
    /// where the resource has neither tag nor digest.
    #[arg(long)]
    action: Option<String>,
    /// The connection is encrypted.
    #[arg(long)]
    tls: bool,
    /// The client's own name for itself.
    #[arg(long, value_name = "TEXT")]
    user_agent: Option<String>,
    /// When it comes, in RFC 3339. Without it, now.
    #[arg(long)]
    time: Option<String>,
}

impl Described {
    /// The request for `resource`, or says what is wrong with it.
    pub(super) fn asked(&self, resource: &str) -> Result<Asked, Faulty> {
        let request = Request {
            resource: resource.to_owned(),
            // Who pulls reads the manifest first.
            action: self.action.clone().map(|action| if action == "pull" { "manifest:get".to_owned() } else { action }),
            source: self.source,
            endpoint: self.endpoint.clone(),
            principals: self.principals.clone(),
            tls: self.tls,
            user_agent: self.user_agent.clone(),
            time: self.time.clone(),
            private: None,
        };
        request.check().map_err(|error| complain(&error))
    }
}

/// What was decided, as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) answer: Answer,
    pub(super) statement: String,
    /// The statement's line in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Names the policy.
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Told {
    pub(super) fn new(config: &Config, decided: &Result<Permit, Refusal>) -> Self {
        let answer = Answer::of(decided);
        let decision = decided.as_ref().map_or_else(|refusal| &refusal.decision, Permit::decision);
        let statement = config.policy.statements.iter().find(|statement| statement.id == decision.statement);
        Self {
            answer,
            statement: decision.statement.to_string(),
            line: statement.map(|statement| statement.line),
            policy: decision.policy.to_string(),
            reason: reason(answer, decided.as_ref().err()),
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, by {}", self.answer.as_str(), self.statement)?;
        if let Some(line) = self.line {
            write!(f, " on line {line}")?;
        }
        match self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

fn reason(answer: Answer, refusal: Option<&Refusal>) -> Option<&'static str> {
    match (refusal.map(|refusal| refusal.reason), answer) {
        (Some(Reason::Denied), _) => None,
        (Some(Reason::NotAllowed), _) => Some("no statement allows it"),
        (Some(Reason::PrivateToAnonymous), _) => {
            Some("its registry is asked with credentials, so an anonymous caller needs a statement that allows")
        }
        (None, Answer::Limited) => Some("it depends on the tags and digests by which the content was reached"),
        (None, Answer::ShadowDeny) => Some("it is served, and would be refused if that were enforced"),
        (None, Answer::Allow | Answer::Deny) => None,
    }
}
