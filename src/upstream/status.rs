//! What an upstream's status means. Pure.

use http::StatusCode;

use super::Kind;

/// What a final answer other than success means. `home` is whether the registry itself gave it. What a blob store says after
/// the registry sent us there is no word on who may have what: its 401 and 403 are failures of the store.
pub(super) fn kind(status: StatusCode, home: bool) -> Kind {
    match status.as_u16() {
        404 => Kind::NotFound,
        401 if home => Kind::Unauthorized,
        403 if home => Kind::Denied,
        429 => Kind::RateLimited,
        _ => Kind::Failed,
    }
}

/// What goes into the message beside the status.
pub(super) fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthorized => "; set credentials for this registry, or check those that are set",
        Kind::Denied => "; check that the credentials set for this registry allow it",
        Kind::RateLimited => "; credentials of its own may raise the limit",
        _ => "",
    }
}

/// Whether who answers so has looked at the credentials and taken them. Who is overloaded or broken may not have looked.
pub(super) fn takes_credentials(status: StatusCode) -> bool {
    !status.is_server_error() && !matches!(status.as_u16(), 401 | 429)
}

/// Whether a registry that answers a manifest's HEAD so may still answer a GET.
pub(super) fn refuses_head(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 501)
}

/// The same for a blob's HEAD, which may have ended at a store with a URL that was signed for GET only.
pub(super) fn refuses_blob_head(status: StatusCode) -> bool {
    refuses_head(status) || matches!(status.as_u16(), 401 | 403)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_keep_their_meaning() {
        for (status, at_home, at_store) in [
            (401, Kind::Unauthorized, Kind::Failed),
            (403, Kind::Denied, Kind::Failed),
            (404, Kind::NotFound, Kind::NotFound),
            (429, Kind::RateLimited, Kind::RateLimited),
            (400, Kind::Failed, Kind::Failed),
            (204, Kind::Failed, Kind::Failed),
            (304, Kind::Failed, Kind::Failed),
            (500, Kind::Failed, Kind::Failed),
            (503, Kind::Failed, Kind::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!((kind(status, true), kind(status, false)), (at_home, at_store), "{status}");
        }
    }
}
