//! The metrics of requests.
//!
//! To find a series by its labels takes longer than to count in it, and each request counts in several. So those of each kind
//! of request are found once and kept together. There are no more kinds than series.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::Maker;
use crate::request::{Action, Served};
use crate::telemetry::Outcome;
use crate::telemetry::outcome::End;

/// The metrics of requests, and their series by kind of request.
pub(super) struct RequestMetrics {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    first_byte_seconds: HistogramVec,
    sent_bytes: IntCounterVec,
    saved_bytes: IntCounterVec,
    hits: IntCounterVec,
    /// By registry.
    known: ArcSwap<HashMap<Arc<str>, Kinds>>,
}

type Kinds = HashMap<Kind, Arc<Series>>;

/// What the series of a request to some registry depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    action: Option<Action>,
    served: Option<Served>,
    status: u16,
    answered: bool,
}

/// Where one kind of request counts.
struct Series {
    requests: IntCounter,
    seconds: Histogram,
    first_byte_seconds: Option<Histogram>,
    sent_bytes: IntCounter,
    saved_bytes: Option<IntCounter>,
    hits: Option<IntCounter>,
}

impl RequestMetrics {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            requests: make.counters(
                "roadstead_requests_total",
                "Requests answered on the data listeners.",
                &["registry", "action", "status", "cache"],
            ),
            request_seconds: make.histograms("roadstead_request_seconds", "Time from request to last byte.", &["action"]),
            first_byte_seconds: make.histograms(
                "roadstead_first_byte_seconds",
                "Time from request to the head of the answer.",
                &["action"],
            ),
            sent_bytes: make.counters("roadstead_sent_bytes_total", "Body bytes sent to clients.", &["registry"]),
            saved_bytes: make.counters(
                "roadstead_saved_bytes_total",
                "Body bytes sent to clients that no upstream had to send for them.",
                &["registry"],
            ),
            hits: make.counters("roadstead_cache_total", "Answers by where they came from.", &["action", "cache"]),
            known: ArcSwap::default(),
        }
    }

    pub(super) fn record(&self, outcome: &Outcome, end: &End) {
        let registry = outcome.registry_label.as_deref().unwrap_or("none");
        let kind =
            Kind { action: outcome.action, served: outcome.served, status: outcome.status, answered: outcome.first_byte.is_some() };
        match self.known.load().get(registry).and_then(|kinds| kinds.get(&kind)) {
            Some(series) => series.count(outcome, end),
            None => self.learn(registry, kind).count(outcome, end),
        }
    }

    fn learn(&self, registry: &str, kind: Kind) -> Arc<Series> {
        let series = Arc::new(self.series(registry, kind));
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.entry(registry.into()).or_default().insert(kind, series.clone());
            known
        });
        series
    }

    fn series(&self, registry: &str, kind: Kind) -> Series {
        let action = kind.action.map_or("other", Action::as_str);
        let cache = kind.served.map_or("none", Served::as_str);
        // 000 stands for a request whose client left before an answer.
        let status = format!("{:03}", kind.status);
        let saves = kind.served.is_some_and(|served| served != Served::Miss);
        Series {
            requests: self.requests.with_label_values(&[registry, action, &status, cache]),
            seconds: self.request_seconds.with_label_values(&[action]),
            first_byte_seconds: kind.answered.then(|| self.first_byte_seconds.with_label_values(&[action])),
            sent_bytes: self.sent_bytes.with_label_values(&[registry]),
            saved_bytes: saves.then(|| self.saved_bytes.with_label_values(&[registry])),
            hits: kind.served.map(|_| self.hits.with_label_values(&[action, cache])),
        }
    }
}

impl Series {
    fn count(&self, outcome: &Outcome, end: &End) {
        self.requests.inc();
        self.seconds.observe(end.elapsed.as_secs_f64());
        if let (Some(seconds), Some(at)) = (&self.first_byte_seconds, outcome.first_byte) {
            seconds.observe((at - outcome.started).as_secs_f64());
        }
        self.sent_bytes.inc_by(outcome.sent);
        if let Some(bytes) = &self.saved_bytes {
            bytes.inc_by(outcome.sent);
        }
        if let Some(hits) = &self.hits {
            hits.inc();
        }
    }
}
