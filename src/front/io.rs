//! A client's socket: what requests are read from and answers written to, with the deadline on writing and the cap on request
//! heads that pingora does not have, and the ways round the session (sendfile, peeking, lingering) that need the socket as such.
//!
//! The deadline on writing is the kernel's own (`TCP_USER_TIMEOUT`): it alone sees whether the client still takes anything.
//! From here a slow client on a large send buffer looks like a dead one for as long as a third of the buffer takes to drain.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BufMut;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use rustix::net::{SendFlags, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::proxy_protocol;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read and dropped so that the last answer reaches a client that is still sending.
const MAX_LINGER: usize = 1 << 20;

/// The socket itself, shared by the [`Socket`] that the session reads and writes and by those who go round that.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    /// What may still be read; ends reading when it is used up.
    allowance: AtomicUsize,
    /// What the client began with, an [`Opening`].
    opening: AtomicU8,
    /// Whether there are bytes that the socket does not take yet.
    full: AtomicBool,
}

/// What a client began with, behind the header of the PROXY protocol if there had to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opening {
    /// Nothing in particular.
    Other,
    /// A TLS handshake.
    Tls,
    /// A header of the PROXY protocol.
    Header,
}

/// The first byte of a TLS handshake (RFC 8446 section 5.1); no HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 22;

impl Opening {
    fn of(first: &[u8]) -> Self {
        match first {
            [TLS_HANDSHAKE, ..] => Self::Tls,
            _ if proxy_protocol::is_begun(first) => Self::Header,
            _ => Self::Other,
        }
    }
}

impl Wire {
    /// Takes a connected socket. From then on it fails when its peer takes nothing of what was written for `stall`.
    pub(super) fn new(tcp: TcpStream, stall: Duration) -> Arc<Self> {
        if let Err(error) = set_options(&tcp, stall) {
            tracing::warn!(%error, "socket options could not be set; this connection goes on without deadlines of the kernel");
        }
        Arc::new(Self {
            tcp,
            allowance: AtomicUsize::new(usize::MAX),
            opening: AtomicU8::new(Opening::Other as u8),
            full: AtomicBool::new(false),
        })
    }

    /// From now on at most `bytes` are read; then reading fails.
    pub(super) fn allow(&self, bytes: usize) {
        self.allowance.store(bytes, Ordering::Relaxed);
    }

    /// Whether the allowance is used up.
    pub(super) fn is_spent(&self) -> bool {
        self.allowance.load(Ordering::Relaxed) == 0
    }

    /// What the client began with, as far as that is read.
    pub(super) fn opening(&self) -> Opening {
        match self.opening.load(Ordering::Relaxed) {
            1 => Opening::Tls,
            2 => Opening::Header,
            _ => Opening::Other,
        }
    }

    /// Whether bytes wait for the client to take those before them.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Reads up to `most` bytes onto the end of `bytes`, and says how many: none at the end. A dropped future has read none.
    pub(super) async fn read_onto(&self, bytes: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let mut read = || self.tcp.try_read_buf(&mut (&mut *bytes).limit(most));
        self.tcp.async_io(Interest::READABLE, &mut read).await
    }

    /// Waits until there is something to read, be it the end. Reads nothing; says what the first byte of it is, if it is one.
    pub(super) async fn arrival(&self) -> Option<u8> {
        let mut first = [0];
        // An error is something to read too: whoever reads next gets it.
        matches!(self.tcp.peek(&mut first).await, Ok(1)).then_some(first[0])
    }

    /// Reads what is there. Where that is less than there was room for, tokio is told that the socket is empty, as its own
    /// `poll_read` does: the next read waits for more without asking the kernel first.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            let (room, mut last) = (buffer.remaining(), None);
            let read = self.tcp.try_io(Interest::READABLE, || match self.tcp.try_read_buf(buffer)? {
                read if 0 < read && read < room => {
                    last = Some(read);
                    Err(io::ErrorKind::WouldBlock.into())
                }
                read => Ok(read),
            });
            match (read, last) {
                (_, Some(read)) => return Poll::Ready(Ok(read)),
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
                (result, None) => return Poll::Ready(result),
            }
        }
    }

    /// Holds back segments that are not full until it is set to `false`. Only a matter of speed, so a failure is no matter.
    pub(super) fn cork(&self, on: bool) {
        let _ = sockopt::set_tcp_cork(&self.tcp, on);
    }

    /// Writes all of `bytes`. A dropped future may have written a part.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.progress(|| self.tcp.try_write(bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes all of `bytes`, and leaves what does not fill a segment for the next write to go with. A dropped future may have
    /// written a part.
    pub(super) async fn write_more(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = || rustix::net::send(&self.tcp, bytes, SendFlags::MORE).map_err(io::Error::from);
            let written = self.progress(write).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Sends up to `count` bytes of `file` from `offset` on, in the kernel, and returns how many: at least one.
    pub(super) async fn send_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let send = || rustix::fs::sendfile(&self.tcp, file, Some(&mut offset.clone()), count).map_err(io::Error::from);
        match self.progress(send).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }

    async fn progress(&self, mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match self.tcp.async_io(Interest::WRITABLE, &mut write).await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Whether a close is a reset, for as long as an orderly one would make a broken body look whole. Holds for the kernel's
    /// close as well, should the process end.
    pub(super) fn reset_on_close(&self, on: bool) {
        if let Err(error) = sockopt::set_socket_linger(&self.tcp, on.then_some(Duration::ZERO)) {
            tracing::warn!(%error, "a broken answer may look whole: the connection cannot be reset");
        }
    }

    /// Ends writing, then reads and drops what the client still sends until it closes, for `limit` and 1 MiB at most. A
    /// close with unread bytes would be a reset, and that may overtake the answer (RFC 9112 section 9.6).
    pub(super) async fn linger(&self, limit: Duration) {
        let drain = async {
            let (mut buffer, mut left) = (vec![0; 4096], MAX_LINGER);
            while left > 0 && self.tcp.readable().await.is_ok() {
                match self.tcp.try_read(&mut buffer) {
                    Ok(0) => return,
                    Ok(read) => left = left.saturating_sub(read),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        };
        if self.end_writing().is_ok() {
            // Running out of time is one of the ways this ends.
            let _ = timeout(limit, drain).await;
        }
    }

    fn end_writing(&self) -> io::Result<()> {
        match rustix::net::shutdown(&self.tcp, rustix::net::Shutdown::Write) {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn spend(&self, bytes: usize) {
        let left = self.allowance.load(Ordering::Relaxed);
        if left != usize::MAX {
            self.allowance.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

fn set_options(tcp: &TcpStream, stall: Duration) -> rustix::io::Result<()> {
    sockopt::set_tcp_user_timeout(tcp, u32::try_from(stall.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_tcp_nodelay(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(tcp, 4)?;
    sockopt::set_socket_keepalive(tcp, true)
}

/// What a session holds: the socket as a stream of bytes.
#[derive(Debug)]
pub(super) struct Socket {
    wire: Arc<Wire>,
    /// Bytes that were read to see which protocol this is.
    early: Vec<u8>,
    /// The first bytes of all, as many as it takes to tell an [`Opening`].
    first: Vec<u8>,
}

impl Socket {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self { wire, early: Vec::new(), first: Vec::with_capacity(proxy_protocol::SIGNATURE) }
    }

    fn note_opening(&mut self, read: &[u8]) {
        let missing = proxy_protocol::SIGNATURE - self.first.len();
        if missing > 0 {
            self.first.extend_from_slice(&read[..read.len().min(missing)]);
            self.wire.opening.store(Opening::of(&self.first) as u8, Ordering::Relaxed);
        }
    }

    fn poll_progress(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let room = self.wire.tcp.poll_write_ready(cx);
            self.wire.full.store(room.is_pending(), Ordering::Relaxed);
            ready!(room)?;
            match write(&self.wire.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early[..length]);
            this.early.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if this.wire.is_spent() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request's head is too large")));
        }
        let before = buffer.filled().len();
        let result = ready!(this.wire.poll_read(cx, buffer));
        this.note_opening(&buffer.filled()[before..]);
        Poll::Ready(result.map(|read| this.wire.spend(read)))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_progress(cx, |tcp| tcp.try_write(bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_progress(cx, |tcp| tcp.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.wire.end_writing())
    }
}

#[async_trait]
impl Peek for Socket {
    /// Looks for the HTTP/2 preface and stops at the first byte that does not belong to it. Waits for ever on a silent
    /// client: the deadline for the first request is the connection's.
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut length = 0;
        while length < buffer.len() && PREFACE.starts_with(&buffer[..length]) {
            match self.read(&mut buffer[length..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        self.early = buffer[..length].to_vec();
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "the connection could not be closed in order");
        }
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        std::os::fd::AsRawFd::as_raw_fd(&self.wire.tcp)
    }
}

impl Ssl for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
