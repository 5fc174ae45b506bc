//! Entity tags and `If-None-Match` (RFC 9110 section 13).

use super::Digest;

/// The entity tag of content that is named by its digest: the digest in quotes, strong, as registries send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of the content with this digest.
    pub fn of(digest: &Digest) -> Self {
        Self(format!("\"{digest}\""))
    }

    /// As it stands in a header, with its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `If-Range: value` names this very content: an exact, strong comparison. A date or a weak tag never does.
    pub fn if_range(&self, value: &str) -> bool {
        value.trim() == self.0
    }
}

/// Whether a request with `If-None-Match: value` is to be answered 304. Comparison is weak; `*` matches all that exists.
pub fn if_none_match(value: &str, tag: &EntityTag) -> bool {
    let mut rest = value.trim();
    if rest == "*" {
        return true;
    }
    // A quoted tag may hold a comma, so the list is walked tag by tag.
    while let Some(start) = rest.find('"') {
        let Some(length) = rest[start + 1..].find('"') else { return false };
        let end = start + 1 + length + 1;
        if rest[start..end] == *tag.as_str() {
            return true;
        }
        rest = &rest[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn lists_stars_and_weak_tags_match() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let tag = EntityTag::of(&digest);
        for (value, matches) in [
            (format!("\"{digest}\""), true),
            (format!("W/\"{digest}\""), true),
            (format!("\"a,b\", \"{digest}\""), true),
            ("*".to_owned(), true),
            ("\"other\"".to_owned(), false),
            (format!("{digest}"), false),
            (format!("\"{digest}"), false),
            (String::new(), false),
        ] {
            assert_eq!(if_none_match(&value, &tag), matches, "{value}");
        }
        assert!(tag.if_range(&format!("\"{digest}\"")));
        assert!(!tag.if_range(&format!("W/\"{digest}\"")));
    }
}
