//! A manifest and its `Content-Type`: what is read of it can be sent in a header, and it is never two things at once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead::oci::{Manifest, ManifestKind};

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (content_type, body) = input;
    let Ok(manifest) = Manifest::parse(body, content_type) else { return };
    assert!(manifest.media_type.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{:?}", manifest.media_type);
    assert!(manifest.kind != ManifestKind::Opaque || manifest.children.is_empty());
    assert!(body.trim_ascii_start().starts_with(b"{"), "a manifest is an object");
});
