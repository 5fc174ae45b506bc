//! Connections that ended before a request: one place that is told of each.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Telemetry;

/// A client's connection that was not served.
#[derive(Clone, Debug)]
pub struct RefusedConnection {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The connection's other end.
    pub peer: SocketAddr,
    /// Why, as a constant word.
    pub reason: &'static str,
    /// Why, in words for the operator. Empty where the reason says it all.
    pub detail: String,
}

impl Telemetry {
    /// Counts and notes a connection that was not served.
    pub fn refused_connection(&self, refused: &RefusedConnection) {
        let RefusedConnection { listener, peer, reason, detail } = refused;
        self.metrics.connection_refused(listener, reason);
        tracing::debug!(%listener, %peer, reason, detail, "connection refused");
        if let Some(audit) = &self.audit {
            audit.connection(refused);
        }
    }
}
