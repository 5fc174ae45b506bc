//! Other registries: which one a name means, how to ask it, and what its answers mean.
//!
//! Asking goes through four small steps, each in its own file: `registry` tries the URLs in turn under one deadline and with a
//! connection from `connections`, `fetch` does one URL with its challenge and its redirects, `retry` decides what a failure
//! means for the rest, and [`egress`](crate::egress) connects. The tables (`redirect`, `retry`, `health`, `pace`, `link`,
//! `content_range`, `validator`, `status`) are pure.
//!
//! Nothing is remembered here of what upstreams answered, tokens and whether they answer at all apart: that is `mirror`'s.

mod base;
mod blob;
mod connections;
mod content_range;
mod error;
mod fetch;
mod health;
mod link;
mod list;
mod manifest;
mod pace;
mod redirect;
mod registry;
mod retry;
mod routes;
mod status;
#[cfg(test)]
mod tests;
mod validator;
mod via;

/// The other side for the tests of the rooms above.
#[cfg(test)]
#[allow(unused_imports, reason = "for rooms that may not import egress")]
pub(crate) use crate::egress::scripted;
pub use blob::{BlobAsk, BlobHead, BlobReply};
pub use error::{Error, Kind};
pub use list::{ListReply, Page, ReferrersQuery};
pub use manifest::{ManifestHead, ManifestReply};
pub use registry::Registry;
pub use routes::Upstreams;
pub use validator::Validator;
pub use via::{Circle, Via};
