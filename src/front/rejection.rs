//! Why a connection is closed before its first request, and what the operator is told of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::proxy_protocol::Malformed;
use crate::request::Caller;
use crate::telemetry::{RefusedConnection, Telemetry};

/// The log is told of rejections for the same reason no more often than this.
const TELLING: Duration = Duration::from_secs(10);

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// A sender of PROXY protocol headers sent none, or none that is sound.
    #[error("{0}")]
    Header(#[from] Malformed),
    /// A sender's connection ended inside of its header.
    #[error("the connection ended inside of its PROXY protocol header")]
    HeaderCut,
    /// A sender of headers sent two.
    #[error("a second PROXY protocol header came behind the first")]
    SecondHeader,
    /// A sender's header did not come in time.
    #[error("no whole PROXY protocol header came in time")]
    HeaderTimeout,
    /// A header from somebody who may not send any.
    #[error("a PROXY protocol header came from an address that is in no proxy_protocol.from")]
    Stranger,
    /// The client showed no certificate and must.
    #[error("the client showed no certificate")]
    NoCertificate,
    /// The client's certificate does not count.
    #[error("the client's certificate cannot be accepted: {0}")]
    Certificate(String),
    /// The handshake failed in another way.
    #[error("{0}")]
    Tls(String),
    /// The handshake did not end in time.
    #[error("no TLS handshake was completed in time")]
    TlsTimeout,
    /// No request came in time.
    #[error("no request came in time")]
    NoRequest,
    /// The connection ended before it said anything, as those do that only look whether somebody listens. Nobody is told.
    #[error("the connection ended at once")]
    Left,
}

impl Rejection {
    /// The label of the metric, a constant word; nothing where it does not count.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Header(_) | Self::HeaderCut | Self::SecondHeader => Some("proxy_header"),
            Self::HeaderTimeout => Some("proxy_timeout"),
            Self::Stranger => Some("proxy_stranger"),
            Self::NoCertificate => Some("no_certificate"),
            Self::Certificate(_) => Some("certificate"),
            Self::Tls(_) => Some("tls"),
            Self::TlsTimeout => Some("tls_timeout"),
            Self::NoRequest => Some("no_request"),
            Self::Left => None,
        }
    }

    /// Whether the client was sent a TLS alert about it, which a close at once might overtake.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::NoCertificate | Self::Certificate(_))
    }

    /// What the operator can do, where it is likely that the set-up is at fault and not the client.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Header(_) | Self::HeaderCut | Self::HeaderTimeout => {
                Some("turn PROXY protocol on at this load balancer, or take its address out of the listener's proxy_protocol.from")
            }
            Self::SecondHeader => Some("let only the load balancer next to this proxy send headers"),
            Self::Stranger => Some("if it is a load balancer of yours, add its address to the listener's proxy_protocol.from"),
            Self::NoCertificate => Some(
                "give the client one that an authority of the listener's client_ca issued, or set its client_auth to \"optional\"",
            ),
            Self::Certificate(_) => Some("issue the client a valid one by an authority of the listener's client_ca"),
            Self::Tls(_) | Self::TlsTimeout | Self::NoRequest | Self::Left => None,
        }
    }
}

/// Tells of a listener's rejections.
#[derive(Default)]
pub(super) struct Rejections(Mutex<BTreeMap<&'static str, Untold>>);

impl Rejections {
    /// Counts the rejection of `caller`'s connection, and tells the log of it now and then where something can be done.
    pub(super) fn note(&self, telemetry: &Telemetry, caller: &Caller, rejection: &Rejection) {
        let Some(reason) = rejection.reason() else { return };
        let Caller { listener, peer, source, endpoint, .. } = caller;
        if let Some(remedy) = rejection.remedy()
            && let Some(refused) = self.one_more(reason)
        {
            tracing::warn!(%listener, %peer, %source, %endpoint, refused, "connections are refused: {rejection}; {remedy}");
        }
        telemetry.refused_connection(&RefusedConnection { caller: caller.clone(), reason, detail: rejection.to_string() });
    }

    fn one_more(&self, reason: &'static str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default().one_more(Instant::now())
    }
}

/// Connections that the log was not told of yet.
#[derive(Debug, Default)]
pub(super) struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Untold {
    /// One more at `now`; how many the log is to be told of, if it is time to.
    pub(super) fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now - told < TELLING) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_at_once_and_then_now_and_then() {
        let (mut untold, start) = (Untold::default(), Instant::now());
        assert_eq!(untold.one_more(start), Some(1));
        assert_eq!(untold.one_more(start), None);
        assert_eq!(untold.one_more(start + TELLING / 2), None);
        assert_eq!(untold.one_more(start + TELLING), Some(3));
        assert_eq!(untold.one_more(start + TELLING), None);
    }
}
