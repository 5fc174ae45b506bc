//! More connections or requests than are allowed: told so early, at next to no cost.

use http_body_util::BodyExt;

use super::connection::Shared;
use super::http2::{Sender, ask, client};
use super::refusal::{MAX_REFUSALS, Refusals};
use super::*;

/// A listener for one connection, and that connection after its first request.
async fn full(setup: Setup) -> (Front, TcpStream) {
    let front = Setup { max_connections: 1, ..setup }.start(at_once(|_| hello()));
    let mut first = front.connect_and_send(get("/first")).await;
    read_answer(&mut first).await;
    (front, first)
}

#[track_caller]
fn assert_overloaded(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"TOOMANYREQUESTS\""), "{answer}");
    assert_eq!(field(answer, "retry-after"), Some("2"));
}

fn refused(front: &Front) -> bool {
    front.metrics().contains("roadstead_refused_connections_total{endpoint=\"nodes\",reason=\"full\"} 1\n")
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_told_so_at_once_and_closed() {
    let (front, mut first) = full(Setup::default()).await;
    let answer = within(front.until_close(get("/second"))).await;
    assert_overloaded(&answer);
    assert_eq!(field(&answer, "connection"), Some("close"));
    assert!(refused(&front) && front.metrics().contains("roadstead_connections{endpoint=\"nodes\"} 1\n"));
    assert_eq!(front.logged(1).await.lines().count(), 1, "no line for each in the access log");
    first.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut first).await.1, b"hello", "who was let in is served as before");
    drop(first);
    within(async {
        while !front.until_close(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await.ends_with("hello") {}
    })
    .await;
}

#[tokio::test]
async fn so_is_one_that_speaks_http2_or_tls() {
    let refusal = async |mut sender: Sender| {
        let answer = ask(&mut sender, "GET", "/", Bytes::new()).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"2".parse().unwrap()));
        assert!(answer.into_body().collect().await.unwrap().to_bytes().starts_with(b"{\"errors\""));
    };
    let (front, _first) = full(Setup::default()).await;
    refusal(client(front.connect().await).await).await;
    assert!(refused(&front));

    let (_folder, tls, roots) = certificate();
    let front = Setup { tls: Some(tls), max_connections: 1, ..Setup::default() }.start(at_once(|_| hello()));
    let mut first = client(tls_client(front.connect().await, roots.clone(), b"h2").await).await;
    assert_eq!(ask(&mut first, "GET", "/", Bytes::new()).await.status(), 200);
    refusal(client(tls_client(front.connect().await, roots.clone(), b"h2").await).await).await;
    let mut plain = tls_client(front.connect().await, roots, b"http/1.1").await;
    plain.write_all(get("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(plain.read_to_string(&mut answer)).await.unwrap();
    assert_overloaded(&answer);
}

#[tokio::test]
async fn one_that_says_nothing_is_closed_soon_and_one_that_never_ends_too() {
    let (front, _first) = full(Setup::default()).await;
    let mut silent = front.connect().await;
    assert_eq!(within(silent.read(&mut [0])).await.unwrap(), 0);
    let mut sender = client(front.connect().await).await;
    within(async {
        while sender.send_request(super::http2::request("GET", "/", Bytes::new())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_than_so_many_are_refused_side_by_side() {
    let shared: Shared = shared(By(at_once(|_| hello())));
    let mut refusals = Refusals::new(&shared);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_shutdown, watch) = watch::channel(false);
    let (mut under_way, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..=MAX_REFUSALS {
        clients.push(TcpStream::connect(address).await.unwrap());
        let (tcp, peer) = listener.accept().await.unwrap();
        under_way.extend(refusals.refuse(tcp.into_std().unwrap(), peer, watch.clone()));
    }
    assert_eq!(under_way.len(), MAX_REFUSALS);
    assert_eq!(within(clients.last_mut().unwrap().read(&mut [0])).await.unwrap(), 0, "the one too many is closed");
    under_way.pop();
    clients.push(TcpStream::connect(address).await.unwrap());
    let (tcp, peer) = listener.accept().await.unwrap();
    assert!(refusals.refuse(tcp.into_std().unwrap(), peer, watch).is_some());
    let counted = format!("reason=\"full\"}} {}\n", MAX_REFUSALS + 2);
    assert!(shared.telemetry.metrics.render(&shared.telemetry.health).contains(&counted));
}

#[tokio::test]
async fn a_request_beyond_the_cap_is_refused_and_its_connection_goes_on() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let front = Setup { max_requests: 1, ..Setup::default() }.start(at_once(move |request| match request.path.as_str() {
        "/fed" => Answer::new(Reply::Ok).body(body(), Some(5)),
        _ => hello(),
    }));
    let mut first = front.connect_and_send(get("/fed")).await;
    read_head(&mut first).await;
    let mut second = front.connect_and_send(get("/")).await;
    let (head, body) = read_answer(&mut second).await;
    assert_overloaded(&format!("{head}{}", String::from_utf8(body).unwrap()));
    assert!(front.logged(1).await.contains("\"status\":503"));
    // The right to be answered lasts until the answer's end.
    sender.send(bytes(b"hello")).await.unwrap();
    drop(sender);
    front.logged(2).await;
    second.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut second).await.1, b"hello");
}
