//! What an answer says by which its content can be known again (RFC 9110 section 8.8.3). Pure.

use http::header::ETAG;
use http::{HeaderMap, HeaderValue};

/// A strong `ETag` and the URL that gave it: only there does it mean anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    etag: HeaderValue,
    url: usize,
}

impl Validator {
    /// `etag` as the URL with this index gave it. `None` where it is weak, which says nothing of single bytes, or no entity tag.
    pub fn strong(etag: &HeaderValue, url: usize) -> Option<Self> {
        let opaque = etag.as_bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let fits = opaque.iter().all(|byte| !matches!(byte, b'"' | 0..=b' ' | 0x7f));
        fits.then(|| Self { etag: etag.clone(), url })
    }

    /// The entity tag, quotes included.
    pub fn etag(&self) -> &HeaderValue {
        &self.etag
    }

    /// Index of the URL that gave it.
    pub fn url(&self) -> usize {
        self.url
    }

    pub(super) fn of(headers: &HeaderMap, url: usize) -> Option<Self> {
        Self::strong(headers.get(ETAG)?, url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_strong_entity_tag_is_one() {
        for strong in ["\"\"", "\"5d41402a\"", "\"W/x-2,!~\""] {
            let etag = HeaderValue::from_static(strong);
            assert_eq!(Validator::strong(&etag, 1).unwrap().etag(), strong);
        }
        for other in ["", "\"", "W/\"5d41402a\"", "5d41402a", "\"a\"b\"", "\"a b\"", "\"a\", \"b\"", "\"a"] {
            assert_eq!(Validator::strong(&HeaderValue::from_static(other), 1), None, "{other}");
        }
    }
}
