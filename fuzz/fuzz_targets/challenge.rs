//! `WWW-Authenticate` headers: an upstream's, and so anybody's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{Challenge, Challenges};

fuzz_target!(|values: Vec<&str>| {
    let found = Challenges::parse(values.iter().copied());
    if let Some(Challenge::Bearer { realm, .. }) = found.preferred() {
        assert!(values.iter().any(|value| value.len() >= realm.len()), "nothing is made up");
    }
});
