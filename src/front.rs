//! The front door: listeners, TLS, the HTTP session, and writing answers and errors.
//!
//! A [`Listener`] accepts connections and hands every request on them to a [`Handler`]; what comes back is an [`Answer`],
//! written with deadlines and caps on everything that a stranger controls. This room knows HTTP and pingora, and nothing of
//! registries but the form of their errors.
//!
//! The life of a connection: accept (beyond a cap only to be told so) → header of the PROXY protocol, from those who send
//! it → TLS, where configured → HTTP/2 by ALPN or by prior knowledge, else HTTP/1.1 → requests, one by one (HTTP/1.1) or
//! side by side (HTTP/2) → closed when idle, at shutdown, or when an answer had to be cut short.

mod answer;
mod body;
mod client;
mod connection;
mod entrance;
mod error;
mod exchange;
mod fault;
mod fields;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod head;
mod http1;
mod io;
mod listener;
mod proxy_protocol;
mod refusal;
mod rejection;
mod session;
#[cfg(test)]
mod tests;
mod tls;
mod turns;
mod workers;
mod write;

pub use answer::{Answer, Reply};
pub use body::{Body, Chunk, ChunkStream, Cut};
pub use entrance::{Entrance, Terms};
pub use error::Error;
pub use fault::{Fault, FaultKind};
pub use head::Request;
pub use listener::{Listener, Timeouts};
pub use refusal::MAX_REFUSALS;
pub use turns::Turns;
pub use workers::Workers;

use crate::request::Caller;
use crate::telemetry::Outcome;

/// What a handler wants to be kept for as long as a connection is open.
pub type Place = Box<dyn Send + Sync>;

/// What answers requests: the data side and the back door each have one.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Somebody connected. What is returned is kept until the connection is closed; after a fault the connection's first
    /// request is answered with it, and is the last.
    fn connected(&self, _caller: &Caller) -> Result<Place, Fault> {
        Ok(Box::new(()))
    }

    /// Answers one request and notes in `outcome` what it learns on the way.
    ///
    /// The future is dropped when the client leaves, at any await; it must leave nothing half done behind. A panic in it
    /// becomes an internal fault of this one request. Status, bytes sent and the reason of a fault are noted by the caller.
    async fn answer(&self, request: &Request, outcome: &mut Outcome) -> Answer;
}
