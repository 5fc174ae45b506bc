//! The metrics of requests.
//!
//! To find a series by its labels takes longer than to count in it, and each request counts in several. So those of each kind
//! of request are found once and kept together. There are no more kinds than series.
//!
//! Threads that count in the same place take its memory from each other with every request. So each counts in a place of its
//! own, and who wants to read the metrics has them gathered first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::local::{LocalHistogram, LocalIntCounter};
use prometheus::{HistogramVec, IntCounterVec};

use super::Maker;
use crate::request::{Action, Served};
use crate::telemetry::Outcome;
use crate::telemetry::outcome::End;

/// More threads than this share places.
const PLACES: usize = 64;

/// The metrics of requests, and what was counted since they were gathered.
pub(super) struct RequestMetrics {
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    first_byte_seconds: HistogramVec,
    sent_bytes: IntCounterVec,
    saved_bytes: IntCounterVec,
    hits: IntCounterVec,
    places: Box<[Place]>,
}

/// Where threads count; its memory is shared with no other.
#[derive(Default)]
#[repr(align(128))]
struct Place(Mutex<Counted>);

/// What was counted, by registry and kind of request. The kinds are few; to look at each takes less time than to look one up.
type Counted = BTreeMap<Arc<str>, Vec<(Kind, Series)>>;

/// What the series of a request to some registry depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    action: Option<Action>,
    served: Option<Served>,
    status: u16,
    answered: bool,
}

/// Where one kind of request counts.
struct Series {
    requests: LocalIntCounter,
    seconds: LocalHistogram,
    first_byte_seconds: Option<LocalHistogram>,
    sent_bytes: LocalIntCounter,
    saved_bytes: Option<LocalIntCounter>,
    hits: Option<LocalIntCounter>,
}

impl Place {
    fn of_this_thread(places: &[Self]) -> &Self {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        // A thread that ends may have forgotten its own.
        &places[NUMBER.try_with(|number| *number).unwrap_or_default() % places.len()]
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            places: (0..PLACES).map(|_| Place::default()).collect(),
        }
    }

    pub(super) fn record(&self, outcome: &Outcome, end: &End) {
        let registry = outcome.registry_label.as_deref().unwrap_or("none");
        let kind =
            Kind { action: outcome.action, served: outcome.served, status: outcome.status, answered: outcome.first_byte.is_some() };
        let mut counted = Place::of_this_thread(&self.places).lock();
        match counted.get(registry).and_then(|kinds| kinds.iter().find(|(known, _)| *known == kind)) {
            Some((_, series)) => series.count(outcome, end),
            None => {
                let series = self.series(registry, kind);
                series.count(outcome, end);
                counted.entry(registry.into()).or_default().push((kind, series));
            }
        }
    }

    /// Has the metrics say what was counted until now.
    pub(super) fn gather(&self) {
        for place in &self.places {
            place.lock().values().flatten().for_each(|(_, series)| series.gather());
        }
    }

    fn series(&self, registry: &str, kind: Kind) -> Series {
        let action = kind.action.map_or("other", Action::as_str);
        let cache = kind.served.map_or("none", Served::as_str);
        // 000 stands for a request whose client left before an answer.
        let status = format!("{:03}", kind.status);
        let saves = kind.served.is_some_and(|served| served != Served::Miss);
        Series {
            requests: self.requests.with_label_values(&[registry, action, &status, cache]).local(),
            seconds: self.request_seconds.with_label_values(&[action]).local(),
            first_byte_seconds: kind.answered.then(|| self.first_byte_seconds.with_label_values(&[action]).local()),
            sent_bytes: self.sent_bytes.with_label_values(&[registry]).local(),
            saved_bytes: saves.then(|| self.saved_bytes.with_label_values(&[registry]).local()),
            hits: kind.served.map(|_| self.hits.with_label_values(&[action, cache]).local()),
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

    fn gather(&self) {
        self.requests.flush();
        self.seconds.flush();
        self.sent_bytes.flush();
        self.first_byte_seconds.iter().for_each(LocalHistogram::flush);
        self.saved_bytes.iter().chain(&self.hits).for_each(LocalIntCounter::flush);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::Telemetry;

    fn request(telemetry: &Arc<Telemetry>, registry: &str, status: u16, served: Option<Served>) {
        let mut outcome = Outcome::open(telemetry, "GET", "/");
        (outcome.registry_label, outcome.action) = (Some(registry.into()), Some(Action::BlobGet));
        (outcome.served, outcome.sent) = (served, 5);
        if status > 0 {
            outcome.answered(status);
        }
    }

    #[test]
    fn requests_of_each_kind_are_counted_by_themselves() {
        let telemetry = Telemetry::quiet();
        for _ in 0..2 {
            request(&telemetry, "ghcr.io", 200, Some(Served::Hit));
            request(&telemetry, "ghcr.io", 206, Some(Served::Hit));
            request(&telemetry, "docker.io", 200, Some(Served::Hit));
            request(&telemetry, "docker.io", 200, Some(Served::Miss));
            request(&telemetry, "docker.io", 0, None);
        }
        // To ask once more changes nothing.
        telemetry.metrics.render(&telemetry.health);
        let text = telemetry.metrics.render(&telemetry.health);
        for line in [
            "requests_total{action=\"blob\",cache=\"hit\",registry=\"ghcr.io\",status=\"200\"} 2",
            "requests_total{action=\"blob\",cache=\"hit\",registry=\"ghcr.io\",status=\"206\"} 2",
            "requests_total{action=\"blob\",cache=\"hit\",registry=\"docker.io\",status=\"200\"} 2",
            "requests_total{action=\"blob\",cache=\"miss\",registry=\"docker.io\",status=\"200\"} 2",
            "requests_total{action=\"blob\",cache=\"none\",registry=\"docker.io\",status=\"000\"} 2",
            "cache_total{action=\"blob\",cache=\"hit\"} 6",
            "cache_total{action=\"blob\",cache=\"miss\"} 2",
            "saved_bytes_total{registry=\"ghcr.io\"} 20",
            "saved_bytes_total{registry=\"docker.io\"} 10",
            "sent_bytes_total{registry=\"docker.io\"} 30",
            "request_seconds_count{action=\"blob\"} 10",
            "first_byte_seconds_count{action=\"blob\"} 8",
        ] {
            assert!(text.contains(&format!("roadstead_{line}\n")), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_threads_meet_at_once_is_counted_once_each() {
        let telemetry = Telemetry::quiet();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (200..260).for_each(|status| request(&telemetry, "ghcr.io", status, None)));
            }
        });
        let text = telemetry.metrics.render(&telemetry.health);
        assert!((200..260).all(|status| text.contains(&format!("status=\"{status}\"}} 4\n"))), "{text}");
    }
}
