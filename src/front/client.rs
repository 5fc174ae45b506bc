//! What the client does while it is being answered: it may still be sending a body, and it may leave.

use std::time::Duration;

use http::header::EXPECT;
use pingora_core::protocols::http::ServerSession;
use tokio::time::timeout;

/// A request body is read and dropped up to this many bytes, so that the answer reaches a client that writes first and reads
/// then. Longer ones end the connection.
const MAX_BODY: usize = 1 << 20;

/// One request's sender.
pub(super) struct Client {
    /// Bytes of the request body read so far.
    taken: usize,
    /// Whether the request body is read to its end.
    ended: bool,
}

impl Client {
    /// The sender of the request that `session` has read.
    pub(super) fn of(session: &mut ServerSession) -> Self {
        Self { taken: 0, ended: session.is_body_done() }
    }

    /// Somebody whose request could not be read, so nothing more is expected.
    pub(super) fn unknown() -> Self {
        Self { taken: 0, ended: true }
    }

    /// Completes when the client leaves; reads and drops its body meanwhile.
    ///
    /// A client that only ends its side of the connection (FIN after the request) counts as gone too: a full close looks just
    /// the same until something is written, and every client of registries closes fully. nginx, Go and hyper do likewise. A
    /// client that sends its next request early is listened to no further, nor is one whose body passes the cap.
    ///
    /// May be dropped at any time and called again.
    pub(super) async fn left(&mut self, session: &mut ServerSession) {
        while self.taken <= MAX_BODY {
            match session.read_body_or_idle(self.ended).await {
                Ok(Some(bytes)) => self.taken += bytes.len(),
                Ok(None) => self.ended = true,
                Err(error) => return tracing::debug!(%error, "the client left"),
            }
        }
        std::future::pending().await
    }

    /// Reads and drops the rest of the body, for `limit` at most, and says whether that was all. HTTP/2 resets a stream that
    /// is answered before its body was read, and curl for one then reports the reset and not the answer. One who waits for
    /// `100 Continue` sends nothing, and is told the final status instead.
    pub(super) async fn finish_body(&mut self, session: &mut ServerSession, limit: Duration) -> bool {
        let waits = !self.ended && session.get_header(EXPECT).is_some();
        if !waits && timeout(limit, self.drop_body(session)).await.is_err() {
            tracing::debug!("the request body did not end in time");
        }
        self.ended
    }

    async fn drop_body(&mut self, session: &mut ServerSession) {
        while !self.ended && self.taken <= MAX_BODY {
            match session.read_request_body().await {
                Ok(Some(bytes)) => self.taken += bytes.len(),
                Ok(None) => self.ended = true,
                Err(error) => return tracing::debug!(%error, "the request body broke off"),
            }
        }
    }
}
