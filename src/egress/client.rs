//! What the rooms below send through: an exchange with its deadline and its place in the metrics.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::AUTHORIZATION;
use tokio::time::{Instant, timeout};

use super::{Error, Exchange, Kind, Request, Response, Way};
use crate::telemetry::{Telemetry, UpstreamResult};

/// The longest wait for the head of an answer, connecting included.
const HEADER: Duration = Duration::from_secs(10);

/// Sends requests: every exchange with an upstream, its token server or its blob store goes through here.
#[derive(Clone)]
pub struct Client {
    exchange: Arc<dyn Exchange>,
    telemetry: Arc<Telemetry>,
}

impl Client {
    /// A client that sends through `exchange` and counts in `telemetry`.
    pub fn new(exchange: Arc<dyn Exchange>, telemetry: Arc<Telemetry>) -> Self {
        Self { exchange, telemetry }
    }

    /// Spares the first request over `way` what can be done before it is known. May be dropped at any time.
    pub async fn prepare(&self, way: &Way) {
        self.exchange.prepare(way).await;
    }

    /// Sends `request` and returns at the head of the answer, 10 s at most. The answer's bytes are counted as they are read.
    /// Dropping the future gives up the exchange; it is then not counted.
    ///
    /// # Errors
    /// As [`Exchange::exchange`], and `TimedOut`.
    pub async fn send(&self, way: &Way, request: Request) -> Result<Response, Error> {
        let started = Instant::now();
        let asked_as_nobody = !request.headers.contains_key(AUTHORIZATION);
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let answer = timeout(HEADER, self.exchange.exchange(way, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(Kind::TimedOut, format!("{host} did not answer within 10 s"))));
        let result = match &answer {
            Ok(response) => result_of(response.status, asked_as_nobody),
            Err(error) => result_of_error(error.kind),
        };
        self.telemetry.metrics.upstream_answered(way.label(), result, started.elapsed());
        let response = answer?;
        Ok(Response { body: response.body.metered(self.telemetry.clone(), way.shared_label(), host), ..response })
    }
}

/// A 401 to a request without credentials is how registries say where to get a token, and no error.
fn result_of(status: StatusCode, asked_as_nobody: bool) -> UpstreamResult {
    match status.as_u16() {
        200..=399 => UpstreamResult::Ok,
        401 if asked_as_nobody => UpstreamResult::Challenged,
        401 | 403 => UpstreamResult::Refused,
        404 => UpstreamResult::NotFound,
        429 => UpstreamResult::RateLimited,
        _ => UpstreamResult::Failed,
    }
}

fn result_of_error(kind: Kind) -> UpstreamResult {
    match kind {
        Kind::Forbidden | Kind::Loop => UpstreamResult::Forbidden,
        Kind::TimedOut => UpstreamResult::TimedOut,
        Kind::Unreachable | Kind::Broken => UpstreamResult::Unreachable,
        Kind::TooLarge | Kind::Setup => UpstreamResult::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::scripted::{Reply, Scripted, get, way};
    use crate::telemetry::Telemetry;

    async fn counted(reply: fn() -> Reply) -> (Result<Response, Error>, String) {
        let telemetry = Telemetry::quiet();
        let client = Client::new(Scripted::new(move |_, _| reply()), telemetry.clone());
        let answer = client.send(&way("https://r.test"), get("https://r.test/v2/")).await;
        let text = telemetry.metrics.render(&telemetry.health);
        let lines = text.lines().filter(|line| line.starts_with("roadstead_upstream_requests_total{"));
        (answer, lines.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_hangs_is_given_up_after_ten_seconds() {
        let started = Instant::now();
        let (answer, counted) = counted(|| Reply::Hang).await;
        assert_eq!(answer.unwrap_err().kind, Kind::TimedOut);
        assert_eq!(started.elapsed(), HEADER);
        assert!(counted.contains("result=\"timed_out\"} 1"), "{counted}");
    }

    #[tokio::test]
    async fn every_ending_is_counted_by_what_it_means() {
        let (_, ok) = counted(|| Reply::status(307)).await;
        assert!(ok.contains("result=\"ok\"} 1"), "{ok}");
        let (_, challenged) = counted(|| Reply::status(401)).await;
        assert!(challenged.contains("result=\"challenged\"} 1"), "{challenged}");
        let (_, failed) = counted(|| Reply::status(503)).await;
        assert!(failed.contains("result=\"failed\"} 1"), "{failed}");
        let (_, refused) = counted(|| Reply::Fail(Kind::Forbidden)).await;
        assert!(refused.contains("result=\"forbidden\"} 1"), "{refused}");
    }
}
