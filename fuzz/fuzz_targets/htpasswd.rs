//! The file of users: what is read of it stood there, no name twice. A fault is in a line that exists.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use roadstead::identity::Htpasswd;

fuzz_target!(|text: &str| {
    match Htpasswd::parse(text) {
        Ok(read) => {
            let names: HashSet<&str> = read.users().iter().map(|(name, _)| &**name).collect();
            assert_eq!(names.len(), read.users().len());
            for name in names {
                assert!(!name.is_empty() && !name.contains(':') && !name.contains(char::is_control), "{name:?}");
                assert!(text.lines().any(|line| line.trim().starts_with(&format!("{name}:$2"))), "{name:?}");
            }
        }
        Err((line, flaw)) => {
            assert!((1..=text.lines().count()).contains(&line), "{line}");
            assert_eq!(flaw.to_string().lines().count(), 1);
        }
    }
});
