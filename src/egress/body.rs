//! A body as it comes from an upstream.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::{Error, Kind};
use crate::telemetry::Telemetry;

/// The longest wait for the next bytes of a body.
const IDLE: Duration = Duration::from_secs(30);

/// A body that streams. Dropping it before its end closes the connection under it.
pub struct Body {
    stream: BoxStream<'static, Result<Bytes, Error>>,
    origin: Option<Origin>,
}

/// Where a body comes from, for metrics and messages.
struct Origin {
    telemetry: Arc<Telemetry>,
    label: Arc<str>,
    host: String,
}

impl Body {
    /// A body of these pieces.
    pub fn from_chunks(chunks: impl IntoIterator<Item = Result<Bytes, Error>, IntoIter: Send + 'static>) -> Self {
        Self::from_stream(futures_util::stream::iter(chunks))
    }

    /// A body that is what `stream` yields; an error must be its last item.
    pub(super) fn from_stream(stream: impl futures_util::Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        Self { stream: stream.boxed(), origin: None }
    }

    /// Counts what comes as received from the registry `label`, and names `host` in errors.
    pub(super) fn metered(mut self, telemetry: Arc<Telemetry>, label: Arc<str>, host: String) -> Self {
        self.origin = Some(Origin { telemetry, label, host });
        self
    }

    /// The next bytes, never empty; `None` at the body's well-formed end. Nothing is lost by dropping the future.
    ///
    /// # Errors
    /// `TimedOut` where nothing came for 30 s, `Broken` where the connection ended early. The body is of no use after.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let next = tokio::time::timeout(IDLE, self.stream.next()).await;
            match next.map_err(|_| self.error(Kind::TimedOut, "nothing more of the body came for 30 s"))? {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.count(&bytes);
                    return Ok(Some(bytes));
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(None),
            }
        }
    }

    /// The whole body, where it has at most `cap` bytes. Bounded in memory, not in time: callers set a deadline.
    ///
    /// # Errors
    /// As [`Body::chunk`], and `TooLarge` as soon as more than `cap` bytes came.
    pub async fn collect(mut self, cap: u64) -> Result<Bytes, Error> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.chunk().await? {
            if (whole.len() + bytes.len()) as u64 > cap {
                return Err(self.error(Kind::TooLarge, &format!("the body is longer than {cap} bytes")));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    fn count(&self, bytes: &Bytes) {
        if let Some(origin) = &self.origin {
            origin.telemetry.metrics.upstream_received(&origin.label, bytes.len() as u64);
        }
    }

    fn error(&self, kind: Kind, what: &str) -> Error {
        let host = self.origin.as_ref().map_or("the upstream", |origin| &origin.host);
        Error::new(kind, format!("{host}: {what}"))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chunks: &[&'static str]) -> Body {
        Body::from_chunks(chunks.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn collects_up_to_the_cap() {
        assert_eq!(body(&["ab", "", "cd"]).collect(4).await.unwrap(), "abcd");
        assert_eq!(body(&["ab", "cd"]).collect(3).await.unwrap_err().kind, Kind::TooLarge);
    }

    #[tokio::test]
    async fn an_empty_piece_is_not_the_end() {
        assert_eq!(body(&["", "x"]).chunk().await.unwrap().unwrap(), "x");
        assert_eq!(body(&[""]).chunk().await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_a_body_that_stands_still() {
        let mut body = Body::from_stream(futures_util::stream::pending());
        let started = tokio::time::Instant::now();
        assert_eq!(body.chunk().await.unwrap_err().kind, Kind::TimedOut);
        assert_eq!(started.elapsed(), IDLE);
    }
}
