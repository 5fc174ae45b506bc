//! A pattern and a text, one a line: matching ends, a pattern without wildcards matches itself alone, and one that covers
//! another matches whatever that does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::config::Glob;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (pattern, text, other) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next());
    let (path, flat) = (Glob::path(pattern), Glob::flat(pattern));
    assert!(flat.matches(text) || !path.matches(text), "slashes only make it match less");
    if path.is_literal() {
        assert_eq!(path.matches(text), pattern == text);
    }
    if path.matches(text) {
        assert!(text.starts_with(path.start()));
    }
    let other = Glob::path(other.unwrap_or("**"));
    if other.covers(&path) && path.matches(text) {
        assert!(other.matches(text));
    }
});
