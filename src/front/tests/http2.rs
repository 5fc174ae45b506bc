//! HTTP/2, over TLS and without.

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

pub(super) type Sender = http2::SendRequest<Full<Bytes>>;

pub(super) async fn client(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Sender {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(super) fn request(method: &str, path: &str, body: Bytes) -> http::Request<Full<Bytes>> {
    http::Request::builder().method(method).uri(format!("http://mirror{path}")).body(Full::new(body)).unwrap()
}

pub(super) async fn ask(sender: &mut Sender, method: &str, path: &str, body: Bytes) -> http::Response<hyper::body::Incoming> {
    within(sender.send_request(request(method, path, body))).await.unwrap()
}

fn site(file: &Arc<std::fs::File>) -> impl Fn(Request) -> Answering + Send + Sync + 'static {
    let file = file.clone();
    at_once(move |request| {
        let answer = Answer::new(Reply::Ok);
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", _) => refusal(),
            (_, "/blob") => answer.body(pieces([part(&file, 0, 3 << 20)]), Some(3 << 20)),
            (_, "/unknown") => answer.body(pieces([part(&file, 0, 3 << 20)]), None),
            (_, "/cut") => answer.body(pieces([bytes(b"half"), cut()]), Some(8)),
            (_, "/cut-unknown") => answer.body(pieces([bytes(b"half"), cut()]), None),
            (_, "/304") => Answer::new(Reply::NotModified),
            (_, path) => answer.body(Body::Bytes(Bytes::from(format!("{path} {}", request.host))), None),
        }
    })
}

/// What must hold on every HTTP/2 connection.
async fn check(mut sender: Sender, content: &[u8]) {
    let answer = ask(&mut sender, "GET", "/hello", Bytes::new()).await;
    assert!(answer.headers().contains_key("x-request-id") && answer.headers().contains_key("date"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "/hello mirror");
    for (path, length) in [("/blob", true), ("/unknown", false)] {
        let answer = ask(&mut sender, "GET", path, Bytes::new()).await;
        assert_eq!(answer.headers().contains_key("content-length"), length);
        assert!(within(answer.into_body().collect()).await.unwrap().to_bytes() == content);
    }
    let head = ask(&mut sender, "HEAD", "/blob", Bytes::new()).await;
    assert_eq!(head.headers()["content-length"], "3145728");
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    let head = ask(&mut sender, "GET", "/304", Bytes::new()).await;
    assert_eq!(head.status(), 304);
    let refused = ask(&mut sender, "POST", "/v2/", Bytes::from(vec![1; 300_000])).await;
    assert_eq!(refused.status(), 405);
    assert!(within(refused.into_body().collect()).await.unwrap().to_bytes().starts_with(b"{\"errors\""));
    for path in ["/cut", "/cut-unknown"] {
        // The reset may overtake the head.
        if let Ok(answer) = within(sender.send_request(request("GET", path, Bytes::new()))).await {
            assert!(within(answer.into_body().collect()).await.is_err(), "{path} looks whole");
        }
    }
    let answer = ask(&mut sender, "GET", "/after", Bytes::new()).await;
    assert_eq!(answer.status(), 200, "a cut stream took the connection with it");
}

#[tokio::test]
async fn by_prior_knowledge() {
    let (file, content) = stored(3 << 20);
    let front = Setup::default().start(site(&file));
    check(client(front.connect().await).await, &content).await;
}

#[tokio::test]
async fn by_alpn() {
    let (file, content) = stored(3 << 20);
    let (_front, stream) = over_tls(site(&file), b"h2").await;
    check(client(stream).await, &content).await;
}

#[tokio::test]
async fn http_1_1_over_tls_on_the_same_listener() {
    let (file, content) = stored(3 << 20);
    let (_front, mut stream) = over_tls(site(&file), b"http/1.1").await;
    for _ in 0..2 {
        stream.write_all(get("/blob").as_bytes()).await.unwrap();
        assert!(read_answer(&mut stream).await.1 == content);
    }
    stream.write_all(get("/cut").as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.expect_err("an end without TLS's own is no end");
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_cut_and_its_neighbours_go_on() {
    let (file, _) = stored(3 << 20);
    let front = Setup::timeouts(|timeouts| timeouts.stall = Duration::from_millis(300)).start(site(&file));
    let mut sender = client(front.connect().await).await;
    let stalled = ask(&mut sender, "GET", "/blob", Bytes::new()).await;
    let log = front.logged(1).await;
    assert!(log.contains("could not be sent"), "{log}");
    assert!(within(stalled.into_body().collect()).await.is_err());
    assert_eq!(ask(&mut sender, "GET", "/hello", Bytes::new()).await.status(), 200);
}

#[tokio::test]
async fn too_large_a_header_is_refused() {
    let (file, _) = stored(3);
    let front = Setup::default().start(site(&file));
    let mut sender = client(front.connect().await).await;
    let mut large = request("GET", "/", Bytes::new());
    large.headers_mut().insert("x-large", http::HeaderValue::from_bytes(&[b'a'; 40_000]).unwrap());
    assert_eq!(within(sender.send_request(large)).await.unwrap().status(), 431);
    let mut many = request("GET", "/", Bytes::new());
    for _ in 0..150 {
        many.headers_mut().append("x-many", http::HeaderValue::from_static("1"));
    }
    assert_eq!(within(sender.send_request(many)).await.unwrap().status(), 431);
    let long = request("GET", &format!("/{}", "a".repeat(10_000)), Bytes::new());
    assert_eq!(within(sender.send_request(long)).await.unwrap().status(), 414);
}

#[tokio::test]
async fn shutdown_closes_an_idle_connection_and_lets_a_stream_end() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let front = Front::start(move |request| match request.path.as_str() {
        "/fed" => Answer::new(Reply::Ok).body(body(), Some(5)),
        _ => hello(),
    });
    let (mut idle, mut busy) = (client(front.connect().await).await, client(front.connect().await).await);
    assert_eq!(ask(&mut idle, "GET", "/", Bytes::new()).await.status(), 200);
    let answer = ask(&mut busy, "GET", "/fed", Bytes::new()).await;
    front.shutdown.send(true).unwrap();
    within(async {
        while !front.metrics().contains("roadstead_connections{endpoint=\"nodes\"} 1") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    sender.send(bytes(b"hello")).await.unwrap();
    drop(sender);
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "hello");
    within(front.serving).await.unwrap();
}
