//! A `Range` header never selects a byte outside the body, and never more parts than an answer may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{MAX_PARTS, RangeHeader, Selection, Span};

fuzz_target!(|input: (&str, u64)| {
    let (value, total) = input;
    let Some(range) = RangeHeader::parse(value) else { return };
    let inside = |span: &Span| {
        assert!(!span.is_empty() && span.end <= total);
        assert!(span.content_range(total).starts_with("bytes "));
    };
    match range.select(total) {
        Selection::Part(span) => inside(&span),
        Selection::Parts(spans) => {
            assert!((2..=MAX_PARTS).contains(&spans.len()));
            spans.iter().for_each(inside);
        }
        Selection::Whole | Selection::Unsatisfiable => {}
    }
});
