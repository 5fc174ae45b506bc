//! The metrics of the audit log, which its thread keeps.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::Maker;

/// The audit log's metrics. Clones are one and the same.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct AuditMetrics {
    dropped: IntCounter,
    number: IntGauge,
    head: IntGaugeVec,
    /// What `head` shows.
    shown: Option<String>,
}

impl AuditMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            dropped: make.counter("roadstead_audit_dropped_total", "Audit records dropped because the output did not keep up."),
            number: make.gauge("roadstead_audit_chain_number", "Number of the audit log's last link."),
            head: make.gauges(
                "roadstead_audit_chain_head",
                "Always 1; the hash of the audit log's last link is in the label.",
                &["hash"],
            ),
            shown: None,
        }
    }

    /// A record was dropped.
    pub(in crate::telemetry) fn lost(&self) {
        self.dropped.inc();
    }

    /// The last link that is written has this number and hash. Told by the one thread that writes.
    pub(in crate::telemetry) fn chained(&mut self, number: u64, hash: &impl ToString) {
        self.number.set(i64::try_from(number).unwrap_or(i64::MAX));
        let hash = hash.to_string();
        self.head.with_label_values(&[&hash]).set(1);
        if let Some(old) = self.shown.replace(hash.clone()).filter(|old| *old != hash) {
            // It was there: this is what put it there.
            let _ = self.head.remove_label_values(&[&old]);
        }
    }
}
