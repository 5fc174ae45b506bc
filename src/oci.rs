//! The words of the registry protocol: digest, name, reference, manifest, media type, range, challenge, error code.
//!
//! Everything here is pure: it parses, compares and prints, and knows no file, socket or clock. Whatever a stranger sends
//! is turned into one of these types at the door, so nothing further in ever handles a raw string.

mod challenge;
mod conditional;
mod digest;
mod error_code;
mod manifest;
mod media_type;
mod name;
mod range;

pub use challenge::{Challenge, Challenges};
pub use conditional::{ContentName, EntityTag, if_none_match};
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use error_code::{ErrorCode, error_body};
pub use manifest::{ACCEPT_MANIFESTS, Descriptor, MAX_MANIFEST, Manifest, ManifestError, ManifestKind, media_type};
pub use media_type::MediaType;
pub use name::{NameError, Reference, RegistryName, RepositoryName, Tag};
pub use range::{MAX_PARTS, RangeHeader, Selection, Span};
