//! A request's line, for programs and for people.

use std::io::Write;

use super::{End, Outcome};
use crate::request::Served;
use crate::telemetry::line::{Line, key};

/// One JSON object, with a newline.
pub(super) fn json(room: &mut Vec<u8>, outcome: &Outcome, end: &End) {
    let (caller, target) = (outcome.caller.as_ref(), outcome.target.as_ref());
    let mut line = Line::begin(room, "\"time\":");
    line.time("", end.time);
    line.word(key!("id"), &outcome.id);
    line.or_null(key!("source"), caller, |line, key, caller| line.address(key, caller.source.ip()));
    line.or_null(key!("endpoint"), caller, |line, key, caller| line.text(key, caller.endpoint.as_str()));
    line.text(key!("method"), &outcome.method);
    line.text(key!("path"), &outcome.path);
    line.or_null(key!("registry"), target, |line, key, target| line.word(key, target.registry.as_str()));
    line.or_null(key!("repository"), target, |line, key, target| line.word(key, target.repository.as_str()));
    line.number(key!("status"), u64::from(outcome.status));
    line.or_null(key!("cache"), outcome.served.map(Served::as_str), Line::word);
    line.number(key!("sent"), outcome.sent);
    line.seconds(key!("seconds"), end.elapsed);
    line.or_null(key!("user_agent"), outcome.user_agent.as_deref(), Line::text);
    line.optional(key!("reason"), outcome.reason.as_deref());
    line.end();
}

/// One line of text, with its end.
pub(super) fn text(room: &mut Vec<u8>, outcome: &Outcome, end: &End) {
    let source = outcome.caller.as_ref().map_or_else(|| "-".to_owned(), |caller| caller.source.ip().to_string());
    let cache = outcome.served.map_or("-", Served::as_str);
    let reason = outcome.reason.as_ref().map_or_else(String::new, |reason| format!("  {reason}"));
    let (Outcome { method, path, status, sent, .. }, seconds) = (outcome, end.elapsed.as_secs_f64());
    // Memory takes what is written.
    let _ = writeln!(room, "{:.3} {source} {method} {path} {status} {cache} {sent} B {seconds:.3} s{reason}", end.time);
}
