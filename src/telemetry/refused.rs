//! Connections that ended before a request: one place that is told of each.

use super::Telemetry;
use crate::request::Caller;

/// A client's connection that was not served.
#[derive(Clone, Debug)]
pub struct RefusedConnection {
    /// Whose it was, as far as that was known by then.
    pub caller: Caller,
    /// Why, as a constant word.
    pub reason: &'static str,
    /// Why, in words for the operator. Empty where the reason says it all.
    pub detail: String,
}

impl Telemetry {
    /// Counts and notes a connection that was not served.
    pub fn refused_connection(&self, refused: &RefusedConnection) {
        let RefusedConnection { caller: Caller { listener, peer, source, endpoint, .. }, reason, detail } = refused;
        self.metrics.connection_refused(listener, reason);
        tracing::debug!(%listener, %peer, %source, %endpoint, reason, detail, "connection refused");
        if let Some(audit) = &self.audit {
            audit.connection(refused);
        }
    }
}
