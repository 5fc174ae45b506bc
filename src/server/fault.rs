//! What is said to a client when there is nothing to serve: which kind of fault, in the specification's words.

use std::time::Duration;

use super::path::PathError;
use super::route::RouteError;
use crate::front::{Fault, FaultKind};
use crate::mirror::{Circle, Error, Kind};
use crate::oci::ErrorCode;
use crate::policy::Refusal;
use crate::quota::Over;
use crate::request::{Item, Target};
use crate::telemetry::Full;

/// When to try again what could not be recorded.
const UNRECORDED: Duration = Duration::from_secs(5);

pub(super) fn bad_request(code: ErrorCode, message: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::BadRequest, code, message.to_string())
}

pub(super) fn method_not_allowed(method: &http::Method) -> Fault {
    let message = format!("{method} is not offered: this is a read-only mirror, push to the registry itself");
    Fault::new(FaultKind::MethodNotAllowed { allow: "GET, HEAD" }, ErrorCode::Unsupported, message)
}

pub(super) fn path(error: PathError) -> Fault {
    let (kind, code) = match error {
        PathError::NoSuchPath => (FaultKind::NotFound, ErrorCode::NameUnknown),
        PathError::Name(_) => (FaultKind::BadRequest, ErrorCode::NameInvalid),
        PathError::Digest(_) => (FaultKind::BadRequest, ErrorCode::DigestInvalid),
        PathError::Reference(_) => (FaultKind::NotFound, ErrorCode::ManifestUnknown),
    };
    Fault::new(kind, code, error.to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(super) fn route(error: RouteError) -> Fault {
    match error {
        RouteError::MalformedNs => bad_request(ErrorCode::NameInvalid, error),
        RouteError::Unknown(_) | RouteError::NoDefault => {
            Fault::new(FaultKind::NotFound, ErrorCode::NameUnknown, error.to_string())
        }
    }
}

/// Nothing may be answered that is not recorded.
#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(super) fn unrecorded(full: Full) -> Fault {
    Fault::new(FaultKind::Overloaded, ErrorCode::Unavailable, full.to_string()).retry_after(UNRECORDED)
}

/// To a load balancer's own connection, which may ask how we are and nothing else.
pub(super) fn probe() -> Fault {
    let message = "a health check of a load balancer may read /readyz only";
    Fault::new(FaultKind::Denied, ErrorCode::Denied, message)
}

/// 503 and not 429, at which containerd tries again without a pause and podman sits out 30 s.
pub(super) fn over(over: &Over) -> Fault {
    Fault::new(FaultKind::Overloaded, ErrorCode::TooManyRequests, over.to_string()).retry_after(over.after)
}

/// To a request that goes round in a circle, and would be asked upstream again for ever.
pub(super) fn circle(circle: Circle) -> Fault {
    let message = match circle {
        Circle::Here => "this request came from this very proxy: an upstream's address leads back here",
        Circle::TooMany => "this request has passed 8 proxies, and likely goes round in a circle: check their upstreams",
    };
    Fault::new(FaultKind::BadGateway, ErrorCode::Unavailable, message)
}

pub(super) fn refused(refusal: &Refusal, target: &Target) -> Fault {
    let message = format!("reading {}/{} is not allowed here", target.registry, target.repository);
    tracing::debug!(%refusal, registry = %target.registry, repository = %target.repository, "denied");
    Fault::new(FaultKind::Denied, ErrorCode::Denied, message)
}

/// Two upstream answers are translated because of what clients do with them: 429 becomes 503 (containerd would retry at
/// once, podman would sit out 30 s), and 401 becomes 403 (a challenge from a mirror makes clients hand over the secret that
/// belongs to the origin).
pub(super) fn mirror(error: &Error, target: &Target) -> Fault {
    let (kind, code) = match error.kind {
        Kind::NotFound | Kind::Withheld => return absent(error, target),
        Kind::Denied | Kind::Unauthorized => (FaultKind::Denied, ErrorCode::Denied),
        Kind::RateLimited => (FaultKind::Overloaded, ErrorCode::TooManyRequests),
        Kind::Overloaded => (FaultKind::Overloaded, ErrorCode::TooManyRequests),
        Kind::BadGateway => (FaultKind::BadGateway, ErrorCode::Unavailable),
        Kind::TimedOut => (FaultKind::GatewayTimeout, ErrorCode::Unavailable),
        Kind::Internal => (FaultKind::Internal, ErrorCode::Unknown),
    };
    let mut fault = Fault::new(kind, code, error.to_string());
    fault.retry_after = error.retry_after;
    fault.detail = error.detail().map(str::to_owned);
    fault
}

/// Says the same of all that is absent and all that is withheld, and nothing of what there is. The log has the reason.
fn absent(error: &Error, target: &Target) -> Fault {
    let thing = match target.item {
        Item::Manifest(_) => "manifest",
        Item::Blob(_) => "blob",
        Item::Tags | Item::Referrers(_) => "list",
    };
    let message = format!("{}/{} has no such {thing}", target.registry, target.repository);
    let mut fault = Fault::new(FaultKind::NotFound, unknown(target), message);
    fault.detail = Some(error.detail().map_or_else(|| error.to_string(), str::to_owned));
    fault
}

fn unknown(target: &Target) -> ErrorCode {
    match target.item {
        Item::Manifest(_) => ErrorCode::ManifestUnknown,
        Item::Blob(_) => ErrorCode::BlobUnknown,
        Item::Tags => ErrorCode::NameUnknown,
        // Clients fall back to the referrers tag on any 404 whose code is not NAME_UNKNOWN.
        Item::Referrers(_) => ErrorCode::ManifestUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Reference;

    #[test]
    fn what_is_withheld_reads_as_what_is_absent() {
        let target = |item| Target { registry: "r.io".parse().unwrap(), repository: "a/b".parse().unwrap(), item };
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().unwrap();
        for (item, message) in [
            (Item::Manifest(Reference::Digest(digest)), "r.io/a/b has no such manifest"),
            (Item::Blob(digest), "r.io/a/b has no such blob"),
            (Item::Referrers(digest), "r.io/a/b has no such list"),
        ] {
            let of = |kind| mirror(&Error::example(kind), &target(item.clone()));
            let (absent, withheld) = (of(Kind::NotFound), of(Kind::Withheld));
            assert_eq!((&absent.message[..], absent.detail.as_deref()), (message, Some("NotFound")));
            assert_eq!(withheld.detail.as_deref(), Some("Withheld"));
            assert_eq!(Fault { detail: None, ..withheld }, Fault { detail: None, ..absent });
        }
    }
}
