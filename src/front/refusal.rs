//! Connections beyond a listener's cap: told so by a 503 at once, rather than left waiting in the kernel's queue.
//!
//! They are served by the same code as all others, with a handler that only refuses and with short deadlines. What they cost
//! is bounded too: so many at once, and those beyond are closed without a word.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use pingora_core::server::ShutdownWatch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::connection::{self, Shared};
use super::listener::Timeouts;
use super::rejection::{Rejections, Untold};
use super::{Answer, Fault, Handler, Request, Turns};
use crate::request::Caller;
use crate::telemetry::{Outcome, RefusedConnection, Telemetry};

/// So many connections of a listener are being refused at once. Each holds a descriptor.
pub const MAX_REFUSALS: usize = 64;
/// For each step on the way to the 503: the header of the PROXY protocol, TLS, the request's head, its end.
const STEP: Duration = Duration::from_secs(1);
/// For all of them together.
const ALL: Duration = Duration::from_secs(3);

/// Refuses a listener's connections.
pub(super) struct Refusals {
    /// What they are served with. Its telemetry is its own: the true one is told of each connection here, and no more.
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
    room: Arc<Semaphore>,
    untold: Untold,
}

impl Refusals {
    /// For the connections that `shared` has no room for.
    pub(super) fn new(shared: &Shared) -> Self {
        let mut options = shared.options.clone();
        options.h2_idle_timeout = Some(STEP);
        let refusing = Shared {
            endpoint: shared.endpoint.clone(),
            entrance: shared.entrance.clone(),
            rejections: Rejections::default(),
            timeouts: Timeouts {
                proxy: STEP,
                setup: STEP,
                head: STEP,
                idle: STEP,
                stall: STEP,
                body: STEP,
                linger: STEP,
                drain: STEP,
            },
            options,
            telemetry: Telemetry::quiet(),
            handler: Arc::new(Full),
            requests: Arc::new(Turns::unlimited()),
            once: true,
        };
        let telemetry = shared.telemetry.clone();
        Self { shared: Arc::new(refusing), telemetry, room: Arc::new(Semaphore::new(MAX_REFUSALS)), untold: Untold::default() }
    }

    /// A place among the connections that are being refused, and what refuses this one. Nothing where they are too many
    /// already; it is then closed.
    pub(super) fn refuse(
        &mut self,
        tcp: TcpStream,
        peer: SocketAddr,
        shutdown: ShutdownWatch,
    ) -> Option<(OwnedSemaphorePermit, impl Future<Output = ()> + use<>)> {
        self.note(peer);
        let place = self.room.clone().try_acquire_owned().ok()?;
        let serving = connection::serve(self.shared.clone(), tcp, peer, shutdown);
        // A client that takes too long is left without its 503.
        Some((place, timeout(ALL, serving).map(drop)))
    }

    fn note(&mut self, peer: SocketAddr) {
        let endpoint = &self.shared.endpoint;
        let caller = Caller::direct(endpoint.clone(), peer);
        let refused = RefusedConnection { caller, reason: "full", detail: String::new() };
        self.telemetry.refused_connection(&refused);
        if let Some(refused) = self.untold.one_more(Instant::now()) {
            tracing::warn!(%endpoint, refused, "connections are refused: as many as max_connections allows are open");
        }
    }
}

/// Answers that there is no room for the connection.
struct Full;

#[async_trait]
impl Handler for Full {
    async fn answer(&self, _: &Request, _: &mut Outcome) -> Answer {
        Answer::fault(Fault::overloaded("as many connections as this proxy allows are open; try again"))
    }
}
