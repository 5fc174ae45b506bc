//! What is recorded of a request or a refused connection. docs/audit.md has the fields.
//!
//! The line is made where the request ends, and not by the thread that writes it: to hand texts over to be freed elsewhere
//! would cost more than to write them down here.

use jiff::Timestamp;

use crate::oci::Reference;
use crate::request::{Caller, Cloud, Endpoint, Item, Principal, Target};
use crate::telemetry::line::{Line, key};
use crate::telemetry::outcome::End;
use crate::telemetry::text::shortened;
use crate::telemetry::{Outcome, RefusedConnection};

/// The version of the records' shape. A later one may have more fields; a change of these raises it.
const SCHEMA: &str = "\"schema\":1";
/// Of a caller's proved names so many are recorded, the last among them: that is its user, where it has one.
const MOST_PRINCIPALS: usize = 16;

/// The name of a record: that of the run of the program, and its number there.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventId {
    pub(super) run: u32,
    pub(super) number: u64,
}

/// Writes the line of a request that ended, with its newline.
pub(super) fn of_request(room: &mut Vec<u8>, outcome: &Outcome, end: &End, id: EventId) {
    let mut line = begin(room, "request", end.time, id);
    line.word(key!("request_id"), &outcome.id);
    if let Some(caller) = &outcome.caller {
        write_caller(&mut line, caller);
    }
    line.text(key!("method"), &outcome.method);
    line.text(key!("path"), &outcome.path);
    if let Some(target) = &outcome.target {
        write_target(&mut line, target);
    }
    if let Some(digest) = &outcome.resolved {
        line.digest(key!("resolved_digest"), digest);
    }
    line.optional(key!("media_type"), outcome.media_type.as_deref());
    if let Some(decision) = &outcome.decision {
        line.word(key!("decision"), decision.verdict.as_str());
        line.text(key!("statement"), &decision.statement);
        line.text(key!("policy"), &decision.policy);
    }
    write_answer(&mut line, outcome, end);
    line.optional(key!("user_agent"), outcome.user_agent.as_deref());
    if let Some(code) = outcome.error_code {
        line.word(key!("error_code"), code.as_str());
    }
    line.optional(key!("reason"), outcome.reason.as_deref().map(shortened));
    line.end();
}

/// Writes the line of a connection that is refused now, with its newline.
pub(super) fn of_connection(room: &mut Vec<u8>, refused: &RefusedConnection, id: EventId) {
    let mut line = begin(room, "connection", Timestamp::now(), id);
    write_caller(&mut line, &refused.caller);
    line.word(key!("error_code"), refused.reason);
    line.text(key!("reason"), shortened(&refused.detail));
    line.end();
}

fn begin<'a>(room: &'a mut Vec<u8>, event: &str, time: Timestamp, id: EventId) -> Line<'a> {
    let mut line = Line::begin(room, SCHEMA);
    line.time(key!("time"), time);
    line.word(key!("event"), event);
    line.pair(key!("event_id"), id.run, id.number);
    line
}

fn write_answer(line: &mut Line, outcome: &Outcome, end: &End) {
    if outcome.status > 0 {
        line.number(key!("status"), u64::from(outcome.status));
    }
    line.number(key!("bytes"), outcome.sent);
    if let Some(served) = outcome.served {
        line.word(key!("cache"), served.as_str());
    }
    line.milliseconds(key!("duration_ms"), end.elapsed);
}

fn write_caller(line: &mut Line, caller: &Caller) {
    line.text(key!("listener"), &caller.listener);
    write_endpoint(line, &caller.endpoint);
    line.address(key!("peer_ip"), caller.peer.ip().to_canonical());
    line.address(key!("client_ip"), caller.source.ip().to_canonical());
    line.number(key!("client_port"), u64::from(caller.source.port()));
    if caller.is_probe {
        line.truth(key!("probe"));
    }
    if !caller.principals.is_empty() {
        let (first, others) = caller.principals.split_at(caller.principals.len().min(MOST_PRINCIPALS - 1));
        line.texts(key!("identity"), first.iter().chain(others.last()).map(Principal::as_str));
    }
    if let Some(tls) = &caller.tls {
        line.word(key!("tls" "version"), tls.version);
        line.optional(key!("sni"), tls.server_name.as_deref().map(shortened));
        line.close();
    }
}

fn write_endpoint(line: &mut Line, endpoint: &Endpoint) {
    let cloud = endpoint.cloud().map(|cloud| match cloud {
        Cloud::Aws => "aws",
        Cloud::Azure => "azure",
        Cloud::Gcp => "gcp",
    });
    match cloud {
        Some(cloud) => {
            line.word(key!("endpoint" "cloud"), cloud);
            line.text(key!("id"), endpoint.as_str().split_once(':').map_or(endpoint.as_str(), |(_, id)| id));
            line.word(key!("source"), "proxy");
        }
        None => {
            line.text(key!("endpoint" "id"), endpoint.as_str());
            line.word(key!("source"), "listener");
        }
    }
    line.close();
}

fn write_target(line: &mut Line, target: &Target) {
    line.word(key!("action"), target.action().as_str());
    line.word(key!("registry"), target.registry.as_str());
    line.word(key!("repository"), target.repository.as_str());
    match &target.item {
        Item::Manifest(Reference::Tag(tag)) => {
            line.word(key!("reference" "tag"), tag.as_str());
            line.close();
        }
        Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest) => {
            line.digest(key!("reference" "digest"), digest);
            line.close();
        }
        Item::Tags => {}
    }
}
