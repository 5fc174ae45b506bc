//! The specification's error codes and the JSON body that carries them (distribution-spec "Error Codes").

/// A code of the specification's list. `as_str` is what clients match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is not known to the repository.
    BlobUnknown,
    /// A digest that is malformed or of an algorithm that is not served.
    DigestInvalid,
    /// The manifest is malformed.
    ManifestInvalid,
    /// No such manifest in the repository.
    ManifestUnknown,
    /// A malformed repository name.
    NameInvalid,
    /// No such repository or registry here.
    NameUnknown,
    /// A length that does not agree with the content.
    SizeInvalid,
    /// This proxy wants to know who asks.
    Unauthorized,
    /// The request is refused.
    Denied,
    /// The operation is not offered here.
    Unsupported,
    /// Asked too often, here or upstream.
    TooManyRequests,
    /// A fault of the upstream or of this proxy. Not in the specification's list, but what registries use where none fits.
    Unavailable,
    /// None of the above.
    Unknown,
}

impl ErrorCode {
    /// The code as it stands in the body.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The body of an error answer: `{"errors":[{"code":…,"message":…}]}`.
pub fn error_body(code: ErrorCode, message: &str) -> String {
    serde_json::json!({ "errors": [{ "code": code.as_str(), "message": message }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_specification_s_form_whatever_the_message() {
        let body = error_body(ErrorCode::ManifestUnknown, "no \"latest\"\n");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["errors"][0]["code"], "MANIFEST_UNKNOWN");
        assert_eq!(value["errors"][0]["message"], "no \"latest\"\n");
    }
}
