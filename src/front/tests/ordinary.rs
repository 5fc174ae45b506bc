//! The short way against pingora's: no request is read or answered differently.

use pingora_core::apps::ServerApp;
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::super::connection::serve_requests;
use super::super::fuzzing::{Seen, by_pingora, by_us};
use super::super::io::Socket;
use super::*;

const TARGETS: &[&str] = &[
    "/",
    "/v2/",
    "/v2/a%2Fb/../manifests/x?ns=docker.io&ns=",
    "//h/x",
    "/?",
    "/a?b?c",
    "/a#b",
    "/a\"b",
    "*",
    "http://h/",
    "/\u{e9}",
    "",
];
const FIELDS: &[&str] = &[
    "Host: mirror.test:5000",
    "host: h",
    "Host:",
    "Host: a b",
    "Host: h@x",
    "Accept: a",
    "ACCEPT:\tb, c  ",
    "X-A: \u{e9}",
    "User-Agent: containerd/2.1",
    "Connection: close",
    "Connection: Keep-Alive",
    "Connection: close, x",
    "Connection: upgrade",
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: x",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "no colon",
    "Bad Name: x",
    " folded",
];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(texts).prop_map(str::to_owned)
}

/// A request, ordinary or nearly so.
fn request() -> impl Strategy<Value = String> {
    let method = prop_oneof![6 => Just("GET"), 2 => Just("HEAD"), 1 => Just("POST"), 1 => Just("get"), 1 => Just("OPTIONS")];
    let target = prop_oneof![1 => one_of(TARGETS), 2 => "/[a-z0-9/._~%:@!$&'()*+,;=?-]{0,30}"];
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0")];
    let field = prop_oneof![2 => one_of(FIELDS), 2 => "X-[A-Za-z0-9-]{0,8}: [ -~]{0,20}"];
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n")];
    (method, target, version, any::<bool>(), proptest::collection::vec(field, 0..5), end).prop_map(
        |(method, target, version, named, fields, end)| {
            let host = if named { format!("Host: h{end}") } else { String::new() };
            let fields: String = fields.iter().map(|field| format!("{field}{end}")).collect();
            format!("{method} {target} {version}{end}{host}{fields}{end}")
        },
    )
}

/// Bytes with a request at the beginning, perhaps damaged.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (request(), proptest::collection::vec(any::<u8>(), 0..20), damage).prop_map(|(request, rest, damage)| {
        let mut bytes = [request.as_bytes(), &rest].concat();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn what_we_take_pingora_takes_the_same_way(bytes in damaged()) {
        if let Some(seen) = by_us(&bytes) {
            prop_assert_eq!(Some(seen), by_pingora(&bytes));
        }
    }
}

#[test]
fn what_clients_of_registries_send_is_ordinary() {
    for request in [
        "GET /v2/ HTTP/1.1\r\nHost: 10.0.0.1:5000\r\nUser-Agent: docker/28.0 go/go1.24 git-commit/x kernel/6 os/linux arch/amd64 UpstreamClient(Docker-Client/28 \\(linux\\))\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
        "HEAD /v2/library/alpine/manifests/3.20?ns=docker.io HTTP/1.1\r\nHost: [::1]:5000\r\nUser-Agent: containerd/v2.1.0\r\nAccept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, */*\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer a.b.c\r\n\r\n",
        "GET /v2/a/b_c/blobs/sha256:0000 HTTP/1.1\r\nHost: mirror\r\nRange: bytes=5-\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n",
    ] {
        let Seen { length, .. } = by_us(request.as_bytes()).expect(request);
        assert_eq!(length, request.len());
        for known in 0..request.len() {
            assert_eq!(by_us(&request.as_bytes()[..known]), None, "not whole after {known} bytes");
        }
    }
}

#[test]
fn what_might_be_taken_two_ways_is_not_ordinary() {
    let with = |field: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
    assert!(by_us(with("X: 1").as_bytes()).is_some());
    for field in [
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Host: h",
        "Connection: close, keep-alive",
        "Connection: close\r\nConnection: keep-alive",
    ] {
        assert_eq!(by_us(with(field).as_bytes()), None, "{field}");
    }
    let many = vec!["X: 1"; 64].join("\r\n");
    assert_eq!(by_us(with(&many).as_bytes()), None);
    for line in
        ["POST / HTTP/1.1", "GET / HTTP/1.0", "GET http://h/ HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /#x HTTP/1.1", "get / HTTP/1.1"]
    {
        assert_eq!(by_us(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()), None, "{line}");
    }
}

/// Answers of every sort, by the path.
fn scripted(request: &Request) -> Answer {
    let long = || Ok(Chunk::Bytes(Bytes::from(vec![b'x'; 100_000])));
    match request.path.as_str() {
        "/chunked" => Answer::new(Reply::Ok).body(pieces([bytes(b"one"), long(), bytes(b"two")]), None),
        "/stream" => Answer::new(Reply::Partial).body(pieces([bytes(b"one"), long()]), Some(100_003)),
        "/304" => Answer::new(Reply::NotModified).header(http::header::ETAG, "\"x\""),
        "/fault" => refusal(),
        "/cut" => Answer::new(Reply::Ok).body(pieces([bytes(b"half"), cut()]), None),
        "/short" => Answer::new(Reply::Ok).body(pieces([bytes(b"abc")]), Some(4)),
        "/long" => Answer::new(Reply::Ok).body(Body::Bytes(Bytes::from_static(b"abcde")), Some(4)),
        "/none" => Answer::new(Reply::Ok).body(Body::Empty, Some(4)),
        "/empty" => Answer::new(Reply::Unready),
        "/panic" => panic!("a bug"),
        _ => hello().header(http::header::CONTENT_TYPE, "text/plain").header(http::header::LINK, &request.host),
    }
}

/// All that is answered to bytes that come in these pieces, and the log of it; without what differs by time and chance.
async fn answered(pieces: &[Vec<u8>], by_pingora_alone: bool) -> (String, Vec<String>) {
    let (log, lines) = AccessLog::memory();
    let mut shared = shared(By(at_once(|request| scripted(&request))));
    shared.telemetry = Telemetry::new(log);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let wire = Wire::new(tcp, shared.timeouts.stall);
    let caller = Caller::direct("nodes".into(), (std::net::Ipv4Addr::LOCALHOST, 4000).into());
    let connection = Arc::new(Connection::new(Arc::new(shared), caller, None, wire.clone()));
    let (_shutdown, watch) = watch::channel(false);
    let serving = async {
        let stream = Box::new(Socket::new(wire));
        if by_pingora_alone {
            connection.process_new(stream, &watch).await;
        } else {
            serve_requests(&connection, stream, &watch).await;
        }
        connection.wire.linger(Duration::from_millis(50)).await;
    };
    let mut answers = Vec::new();
    let asking = async {
        let (mut from, mut to) = client.split();
        let sending = async {
            for piece in pieces {
                // The other side may have closed.
                let _ = to.write_all(piece).await;
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
            }
            let _ = to.shutdown().await;
        };
        // A reset is an end too.
        let _ = tokio::join!(from.read_to_end(&mut answers), sending);
    };
    within(async { tokio::join!(serving, asking) }).await;
    let lines = lines.lock().unwrap().iter().map(|line| told(line)).collect();
    (lasting(&answers), lines)
}

/// Answers without `Date` and `X-Request-Id`, and without the id in a body.
fn lasting(answers: &[u8]) -> String {
    let text = String::from_utf8_lossy(answers);
    let lines = text.split("\r\n").filter(|line| !line.starts_with("Date: ") && !line.starts_with("x-request-id: "));
    let lines = lines.map(|line| match line.find("says more under ") {
        Some(at) => line[..at].to_owned(),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a line of the log tells of the request and its answer.
fn told(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    ["method", "path", "status", "sent", "user_agent", "reason"].map(|field| line[field].to_string()).join(" ")
}

fn conversation() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let path = one_of(&["/", "/chunked", "/stream", "/304", "/fault", "/cut", "/short", "/long", "/none", "/empty", "/panic"]);
    let close = prop_oneof![8 => Just(""), 1 => Just("Connection: close\r\n"), 1 => Just("Content-Length: 2\r\n")];
    let plain = (prop_oneof![4 => Just("GET"), 1 => Just("HEAD"), 1 => Just("POST")], path, close);
    let plain = plain.prop_map(|(method, path, close)| format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{close}\r\n"));
    let requests = proptest::collection::vec(prop_oneof![4 => plain, 1 => request()], 1..6);
    (requests, proptest::collection::vec(any::<prop::sample::Index>(), 0..6)).prop_map(|(requests, cuts)| {
        let all = requests.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).chain([0, all.len()]).collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| all[pair[0]..pair[1]].to_vec()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_conversation_is_the_same_as_with_pingora_alone(pieces in conversation()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, pingoras) = runtime.block_on(async { (answered(&pieces, false).await, answered(&pieces, true).await) });
        prop_assert_eq!(ours, pingoras);
    }
}

/// A listener whose handler tells that it is asked, and answers when it may go on.
fn held(mut setup: Setup) -> (Front, mpsc::UnboundedReceiver<String>, watch::Sender<bool>) {
    setup.timeouts.idle = Duration::from_secs(3600);
    let (asked, asks) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(false);
    let front = setup.start(move |request| {
        let mut gone = gone.clone();
        asked.send(request.path).unwrap();
        Box::pin(async move {
            gone.wait_for(|go| *go).await.unwrap();
            hello()
        })
    });
    (front, asks, go)
}

/// Waits until the other side, on this machine, has read all that was sent: as the kernel tells, both queues are empty.
async fn all_is_read(stream: &TcpStream) {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(address) => format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()),
        SocketAddr::V6(_) => unreachable!("the tests listen on 127.0.0.1"),
    };
    let (client, server) = (hex(stream.local_addr().unwrap()), hex(stream.peer_addr().unwrap()));
    let is_empty = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // proc_net_tcp(5): local address, remote address, state, bytes to be sent and to be read.
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = rows.filter(|row| [[&client, &server], [&server, &client]].contains(&[&row[1].into(), &row[2].into()]));
        ours.filter(|row| row[4] == "00000000:00000000").count() == 2
    };
    while !is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_sent_while_an_answer_is_awaited_is_the_next_request_however_it_is_cut() {
    let next = get("/2");
    for cut in [0, 10] {
        let (front, mut asks, go) = held(Setup::default());
        let mut stream = front.connect_and_send(get("/1") + &next[..cut]).await;
        assert_eq!(within(asks.recv()).await.as_deref(), Some("/1"));
        stream.write_all(&next.as_bytes()[cut..]).await.unwrap();
        within(all_is_read(&stream)).await;
        go.send(true).unwrap();
        for _ in 0..2 {
            assert_eq!(read_answer(&mut stream).await.1, b"hello");
        }
        assert_eq!(within(asks.recv()).await.as_deref(), Some("/2"), "after {cut} bytes of it");
    }
}

#[tokio::test]
async fn a_later_head_that_stops_in_the_middle_is_not_waited_for_as_long_as_one_that_does_not_begin() {
    let (front, _asks, go) = held(Setup::timeouts(|timeouts| timeouts.head = Duration::from_millis(200)));
    go.send(true).unwrap();
    let mut stream = front.connect_and_send(get("/") + "GET / HT").await;
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
    assert_eq!(within(stream.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn silence_after_a_handshake_is_ended_and_counted() {
    let (_folder, tls, roots) = certificate();
    let timeouts = Timeouts { head: Duration::from_millis(200), idle: Duration::from_secs(3600), ..Timeouts::default() };
    let front = Setup { tls: Some(tls), timeouts, ..Setup::default() }.start(at_once(|_| hello()));
    let mut stream = tls_client(front.connect().await, roots, b"http/1.1").await;
    // Without a word of TLS, which is an error.
    assert_eq!(within(stream.read(&mut [0])).await.unwrap_or(0), 0);
    assert!(front.refused("no_request", 1), "{}", front.metrics());
}

#[tokio::test]
async fn tls_holds_nothing_back_on_the_short_way_either() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move |path: &str| match path {
        "/fed" => Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap()))),
        _ => Body::Bytes(Bytes::from(vec![0; 50_000])),
    };
    let handler = By(at_once(move |request| Answer::new(Reply::Ok).body(body(&request.path), Some(50_000))));
    let (_folder, certificate, roots) = certificate();
    // A pipe that takes little at once leaves TLS with much to hold back.
    let (ours, theirs) = tokio::io::duplex(1000);
    let (_shutdown, watch) = watch::channel(false);
    let serving = tokio::spawn(async move {
        let mut caller = Caller::direct("nodes".into(), (std::net::Ipv4Addr::LOCALHOST, 4000).into());
        let stream = tls::Acceptor::read(&certificate).unwrap().accept(ours, &mut caller).await.unwrap();
        serve_requests(&connection(handler).await, Box::new(stream), &watch).await;
    });
    let mut stream = tls_client(theirs, roots, b"http/1.1").await;
    stream.write_all(get("/whole").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1.len(), 50_000);
    stream.write_all(get("/fed").as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    sender.send(Ok(Chunk::Bytes(Bytes::from(vec![1; 40_000])))).await.unwrap();
    let mut first = vec![0; 40_000];
    within(stream.read_exact(&mut first)).await.expect("all that was sent");
    serving.abort();
}
