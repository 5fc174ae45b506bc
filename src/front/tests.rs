//! The front door from outside: real sockets on port 0, and clients that behave well or not.

mod bodies;
mod certificates;
mod http1;
mod http2;
mod lifecycle;
mod limits;
mod ordinary;
mod overload;
mod senders;

use std::collections::VecDeque;
use std::future::{Future, ready};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora_core::apps::HttpServerOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::Shared;
use super::io::Wire;
use super::session::Connection;
use super::*;
use crate::config;
use crate::oci::{ErrorCode, Span};
use crate::request::Caller;
use crate::telemetry::{AccessLog, Telemetry};

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A handler made of a function.
struct By<F>(F);

#[async_trait::async_trait]
impl<F: Fn(Request) -> Answering + Send + Sync + 'static> Handler for By<F> {
    async fn answer(&self, request: &Request, _: &mut Outcome) -> Answer {
        (self.0)(request.clone()).await
    }
}

/// A running listener.
struct Front {
    address: SocketAddr,
    entrance: Arc<Entrance>,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<()>,
    telemetry: Arc<Telemetry>,
    log: Arc<std::sync::Mutex<Vec<String>>>,
}

/// What can differ between the listeners of tests.
struct Setup {
    tls: Option<config::ListenerTls>,
    /// The networks of those who send PROXY protocol headers.
    senders: Option<&'static str>,
    max_connections: usize,
    max_requests: usize,
    timeouts: Timeouts,
}

impl Default for Setup {
    fn default() -> Self {
        Self { tls: None, senders: None, max_connections: 100, max_requests: 100, timeouts: Timeouts::default() }
    }
}

impl Setup {
    fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.timeouts);
        setup
    }

    fn start(self, handler: impl Fn(Request) -> Answering + Send + Sync + 'static) -> Front {
        let (log, lines) = AccessLog::memory();
        let telemetry = Telemetry::new(log);
        let config = listener_config(self.tls, self.senders, self.max_connections);
        let listener = Listener::bind(&config, telemetry.clone()).unwrap().with_timeouts(self.timeouts);
        let listener = listener.with_requests(Arc::new(Turns::new(self.max_requests)));
        let (shutdown, watch) = watch::channel(false);
        let (address, entrance) = (listener.address(), listener.entrance());
        let serving = tokio::spawn(listener.serve(Arc::new(By(handler)), watch));
        Front { address, entrance, shutdown, serving, telemetry, log: lines }
    }
}

fn listener_config(tls: Option<config::ListenerTls>, senders: Option<&str>, max_connections: usize) -> config::Listener {
    let proxy_protocol = senders.map(|network| config::ProxyProtocol { from: vec![network.parse().unwrap()] });
    let plain = config::Listener::plain("nodes", ([127, 0, 0, 1], 0).into(), max_connections);
    config::Listener { tls, proxy_protocol, ..plain }
}

impl Front {
    /// A listener with the usual deadlines whose handler answers at once.
    fn start(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        Setup::default().start(at_once(answer))
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_and_send(&self, request: impl AsRef<[u8]>) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        stream
    }

    /// Sends `request`, and reads until the listener closes.
    async fn until_close(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect_and_send(request).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn metrics(&self) -> String {
        self.telemetry.metrics.render(&self.telemetry.health)
    }

    /// Whether so many connections were refused for this reason.
    fn refused(&self, reason: &str, count: u32) -> bool {
        self.metrics().contains(&format!("roadstead_refused_connections_total{{endpoint=\"nodes\",reason=\"{reason}\"}} {count}\n"))
    }

    /// The access log, once it has `lines` lines.
    async fn logged(&self, lines: usize) -> String {
        within(async {
            while self.log.lock().unwrap().len() < lines {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.log.lock().unwrap().join("\n")
    }
}

fn at_once(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> impl Fn(Request) -> Answering + Send + Sync + 'static {
    move |request| Box::pin(ready(answer(request)))
}

/// Fails a test that would otherwise hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("took longer than 20 s")
}

fn hello() -> Answer {
    Answer::new(Reply::Ok).body(Body::Bytes(Bytes::from_static(b"hello")), None)
}

fn refusal() -> Answer {
    Answer::fault(Fault::new(FaultKind::MethodNotAllowed { allow: "GET, HEAD" }, ErrorCode::Unsupported, "read only"))
}

/// A body made beforehand.
struct Pieces(VecDeque<Result<Chunk, Cut>>);

#[async_trait::async_trait]
impl ChunkStream for Pieces {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        self.0.pop_front()
    }
}

fn pieces(pieces: impl IntoIterator<Item = Result<Chunk, Cut>>) -> Body {
    Body::Stream(Box::new(Pieces(pieces.into_iter().collect())))
}

fn bytes(bytes: &'static [u8]) -> Result<Chunk, Cut> {
    Ok(Chunk::Bytes(Bytes::from_static(bytes)))
}

fn cut() -> Result<Chunk, Cut> {
    Err(Cut("the digest is wrong".to_owned()))
}

/// A body that comes as the test sends it.
struct Fed(mpsc::Receiver<Result<Chunk, Cut>>);

#[async_trait::async_trait]
impl ChunkStream for Fed {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        self.0.recv().await
    }
}

/// A file of `length` bytes that differ from place to place, and those bytes.
fn stored(length: usize) -> (Arc<std::fs::File>, Vec<u8>) {
    let content: Vec<u8> = (0..length).map(|i| ((i * 31) ^ (i >> 9)).to_le_bytes()[0]).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    (Arc::new(file), content)
}

fn part(file: &Arc<std::fs::File>, start: u64, end: u64) -> Result<Chunk, Cut> {
    Ok(Chunk::File { file: file.clone(), span: Span::new(start, end) })
}

/// Reads the head of an answer, with its last empty line.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    within(async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head of an answer"));
        }
    })
    .await;
    String::from_utf8(head).unwrap()
}

/// Reads a whole answer with a length.
async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, Vec<u8>) {
    let head = read_head(stream).await;
    let length = field(&head, "content-length").expect("a length").parse().unwrap();
    let mut body = vec![0; length];
    within(stream.read_exact(&mut body)).await.unwrap();
    (head, body)
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: mirror\r\n\r\n")
}

/// What the connections of a plain listener without a cap on requests have in common.
fn shared(handler: impl Handler) -> Shared {
    Shared {
        endpoint: "nodes".into(),
        entrance: Entrance::new(Terms::read(&listener_config(None, None, 100)).unwrap()),
        rejections: Default::default(),
        timeouts: Timeouts::default(),
        options: HttpServerOptions::default(),
        telemetry: Telemetry::quiet(),
        handler: Arc::new(handler),
        requests: Arc::new(Turns::new(100)),
        once: false,
    }
}

/// A connection whose own socket is not the one that is talked over.
async fn connection(handler: impl Handler) -> Arc<Connection> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let caller = Caller::direct("nodes".into(), (std::net::Ipv4Addr::LOCALHOST, 4000).into());
    Arc::new(Connection::new(Arc::new(shared(handler)), caller, None, Wire::new(tcp, Duration::from_secs(60))))
}

/// A certificate for `localhost` in files, and what a client needs to trust it.
fn certificate() -> (tempfile::TempDir, config::ListenerTls, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let pair =
        config::KeyPair { certificate: file("tls.crt", made.cert.pem()), key: file("tls.key", made.signing_key.serialize_pem()) };
    let tls = config::ListenerTls { certificates: vec![pair], clients: None };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (folder, tls, roots)
}

/// A listener with TLS, and a client's connection to it that offers `protocol`.
async fn over_tls(answer: impl Fn(Request) -> Answering + Send + Sync + 'static, protocol: &[u8]) -> (Front, TlsStream<TcpStream>) {
    let (_folder, tls, roots) = certificate();
    let front = Setup { tls: Some(tls), ..Setup::default() }.start(answer);
    let stream = tls_client(front.connect().await, roots, protocol).await;
    (front, stream)
}

async fn tls_client<S: AsyncRead + AsyncWrite + Unpin>(stream: S, roots: rustls::RootCertStore, protocol: &[u8]) -> TlsStream<S> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}
