//! Clients that see every byte, and how an answer ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// How an answer, or a connection, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Well-formed, as far as a client can tell.
    Whole,
    /// The connection closed in the middle.
    Closed,
    /// The connection (or HTTP/2 stream) was reset, or the answer broke the protocol.
    Reset,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub end: End,
}

impl Reply {
    /// Whether a client would take the answer as whole.
    pub fn complete(&self) -> bool {
        self.end == End::Whole
    }

    /// A header's first value as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: HeaderMap,
}

pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// GET over a connection of its own.
pub async fn get(address: SocketAddr, path: &str, headers: Headers<'_>) -> Reply {
    Client::connect(address).await.ask("GET", path, headers).await
}

pub async fn head(address: SocketAddr, path: &str, headers: Headers<'_>) -> Reply {
    Client::connect(address).await.ask("HEAD", path, headers).await
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<impl Stream + use<>> {
    let tcp = TcpStream::connect(address).await?;
    let name = name.to_owned().try_into().unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await
}

/// One HTTP/1.1 connection.
pub struct Client {
    stream: Box<dyn Stream>,
    host: String,
    buffer: BytesMut,
    bodiless: bool,
    framing: Framing,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(u64),
    /// So much is left of a chunk.
    Chunk(u64),
    /// A chunk's size comes next.
    Chunked,
    UntilClose,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.unwrap()
    }

    /// # Errors
    /// When nobody takes the connection.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(TcpStream::connect(address).await?, address.to_string()))
    }

    /// # Errors
    /// When the handshake fails; which of the two sides minds may show only in the first answer (TLS 1.3).
    pub async fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        Ok(Self::over(tls(address, name, config).await?, name.to_owned()))
    }

    fn over(stream: impl Stream + 'static, host: String) -> Self {
        Self { stream: Box::new(stream), host, buffer: BytesMut::new(), bodiless: false, framing: Framing::Length(0) }
    }

    /// Says another `Host` from now on.
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sends bytes as they are. That the other side has closed shows when reading.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.bodiless = bytes.as_ref().starts_with(b"HEAD ");
        within(self.stream.write_all(bytes.as_ref())).await.and(self.stream.flush().await).ok();
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: Headers<'_>) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", self.host)).await;
    }

    /// Sends a request and reads the answer to its end.
    pub async fn ask(&mut self, method: &str, path: &str, headers: Headers<'_>) -> Reply {
        self.request(method, path, headers).await;
        self.reply().await
    }

    /// Reads an answer to its end. Panics where there is no head.
    pub async fn reply(&mut self) -> Reply {
        let head = self.head().await.expect("an answer's head");
        let (body, end) = self.rest().await;
        Reply { status: head.status, headers: head.headers, body, end }
    }

    /// The head of the next final answer.
    ///
    /// # Errors
    /// How the connection ended, where it did before.
    pub async fn head(&mut self) -> Result<Head, End> {
        let lines = loop {
            let lines = self.lines().await?;
            if !lines.starts_with("HTTP/1.1 100 ") {
                break lines;
            }
        };
        let (first, rest) = lines.split_once("\r\n").unwrap();
        let fields = rest.lines().filter_map(|line| line.split_once(':'));
        let headers: HeaderMap = fields.map(|(name, value)| field(name, value.trim())).collect();
        let status: u16 = first.split(' ').nth(1).unwrap().parse().unwrap();
        self.framing = framing(&headers);
        if self.bodiless || status == 204 || status == 304 {
            self.framing = Framing::Length(0);
        }
        Ok(Head { status, headers })
    }

    /// Exactly so many bytes of the body, fewer only where it ends.
    pub async fn read(&mut self, count: usize) -> Bytes {
        let mut body = BytesMut::new();
        while body.len() < count {
            let Ok(Some(piece)) = within(self.piece(count - body.len())).await else { break };
            body.extend_from_slice(&piece);
        }
        body.freeze()
    }

    /// The rest of the body, and how it ended.
    pub async fn rest(&mut self) -> (Bytes, End) {
        let mut body = BytesMut::new();
        loop {
            match within(self.piece(usize::MAX)).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return (body.freeze(), End::Whole),
                Err(end) => return (body.freeze(), end),
            }
        }
    }

    /// Whether the other side neither says anything nor ends the connection for so long.
    pub async fn silence(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.fill()).await.is_err()
    }

    /// Waits until the other side ends the connection.
    pub async fn ended(&mut self) -> End {
        loop {
            if let Err(end) = within(self.fill()).await {
                return end;
            }
        }
    }

    async fn lines(&mut self) -> Result<String, End> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(String::from_utf8(self.buffer.split_to(end + 4).to_vec()).unwrap());
            }
            within(self.fill()).await?;
        }
    }

    /// The next piece of the body, at most `most` bytes; nothing at its well-formed end.
    async fn piece(&mut self, most: usize) -> Result<Option<Bytes>, End> {
        loop {
            match self.framing {
                Framing::Length(0) => return Ok(None),
                Framing::Length(left) => {
                    let piece = self.take(most, left).await?;
                    self.framing = Framing::Length(left - piece.len() as u64);
                    return Ok(Some(piece));
                }
                Framing::Chunk(0) => {
                    self.line().await?;
                    self.framing = Framing::Chunked;
                }
                Framing::Chunk(left) => {
                    let piece = self.take(most, left).await?;
                    self.framing = Framing::Chunk(left - piece.len() as u64);
                    return Ok(Some(piece));
                }
                Framing::Chunked => match self.chunk_size().await? {
                    0 => {
                        while !self.line().await?.is_empty() {}
                        self.framing = Framing::Length(0);
                    }
                    size => self.framing = Framing::Chunk(size),
                },
                // To a client of HTTP/1.0 manners, closing is how a whole answer ends.
                Framing::UntilClose => return self.take(most, u64::MAX).await.map(Some).or_else(until_close),
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<u64, End> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        u64::from_str_radix(size, 16).map_err(|_| End::Reset)
    }

    async fn take(&mut self, most: usize, left: u64) -> Result<Bytes, End> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let count = most.min(self.buffer.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
        Ok(self.buffer.split_to(count).freeze())
    }

    async fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Closed),
            Err(_) => Err(End::Reset),
        }
    }
}

fn until_close(end: End) -> Result<Option<Bytes>, End> {
    if end == End::Closed { Ok(None) } else { Err(end) }
}

fn field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

fn framing(headers: &HeaderMap) -> Framing {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("transfer-encoding"), text("content-length")) {
        (Some(_), _) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length.parse().unwrap()),
        (None, None) => Framing::UntilClose,
    }
}

/// One HTTP/2 connection, without TLS (prior knowledge) or with it.
pub struct H2 {
    sender: SendRequest<Full<Bytes>>,
    origin: String,
}

impl H2 {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), format!("http://{address}")).await
    }

    pub async fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        Self::over(tls(address, name, config).await.unwrap(), format!("https://{name}")).await
    }

    async fn over(stream: impl Stream + 'static, origin: String) -> Self {
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        // How the connection ends shows in the answers on it.
        tokio::spawn(async move { drop(connection.await) });
        Self { sender, origin }
    }

    /// Sends a request and reads the head of its answer. Dropping what comes back resets the stream.
    ///
    /// # Errors
    /// [`End::Reset`] where no head came.
    pub async fn open(&mut self, method: Method, path: &str, headers: Headers<'_>) -> Result<H2Stream, End> {
        self.open_with(method, path, headers, Bytes::new()).await
    }

    /// The same with a body.
    ///
    /// # Errors
    /// [`End::Reset`] where no head came.
    pub async fn open_with(&mut self, method: Method, path: &str, headers: Headers<'_>, body: Bytes) -> Result<H2Stream, End> {
        let uri = format!("{}{path}", self.origin);
        let mut request = Request::builder().method(method).uri(uri).body(Full::new(body)).unwrap();
        request.headers_mut().extend(headers.iter().map(|(name, value)| field(name, value)));
        let answer = within(self.sender.send_request(request)).await.map_err(|_| End::Reset)?;
        let (parts, body) = answer.into_parts();
        Ok(H2Stream { head: Head { status: parts.status.as_u16(), headers: parts.headers }, body, ahead: BytesMut::new() })
    }

    /// GET, read to its end.
    pub async fn get(&mut self, path: &str, headers: Headers<'_>) -> Reply {
        self.open(Method::GET, path, headers).await.expect("an answer's head").reply().await
    }
}

/// One answer on an HTTP/2 connection.
pub struct H2Stream {
    pub head: Head,
    body: Incoming,
    ahead: BytesMut,
}

impl H2Stream {
    /// Exactly so many bytes of the body, fewer only where it ends.
    pub async fn read(&mut self, count: usize) -> Bytes {
        while self.ahead.len() < count && self.fill().await.is_ok_and(|more| more) {}
        self.ahead.split_to(count.min(self.ahead.len())).freeze()
    }

    /// The whole answer, read to its end.
    pub async fn reply(mut self) -> Reply {
        let (body, end) = self.rest().await;
        Reply { status: self.head.status, headers: self.head.headers, body, end }
    }

    /// The rest of the body, and how it ended.
    pub async fn rest(&mut self) -> (Bytes, End) {
        let end = loop {
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => break End::Whole,
                Err(end) => break end,
            }
        };
        (self.ahead.split().freeze(), end)
    }

    /// Whether there was more.
    async fn fill(&mut self) -> Result<bool, End> {
        match within(self.body.frame()).await {
            Some(Ok(frame)) => self.ahead.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Err(End::Reset),
            None => return Ok(false),
        }
        Ok(true)
    }
}
