//! One connection from accept to close: set-up under a deadline, the wait for a first request, the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};

use super::entrance::Entrance;
use super::io::{self, Wire};
use super::rejection::{Rejection, Rejections};
use super::session::Connection;
use super::{Handler, Timeouts, Turns, http1};
use crate::request::Caller;
use crate::telemetry::Telemetry;

/// How long a silent connection is kept after shutdown began: a request may be on its way.
const PARTING: Duration = Duration::from_millis(250);
/// How long one without a request is kept after that, if its client does not end it as it is asked to by HTTP/2.
const DESERTED: Duration = Duration::from_secs(2);

/// What all connections of a listener have in common.
pub(super) struct Shared {
    pub(super) endpoint: Arc<str>,
    pub(super) entrance: Arc<Entrance>,
    pub(super) rejections: Rejections,
    pub(super) timeouts: Timeouts,
    pub(super) options: HttpServerOptions,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) handler: Arc<dyn Handler>,
    /// One for each request under way.
    pub(super) requests: Arc<Turns>,
    /// Whether a connection ends with its first answer.
    pub(super) once: bool,
}

impl Shared {
    /// Notes that the connection of `caller` ends before its first request.
    pub(super) fn reject(&self, caller: &Caller, rejection: &Rejection) {
        self.rejections.note(&self.telemetry, caller, rejection);
    }
}

/// Counts the connection as open until it is dropped.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.telemetry.metrics.connected(&shared.endpoint);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.telemetry.metrics.disconnected(&self.0.endpoint);
    }
}

/// Serves one connection until either side ends it, on the runtime that polls this first. Dropping the future breaks it off.
pub(super) async fn serve(shared: Arc<Shared>, tcp: std::net::TcpStream, peer: SocketAddr, shutdown: ShutdownWatch) {
    let _open = Open::new(&shared);
    let tcp = match TcpStream::from_std(tcp) {
        Ok(tcp) => tcp,
        Err(error) => {
            return tracing::warn!(endpoint = %shared.endpoint, %error, "a connection cannot be watched for its events; it is closed");
        }
    };
    let wire = Wire::new(tcp, shared.timeouts.stall);
    let mut caller = Caller::direct(shared.endpoint.clone(), peer);
    let set_up = tokio::select! {
        stream = set_up(&shared, &wire, &mut caller) => stream,
        () = parting(&shutdown) => None,
    };
    let Some(stream) = set_up else { return };
    let (_place, refused) = match shared.handler.connected(&caller) {
        Ok(place) => (Some(place), None),
        Err(fault) => (None, Some(fault)),
    };
    let connection = Arc::new(Connection::new(shared.clone(), caller, refused, wire));
    serve_requests(&connection, stream, &shutdown).await;
    if connection.unread.load(Ordering::Relaxed) {
        connection.wire.linger(shared.timeouts.linger).await;
    }
}

/// The requests, by whoever can serve them: those of HTTP/1.1 the short way where they are ordinary, and one by one by
/// pingora where they are not; HTTP/2 and what may be its preface all by pingora.
pub(super) async fn serve_requests(connection: &Arc<Connection>, stream: Stream, shutdown: &ShutdownWatch) {
    let is_http2 = match stream.get_ssl_digest() {
        Some(_) => matches!(stream.selected_alpn_proto(), Some(ALPN::H2)),
        None => tokio::select! {
            first = connection.wire.arrival() => first == Some(io::PREFACE[0]),
            () = silence(connection, shutdown) => return,
        },
    };
    if is_http2 {
        watched(connection, shutdown, connection.process_new(stream, shutdown)).await;
        return;
    }
    let mut next = (stream, BytesMut::new());
    while let Some((stream, ahead)) = http1::serve(connection, next.0, next.1, shutdown).await {
        // Of its several KiB an idle connection has no need.
        let Some(reused) = Box::pin(serve_odd(connection, stream, ahead, shutdown)).await else { return };
        next = reused;
    }
}

/// Has pingora serve the request that begins with what was read `ahead`; gives the connection back where it goes on, with
/// what was read behind that request.
async fn serve_odd(
    connection: &Connection,
    stream: Stream,
    ahead: BytesMut,
    shutdown: &ShutdownWatch,
) -> Option<(Stream, BytesMut)> {
    let mut session = ServerSession::new_http1(stream);
    // The deadlines are ours.
    session.set_keepalive(Some(0));
    let begun = ahead.len();
    session.set_pipelined_prefix(ahead);
    let (reused, _) = watched(connection, shutdown, connection.serve_one(session, begun, shutdown)).await??;
    let (stream, ahead) = reused.into_parts();
    Some((stream, ahead.unwrap_or_default()))
}

/// What pingora serves, watched for deadlines that it does not have; nothing where one has passed.
async fn watched<T>(connection: &Connection, shutdown: &ShutdownWatch, serving: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        // First, because the deadline for a head ends in the same moment and tells nobody.
        () = silence(connection, shutdown) => None,
        served = serving => Some(served),
        () = desertion(connection, shutdown) => None,
    }
}

/// What comes before HTTP: the header of the PROXY protocol, then TLS.
async fn set_up(shared: &Shared, wire: &Arc<Wire>, caller: &mut Caller) -> Option<Stream> {
    let rejection = match shared.entrance.admit(wire, caller, &shared.timeouts).await {
        Ok(stream) => return Some(stream),
        Err(rejection) => rejection,
    };
    shared.reject(caller, &rejection);
    if rejection.is_told() {
        wire.linger(shared.timeouts.linger).await;
    }
    None
}

/// Completes when no first request has come in time, whatever the protocol: neither the wait for a preface nor that for the
/// first stream of HTTP/2 has a deadline of its own.
pub(super) async fn silence(connection: &Connection, shutdown: &ShutdownWatch) {
    let shared = &connection.shared;
    tokio::select! {
        () = connection.begun.cancelled() => std::future::pending().await,
        () = sleep_until(connection.opened + shared.timeouts.head) => shared.reject(&connection.caller, &Rejection::NoRequest),
        () = parting(shutdown) => {}
    }
}

/// Completes when shutdown began, and since then no request came and nothing was left to be sent for a while: a client need
/// not heed the GOAWAY of HTTP/2, nor be there any more.
pub(super) async fn desertion(connection: &Connection, shutdown: &ShutdownWatch) {
    parting(shutdown).await;
    let mut requests = connection.requests.subscribe();
    loop {
        let idle = async {
            // The connection outlives its watchers, so there is always somebody to tell.
            let _ = requests.wait_for(|requests| *requests == 0).await;
            timeout(DESERTED, requests.wait_for(|requests| *requests > 0)).await.is_err()
        };
        if idle.await && !connection.wire.is_full() {
            return;
        }
    }
}

/// Completes a moment after shutdown began, or when nobody is left who could begin it.
pub(super) async fn parting(shutdown: &ShutdownWatch) {
    // The error says that the sender is gone, which comes to the same.
    let _ = shutdown.clone().wait_for(|over| *over).await;
    sleep(PARTING).await;
}
