//! The house rules, held against the code: which room imports which, and what stays behind whose fence.
//!
//! Test code is bound by the layers but not by the fences: it may play the other side. Macros defined elsewhere and names
//! glued together by them are not seen; the reader of a review is the check for those.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::Source;

/// A room, its level, and the rooms it may import, all of them on lower levels.
const ROOMS: [(&str, u8, &[&str]); 17] = [
    ("oci", 0, &[]),
    ("request", 1, &["oci"]),
    ("config", 1, &["oci"]),
    ("telemetry", 2, &["oci", "request", "config"]),
    ("policy", 2, &["oci", "request", "config"]),
    ("quota", 2, &["request", "config"]),
    ("identity", 2, &["oci", "request", "config"]),
    ("egress", 3, &["config", "telemetry"]),
    ("credentials", 4, &["oci", "config", "telemetry", "egress"]),
    ("upstream", 5, &["oci", "config", "telemetry", "egress", "credentials"]),
    ("store", 5, &["oci", "config", "telemetry"]),
    ("mirror", 6, &["oci", "request", "config", "telemetry", "policy", "quota", "upstream", "store"]),
    ("front", 6, &["oci", "request", "config", "telemetry"]),
    ("server", 7, &["oci", "request", "config", "telemetry", "policy", "quota", "identity", "mirror", "front"]),
    ("admin", 7, &["oci", "request", "config", "telemetry", "policy", "mirror", "front"]),
    (
        "app",
        8,
        &[
            "oci",
            "request",
            "config",
            "telemetry",
            "policy",
            "identity",
            "egress",
            "credentials",
            "upstream",
            "store",
            "mirror",
            "front",
            "server",
            "admin",
        ],
    ),
    ("cli", 9, &["oci", "request", "config", "telemetry", "policy", "egress", "mirror", "app"]),
];

/// Words that only some rooms may write.
struct Fence {
    /// Whole words or paths; a `*` at the end stands for any rest of the word.
    words: &'static [&'static str],
    rooms: &'static [&'static str],
    law: &'static str,
}

const FENCES: [Fence; 4] = [
    Fence {
        words: &["pingora*"],
        rooms: &["front", "server", "admin", "app"],
        law: "pingora is known to front, server, admin and app alone",
    },
    Fence { words: &["prometheus"], rooms: &["telemetry"], law: "prometheus is known to telemetry alone" },
    Fence {
        words: &["reqwest", "TcpStream::connect", "TcpSocket", "UdpSocket", "lookup_host", "to_socket_addrs"],
        rooms: &["egress"],
        law: "sockets and names are opened and resolved by egress alone",
    },
    Fence {
        words: &["StatusCode", "401", "403", "404", "405", "416", "429", "502", "503", "504"],
        rooms: &["front", "egress", "upstream", "credentials"],
        law: "our HTTP statuses are known to front alone, and those of upstreams to the rooms that talk to them",
    },
];

/// Beginnings of string literals that are paths under the cache directory, and the rooms that may write them besides
/// `store::layout`: `blobs/` is a word of the protocol as well.
const CACHE_PATHS: [(&str, &[&str]); 3] = [("blobs/", &["upstream", "server"]), ("partial/", &[]), ("index.redb", &[])];
const LAYOUT: &str = "src/store/layout.rs";

/// For a file of code with its inline tests. Where tests outgrow that they move to a sibling file, which may be longer.
const MAX_LINES: usize = 450;

/// Every breach in these files (path from the project's folder, text), as `file:line: what and why`.
fn breaches<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let sources: BTreeMap<&str, Source> = files.into_iter().map(|(path, text)| (path, Source::new(text))).collect();
    let tests: BTreeSet<String> = sources.iter().flat_map(|(path, source)| source.test_modules(&stem(path))).collect();
    let is_test = |path: &str| tests.iter().any(|test| stem(path) == *test || path.starts_with(&format!("{test}/")));
    sources.iter().flat_map(|(path, source)| of_file(path, source, is_test(path))).collect()
}

fn of_file(path: &str, source: &Source, is_test: bool) -> Vec<String> {
    let mut found = shape(path, source, is_test);
    if let Some(room) = room(path) {
        found.extend(imports(path, room, source));
        if !is_test {
            found.extend(fences(path, room, source));
            found.extend(cache_paths(path, room, source));
            found.extend(permits(path, room, source));
        }
    }
    found
}

/// The module path of a file: `src/store/layout.rs` is `src/store/layout`, and `src/lib.rs` is `src`.
fn stem(path: &str) -> String {
    let stem = path.trim_end_matches(".rs");
    stem.strip_suffix("/lib").or(stem.strip_suffix("/main")).unwrap_or(stem).to_owned()
}

/// The room a file belongs to; the roots of library and program belong to none and may import all.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    if matches!(room, "lib" | "main") { None } else { Some(room) }
}

fn shape(path: &str, source: &Source, is_test: bool) -> Vec<String> {
    let mut found = Vec::new();
    if path.ends_with("/mod.rs") {
        found.push(format!("{path}:1: a room is room.rs beside room/, never mod.rs"));
    }
    if source.lines() > MAX_LINES && !is_test {
        found.push(format!("{path}:{}: more than {MAX_LINES} lines: one noun, one file", source.lines()));
    }
    found
}

fn imports(path: &str, room: &str, source: &Source) -> Vec<String> {
    let Some((_, _, allowed)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
        return vec![format!("{path}:1: {room} is no room of the house: give it a row in the table")];
    };
    let depth = path.split('/').count() - 1;
    let climbs = source.climbs(depth).into_iter().filter(|(_, to)| ROOMS.iter().any(|(name, ..)| name == to));
    let all = source.after("crate::").into_iter().chain(climbs);
    all.filter(|(_, to)| to != room && !allowed.contains(&to.as_str()))
        .map(|(at, to)| format!("{path}:{}: {room} may not import {to}; it may import: {}", source.line(at), allowed.join(" ")))
        .collect()
}

fn fences(path: &str, room: &str, source: &Source) -> Vec<String> {
    let closed = FENCES.iter().filter(|fence| !fence.rooms.contains(&room));
    let words = closed.flat_map(|fence| fence.words.iter().map(move |word| (fence.law, *word)));
    let found = words.flat_map(|(law, word)| source.words(word).into_iter().map(move |at| (law, word, at)));
    found.map(|(law, word, at)| format!("{path}:{}: `{word}` in {room}: {law}", source.line(at))).collect()
}

fn cache_paths(path: &str, room: &str, source: &Source) -> Vec<String> {
    let open = |allowed: &[&str]| path == LAYOUT || allowed.contains(&room);
    let closed: Vec<&str> = CACHE_PATHS.iter().filter(|(_, allowed)| !open(allowed)).map(|(start, _)| *start).collect();
    let hits = source.strings().filter(|(_, text)| closed.iter().any(|start| text.starts_with(start)));
    hits.map(|(at, text)| format!("{path}:{}: \"{text}\": cache paths are made in store::layout alone", source.line(at))).collect()
}

fn permits(path: &str, room: &str, source: &Source) -> Vec<String> {
    let hits = if room == "policy" { Vec::new() } else { source.literals_of("Permit") };
    hits.into_iter().map(|at| format!("{path}:{}: a Permit made in {room}: policy alone makes them", source.line(at))).collect()
}

#[test]
fn the_code_keeps_to_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = source::read_all(root, &root.join("src"));
    assert!(files.iter().any(|(path, _)| path == "src/oci/digest.rs"), "the sources were not found under {}", root.display());
    let found = breaches(files.iter().map(|(path, text)| (path.as_str(), text.as_str())));
    assert!(found.is_empty(), "{} breaches of the house rules:\n{}", found.len(), found.join("\n"));
}

#[test]
fn imports_go_to_lower_levels() {
    let level = |room: &str| ROOMS.iter().find(|(name, ..)| *name == room).unwrap().1;
    for (room, own, allowed) in ROOMS {
        assert!(allowed.iter().all(|other| level(other) < own), "{room} imports a room that is not below it");
    }
}

#[track_caller]
fn finds(path: &str, text: &str, expected: &[&str]) {
    let found = breaches([(path, text)]);
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(fits, "{path}: found {found:#?}, expected {expected:#?}");
}

#[test]
fn a_forbidden_import_is_found_in_every_form() {
    let store = "src/store/blobs.rs";
    finds(store, "use crate::mirror::Mirror;", &[":1: store may not import mirror"]);
    finds(store, "\nuse crate::{\n    oci::{Digest, Tag},\n    front,\n};", &[":2: store may not import front"]);
    finds(store, "fn f() -> crate::upstream::Registry {}", &["store may not import upstream"]);
    finds(store, "use super::super::mirror::Mirror;", &["store may not import mirror"]);
    finds("src/store.rs", "use super::{oci, mirror};", &["store may not import mirror"]);
    finds(store, "use crate::*;", &["store may not import *"]);
    finds(store, "#[cfg(test)]\nmod tests { use crate::front::Answer; }", &[":2: store may not import front"]);
    finds("src/attic.rs", "", &["attic is no room"]);
}

#[test]
fn what_is_allowed_or_only_talked_of_passes() {
    finds("src/store/blobs.rs", "use crate::oci::Digest; use crate::store::layout; use super::{config, mirror};", &[]);
    finds("src/store/blobs.rs", "//! See [`crate::mirror`].\n/* crate::front /* nested */ crate::front */ fn f() {}", &[]);
    finds("src/store/blobs.rs", r##"const A: &str = "crate::front"; const B: &str = r#"" crate::front "#;"##, &[]);
    finds("src/store/blobs.rs", "fn f<'a>(c: char) { if c == '\"' { g::<'a>() } } // crate::front", &[]);
    finds("src/store/blobs.rs", "#[cfg(test)]\nmod tests { use super::super::layout; }", &[]);
    finds("src/lib.rs", "pub mod store; pub use crate::app::run;", &[]);
}

#[test]
fn a_word_outside_its_fence_is_found() {
    finds("src/mirror/blob.rs", "use pingora_http::ResponseHeader;", &["pingora is known to"]);
    finds("src/front/session.rs", "use pingora_http::ResponseHeader; use prometheus::Counter;", &["prometheus is known to"]);
    finds("src/upstream/client.rs", "use reqwest::Client; async fn f() { lookup_host(h).await }", &["`reqwest`", "`lookup_host`"]);
    finds("src/server/route.rs", "fn f() -> u16 { 404 }", &["`404` in server"]);
    finds("src/server/route.rs", "const A: [u16; 2] = [1404, 4_04]; fn reqwest_like(v404: u8) {}", &[]);
    finds("src/store/index.rs", "fn f() { dir.join(\"blobs/sha256\"); g(\"a blobs/\") }", &["store::layout"]);
    finds("src/store/layout.rs", "fn f() { dir.join(\"blobs/sha256\").join(\"partial/x\") }", &[]);
    finds("src/mirror/blob.rs", "fn f() -> Permit { Permit { scope } }", &["policy alone"]);
    finds("src/mirror/blob.rs", "impl Show for Permit { } fn f(permit: &Permit) {}", &[]);
    finds("src/policy/permit.rs", "fn f() -> Permit { Permit { scope } }", &[]);
}

#[test]
fn test_code_is_outside_the_fences() {
    finds("src/mirror/blob.rs", "#[cfg(test)]\nmod tests { fn f() { assert_eq!(x, 404); } }\nfn g() { 503; }", &[":3: `503`"]);
    finds("src/mirror/blob.rs", "#[cfg(test)]\nuse reqwest::Client;\nfn g() { 503; }", &[":3: `503`"]);
    let parent = ("src/mirror/blob.rs", "#[cfg(test)]\nmod tests;");
    assert_eq!(breaches([parent, ("src/mirror/blob/tests.rs", "fn f() { 404; }")]), Vec::<String>::new());
    assert_eq!(breaches([("src/mirror/blob.rs", "mod tests;"), ("src/mirror/blob/tests.rs", "fn f() { 404; }")]).len(), 1);
}

#[test]
fn shape_is_held() {
    finds("src/store/mod.rs", "", &["never mod.rs"]);
    finds("src/store/index.rs", &"\n".repeat(MAX_LINES), &[]);
    let long = "\n".repeat(MAX_LINES + 1);
    finds("src/store/index.rs", &long, &["more than 450 lines"]);
    assert!(breaches([("src/store.rs", "#[cfg(test)]\nmod tests;"), ("src/store/tests.rs", &long)]).is_empty());
}
