//! A media type that is said again with every answer.

use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

/// A media type, made ready to be sent. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct MediaType(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    text: Arc<str>,
    value: HeaderValue,
}

impl MediaType {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<str> {
        self.0.text.clone()
    }

    /// As it stands in `Content-Type`.
    pub fn value(&self) -> &HeaderValue {
        &self.0.value
    }
}

impl From<&str> for MediaType {
    /// Of what no header may carry, the header has nothing.
    fn from(text: &str) -> Self {
        let value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        Self(Arc::new(Inner { text: text.into(), value }))
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.as_str().to_owned()
    }
}
