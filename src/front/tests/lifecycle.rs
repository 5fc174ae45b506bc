//! Beginning and end: of the listener, of a request whose client leaves, of a handler that fails.

use std::time::Instant;

use super::connection::desertion;
use super::*;

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send("dropped");
    }
}

/// A handler that tells when it is asked and when it is dropped, and never answers.
fn never() -> (impl Fn(Request) -> Answering + Send + Sync + 'static, mpsc::UnboundedReceiver<&'static str>) {
    let (sender, events) = mpsc::unbounded_channel();
    let handler = move |_: Request| -> Answering {
        let sender = sender.clone();
        Box::pin(async move {
            let _dropped = Dropped(sender.clone());
            sender.send("asked").unwrap();
            std::future::pending().await
        })
    };
    (handler, events)
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_handler_with_it() {
    let (handler, mut events) = never();
    let front = Setup::default().start(handler);
    let stream = front.connect_and_send(get("/")).await;
    assert_eq!(within(events.recv()).await, Some("asked"));
    drop(stream);
    assert_eq!(within(events.recv()).await, Some("dropped"));
    let log = front.logged(1).await;
    assert!(log.contains("\"status\":0") && log.contains("the client left"), "{log}");
}

/// Sends one request by HTTP/2 and waits for its answer.
async fn ask_http2(address: SocketAddr) -> hyper::Result<u16> {
    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let request = http::Request::get("http://h/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    Ok(sender.send_request(request).await?.status().as_u16())
}

#[tokio::test]
async fn so_does_an_http2_client_that_resets_its_stream() {
    let (handler, mut events) = never();
    let front = Setup::default().start(handler);
    let client = tokio::spawn(ask_http2(front.address));
    assert_eq!(within(events.recv()).await, Some("asked"));
    client.abort();
    assert_eq!(within(events.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_awaited_body_with_it() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let front = Front::start(move |_| Answer::new(Reply::Ok).body(body(), Some(15)));
    let mut stream = front.connect_and_send(get("/")).await;
    read_head(&mut stream).await;
    drop(stream);
    within(sender.closed()).await;
}

#[tokio::test]
async fn a_request_sent_ahead_does_not_look_like_leaving() {
    let (go, gone) = watch::channel(false);
    let front = Setup::default().start(move |_| {
        let mut gone = gone.clone();
        Box::pin(async move {
            gone.wait_for(|go| *go).await.unwrap();
            hello()
        })
    });
    let mut stream = front.connect_and_send(get("/1")).await;
    stream.write_all(get("/2").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.send(true).unwrap();
    for _ in 0..2 {
        assert_eq!(read_answer(&mut stream).await.1, b"hello");
    }
}

#[tokio::test]
async fn a_panic_is_one_failed_request() {
    let front = Front::start(|request| if request.path == "/panic" { panic!("a bug") } else { hello() });
    let mut stream = front.connect_and_send(get("/panic")).await;
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 500") && !String::from_utf8_lossy(&body).contains("a bug"), "{head}");
    assert!(front.logged(1).await.contains("panic: a bug"));
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
}

#[tokio::test]
async fn shutdown_of_an_idle_listener_is_quick() {
    let front = Front::start(|_| hello());
    let mut used = front.connect_and_send(get("/")).await;
    read_answer(&mut used).await;
    let mut silent = front.connect().await;
    let mut http2 = front.connect_and_send("PRI * HTTP/2.0\r\n\r\n").await;
    let begun = Instant::now();
    front.shutdown.send(true).unwrap();
    within(front.serving).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for stream in [&mut used, &mut silent, &mut http2] {
        // A reset is an end too.
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert!(TcpStream::connect(front.address).await.is_err());
    let metrics = front.telemetry.metrics.render(&front.telemetry.health);
    assert!(metrics.contains("roadstead_connections{endpoint=\"nodes\"} 0"), "{metrics}");
}

/// Frames of HTTP/2 (RFC 9113 section 4.1): a client's settings, and GET / of `h` on stream 1.
const HTTP2_GET: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01h";

#[tokio::test]
async fn an_http2_client_that_does_not_heed_goaway_holds_up_nobody() {
    let front = Setup::timeouts(|timeouts| timeouts.drain = Duration::from_secs(3600)).start(at_once(|_| hello()));
    let mut deaf = front.connect_and_send(HTTP2_GET).await;
    front.logged(1).await;
    front.shutdown.send(true).unwrap();
    within(front.serving).await.unwrap();
    let mut frames = Vec::new();
    within(deaf.read_to_end(&mut frames)).await.unwrap();
    assert!(frames.windows(5).any(|frame| frame == b"hello"), "{frames:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_deserted_when_nothing_is_under_way_for_a_while() {
    let connection = connection(By(at_once(|_| hello()))).await;
    let (shutdown, watch) = watch::channel(false);
    let mut desertion = std::pin::pin!(desertion(&connection, &watch));
    let mut lasts = async |time| tokio::time::timeout(time, &mut desertion).await.is_err();
    let hour = Duration::from_secs(3600);
    assert!(lasts(hour).await, "before shutdown");
    connection.requests.send_replace(1);
    shutdown.send_replace(true);
    assert!(lasts(hour).await, "while a request is under way");
    connection.requests.send_replace(0);
    assert!(lasts(Duration::from_millis(1900)).await, "the end of its answer may not be sent yet");
    connection.requests.send_replace(1);
    assert!(lasts(Duration::from_millis(200)).await, "when another request came in time");
    connection.requests.send_replace(0);
    assert!(lasts(Duration::from_millis(1900)).await);
    assert!(!lasts(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn an_answer_under_way_at_shutdown_is_completed() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let front = Front::start(move |_| Answer::new(Reply::Ok).body(body(), Some(5)));
    let mut stream = front.connect_and_send(get("/")).await;
    read_head(&mut stream).await;
    front.shutdown.send(true).unwrap();
    sender.send(bytes(b"hello")).await.unwrap();
    drop(sender);
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"hello");
    within(front.serving).await.unwrap();
}

#[tokio::test]
async fn a_request_waiting_at_shutdown_is_answered_and_told_that_it_was_the_last() {
    let (go, gone) = watch::channel(false);
    let (asked, mut asks) = mpsc::unbounded_channel();
    let front = Setup::default().start(move |_| {
        let mut gone = gone.clone();
        asked.send(()).unwrap();
        Box::pin(async move {
            gone.wait_for(|go| *go).await.unwrap();
            hello()
        })
    });
    let mut stream = front.connect_and_send(get("/")).await;
    within(asks.recv()).await;
    front.shutdown.send(true).unwrap();
    go.send(true).unwrap();
    let (head, body) = read_answer(&mut stream).await;
    assert_eq!((field(&head, "connection"), body.as_slice()), (Some("close"), &b"hello"[..]));
    within(front.serving).await.unwrap();
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let (handler, mut events) = never();
    let front = Setup::timeouts(|timeouts| timeouts.drain = Duration::from_millis(300)).start(handler);
    let mut plain = front.connect_and_send(get("/")).await;
    let http2 = tokio::spawn(ask_http2(front.address));
    for _ in 0..2 {
        assert_eq!(within(events.recv()).await, Some("asked"));
    }
    front.shutdown.send(true).unwrap();
    within(front.serving).await.unwrap();
    for _ in 0..2 {
        assert_eq!(within(events.recv()).await, Some("dropped"));
    }
    assert_eq!(plain.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(within(http2).await.unwrap().is_err());
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_does_not_look_whole_when_the_drain_cuts_it() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let setup = Setup::timeouts(|timeouts| timeouts.drain = Duration::from_millis(300));
    let front = setup.start(at_once(move |_| Answer::new(Reply::Ok).body(body(), None)));
    let mut stream = front.connect_and_send("GET / HTTP/1.0\r\n\r\n").await;
    read_head(&mut stream).await;
    sender.send(bytes(b"half")).await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    front.shutdown.send(true).unwrap();
    let end = within(stream.read(&mut [0])).await;
    assert!(end.is_err(), "an orderly close, which a client of HTTP/1.0 takes for the end of the body");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_a_remedy() {
    let front = Front::start(|_| hello());
    let config = config::Listener::plain("second", front.address, 1);
    let error = Listener::bind(&config, Telemetry::quiet()).err().unwrap().to_string();
    for text in ["second", &front.address.to_string(), "choose another address"] {
        assert!(error.contains(text), "{error}");
    }
}
