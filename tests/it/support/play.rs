//! Playing a script to a connection: piece by piece, so that what was sent can be counted and cut to the byte.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::faults::{Cut, Length, Script, Step};

/// The most that is sent at once.
const PIECE: usize = 16 << 10;

pub(super) type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Cut>>>;

/// The answer of a script. `sent` counts its body while it goes; `wire` is the connection where it is this answer's alone.
pub(super) fn play(script: Script, sent: Arc<AtomicU64>, wire: Option<Arc<Wire>>) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = script.status;
    *response.headers_mut() = script.headers;
    let mut steps: VecDeque<_> = script.at.into();
    let honest = script.body.len() as u64;
    let length = match script.length {
        Length::Honest => Some(honest),
        Length::Absent => None,
        Length::Says(length) => Some(length),
    };
    if length.is_some_and(|length| length > honest) {
        // The connection would be closed by hyper as well, but perhaps before all is sent.
        steps.push_back((script.body.len(), Step::Cut { reset: false }));
    }
    length.into_iter().for_each(|length| drop(response.headers_mut().insert(CONTENT_LENGTH, length.into())));
    let player = Player { body: script.body, at: 0, steps, sent, wire };
    response.map(|()| StreamBody::new(unfold(Some(player), Player::next).boxed()))
}

struct Player {
    body: Bytes,
    at: usize,
    steps: VecDeque<(usize, Step)>,
    sent: Arc<AtomicU64>,
    wire: Option<Arc<Wire>>,
}

impl Player {
    async fn next(player: Option<Self>) -> Option<(Result<Frame<Bytes>, Cut>, Option<Self>)> {
        let mut player = player?;
        while player.steps.front().is_some_and(|(at, _)| *at <= player.at) {
            let step = player.steps.pop_front().map(|(_, step)| step.take());
            if let Err(cut) = step.unwrap().await {
                return Some((Err(player.cut(cut).await), None));
            }
        }
        let stop = player.steps.front().map_or(player.body.len(), |(at, _)| *at).min(player.at + PIECE).min(player.body.len());
        if stop == player.at {
            return None;
        }
        let piece = player.body.slice(player.at..stop);
        player.at = stop;
        player.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        Some((Ok(Frame::data(piece)), Some(player)))
    }

    async fn cut(&self, cut: Cut) -> Cut {
        if let Some(wire) = &self.wire {
            wire.flushed.notified().await;
            if cut.reset {
                wire.reset();
            }
        }
        cut
    }
}

/// What the two ends of a connection, answer and socket, tell each other.
#[derive(Default)]
pub(super) struct Wire {
    /// Everything so far has gone to the kernel.
    flushed: Notify,
    /// Closing is to be a reset.
    reset: AtomicBool,
}

impl Wire {
    /// Makes the close to come a reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }
}

/// A connection's socket.
pub(super) struct Socket {
    pub tcp: TcpStream,
    pub wire: Arc<Wire>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.wire.reset.load(Ordering::SeqCst) {
            self.tcp.set_zero_linger().unwrap();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    /// Called by HTTP and TLS when their own buffers are empty.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.flushed.notify_waiters();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
