//! Counters, gauges and histograms, with their names and help texts in one place.
//!
//! Labels never hold what a stranger chooses: registries are the configured names, everything else is a word of ours.

mod audit;
mod request;

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::outcome::End;
use super::{Health, Outcome};
pub(super) use audit::AuditMetrics;
use request::RequestMetrics;

/// How an exchange with an upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamResult {
    /// A 2xx.
    Ok,
    /// A 404.
    NotFound,
    /// A 401 to a request without credentials: the upstream says where to get a token. No error.
    Challenged,
    /// A 401 or 403.
    Refused,
    /// A 429.
    RateLimited,
    /// A 5xx, or an answer that makes no sense.
    Failed,
    /// No connection could be made, or it broke.
    Unreachable,
    /// A deadline ran out.
    TimedOut,
    /// The egress guard refused to connect.
    Forbidden,
}

impl UpstreamResult {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Challenged => "challenged",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Forbidden => "forbidden",
        }
    }

    fn is_error(self) -> bool {
        !matches!(self, Self::Ok | Self::NotFound | Self::Challenged)
    }
}

/// The process's metrics, in a registry of their own so that tests never share one.
pub struct Metrics {
    registry: Registry,
    requests: RequestMetrics,
    reloads: IntCounterVec,
    limited: IntCounterVec,
    joins: IntCounter,
    upstream_requests: IntCounterVec,
    upstream_errors: IntCounterVec,
    upstream_seconds: HistogramVec,
    upstream_bytes: IntCounterVec,
    mismatches: IntCounterVec,
    fills: IntGauge,
    passed_through: IntCounter,
    connections: IntGaugeVec,
    refused_connections: IntCounterVec,
    logins: IntCounterVec,
    evictions: IntCounter,
    evicted_bytes: IntCounter,
    store_bytes: IntGauge,
    store_blobs: IntGauge,
    store_errors: IntCounterVec,
    commit_seconds: Histogram,
    log_lines_dropped: IntCounter,
    healthy: IntGaugeVec,
    pub(super) audit: AuditMetrics,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

struct Maker(Registry);

impl Maker {
    fn add<M: prometheus::core::Collector + Clone + 'static>(&self, metric: Result<M, prometheus::Error>) -> M {
        let metric = metric.expect("names and labels are constants");
        self.0.register(Box::new(metric.clone())).expect("each name stands once in this file");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.add(HistogramVec::new(options(name, help), labels))
    }
}

fn options(name: &str, help: &str) -> HistogramOpts {
    let buckets = vec![0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
    HistogramOpts::new(name, help).buckets(buckets)
}

impl Metrics {
    pub(super) fn new() -> Self {
        let make = Maker(Registry::new());
        let metrics = Self {
            requests: RequestMetrics::new(&make),
            reloads: make.counters(
                "roadstead_reloads_total",
                "Times a changed configuration was taken on, or was not.",
                &["result"],
            ),
            limited: make.counters(
                "roadstead_limited_total",
                "Requests, connections and downloads refused because their tenant had its share.",
                &["by", "what"],
            ),
            joins: make.counter("roadstead_joins_total", "Requests that joined a download already under way."),
            upstream_requests: make.counters(
                "roadstead_upstream_requests_total",
                "Exchanges with upstreams, token servers and blob stores by how they ended.",
                &["registry", "result"],
            ),
            upstream_errors: make.counters(
                "roadstead_upstream_errors_total",
                "Exchanges with upstreams that failed, by why.",
                &["registry", "reason"],
            ),
            upstream_seconds: make.histograms(
                "roadstead_upstream_seconds",
                "Time from asking an upstream to the head of its answer.",
                &["registry"],
            ),
            upstream_bytes: make.counters("roadstead_upstream_bytes_total", "Body bytes received from upstreams.", &["registry"]),
            mismatches: make.counters(
                "roadstead_digest_mismatches_total",
                "Upstream answers whose content was not what its digest says.",
                &["registry"],
            ),
            fills: make.gauge("roadstead_downloads", "Blob downloads under way."),
            passed_through: make.counter(
                "roadstead_passed_through_total",
                "Blob downloads that could not be stored, or not to their end, and were only passed on.",
            ),
            connections: make.gauges("roadstead_connections", "Open client connections.", &["endpoint"]),
            refused_connections: make.counters(
                "roadstead_refused_connections_total",
                "Client connections ended before a request, by why.",
                &["endpoint", "reason"],
            ),
            logins: make.counters(
                "roadstead_logins_total",
                "Passwords, and tokens that did not do, that clients showed, by what came of it.",
                &["listener", "result"],
            ),
            evictions: make.counter("roadstead_evictions_total", "Blobs evicted to keep the size cap."),
            evicted_bytes: make.counter("roadstead_evicted_bytes_total", "Bytes evicted to keep the size cap."),
            store_bytes: make.gauge("roadstead_store_bytes", "Bytes of stored content."),
            store_blobs: make.gauge("roadstead_store_blobs", "Number of stored blobs and manifests."),
            store_errors: make.counters(
                "roadstead_store_errors_total",
                "Failed disk operations, by what was tried.",
                &["operation"],
            ),
            commit_seconds: make
                .add(Histogram::with_opts(options("roadstead_commit_seconds", "Time to make a verified blob durable."))),
            log_lines_dropped: make
                .counter("roadstead_access_log_dropped_total", "Access log lines dropped because the output did not keep up."),
            audit: AuditMetrics::new(&make),
            healthy: make.gauges("roadstead_healthy", "1 where a part of the proxy works, 0 where it is in trouble.", &["part"]),
            registry: make.0.clone(),
        };
        let build = make.gauges("roadstead_build_info", "Always 1; the version is in the label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics
    }

    /// An exchange with `registry` (or its token server or blob store) ended with `result`; its head took `elapsed`.
    pub fn upstream_answered(&self, registry: &str, result: UpstreamResult, elapsed: Duration) {
        self.upstream_requests.with_label_values(&[registry, result.as_str()]).inc();
        self.upstream_seconds.with_label_values(&[registry]).observe(elapsed.as_secs_f64());
        if result.is_error() {
            self.upstream_errors.with_label_values(&[registry, result.as_str()]).inc();
        }
    }

    /// `bytes` of a body came from `registry`.
    pub fn upstream_received(&self, registry: &str, bytes: u64) {
        self.upstream_bytes.with_label_values(&[registry]).inc_by(bytes);
    }

    /// Content of `registry` was not what its digest says.
    pub fn mismatch(&self, registry: &str) {
        self.mismatches.with_label_values(&[registry]).inc();
    }

    /// A changed configuration was taken on, or it was not.
    pub fn reloaded(&self, well: bool) {
        self.reloads.with_label_values(&[if well { "ok" } else { "failed" }]).inc();
    }

    /// A tenant of a limit that counts `by` had no `what` left. Both are constant words.
    pub fn limited(&self, by: &'static str, what: &'static str) {
        self.limited.with_label_values(&[by, what]).inc();
    }

    /// A request joined a download under way.
    pub fn joined(&self) {
        self.joins.inc();
    }

    /// A download began.
    pub fn fill_started(&self) {
        self.fills.inc();
    }

    /// A download's bytes cannot be stored, or not any more, and are only passed on.
    pub fn passed_through(&self) {
        self.passed_through.inc();
    }

    /// A download ended, however.
    pub fn fill_ended(&self) {
        self.fills.dec();
    }

    /// A client connected to `endpoint`.
    pub fn connected(&self, endpoint: &str) {
        self.connections.with_label_values(&[endpoint]).inc();
    }

    /// A client of `endpoint` is gone.
    pub fn disconnected(&self, endpoint: &str) {
        self.connections.with_label_values(&[endpoint]).dec();
    }

    /// A connection to `endpoint` ended before its first request because of `reason`, a constant word.
    pub fn connection_refused(&self, endpoint: &str, reason: &'static str) {
        self.refused_connections.with_label_values(&[endpoint, reason]).inc();
    }

    /// A client of `listener` showed a password, or a token that did not do; `result` is a constant word.
    pub fn login(&self, listener: &str, result: &'static str) {
        self.logins.with_label_values(&[listener, result]).inc();
    }

    /// A blob of `bytes` was evicted.
    pub fn evicted(&self, bytes: u64) {
        self.evictions.inc();
        self.evicted_bytes.inc_by(bytes);
    }

    /// What the store holds now.
    pub fn stored(&self, blobs: u64, bytes: u64) {
        self.store_blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
        self.store_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A disk operation, named by a constant word, failed.
    pub fn store_failed(&self, operation: &'static str) {
        self.store_errors.with_label_values(&[operation]).inc();
    }

    /// A verified blob became durable in `elapsed`.
    pub fn committed(&self, elapsed: Duration) {
        self.commit_seconds.observe(elapsed.as_secs_f64());
    }

    pub(super) fn log_line_dropped(&self) {
        self.log_lines_dropped.inc();
    }

    pub(super) fn record(&self, outcome: &Outcome, end: &End) {
        self.requests.record(outcome, end);
    }

    /// All metrics in the Prometheus text format.
    pub fn render(&self, health: &Health) -> String {
        for (part, well) in health.states() {
            self.healthy.with_label_values(&[part]).set(i64::from(well));
        }
        self.requests.gather();
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# metrics could not be written: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_in_the_text() {
        let (metrics, health) = (Metrics::new(), Health::default());
        metrics.upstream_answered("docker.io", UpstreamResult::TimedOut, Duration::from_secs(1));
        metrics.upstream_received("docker.io", 7);
        metrics.evicted(9);
        health.troubled("disk", "full");
        let text = metrics.render(&health);
        for line in [
            "roadstead_upstream_requests_total{registry=\"docker.io\",result=\"timed_out\"} 1",
            "roadstead_upstream_errors_total{reason=\"timed_out\",registry=\"docker.io\"} 1",
            "roadstead_upstream_bytes_total{registry=\"docker.io\"} 7",
            "roadstead_evicted_bytes_total 9",
            "roadstead_healthy{part=\"disk\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
