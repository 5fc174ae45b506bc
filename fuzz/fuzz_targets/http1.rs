//! Requests of HTTP/1.1. What is served without pingora is read by pingora just the same, and is whole: any less of it is not
//! taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::front::fuzzing::{by_pingora, by_us};

fuzz_target!(|bytes: &[u8]| {
    let Some(seen) = by_us(bytes) else { return };
    for known in 0..seen.length {
        assert!(by_us(&bytes[..known]).is_none(), "taken after {known} of {}", seen.length);
    }
    assert_eq!(Some(seen), by_pingora(bytes));
});
