//! One connection's requests: reading heads, asking the handler, answering, and deciding whether the connection goes on.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use http::header::USER_AGENT;
use http::{HeaderValue, Method};
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::protocols::http::{ReusableHttpStream, ServerSession};
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error as PingoraError, ErrorType};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::connection::{Shared, parting};
use super::exchange::{ByPingora, Exchange};
use super::io::{Opening, Wire};
use super::write::Writer;
use super::{Answer, Cut, Fault, FaultKind, Request, head};
use crate::oci::ErrorCode;
use crate::request::Caller;
use crate::telemetry::Outcome;

/// An established connection. pingora calls it for each request of HTTP/2, side by side, and for others as it is asked to.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) caller: Arc<Caller>,
    /// Why no request is answered on it.
    refused: Option<Fault>,
    pub(super) wire: Arc<Wire>,
    /// When it was established.
    pub(super) opened: Instant,
    /// Cancelled when the first request has come.
    pub(super) begun: CancellationToken,
    /// Whether the client was answered without having been read to the end.
    pub(super) unread: AtomicBool,
    /// How many requests that pingora carries are under way.
    pub(super) requests: watch::Sender<usize>,
}

/// Counts a request as under way until it is dropped.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    fn new(requests: &'a watch::Sender<usize>) -> Self {
        requests.send_modify(|requests| *requests += 1);
        Self(requests)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}

#[async_trait]
impl HttpServerApp for Connection {
    /// Serves one request. `None` closes the connection (HTTP/2: changes nothing but this stream).
    async fn process_new_http(self: &Arc<Self>, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let (stream, settings) = self.serve_one(session, 0, shutdown).await?;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.shared.options)
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        // A larger list is refused by the protocol layer itself. It counts 32 bytes more for each field than we do.
        let list = head::MAX_HEAD.saturating_add(32 * 100);
        options.max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX));
        Some(options)
    }
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, caller: Caller, refused: Option<Fault>, wire: Arc<Wire>) -> Self {
        Self {
            shared,
            caller: Arc::new(caller),
            refused,
            wire,
            opened: Instant::now(),
            begun: CancellationToken::new(),
            unread: AtomicBool::new(false),
            requests: watch::Sender::new(0),
        }
    }

    /// Serves one request that pingora reads; `ahead`: so many bytes of it the session has already. Gives the connection back
    /// where it can be used again.
    pub(super) async fn serve_one(
        &self,
        mut session: ServerSession,
        ahead: usize,
        shutdown: &ShutdownWatch,
    ) -> Option<(ReusableHttpStream, HttpPersistentSettings)> {
        let head = self.read_head(&mut session, ahead, shutdown).await?;
        let _under_way = UnderWay::new(&self.requests);
        self.begun.cancel();
        session.set_pipelining_enabled(true);
        let (mut outcome, mut client, admitted) = self.open(&mut session, head);
        let head_only = outcome.method == Method::HEAD.as_str();
        let turn = self.shared.requests.take();
        let mut exchange = ByPingora::new(&mut session, &mut client, &self.wire);
        let answer = self.answer(&mut exchange, admitted, turn.is_some(), &mut outcome).await?;
        if !client.finish_body(&mut session, self.shared.timeouts.body).await {
            self.end_after_answer(&mut session);
        } else if self.is_last(shutdown) {
            session.set_keepalive(None);
        }
        session.set_write_timeout(session.is_http2().then_some(self.shared.timeouts.stall));
        let mut exchange = ByPingora::new(&mut session, &mut client, &self.wire);
        match Writer::new(&mut exchange, &self.wire, &mut outcome).send(answer, head_only).await {
            Ok(()) => finish(session, &mut outcome).await,
            Err(cut) => {
                self.cut(session, cut, &mut outcome).await;
                None
            }
        }
    }

    /// Whether the connection ends with the answer to the request under way, whatever the client wants.
    pub(super) fn is_last(&self, shutdown: &ShutdownWatch) -> bool {
        self.shared.once || self.refused.is_some() || *shutdown.borrow()
    }

    /// Reads the next head: any time within the idle limit for its first byte, then one deadline for all of it. `None`: none
    /// came, and there is nobody to tell.
    async fn read_head(&self, session: &mut ServerSession, ahead: usize, shutdown: &ShutdownWatch) -> Option<Result<(), Fault>> {
        if session.is_http2() {
            return Some(Ok(()));
        }
        let limits = &self.shared.timeouts;
        self.wire.allow(head::MAX_HEAD.saturating_sub(ahead));
        let read = {
            let mut read = pin!(session.read_request());
            let early = tokio::select! {
                biased;
                () = std::future::ready(()), if ahead > 0 => None,
                _ = self.wire.arrival() => None,
                read = &mut read => Some(read),
                () = sleep(limits.idle) => return None,
                () = parting(shutdown) => return None,
            };
            match early {
                Some(read) => read,
                None => timeout(limits.head, read).await.ok()?,
            }
        };
        let spent = self.wire.is_spent();
        self.wire.allow(usize::MAX);
        match read {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(_) if self.wire.opening() == Opening::Header => {
                self.shared.reject(&self.caller, &self.shared.entrance.unwanted(self.caller.peer));
                None
            }
            Err(error) => {
                let fault = unreadable(&error, spent, self.wire.opening() == Opening::Tls)?;
                self.end_after_answer(session);
                Some(Err(fault))
            }
        }
    }

    /// Opens the request's story and decides whether it is let in.
    fn open(&self, session: &mut ServerSession, head: Result<(), Fault>) -> (Outcome, Client, Result<Request, Fault>) {
        if let Err(fault) = head {
            return (self.story("-", "-", None), Client::unknown(), Err(fault));
        }
        let client = Client::of(session);
        let head = session.req_header();
        let target = String::from_utf8_lossy(head.raw_path());
        let outcome = self.story(head.method.as_str(), &target, head.headers.get(USER_AGENT));
        (outcome, client, self.unless_refused(head::admit(head, self.caller.clone())))
    }

    /// What was admitted, where anything is on this connection.
    pub(super) fn unless_refused(&self, admitted: Result<Request, Fault>) -> Result<Request, Fault> {
        self.refused.clone().map_or(admitted, Err)
    }

    /// Opens the story of a request.
    pub(super) fn story(&self, method: &str, target: &str, agent: Option<&HeaderValue>) -> Outcome {
        let mut outcome = Outcome::open(&self.shared.telemetry, method, target);
        outcome.caller(self.caller.clone(), agent.and_then(|agent| agent.to_str().ok()));
        outcome
    }

    /// What the request is answered with. `has_turn`: there is room for one more request. `None` where the client left first.
    pub(super) async fn answer(
        &self,
        exchange: &mut impl Exchange,
        admitted: Result<Request, Fault>,
        has_turn: bool,
        outcome: &mut Outcome,
    ) -> Option<Answer> {
        match admitted.and_then(|request| has_turn.then_some(request).ok_or_else(busy)) {
            Ok(request) => self.ask(exchange, &request, outcome).await,
            Err(fault) => Some(Answer::fault(fault)),
        }
    }

    /// Asks the handler while watching the client; where that leaves first, the handler's future is dropped.
    async fn ask(&self, exchange: &mut impl Exchange, request: &Request, outcome: &mut Outcome) -> Option<Answer> {
        let answer = tokio::select! {
            biased;
            answer = AssertUnwindSafe(self.shared.handler.answer(request, outcome)).catch_unwind() => Some(answer),
            () = exchange.left() => None,
        };
        match answer {
            Some(Ok(answer)) => Some(answer),
            Some(Err(panic)) => {
                outcome.reason = Some(panic_text(panic.as_ref()));
                let message = format!("this proxy failed; its log says more under {}", outcome.id);
                Some(Answer::fault(Fault::new(FaultKind::Internal, ErrorCode::Unknown, message)))
            }
            None => {
                outcome.reason = Some("the client left before it was answered".to_owned());
                None
            }
        }
    }

    /// Lets the connection end with this answer, and linger for the rest of what the client sends.
    fn end_after_answer(&self, session: &mut ServerSession) {
        session.set_keepalive(None);
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Breaks the answer off so that the client cannot take it for whole: HTTP/2 by a reset of the stream, HTTP/1.1 by a
    /// close before the announced length or the last chunk, HTTP/1.0 by the reset that the writer has arranged for.
    async fn cut(&self, mut session: ServerSession, cut: Cut, outcome: &mut Outcome) {
        outcome.reason = Some(cut.0);
        if session.is_http2() {
            session.shutdown().await;
        } else {
            // Lingering begins with an orderly end.
            self.unread.store(false, Ordering::Relaxed);
        }
    }
}

fn busy() -> Fault {
    Fault::overloaded("as many requests as this proxy allows are being answered; try again")
}

/// Ends the answer, and gives the connection back where it can be used again.
async fn finish(session: ServerSession, outcome: &mut Outcome) -> Option<(ReusableHttpStream, HttpPersistentSettings)> {
    let settings = HttpPersistentSettings::for_session(&session);
    match session.finish().await {
        Ok(stream) => stream.map(|stream| (stream, settings)),
        Err(error) => {
            outcome.reason = Some(format!("the answer could not be ended: {error}"));
            None
        }
    }
}

/// What to say to a client whose head could not be read; `None` where it is gone.
fn unreadable(error: &PingoraError, spent: bool, speaks_tls: bool) -> Option<Fault> {
    match error.etype() {
        _ if speaks_tls => Some(head::not_http()),
        _ if spent => Some(head::too_large()),
        ErrorType::InvalidHTTPHeader => Some(head::malformed()),
        _ => None,
    }
}

/// Notes a panic of code behind the front door, and puts it into words for the log.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("panic: {}", text.unwrap_or("without a message"));
    tracing::error!(text, "a request's handler panicked; the request failed and the proxy goes on");
    text
}
