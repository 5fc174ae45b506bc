//! What a listener's new connections are met with: whose PROXY protocol headers count, and TLS. Replaceable while it serves.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::protocols::Stream;
use tokio::time::timeout;

use super::io::{Opening, Socket, Wire};
use super::proxy_protocol::{self, Header, Progress};
use super::rejection::Rejection;
use super::{Error, Timeouts, tls};
use crate::config::{self, ProxyProtocol};
use crate::request::Caller;

/// A listener's terms, as they are for connections that come now.
pub struct Entrance(ArcSwap<Terms>);

/// What a listener's configuration asks of connections, its files read. Immutable; a reload makes new ones.
pub struct Terms {
    senders: Option<ProxyProtocol>,
    tls: Option<tls::Acceptor>,
}

impl Terms {
    /// Reads the certificates, keys and authorities that `config` names; its users are not looked at. Blocks on the disk.
    ///
    /// # Errors
    /// Names the first file that cannot be used.
    pub fn read(config: &config::Listener) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(tls::Acceptor::read).transpose()?;
        Ok(Self { senders: config.proxy_protocol.clone(), tls })
    }

    fn is_sender(&self, peer: SocketAddr) -> bool {
        self.senders.as_ref().is_some_and(|senders| senders.is_sender(peer))
    }
}

impl Entrance {
    pub(super) fn new(terms: Terms) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(terms)))
    }

    /// Meets connections from now on with `terms`. Those that are open, or being set up, stay as they are.
    pub fn replace(&self, terms: Terms) {
        self.0.store(Arc::new(terms));
    }

    /// Does what comes before HTTP, and tells `caller` what it learns. Dropping the future breaks the connection off.
    pub(super) async fn admit(&self, wire: &Arc<Wire>, caller: &mut Caller, limits: &Timeouts) -> Result<Stream, Rejection> {
        let terms = self.0.load_full();
        if terms.is_sender(caller.peer) {
            let header = timeout(limits.proxy, header(wire)).await.map_err(|_| Rejection::HeaderTimeout)??;
            header.describe(caller);
        }
        let socket = Socket::new(wire.clone());
        let Some(tls) = &terms.tls else { return Ok(Box::new(socket)) };
        match timeout(limits.setup, tls.accept(socket, caller)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(Rejection::Tls(_))) if wire.opening() == Opening::Header => Err(self.unwanted(caller.peer)),
            Ok(Err(rejection)) => Err(rejection),
            Err(_) => Err(Rejection::TlsTimeout),
        }
    }

    /// Why a header counts for nothing that `peer` sent where TLS or a request should have begun.
    pub(super) fn unwanted(&self, peer: SocketAddr) -> Rejection {
        if self.0.load().is_sender(peer) { Rejection::SecondHeader } else { Rejection::Stranger }
    }
}

/// Reads the header that the connection begins with, and not a byte more. Dropping the future loses what it has read.
async fn header(wire: &Wire) -> Result<Header, Rejection> {
    let mut bytes = Vec::new();
    loop {
        let more = match proxy_protocol::parse(&bytes)? {
            Progress::Complete { header, .. } => return Ok(header),
            Progress::Needs(more) => more,
        };
        match wire.read_onto(&mut bytes, more).await {
            Ok(1..) => {}
            Ok(0) | Err(_) if bytes.is_empty() => return Err(Rejection::Left),
            Ok(0) | Err(_) => return Err(Rejection::HeaderCut),
        }
    }
}
