//! The header of the PROXY protocol. Whatever comes, what is needed is never more than a header may have, and a header is the
//! same by whatever pieces it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::front::fuzzing::{Header, proxy_header};
use roadstead::request::Cloud;

fuzz_target!(|bytes: &[u8]| {
    match proxy_header(bytes) {
        Header::Malformed => {}
        Header::Needs(more) => assert!(more > 0 && bytes.len() + more <= 4096),
        Header::Complete(length, source, endpoint) => {
            assert!(length <= bytes.len() && length <= 4096);
            assert!(endpoint.as_ref().is_none_or(|endpoint| source.is_some() && endpoint.cloud().is_some()));
            if let Some(id) = endpoint.as_ref().filter(|endpoint| endpoint.cloud() == Some(Cloud::Aws)) {
                assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-:".contains(&byte)), "{id}");
            }
            for known in 0..length {
                let Header::Needs(more) = proxy_header(&bytes[..known]) else { panic!("read after {known} of {length}") };
                assert!(known + more <= length);
            }
            assert_eq!(proxy_header(&bytes[..length]), Header::Complete(length, source, endpoint));
        }
    }
});
