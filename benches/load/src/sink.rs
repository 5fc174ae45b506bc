//! A connection whose answers go nowhere: the kernel drops them, so that the client costs next to nothing.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, connect, recv, send, socket, sockopt};

use crate::answer::{self, Head};

/// The most that one call drops. TCP drops as much as the buffer named could hold, without touching it.
const DROP: usize = 4 << 20;
const HEAD: usize = 16 << 10;

/// Where bytes are read to. One serves all connections of a thread.
#[derive(Debug)]
pub struct Buffers {
    head: Vec<u8>,
    /// Never written to: no page of it is ever there.
    drop: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { head: vec![0; HEAD], drop: vec![0; DROP] }
    }
}

/// What a request is to be answered with.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The status.
    pub status: u16,
    /// The length, where it is known.
    pub length: Option<u64>,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes, heads included.
    pub bytes: u64,
    /// Whether the first byte of the body came with them.
    pub first: bool,
    /// Whether the answer is complete.
    pub complete: bool,
}

/// A connection, and the answer that comes over it.
#[derive(Debug)]
pub struct Sink {
    stream: TcpStream,
    /// When the request was, or should have been, sent.
    pub since: Instant,
    /// The part of a head that has come.
    partial: Vec<u8>,
    /// What is missing of the body, once the head is there.
    left: Option<u64>,
    body: bool,
}

impl Sink {
    /// Connects. `receive` limits the socket's buffer, in bytes.
    ///
    /// # Errors
    /// The connection's.
    pub fn connect(address: SocketAddr, receive: Option<usize>) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None)?;
        if let Some(bytes) = receive {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        connect(&socket, &address)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, since: Instant::now(), partial: Vec::new(), left: None, body: false })
    }

    /// Sends a request, for which there is always room: the one before has been answered.
    ///
    /// # Errors
    /// The connection's.
    pub fn ask(&mut self, request: &[u8], since: Instant) -> io::Result<()> {
        self.since = since;
        self.left = None;
        self.body = false;
        let sent = send(&self.stream, request, SendFlags::NOSIGNAL)?;
        if sent == request.len() { Ok(()) } else { Err(io::Error::other("a request was sent in part")) }
    }

    /// Reads once what is there, without waiting.
    ///
    /// # Errors
    /// The connection's; an end before the answer's; an answer that is not as expected.
    pub fn read(&mut self, buffers: &mut Buffers, expected: Expected) -> io::Result<Progress> {
        match self.left {
            None => self.read_head(&mut buffers.head, expected),
            Some(left) => self.drop(left, &mut buffers.drop, DROP),
        }
    }

    /// Drops at most `most` bytes of what is there.
    ///
    /// # Errors
    /// As [`Sink::read`].
    pub fn read_slowly(&mut self, buffers: &mut Buffers, expected: Expected, most: usize) -> io::Result<Progress> {
        match self.left {
            None => self.read_head(&mut buffers.head[..most.clamp(1, HEAD)], expected),
            Some(left) => self.drop(left, &mut buffers.drop, most),
        }
    }

    fn drop(&mut self, left: u64, buffer: &mut [u8], most: usize) -> io::Result<Progress> {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len()).min(most);
        let (_, count) = recv(&self.stream, &mut buffer[..want], RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
        let count = count as u64;
        if count == 0 {
            return Err(io::Error::other(format!("the answer ended {left} bytes early")));
        }
        let left = left.checked_sub(count).ok_or_else(|| io::Error::other("more was dropped than asked for"))?;
        self.left = Some(left);
        let first = !self.body;
        self.body = true;
        Ok(Progress { bytes: count, first, complete: left == 0 })
    }

    fn read_head(&mut self, buffer: &mut [u8], expected: Expected) -> io::Result<Progress> {
        let (_, count) = recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT)?;
        if count == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let come = &buffer[..count];
        let found = if self.partial.is_empty() { answer::head(come) } else { self.join(come) };
        let Some(head) = found.map_err(io::Error::other)? else {
            if self.partial.is_empty() {
                self.partial.extend_from_slice(come);
            }
            return Ok(Progress { bytes: count as u64, ..Progress::default() });
        };
        let come = (self.partial.len().max(count) - head.size) as u64;
        self.partial.clear();
        check(head, expected)?;
        let left = head.length.checked_sub(come).ok_or_else(|| io::Error::other("the answer is longer than it said"))?;
        self.left = Some(left);
        self.body = come > 0;
        Ok(Progress { bytes: count as u64, first: self.body, complete: left == 0 })
    }

    /// Adds to the part of a head that came before.
    fn join(&mut self, come: &[u8]) -> Result<Option<Head>, String> {
        self.partial.extend_from_slice(come);
        answer::head(&self.partial)
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn check(head: Head, expected: Expected) -> io::Result<()> {
    if head.status != expected.status {
        return Err(io::Error::other(format!("status {} instead of {}", head.status, expected.status)));
    }
    match expected.length {
        Some(length) if length != head.length => Err(io::Error::other(format!("{} bytes instead of {length}", head.length))),
        _ => Ok(()),
    }
}

/// Whether nothing was there to read.
#[must_use]
pub fn nothing_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// How long from `since` until `now`; nothing if the clock has not moved.
#[must_use]
pub fn passed(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}
