//! Listening: the accept loop, its caps on connections and requests, and the drain at the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Shared};
use super::entrance::{Entrance, Terms};
use super::refusal::Refusals;
use super::rejection::Rejections;
use super::turns::Turns;
use super::workers::Workers;
use super::{Error, Handler};
use crate::config;
use crate::telemetry::Telemetry;

/// Connections that the kernel keeps ready until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after an accept that failed, in which descriptors may become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The deadlines of a listener's connections.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// For the whole header of the PROXY protocol, where there has to be one: 5 s.
    pub proxy: Duration,
    /// For TLS to be established: 10 s.
    pub setup: Duration,
    /// For the first request's head from then on, and for each later head from its first byte on: 10 s.
    pub head: Duration,
    /// How long a connection may wait for its next request: 75 s.
    pub idle: Duration,
    /// How long the client may take nothing of an answer: 60 s. Counted by the kernel (`TCP_USER_TIMEOUT`).
    pub stall: Duration,
    /// For a request body, which is read and dropped: 5 s.
    pub body: Duration,
    /// How long a connection that ended while the client was still sending is kept for the answer to arrive: 2 s.
    pub linger: Duration,
    /// How long answers under way may go on after shutdown began: 25 s.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            proxy: seconds(5),
            setup: seconds(10),
            head: seconds(10),
            idle: seconds(75),
            stall: seconds(60),
            body: seconds(5),
            linger: seconds(2),
            drain: seconds(25),
        }
    }
}

/// A bound socket, not yet served.
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    endpoint: Arc<str>,
    entrance: Arc<Entrance>,
    max_connections: usize,
    requests: Arc<Turns>,
    timeouts: Timeouts,
    workers: Option<Arc<Workers>>,
    telemetry: Arc<Telemetry>,
}

impl Listener {
    /// Reads the certificates, where there are any, and binds the address. Connections wait in the kernel until
    /// [`Listener::serve`].
    pub fn bind(config: &config::Listener, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        let terms = Terms::read(config)?;
        let (socket, address) = bind(config.address).map_err(|source| Error::Bind {
            endpoint: config.name.to_string(),
            address: config.address,
            source,
        })?;
        Ok(Self {
            socket,
            address,
            endpoint: config.name.clone(),
            entrance: Entrance::new(terms),
            max_connections: config.max_connections,
            requests: Arc::new(Turns::unlimited()),
            timeouts: Timeouts::default(),
            workers: None,
            telemetry,
        })
    }

    /// Replaces the deadlines.
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Answers a request only while it can get one of these turns, which may be shared with other listeners; any other with
    /// 503. Without them there is no cap on all requests together.
    pub fn with_requests(mut self, requests: Arc<Turns>) -> Self {
        self.requests = requests;
        self
    }

    /// Has connections served by `workers`, which may be shared with other listeners. Without them they are served by the
    /// runtime that [`Listener::serve`] is called on.
    pub fn with_workers(mut self, workers: Arc<Workers>) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The address that is listened on; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What new connections are met with. It may be replaced while they are served.
    pub fn entrance(&self) -> Arc<Entrance> {
        self.entrance.clone()
    }

    /// Accepts and serves until `shutdown` becomes true, or its sender is gone; connections beyond the cap are answered with
    /// 503 and closed. Then closes the socket and idle connections, lets answers under way end, breaks off those that take
    /// longer than [`Timeouts::drain`], and returns. Needs a tokio runtime.
    /// Dropping the future stops accepting, and breaks off its connections with the last of its workers.
    pub async fn serve(self, handler: Arc<dyn Handler>, shutdown: ShutdownWatch) {
        let socket = match TcpListener::from_std(self.socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(endpoint = %self.endpoint, %error, "the runtime does not take the listening socket");
                return self.telemetry.health.not_ready("listeners", error.to_string());
            }
        };
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        options.h2_idle_timeout = Some(self.timeouts.idle);
        let shared = Arc::new(Shared {
            endpoint: self.endpoint,
            entrance: self.entrance,
            rejections: Rejections::default(),
            timeouts: self.timeouts,
            options,
            telemetry: self.telemetry,
            handler,
            requests: self.requests,
            once: false,
        });
        let (room, refusals) = (room(self.max_connections), Refusals::new(&shared));
        let workers = self.workers.unwrap_or_else(|| Arc::new(Workers::here()));
        let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
        let mut serving = Serving { shared, room, refusals, shutdown, workers, connections, cut };
        serving.accept_all(&socket).await;
        drop(socket);
        serving.drain().await;
    }
}

fn bind(address: SocketAddr) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    // The standard library sets SO_REUSEADDR; listening once more only makes the queue longer.
    let socket = std::net::TcpListener::bind(address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn room(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)))
}

/// A listener at work.
struct Serving {
    shared: Arc<Shared>,
    /// For so many more connections.
    room: Arc<Semaphore>,
    refusals: Refusals,
    shutdown: ShutdownWatch,
    workers: Arc<Workers>,
    connections: TaskTracker,
    /// Breaks all connections off.
    cut: CancellationToken,
}

impl Serving {
    async fn accept_all(&mut self, socket: &TcpListener) {
        let mut over = self.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => return,
                (tcp, peer) = accept(&self.shared, socket) => self.take(tcp, peer),
            }
        }
    }

    fn take(&mut self, tcp: TcpStream, peer: SocketAddr) {
        // Its events are for the thread that serves it.
        let tcp = match tcp.into_std() {
            Ok(tcp) => tcp,
            Err(error) => {
                return tracing::warn!(endpoint = %self.shared.endpoint, %error, "a connection cannot be handed to its thread; it is closed");
            }
        };
        let shutdown = self.shutdown.clone();
        if let Ok(place) = self.room.clone().try_acquire_owned() {
            self.spawn(place, connection::serve(self.shared.clone(), tcp, peer, shutdown));
        } else if let Some((place, refusing)) = self.refusals.refuse(tcp, peer, shutdown) {
            self.spawn(place, refusing);
        }
    }

    fn spawn(&self, place: OwnedSemaphorePermit, connection: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        // Of its several KiB, each layer of the task would hold a copy.
        let connection = Box::pin(connection);
        let connection = async move {
            let _place = place;
            // Being broken off is one of the ways a connection ends.
            let _ = cut.run_until_cancelled(connection).await;
        };
        self.workers.spawn(&self.connections, connection);
    }

    async fn drain(self) {
        let Self { shared, connections, cut, .. } = self;
        connections.close();
        if timeout(shared.timeouts.drain, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "answers are still under way at the end of the drain; they are cut");
            cut.cancel();
            connections.wait().await;
        }
    }
}

/// The next connection. Dropping the future loses none.
async fn accept(shared: &Shared, socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                shared.telemetry.metrics.connection_refused(&shared.endpoint, "accept");
                tracing::warn!(endpoint = %shared.endpoint, %error, "cannot accept connections now; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether accept failed because a client had left already (accept(2)), and not for want of descriptors or memory.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut
    )
}
