//! What happened: one outcome per request, metrics, the access log, the audit log and the health of the parts.
//!
//! The code that serves fills in an [`Outcome`] and drops it; counting and writing happen here. `prometheus` is known to
//! this room alone.

mod access;
pub mod audit;
mod health;
mod id;
mod line;
mod metrics;
mod outcome;
mod refused;
mod stamp;
mod stdout;
mod text;

use std::sync::Arc;

use crate::config;
pub use access::{AccessLog, LogFormat};
use audit::AuditLog;
pub use audit::{AuditError, Full, Place};
pub use health::Health;
pub use id::RequestId;
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
    audit: Option<AuditLog>,
}

impl Telemetry {
    /// Telemetry that writes its access log to `access`, and no audit log.
    pub fn new(access: AccessLog) -> Arc<Self> {
        Arc::new(Self::with(access))
    }

    /// Telemetry that writes its access log to `access`, and the audit log where there is to be one: opened now, going on
    /// where an earlier run left off. Blocks on the disk.
    ///
    /// # Errors
    /// The audit log cannot be opened or written.
    pub fn start(access: AccessLog, audit: Option<&config::Audit>) -> Result<Arc<Self>, AuditError> {
        let mut telemetry = Self::with(access);
        let open = |config| AuditLog::start(config, telemetry.metrics.audit.clone(), telemetry.health.clone());
        telemetry.audit = audit.map(open).transpose()?;
        Ok(Arc::new(telemetry))
    }

    fn with(access: AccessLog) -> Self {
        Self { metrics: Metrics::new(), health: Health::default(), access, audit: None }
    }

    /// A place in the audit log for a request that is about to be answered, to be handed to its [`Outcome`]. Waits for one, up
    /// to 5 s, where nothing may be answered unrecorded. Dropping the future takes none.
    ///
    /// # Errors
    /// The audit log takes no more.
    pub async fn admit(&self) -> Result<Place, Full> {
        match &self.audit {
            Some(audit) => audit.admit().await,
            None => Ok(Place::default()),
        }
    }

    /// Has the audit log's file opened anew, where another or none is now under its name: for when it was moved away. The
    /// chain goes on in the new one.
    pub fn reopen_audit(&self) {
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// Waits until the logs are written, 1 s at most for each, and ends the audit log. Blocks; for the end of the program.
    pub fn finish(&self) {
        if let Some(audit) = &self.audit {
            audit.finish();
        }
        self.access.flush();
    }

    /// Telemetry that writes nothing down, for tests and offline verbs.
    pub fn quiet() -> Arc<Self> {
        Self::new(AccessLog::off())
    }
}
