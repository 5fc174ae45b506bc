//! One value per request tells the whole story: opened when the request is read, recorded when it is dropped.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Place, RequestId, Telemetry, text};
use crate::oci::{Digest, ErrorCode};
use crate::request::{Action, Caller, Decision, Served, Target};

/// The story of one request. Whoever serves fills in what it learns; dropping it counts and logs, also when the client left
/// or the task was cancelled.
#[derive(Debug)]
pub struct Outcome {
    telemetry: Arc<Telemetry>,
    /// Name of this request in every log and in `X-Request-Id`.
    pub id: RequestId,
    /// The method as sent, shortened.
    pub method: Cow<'static, str>,
    /// Path and query as sent, shortened, without what could break a log line or be a secret.
    pub path: String,
    /// The client's own name for itself, shortened.
    pub user_agent: Option<String>,
    /// Who asks.
    pub caller: Option<Arc<Caller>>,
    /// The configured registry's name, for metrics.
    pub registry_label: Option<Arc<str>>,
    /// What was asked for, where that could be understood.
    pub target: Option<Target>,
    /// What was to be done.
    pub action: Option<Action>,
    /// The digest that the tag which was asked for meant.
    pub resolved: Option<Digest>,
    /// What the manifest was served as.
    pub media_type: Option<Arc<str>>,
    /// What the policy said, where it was asked.
    pub decision: Option<Decision>,
    /// Where the answer came from.
    pub served: Option<Served>,
    /// The status that was sent; 0 while there is none.
    pub status: u16,
    /// Body bytes handed to the connection.
    pub sent: u64,
    /// Why the answer is an error or was cut short, in words for the operator.
    pub reason: Option<String>,
    /// The code of an error answer.
    pub error_code: Option<ErrorCode>,
    pub(super) place: Place,
    pub(super) started: Instant,
    pub(super) first_byte: Option<Instant>,
}

impl Outcome {
    /// Opens the story of a request.
    pub fn open(telemetry: &Arc<Telemetry>, method: &str, path: &str) -> Self {
        Self {
            telemetry: telemetry.clone(),
            id: RequestId::random(),
            method: text::method(method),
            path: text::target(path),
            user_agent: None,
            caller: None,
            registry_label: None,
            target: None,
            action: None,
            resolved: None,
            media_type: None,
            decision: None,
            served: None,
            status: 0,
            sent: 0,
            reason: None,
            error_code: None,
            place: Place::default(),
            started: Instant::now(),
            first_byte: None,
        }
    }

    /// Notes who asks.
    pub fn caller(&mut self, caller: impl Into<Arc<Caller>>, user_agent: Option<&str>) {
        self.caller = Some(caller.into());
        self.user_agent = user_agent.map(text::printable);
    }

    /// Notes what is asked for.
    pub fn target(&mut self, target: &Target, registry_label: Arc<str>) {
        self.action = Some(target.action());
        self.target = Some(target.clone());
        self.registry_label = Some(registry_label);
    }

    /// Has the audit log take this request's record at `place`.
    pub fn record_at(&mut self, place: Place) {
        self.place = place;
    }

    /// The head of the answer goes out now, with `status`.
    pub fn answered(&mut self, status: u16) {
        self.status = status;
        self.first_byte = Some(Instant::now());
    }
}

/// When a request ended, for all that is told of it.
pub(super) struct End {
    pub(super) time: Timestamp,
    /// Since it was read.
    pub(super) elapsed: Duration,
}

impl Drop for Outcome {
    fn drop(&mut self) {
        let end = End { time: Timestamp::now(), elapsed: self.started.elapsed() };
        let place = std::mem::take(&mut self.place);
        let telemetry = &self.telemetry;
        telemetry.metrics.record(self, &end);
        telemetry.access.write(self, &end, &telemetry.metrics);
        if let Some(audit) = &telemetry.audit {
            audit.request(self, &end, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::AccessLog;

    #[test]
    fn a_request_is_counted_and_logged_however_it_ends() {
        let (log, lines) = AccessLog::memory();
        let telemetry = Telemetry::new(log);
        let mut outcome = Outcome::open(&telemetry, "GET", "/v2/a/blobs/x\r\nevil");
        outcome.answered(200);
        outcome.sent = 5;
        outcome.served = Some(Served::Hit);
        outcome.registry_label = Some("docker.io".into());
        drop(outcome);
        drop(Outcome::open(&telemetry, "GET", "/gone"));
        let text = telemetry.metrics.render(&telemetry.health);
        assert!(text.contains("roadstead_saved_bytes_total{registry=\"docker.io\"} 5"), "{text}");
        assert!(text.contains("status=\"000\""), "{text}");
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("\"status\":200") && !lines[0].contains('\n'), "{}", lines[0]);
    }
}
