//! What is recorded of a request or a refused connection, and how its line is written. docs/audit.md has the fields.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::stamp::Stamp;
use crate::oci::{Digest, ErrorCode, Reference};
use crate::request::{Caller, Cloud, Decision, Endpoint, Item, Principal, Served, Target};
use crate::telemetry::text::shortened;
use crate::telemetry::{Outcome, RefusedConnection};

/// The version of the records' shape. A later one may have more fields; a change of these raises it.
const SCHEMA: u8 = 1;
/// Of a caller's proved names so many are recorded.
const MOST_PRINCIPALS: usize = 16;

/// One record before it is a line. Made where the request ends, so it only moves and clones what is there.
#[derive(Debug)]
pub(super) struct Record {
    ended: SystemTime,
    event: Event,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are requests")]
enum Event {
    Request(Request),
    Connection(Box<RefusedConnection>),
}

#[derive(Debug)]
struct Request {
    id: String,
    method: String,
    path: String,
    user_agent: Option<String>,
    caller: Option<Caller>,
    target: Option<Target>,
    resolved: Option<Digest>,
    media_type: Option<String>,
    decision: Option<Decision>,
    served: Option<Served>,
    status: u16,
    sent: u64,
    took: Duration,
    error_code: Option<ErrorCode>,
    reason: Option<String>,
}

impl Record {
    /// Takes what there is to say out of `outcome`, which nobody needs any more.
    pub(super) fn of_request(outcome: &mut Outcome) -> Self {
        let request = Request {
            id: std::mem::take(&mut outcome.id),
            method: std::mem::take(&mut outcome.method),
            path: std::mem::take(&mut outcome.path),
            user_agent: outcome.user_agent.take(),
            caller: outcome.caller.take(),
            target: outcome.target.take(),
            resolved: outcome.resolved,
            media_type: outcome.media_type.take(),
            decision: outcome.decision.take(),
            served: outcome.served,
            status: outcome.status,
            sent: outcome.sent,
            took: outcome.elapsed(),
            error_code: outcome.error_code,
            reason: outcome.reason.take(),
        };
        Self { ended: SystemTime::now(), event: Event::Request(request) }
    }

    pub(super) fn of_connection(refused: &RefusedConnection) -> Self {
        Self { ended: SystemTime::now(), event: Event::Connection(Box::new(refused.clone())) }
    }

    /// Writes the line, with its newline, to `lines`. `number` is that of the record in this run of the program.
    pub(super) fn write(&self, lines: &mut Vec<u8>, stamp: &mut Stamp, number: u64) {
        let mut line = Line::begin(lines);
        line.number("schema", u64::from(SCHEMA));
        line.text("time", stamp.of(self.ended));
        let word = match &self.event {
            Event::Request(_) => "request",
            Event::Connection(_) => "connection",
        };
        line.word("event", word);
        line.word("event_id", stamp.event(number));
        match &self.event {
            Event::Request(request) => request.write(&mut line),
            Event::Connection(refused) => connection(&mut line, refused),
        }
        line.end();
    }
}

impl Request {
    fn write(&self, line: &mut Line<'_>) {
        line.word("request_id", &self.id);
        if let Some(caller) = &self.caller {
            write_caller(line, caller);
        }
        line.text("method", &self.method);
        line.text("path", &self.path);
        if let Some(target) = &self.target {
            write_target(line, target);
        }
        if let Some(digest) = &self.resolved {
            line.digest("resolved_digest", digest);
        }
        line.optional("media_type", self.media_type.as_deref());
        if let Some(decision) = &self.decision {
            line.word("decision", decision.verdict.as_str());
            line.text("statement", &decision.statement);
            line.text("policy", &decision.policy);
        }
        if self.status > 0 {
            line.number("status", u64::from(self.status));
        }
        line.number("bytes", self.sent);
        if let Some(served) = self.served {
            line.word("cache", served.as_str());
        }
        line.milliseconds("duration_ms", self.took);
        line.optional("user_agent", self.user_agent.as_deref());
        if let Some(code) = self.error_code {
            line.word("error_code", code.as_str());
        }
        line.optional("reason", self.reason.as_deref().map(shortened));
    }
}

fn connection(line: &mut Line<'_>, refused: &RefusedConnection) {
    write_caller(line, &refused.caller);
    line.word("error_code", refused.reason);
    line.text("reason", shortened(&refused.detail));
}

fn write_caller(line: &mut Line<'_>, caller: &Caller) {
    line.text("listener", &caller.listener);
    write_endpoint(line, &caller.endpoint);
    line.address("peer_ip", caller.peer);
    line.address("client_ip", caller.source);
    line.number("client_port", u64::from(caller.source.port()));
    if caller.is_probe {
        line.raw("probe", b"true");
    }
    if !caller.principals.is_empty() {
        line.texts("identity", caller.principals.iter().take(MOST_PRINCIPALS).map(Principal::as_str));
    }
    if let Some(tls) = &caller.tls {
        line.open("tls");
        line.word("version", tls.version);
        line.optional("sni", tls.server_name.as_deref().map(shortened));
        line.close();
    }
}

fn write_endpoint(line: &mut Line<'_>, endpoint: &Endpoint) {
    line.open("endpoint");
    let cloud = endpoint.cloud().map(|cloud| match cloud {
        Cloud::Aws => "aws",
        Cloud::Azure => "azure",
        Cloud::Gcp => "gcp",
    });
    match cloud {
        Some(cloud) => {
            line.word("cloud", cloud);
            line.text("id", endpoint.as_str().split_once(':').map_or(endpoint.as_str(), |(_, id)| id));
            line.word("source", "proxy");
        }
        None => {
            line.text("id", endpoint.as_str());
            line.word("source", "listener");
        }
    }
    line.close();
}

fn write_target(line: &mut Line<'_>, target: &Target) {
    line.word("action", target.action().as_str());
    line.word("registry", target.registry.as_str());
    line.word("repository", target.repository.as_str());
    match &target.item {
        Item::Manifest(Reference::Tag(tag)) => {
            line.open("reference");
            line.word("tag", tag.as_str());
            line.close();
        }
        Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest) => {
            line.open("reference");
            line.digest("digest", digest);
            line.close();
        }
        Item::Tags => {}
    }
}

/// A JSON object being written in one line, member by member.
struct Line<'a> {
    bytes: &'a mut Vec<u8>,
    /// Whether the next member is the first of its object.
    first: bool,
}

impl<'a> Line<'a> {
    fn begin(bytes: &'a mut Vec<u8>) -> Self {
        bytes.push(b'{');
        Self { bytes, first: true }
    }

    fn end(self) {
        self.bytes.extend_from_slice(b"}\n");
    }

    fn open(&mut self, key: &str) {
        self.raw(key, b"{");
        self.first = true;
    }

    fn close(&mut self) {
        self.bytes.push(b'}');
        self.first = false;
    }

    /// A member whose value is JSON already.
    fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.bytes.extend_from_slice(value);
    }

    fn key(&mut self, key: &str) {
        self.bytes.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
        self.first = false;
    }

    /// A text without anything to be escaped: a word of ours, or a name whose grammar has no such thing.
    fn word(&mut self, key: &str, value: &str) {
        self.key(key);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'"');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.json(value);
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn texts<'b>(&mut self, key: &str, values: impl Iterator<Item = &'b str>) {
        self.raw(key, b"[");
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            self.json(shortened(value));
        }
        self.bytes.push(b']');
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.json(&value);
    }

    fn address(&mut self, key: &str, address: SocketAddr) {
        self.key(key);
        self.json(&address.ip().to_canonical());
    }

    fn digest(&mut self, key: &str, digest: &Digest) {
        let mut hex = [0; 128];
        let hex = &mut hex[..2 * digest.bytes().len()];
        // The place is as long as it has to be.
        let _ = hex::encode_to_slice(digest.bytes(), hex);
        self.key(key);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(digest.algorithm().as_str().as_bytes());
        self.bytes.push(b':');
        self.bytes.extend_from_slice(hex);
        self.bytes.push(b'"');
    }

    /// With three decimals.
    fn milliseconds(&mut self, key: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        let digit = |divisor| b'0' + u8::try_from(micros / divisor % 10).unwrap_or(0);
        self.bytes.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Neither texts, numbers and addresses nor a buffer in memory can fail.
        let _ = serde_json::to_writer(&mut *self.bytes, value);
    }
}
