//! Connections that are held rather than used: idle ones, and readers that are slow.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde::Serialize;

use crate::answer;
use crate::sink::{Buffers, Expected, Sink, nothing_there};

/// How often a slow reader reads.
const TICK: Duration = Duration::from_millis(100);
/// A slow reader's socket holds little, so that the server has to wait for it.
const RECEIVE: usize = 16 << 10;

/// Whom and what to ask, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who is asked.
    pub address: SocketAddr,
    /// The bytes that are sent.
    pub request: Vec<u8>,
    /// What is to come back.
    pub expected: Expected,
}

/// A connection that has been used once.
pub trait Idle: Send {}

impl Idle for TcpStream {}
impl Idle for StreamOwned<ClientConnection, TcpStream> {}

/// What became of slow readers.
#[derive(Debug, Default, Serialize)]
pub struct Slow {
    readers: usize,
    bytes: u64,
    /// Those whose answer was cut or wrong, or came to its end; they read no further.
    ended: usize,
    first_error: Option<String>,
}

/// A client's TLS by an authority in a PEM file. Every handshake is a whole one.
///
/// # Errors
/// The file cannot be read or is not a certificate.
pub fn tls(authority: &str) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Makes one connection after the other, asks once on each, and hands them all back open.
///
/// # Errors
/// The first that did not work.
pub fn idle(ask: &Ask, connections: usize, tls: Option<&Arc<ClientConfig>>) -> io::Result<Vec<Box<dyn Idle>>> {
    (0..connections).map(|_| one_idle(ask, tls)).collect()
}

fn one_idle(ask: &Ask, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn Idle>> {
    let mut stream = TcpStream::connect(ask.address)?;
    let Some(config) = tls else {
        exchange(&mut stream, ask)?;
        return Ok(Box::new(stream));
    };
    let name = ServerName::IpAddress(ask.address.ip().into());
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    exchange(&mut stream, ask)?;
    Ok(Box::new(stream))
}

fn exchange(stream: &mut (impl Read + Write), ask: &Ask) -> io::Result<()> {
    stream.write_all(&ask.request)?;
    let mut come = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        come.extend_from_slice(&buffer[..count]);
        let Some(head) = answer::head(&come).map_err(io::Error::other)? else { continue };
        if head.status != ask.expected.status {
            return Err(io::Error::other(format!("status {}", head.status)));
        }
        if come.len() as u64 >= head.size as u64 + head.length {
            return Ok(());
        }
    }
}

/// Readers that ask once and then read `pace` bytes a second each, until `ended` says so.
///
/// # Errors
/// Connections that cannot be made.
pub fn slow(ask: &Ask, readers: usize, pace: u64, mut ended: impl FnMut() -> bool) -> io::Result<Slow> {
    let mut sinks = Vec::with_capacity(readers);
    for _ in 0..readers {
        let mut sink = Sink::connect(ask.address, Some(RECEIVE))?;
        sink.ask(&ask.request, Instant::now())?;
        sinks.push(sink);
    }
    let share = usize::try_from(pace / 10).unwrap_or(usize::MAX).max(1);
    let mut buffers = Buffers::default();
    let mut report = Slow { readers, ..Slow::default() };
    while !ended() {
        let started = Instant::now();
        sinks.retain_mut(|sink| report.goes_on(sink.read_slowly(&mut buffers, ask.expected, share)));
        std::thread::sleep(TICK.saturating_sub(started.elapsed()));
    }
    Ok(report)
}

impl Slow {
    /// Counts what a read brought, and says whether the reader goes on.
    fn goes_on(&mut self, read: io::Result<crate::sink::Progress>) -> bool {
        match read {
            Ok(progress) => {
                self.bytes += progress.bytes;
                self.ended += usize::from(progress.complete);
                !progress.complete
            }
            Err(error) if nothing_there(&error) => true,
            Err(error) => {
                self.ended += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
                false
            }
        }
    }
}
