//! Entity tags and `If-None-Match` (RFC 9110 section 13).

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::Digest;

/// What headers call content: its digest, and its entity tag. Made once for many answers; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentName(Arc<Names>);

#[derive(Debug, PartialEq, Eq)]
struct Names {
    digest: HeaderValue,
    tag: EntityTag,
}

/// The entity tag of content that is named by its digest: the digest in quotes, strong, as registries send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl ContentName {
    /// The name of the content with this digest.
    pub fn of(digest: &Digest) -> Self {
        // Both share one text.
        let quoted = Bytes::from(format!("\"{digest}\""));
        let value =
            |text: Bytes| HeaderValue::from_maybe_shared(text).expect("letters, digits, a colon and quotes make a header value");
        Self(Arc::new(Names { digest: value(quoted.slice(1..quoted.len() - 1)), tag: EntityTag(value(quoted)) }))
    }

    /// The digest, as `Docker-Content-Digest` has it.
    pub fn digest(&self) -> &HeaderValue {
        &self.0.digest
    }

    /// The entity tag.
    pub fn tag(&self) -> &EntityTag {
        &self.0.tag
    }
}

impl EntityTag {
    /// As it stands in `ETag`.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// The same as text, with its quotes.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Whether `If-Range: value` names this very content: an exact, strong comparison. A date or a weak tag never does.
    pub fn if_range(&self, value: &str) -> bool {
        value.trim() == self.as_str()
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
        let name = ContentName::of(&digest);
        let tag = name.tag();
        assert_eq!((name.digest().to_str().unwrap(), tag.as_str()), (&*digest.to_string(), &*format!("\"{digest}\"")));
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
            assert_eq!(if_none_match(&value, tag), matches, "{value}");
        }
        assert!(tag.if_range(&format!("\"{digest}\"")));
        assert!(!tag.if_range(&format!("W/\"{digest}\"")));
    }
}
