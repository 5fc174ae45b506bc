//! Answers for what the mirror found: headers, conditions, ranges.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LINK, RANGE};
use http::{HeaderName, HeaderValue};

use serde_json::value::{RawValue, to_raw_value};

use super::body::{Multipart, Whole};
use crate::front::{Answer, Body, Fault, FaultKind, Reply, Request};
use crate::mirror::{BlobAnswer, Content, ListAnswer, ManifestAnswer};
use crate::oci::{ContentName, EntityTag, ErrorCode, RangeHeader, RepositoryName, Selection, Span, if_none_match};
use crate::request::{Item, Served, Target};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const NOW: HeaderValue = HeaderValue::from_static("0");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// How the client named what it asked for; answers are in its words.
pub(super) struct Asker<'r> {
    /// What stood in front of the repository in the path.
    pub(super) prefix: &'r str,
    /// The repository, as the client knows it.
    pub(super) repository: RepositoryName,
    /// The `ns` of the query.
    pub(super) ns: Option<Cow<'r, str>>,
    /// The registry that it means.
    pub(super) namespace: Option<HeaderValue>,
}

pub(super) fn ping(head: bool) -> Answer {
    let body = if head { Body::Empty } else { Body::Bytes(Bytes::from_static(b"{}")) };
    Answer::new(Reply::Ok).header(CONTENT_TYPE, "application/json").body(body, Some(2))
}

/// A manifest is sent whole whatever `Range` says: clients that send one with everything take the 200.
pub(super) fn manifest(manifest: ManifestAnswer, asker: &Asker<'_>, request: &Request) -> Answer {
    let headed = |reply| headed(reply, &manifest.name, manifest.served, manifest.age, asker);
    if not_modified(request, manifest.name.tag()) {
        return headed(Reply::NotModified);
    }
    let body = manifest.body.map_or(Body::Empty, Body::Bytes);
    headed(Reply::Ok).header_value(CONTENT_TYPE, manifest.media_type.value().clone()).body(body, Some(manifest.length))
}

pub(super) fn blob(blob: BlobAnswer, asker: &Asker<'_>, request: &Request) -> Answer {
    let tag = blob.name.tag();
    let headed = |reply| headed(reply, &blob.name, blob.served, Duration::ZERO, asker);
    if not_modified(request, tag) {
        return headed(Reply::NotModified);
    }
    let ok = |reply| headed(reply).header_value(CONTENT_TYPE, OCTETS);
    let Some(content) = blob.content else { return ok(Reply::Ok).body(Body::Empty, blob.length) };
    let most = content.most_spans();
    let selection = match blob.length.filter(|_| most > 0).map(|length| selection(request, tag, length)) {
        // A server may answer in whole whatever range is asked for (RFC 9110 section 14.2).
        None => Selection::Whole,
        Some(Selection::Parts(spans)) if spans.len() > most => Selection::Whole,
        Some(selection) => selection,
    };
    let total = blob.length.unwrap_or_default();
    match selection {
        Selection::Whole => ok(Reply::Ok).body(whole(content), blob.length),
        Selection::Part(span) => ok(Reply::Partial)
            .header(CONTENT_RANGE, span.content_range(total))
            .body(Body::Stream(Box::new(Whole::new(content.span(span)))), Some(span.len())),
        Selection::Parts(spans) => parts(headed(Reply::Partial), &content, &spans, total),
        Selection::Unsatisfiable => headed(Reply::Unsatisfiable).header(CONTENT_RANGE, format!("bytes */{total}")),
    }
}

fn whole(content: Content) -> Body {
    Body::Stream(Box::new(Whole::new(content.whole())))
}

fn parts(answer: Answer, content: &Content, spans: &[Span], total: u64) -> Answer {
    let multipart = Multipart::new(content, spans, total, "application/octet-stream");
    let (media_type, length) = (multipart.media_type(), multipart.length());
    answer.header(CONTENT_TYPE, &media_type).body(Body::Stream(Box::new(multipart)), Some(length))
}

/// What every answer about stored content says.
fn headed(reply: Reply, name: &ContentName, served: Served, age: Duration, asker: &Asker<'_>) -> Answer {
    let answer = Answer::new(reply)
        .header_value(CONTENT_DIGEST, name.digest().clone())
        .header_value(ETAG, name.tag().value().clone())
        .header_value(ACCEPT_RANGES, BYTES);
    cached(answer, served, age, asker)
}

fn cached(answer: Answer, served: Served, age: Duration, asker: &Asker<'_>) -> Answer {
    let age = if age.as_secs() == 0 { NOW } else { age.as_secs().into() };
    let answer = answer.header_value(X_CACHE, HeaderValue::from_static(served.as_str())).header_value(AGE, age);
    match &asker.namespace {
        Some(namespace) => answer.header_value(OCI_NAMESPACE, namespace.clone()),
        None => answer,
    }
}

fn not_modified(request: &Request, tag: &EntityTag) -> bool {
    let values = request.headers.get_all(IF_NONE_MATCH);
    values.iter().any(|value| value.to_str().is_ok_and(|value| if_none_match(value, tag)))
}

/// Only GET has ranges (RFC 9110 section 14.2), and `If-Range` must name this very content.
fn selection(request: &Request, tag: &EntityTag, length: u64) -> Selection {
    let header = |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let applies = header(IF_RANGE).is_none_or(|value| tag.if_range(value));
    match header(RANGE).filter(|_| applies && request.method == http::Method::GET).and_then(RangeHeader::parse) {
        Some(range) => range.select(length),
        None => Selection::Whole,
    }
}

/// A list in the client's words: its name for the repository, and links that lead here.
pub(super) fn list(list: &ListAnswer, asker: &Asker<'_>, target: &Target) -> Result<Answer, Fault> {
    let (path, body) = match &target.item {
        Item::Referrers(digest) => (format!("referrers/{digest}"), list.body.clone()),
        _ => ("tags/list".to_owned(), renamed(&list.body, asker)?),
    };
    let media_type = list.media_type.as_deref().unwrap_or("application/json");
    let length = body.len() as u64;
    let mut answer = Answer::new(Reply::Ok).header(CONTENT_TYPE, media_type).body(Body::Bytes(body), Some(length));
    if let Some(filters) = &list.filters_applied {
        answer = answer.header(FILTERS_APPLIED, filters);
    }
    if let Some(next) = &list.next {
        let ns = asker.ns.as_deref().map_or_else(String::new, |ns| {
            format!("&ns={}", url::form_urlencoded::byte_serialize(ns.as_bytes()).collect::<String>())
        });
        let link = format!("</v2/{}{}/{path}?{next}{ns}>; rel=\"next\"", asker.prefix, asker.repository);
        answer = answer.header(LINK, &link);
    }
    Ok(cached(answer, list.served, list.age, asker))
}

fn renamed(body: &Bytes, asker: &Asker<'_>) -> Result<Bytes, Fault> {
    let nonsense = || Fault::new(FaultKind::BadGateway, ErrorCode::Unavailable, "the upstream's list of tags is not one");
    // Only the outermost level is taken apart: a list may have as many values as fit into a mebibyte.
    let mut list: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(|_| nonsense())?;
    if !list.get("tags").is_some_and(|tags| tags.get().starts_with('[') || tags.get() == "null") {
        return Err(nonsense());
    }
    let name = to_raw_value(&format!("{}{}", asker.prefix, asker.repository)).map_err(|_| nonsense())?;
    list.insert("name".to_owned(), name);
    serde_json::to_vec(&list).map(Bytes::from).map_err(|_| nonsense())
}
