//! Connections that end before they bring a request.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Telemetry;

/// A client connection that was ended before its first request.
#[derive(Clone, Debug)]
pub struct RefusedConnection {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The connection's other end.
    pub peer: SocketAddr,
    /// Why, as a constant word.
    pub reason: &'static str,
    /// Why, in words for the operator.
    pub detail: String,
}

impl Telemetry {
    /// Counts and logs a connection that was refused.
    pub fn refused_connection(&self, refused: &RefusedConnection) {
        let RefusedConnection { listener, peer, reason, detail } = refused;
        self.metrics.connection_refused(listener, reason);
        tracing::debug!(%listener, %peer, reason, detail, "connection refused");
        if let Some(audit) = &self.audit {
            audit.connection(refused);
        }
    }
}
