//! An HTTP server on a real socket that records every request and answers honestly, but for its faults.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{fmt, mem};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::faults::{Cut, Fault, Script, Which};
use super::pki::{Ca, Identity};
use super::play::{Body, Socket, Wire, play};

/// One request as it came.
#[derive(Clone)]
pub struct Recorded {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub version: Version,
    sent: Arc<AtomicU64>,
}

/// How connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Served.
    Open,
    /// Accepted, and not a byte said: even TLS hangs.
    Silent,
    /// Accepted and reset.
    Slammed,
}

/// A server; clones are the same one.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

type Handler = Box<dyn Fn(&Recorded) -> Response<Bytes> + Send + Sync>;

struct Inner {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    honest: Handler,
    name: Mutex<Option<String>>,
    door: Mutex<Door>,
    rules: Mutex<Vec<(Which, Fault)>>,
    log: watch::Sender<Vec<Recorded>>,
    accepted: watch::Sender<usize>,
    state: Mutex<State>,
}

enum State {
    Running(JoinHandle<()>),
    /// The port is kept, and refuses.
    Stopped(TcpSocket),
    Changing,
}

impl Recorded {
    /// The path and query as sent.
    pub fn target(&self) -> String {
        self.query.as_ref().map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path))
    }

    /// A header's first value, if it is text.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
    }

    /// All values of a parameter of the query, decoded.
    pub fn parameters(&self, name: &str) -> Vec<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_deref().unwrap_or_default().as_bytes());
        pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// How many bytes of the answer's body were handed to the connection so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} ({} bytes sent)", self.method, self.target(), self.headers, self.sent())
    }
}

/// A refusal in the registry's error form.
pub fn refusal(status: u16, code: &str, message: &str) -> Response<Bytes> {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()
}

impl Server {
    pub async fn start(honest: impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self::start_as(None, honest).await
    }

    /// With TLS, HTTP/1.1 and HTTP/2, and client certificates by a CA where one is named.
    pub async fn start_tls(
        identity: &Identity,
        clients: Option<&Ca>,
        honest: impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(Some(identity.server(&["h2", "http/1.1"], clients).into()), honest).await
    }

    async fn start_as(tls: Option<TlsAcceptor>, honest: impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Self(Arc::new(Inner {
            address: listener.local_addr().unwrap(),
            tls,
            honest: Box::new(honest),
            name: Mutex::new(None),
            door: Mutex::new(Door::Open),
            rules: Mutex::default(),
            log: watch::Sender::default(),
            accepted: watch::Sender::default(),
            state: Mutex::new(State::Changing),
        }));
        server.run(listener);
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Goes by this host name (and its scheme's own port) in URLs from now on.
    pub fn call_it(&self, name: &str) {
        *self.0.name.lock().unwrap() = Some(name.to_owned());
    }

    /// `127.0.0.1:port`, or the name it goes by.
    pub fn host(&self) -> String {
        self.0.name.lock().unwrap().clone().unwrap_or_else(|| self.0.address.to_string())
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.0.tls.is_some() { "https" } else { "http" }, self.host())
    }

    /// From now on, does this wrong with requests that fit. All faults that fit apply, in the order given.
    pub fn fault(&self, which: Which, fault: Fault) {
        self.0.rules.lock().unwrap().push((which, fault));
    }

    /// No faults any more, and the door is open. Answers under way go on as they were.
    pub fn heal(&self) {
        self.0.rules.lock().unwrap().clear();
        self.door(Door::Open);
    }

    pub fn door(&self, door: Door) {
        *self.0.door.lock().unwrap() = door;
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.0.log.borrow().clone()
    }

    pub fn matching(&self, which: Which) -> Vec<Recorded> {
        self.requests().into_iter().filter(move |request| which.fits(request)).collect()
    }

    pub fn count(&self, which: Which) -> usize {
        self.matching(which).len()
    }

    /// How many bytes of bodies were sent to requests that fit.
    pub fn sent(&self, which: Which) -> u64 {
        self.matching(which).iter().map(Recorded::sent).sum()
    }

    /// Waits until so many requests that fit have come in all.
    pub async fn seen(&self, which: Which, count: usize) {
        let enough = |log: &Vec<Recorded>| log.iter().filter(|request| which.fits(request)).count() >= count;
        self.0.log.subscribe().wait_for(enough).await.unwrap();
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        *self.0.accepted.borrow()
    }

    /// Waits until so many connections were accepted in all.
    pub async fn connected(&self, count: usize) {
        self.0.accepted.subscribe().wait_for(|accepted| *accepted >= count).await.unwrap();
    }

    /// Forgets all requests and connections so far.
    pub fn forget(&self) {
        self.0.log.send_modify(Vec::clear);
        self.0.accepted.send_replace(0);
    }

    /// Cuts every connection. New ones are taken, or refused if it was stopped.
    pub async fn hang_up(&self) {
        if self.stop().await {
            self.resume();
        }
    }

    /// Cuts every connection and refuses new ones; whether it ran. The port stays ours.
    pub async fn stop(&self) -> bool {
        let before = mem::replace(&mut *self.0.state.lock().unwrap(), State::Changing);
        let running = match before {
            State::Running(task) => task,
            other => {
                *self.0.state.lock().unwrap() = other;
                return false;
            }
        };
        running.abort();
        // The task ends as aborted, with its listener and connections closed.
        assert!(running.await.is_err());
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.0.address).unwrap();
        *self.0.state.lock().unwrap() = State::Stopped(socket);
        true
    }

    /// Listens again where it was stopped.
    pub fn resume(&self) {
        let before = mem::replace(&mut *self.0.state.lock().unwrap(), State::Changing);
        match before {
            State::Stopped(socket) => self.run(socket.listen(1024).unwrap()),
            other => *self.0.state.lock().unwrap() = other,
        }
    }

    fn run(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(self.0.clone(), listener));
        *self.0.state.lock().unwrap() = State::Running(task);
    }
}

async fn accept(server: Arc<Inner>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        server.accepted.send_modify(|accepted| *accepted += 1);
        connections.spawn(connection(server.clone(), tcp));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(server: Arc<Inner>, tcp: TcpStream) {
    let wire = Arc::new(Wire::default());
    let socket = Socket { tcp, wire: wire.clone() };
    let door = *server.door.lock().unwrap();
    match (door, server.tls.clone()) {
        (Door::Silent, _) => std::future::pending().await,
        (Door::Slammed, _) => wire.reset(),
        (Door::Open, None) => http1(server, wire, socket).await,
        (Door::Open, Some(acceptor)) => {
            // A failed handshake is the client's to report.
            let Ok(tls) = acceptor.accept(socket).await else { return };
            if tls.get_ref().1.alpn_protocol() == Some(b"h2") { http2(server, tls).await } else { http1(server, wire, tls).await }
        }
    }
}

// Connections end in errors here by design: clients leave, and faults cut. What matters is on the record.
async fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(server: Arc<Inner>, wire: Arc<Wire>, socket: S) {
    let service = service_fn(move |request| answer(server.clone(), Some(wire.clone()), request));
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(server: Arc<Inner>, socket: S) {
    let service = service_fn(move |request| answer(server.clone(), None, request));
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    drop(builder.serve_connection(TokioIo::new(socket), service).await);
}

/// `wire` is the connection where it is this request's alone, so that a fault may cut it.
async fn answer(server: Arc<Inner>, wire: Option<Arc<Wire>>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let mut request = record(request).await;
    let faults = server.take(&request);
    for fault in &faults {
        match fault {
            Fault::IgnoreRange => drop(request.headers.remove(RANGE)),
            Fault::OtherRange(range) => drop(request.headers.insert(RANGE, HeaderValue::from_static(range))),
            _ => {}
        }
    }
    let mut script = Script::new((server.honest)(&request));
    faults.into_iter().for_each(|fault| script.apply(fault, &request));
    for step in mem::take(&mut script.before) {
        step.take().await?;
    }
    Ok(play(script, request.sent, wire))
}

async fn record(request: Request<Incoming>) -> Recorded {
    let (mut head, body) = request.into_parts();
    if let Some(authority) = head.uri.authority() {
        // HTTP/2 names the host elsewhere; readers of the record need not care.
        head.headers.entry(HOST).or_insert_with(|| authority.as_str().parse().unwrap());
    }
    Recorded {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body: body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
        version: head.version,
        sent: Arc::default(),
    }
}

impl Inner {
    /// Writes the request down, and says what is to be done wrong with it.
    fn take(&self, request: &Recorded) -> Vec<Fault> {
        self.log.send_modify(|log| log.push(request.clone()));
        let mut rules = self.rules.lock().unwrap();
        rules
            .iter_mut()
            .filter(|(which, _)| which.fits(request))
            .filter_map(|(which, fault)| which.take().then(|| fault.clone()))
            .collect()
    }
}
