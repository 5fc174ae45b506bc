//! HTTP/1.1 the short way: entirely ordinary requests, served without pingora's session, which costs several times as much
//! as everything else that such a request needs.
//!
//! Ordinary is what one read brings whole and what every client of registries sends: see [`Ordinary::read`]. Whatever else
//! comes is left to pingora, which then has all bytes of it and judges it as if there were no short way; afterwards the
//! connection comes back here. So there is no answer to a malformed, incomplete or odd request in this folder.

mod ahead;
mod carried;
mod format;
mod ordinary;
#[cfg(any(test, fuzzing))]
pub(super) mod seen;

use std::pin::pin;

use bytes::BytesMut;
use http::Method;
use http::header::USER_AGENT;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tokio::time::{Instant, sleep};

use super::connection::{parting, silence};
use super::session::Connection;
use super::write::Writer;
use carried::Carried;
use ordinary::Ordinary;

/// Serves the requests of a connection until it ends, or until one is begun that is not ordinary: then gives back the
/// connection and what was read of that request, which is not nothing. Dropping the future breaks the connection off.
pub(super) async fn serve(
    connection: &Connection,
    stream: Stream,
    ahead: BytesMut,
    shutdown: &ShutdownWatch,
) -> Option<(Stream, BytesMut)> {
    let mut carried = Carried::new(stream, connection.wire.clone(), ahead);
    let mut begun = connection.begun.is_cancelled();
    // Both for as long as the connection lasts: to make them for each request would cost more than reading it.
    let mut idle = pin!(sleep(connection.shared.timeouts.idle));
    let mut parting = pin!(parting(shutdown));
    loop {
        if carried.is_empty() {
            idle.as_mut().reset(Instant::now() + connection.shared.timeouts.idle);
            let read = tokio::select! {
                biased;
                read = carried.fill() => read,
                () = silence(connection, shutdown), if !begun => return None,
                () = &mut idle, if begun => return None,
                () = &mut parting, if begun => return None,
            };
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
        let Some(request) = carried.next_request() else { return Some(carried.into_parts()) };
        if !begun {
            connection.begun.cancel();
            begun = true;
        }
        if !answered(connection, &mut carried, request, shutdown).await {
            return None;
        }
    }
}

/// Answers one request; says whether the connection goes on.
async fn answered(connection: &Connection, carried: &mut Carried, request: Ordinary, shutdown: &ShutdownWatch) -> bool {
    let mut outcome = connection.story(request.method.as_str(), request.target(), request.headers.get(USER_AGENT));
    let (head_only, wants_more) = (request.method == Method::HEAD, request.keeps_alive);
    let turn = connection.shared.requests.take();
    let admitted = connection.unless_refused(Ok(request.admit(connection.caller.clone())));
    let Some(answer) = connection.answer(carried, admitted, turn.is_some(), &mut outcome).await else { return false };
    let goes_on = wants_more && !connection.is_last(shutdown);
    carried.keep_alive(goes_on);
    let written = match Writer::new(carried, &connection.wire, &mut outcome).send(answer, head_only).await {
        Ok(()) => carried.finish().await,
        Err(cut) => {
            // What was kept still goes out; whether it arrives makes no difference to the answer, which is cut.
            let _ = carried.flush().await;
            Err(cut)
        }
    };
    if let Err(cut) = written {
        outcome.reason = Some(cut.0);
        return false;
    }
    goes_on
}
