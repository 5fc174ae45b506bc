//! The only way out: resolve, guard, connect to a checked address, one HTTP exchange.
//!
//! A [`Way`] says what one configured registry may reach. [`Guarded`] is the [`Exchange`] that keeps to it: hosts are checked
//! before anything is sent, addresses when a connection is made, and connections go to checked addresses only. [`Client`]
//! is what the rooms below call: it adds the deadlines and the counting, above the seam where tests script the other side.
//!
//! There is no redirect, no retry and no registry's credential in here, and no proxy but those that the configuration names.

mod body;
mod client;
mod control;
mod error;
mod guard;
mod guarded;
mod names;
mod network_policy;
mod own;
mod plan;
mod proxies;
mod retry_after;
mod rules;
#[cfg(test)]
pub(crate) mod scripted;
mod tls;
mod way;

use async_trait::async_trait;

pub use body::Body;
pub use client::Client;
pub use control::{ControlReply, ask_admin};
pub use error::{Error, Kind};
pub use guard::{Class, classify};
pub use guarded::Guarded;
pub use names::{Names, SystemNames};
pub use network_policy::NetworkPolicy;
pub use plan::{Entry, Reason, Through, plan};
pub use retry_after::retry_after;
pub use way::{Way, check_certificates};

/// One HTTP exchange. The seam for tests: the real one is [`Guarded`], tests script their own.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    /// Sends `request` and returns at the head of the answer; the body streams. Never follows a redirect. Dropping the
    /// future gives the exchange up and leaves nothing behind.
    ///
    /// # Errors
    /// Where the way forbids the exchange or no answer could be had. An answer of any status is no error.
    async fn exchange(&self, way: &Way, request: Request) -> Result<Response, Error>;

    /// Makes what the first exchange over `way` would else wait for. What cannot be made is tried again then. Dropping the future
    /// leaves the rest undone.
    async fn prepare(&self, _way: &Way) {}
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: http::Method,
    /// The whole address; must be allowed by the way.
    pub url: url::Url,
    /// The headers, without `Host`.
    pub headers: http::HeaderMap,
    /// The body, empty for GET and HEAD.
    pub body: bytes::Bytes,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: http::StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body, as it comes.
    pub body: Body,
}
