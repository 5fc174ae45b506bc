//! Names and digests: what parses prints as something that parses to the same, and never leaves its folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{Digest, RegistryName, RepositoryName, Tag};

/// Parses `text`, which must read the same when it is printed.
fn read<T: std::str::FromStr + ToString + PartialEq>(text: &str) -> Option<String> {
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    assert!(printed.parse().is_ok_and(|again: T| again == value), "{printed:?}");
    Some(printed)
}

fuzz_target!(|text: &str| {
    if let Some(digest) = read::<Digest>(text) {
        assert_eq!(digest, text);
    }
    let (repository, tag, registry) = (read::<RepositoryName>(text), read::<Tag>(text), read::<RegistryName>(text));
    for name in [repository, tag, registry].into_iter().flatten() {
        assert!(!name.starts_with('/') && !name.split('/').any(|part| matches!(part, "" | "." | "..")), "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\\?#".contains(&byte)), "{name:?}");
    }
});
