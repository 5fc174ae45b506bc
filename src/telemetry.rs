//! What happened: one outcome per request, metrics, the access log and the health of the parts.
//!
//! The code that serves fills in an [`Outcome`] and drops it; counting and writing happen here. `prometheus` is known to
//! this room alone.

mod access;
mod health;
mod metrics;
mod outcome;
mod refused;

use std::sync::Arc;

pub use access::{AccessLog, LogFormat};
pub use health::Health;
pub use metrics::{Metrics, UpstreamResult};
pub use outcome::Outcome;
pub use refused::RefusedConnection;

/// Everything that is told of what happened. One per process, shared by all rooms; tests make their own.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters, gauges and histograms.
    pub metrics: Metrics,
    /// Which parts are well.
    pub health: Health,
    access: AccessLog,
}

impl Telemetry {
    /// Telemetry that writes its access log to `access`.
    pub fn new(access: AccessLog) -> Arc<Self> {
        Arc::new(Self { metrics: Metrics::new(), health: Health::default(), access })
    }

    /// Waits until the access log is written, 1 s at most. Blocks; for the end of the program.
    pub fn finish(&self) {
        self.access.flush();
    }

    /// Telemetry that writes nothing down, for tests and offline verbs.
    pub fn quiet() -> Arc<Self> {
        Self::new(AccessLog::off())
    }
}
