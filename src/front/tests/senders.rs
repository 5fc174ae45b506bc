//! Load balancers that say whose connections they pass on, and strangers who would like to.

use tokio::net::TcpSocket;

use super::http2::{ask, client};
use super::*;

/// The load balancer; everybody else in these tests comes from 127.0.0.1.
const BALANCER: &str = "127.0.0.2/32";

/// AWS's own sample: from 172.31.7.113:51442, by vpce-08d2bf15fac5001c9.
const AWS: &str = "0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892dea001701767063652d3038643262663135666163353030316339040024000000000000000000000000000000000000000000000000000000000000000000000000";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const LINE: &str = "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1234 443\r\n";

fn aws() -> Vec<u8> {
    hex::decode(AWS).unwrap()
}

/// Answers with what it knows of its caller.
fn who(request: &Request) -> Answer {
    let caller = &request.caller;
    let text = format!("{} {} {} {}", caller.source, caller.peer.ip(), caller.endpoint, caller.is_probe);
    Answer::new(Reply::Ok).body(Body::Bytes(text.into()), None)
}

const BY_AWS: &str = "172.31.7.113:51442 127.0.0.2 aws:vpce-08d2bf15fac5001c9 false";

fn setup() -> Setup {
    Setup { senders: Some(BALANCER), ..Setup::timeouts(|timeouts| timeouts.proxy = Duration::from_millis(200)) }
}

fn start() -> Front {
    // Time enough for a header that comes byte by byte, whatever else the machine does.
    Setup { senders: Some(BALANCER), ..Setup::default() }.start(at_once(|request| who(&request)))
}

impl Front {
    async fn connect_as_balancer(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// What is answered to the balancer that sends this, or how that ends.
    async fn balanced(&self, bytes: impl AsRef<[u8]>) -> std::io::Result<String> {
        let mut stream = self.connect_as_balancer().await;
        stream.write_all(bytes.as_ref()).await?;
        body(&mut stream).await
    }
}

/// The body of an answer, empty where the listener closes without one.
async fn body(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await?;
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// The connection ends, and not a byte is said.
async fn closed(stream: &mut TcpStream) {
    // A close with bytes unread is a reset.
    assert_eq!(within(stream.read(&mut [0])).await.unwrap_or(0), 0);
}

fn last(path: &str) -> String {
    get(path).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_header_says_who_asks() {
    let front = start();
    let request = last("/");
    for (header, known) in [
        (&aws()[..], BY_AWS),
        (LINE.as_bytes(), "192.0.2.7:1234 127.0.0.2 nodes false"),
        (b"PROXY TCP4 192.0.2.8 192.0.2.1 1 2\r\n", "192.0.2.8:1 127.0.0.2 nodes false"),
    ] {
        assert_eq!(front.balanced([header, request.as_bytes()].concat()).await.unwrap(), known);
    }
    let unknown = front.balanced(format!("PROXY UNKNOWN\r\n{request}")).await.unwrap();
    assert!(unknown.starts_with("127.0.0.2:") && unknown.ends_with(" 127.0.0.2 nodes false"), "{unknown}");
    let log = front.logged(4).await;
    assert!(log.contains("\"source\":\"172.31.7.113\",\"endpoint\":\"aws:vpce-08d2bf15fac5001c9\""), "{log}");
    assert!(front.until_close(&request).await.ends_with(" 127.0.0.1 nodes false"), "others are served without");
}

#[tokio::test]
async fn it_may_come_byte_by_byte() {
    let front = start();
    for header in [&aws()[..], LINE.as_bytes()] {
        let mut stream = front.connect_as_balancer().await;
        for byte in [header, last("/").as_bytes()].concat() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(body(&mut stream).await.unwrap().contains(" 127.0.0.2 "));
    }
}

#[tokio::test]
async fn every_request_of_the_connection_has_it_and_so_has_http2() {
    let front = start();
    let mut stream = front.connect_as_balancer().await;
    stream.write_all(&aws()).await.unwrap();
    for _ in 0..2 {
        stream.write_all(get("/").as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.1, BY_AWS.as_bytes());
    }
    let mut stream = front.connect_as_balancer().await;
    stream.write_all(&aws()).await.unwrap();
    let mut http2 = client(stream).await;
    assert_eq!(collected(ask(&mut http2, "GET", "/", Bytes::new()).await).await, BY_AWS);
}

async fn collected(answer: http::Response<hyper::body::Incoming>) -> Bytes {
    http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes()
}

#[tokio::test]
async fn it_comes_before_tls() {
    let (_folder, tls, roots) = certificate();
    let front = Setup { tls: Some(tls), senders: Some(BALANCER), ..Setup::default() }.start(at_once(|request| who(&request)));
    let mut stream = front.connect_as_balancer().await;
    for byte in aws() {
        stream.write_all(&[byte]).await.unwrap();
    }
    let mut stream = tls_client(stream, roots.clone(), b"http/1.1").await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, BY_AWS.as_bytes());
    let mut stream = front.connect_as_balancer().await;
    stream.write_all(LINE.as_bytes()).await.unwrap();
    let mut http2 = client(tls_client(stream, roots, b"h2").await).await;
    assert_eq!(collected(ask(&mut http2, "GET", "/", Bytes::new()).await).await, "192.0.2.7:1234 127.0.0.2 nodes false");
}

#[tokio::test]
async fn a_balancers_own_connection_is_a_probe() {
    let front = start();
    let probed = front.balanced([LOCAL, last("/").as_bytes()].concat()).await.unwrap();
    assert!(probed.ends_with(" 127.0.0.2 nodes true"), "{probed}");
}

#[tokio::test]
async fn who_must_send_a_header_and_does_not_is_closed() {
    let front = setup().start(at_once(|request| who(&request)));
    for (count, wrong) in [last("/").as_bytes(), b"\x16\x03\x01\x02\0\x01", b"PROXY TCP4 x\r\n", &aws()[..40]].iter().enumerate() {
        let mut stream = front.connect_as_balancer().await;
        stream.write_all(wrong).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
        assert!(front.refused("proxy_header", u32::try_from(count).unwrap() + 1), "{}", front.metrics());
    }
    assert!(front.log.lock().unwrap().is_empty(), "nothing that could be a request was read");
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for_long() {
    let front = setup().start(at_once(|request| who(&request)));
    closed(&mut front.connect_as_balancer().await).await;
    let mut half = front.connect_as_balancer().await;
    half.write_all(&aws()[..50]).await.unwrap();
    closed(&mut half).await;
    assert!(front.refused("proxy_timeout", 2), "{}", front.metrics());
}

#[tokio::test]
async fn a_header_that_would_be_too_long_is_not_read() {
    let front = start();
    let mut stream = front.connect_as_balancer().await;
    stream.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff").await.unwrap();
    closed(&mut stream).await;
    assert!(front.refused("proxy_header", 1), "{}", front.metrics());
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_not_counted() {
    let front = start();
    drop(front.connect_as_balancer().await);
    let mut stream = front.connect_as_balancer().await;
    stream.shutdown().await.unwrap();
    closed(&mut stream).await;
    within(async {
        while !front.metrics().contains("roadstead_connections{endpoint=\"nodes\"} 0\n") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!front.metrics().contains("roadstead_refused_connections_total{"), "{}", front.metrics());
}

#[tokio::test]
async fn a_strangers_header_is_no_request() {
    let front = start();
    let request = last("/");
    for (count, header) in [&aws()[..], LOCAL, LINE.as_bytes()].into_iter().enumerate() {
        for bytes in [header.to_vec(), [header, request.as_bytes()].concat()] {
            closed(&mut front.connect_and_send(bytes).await).await;
        }
        assert!(front.refused("proxy_stranger", u32::try_from(count).unwrap() * 2 + 2), "{}", front.metrics());
    }
    let without_senders = Setup::default().start(at_once(|request| who(&request)));
    closed(&mut without_senders.connect_and_send(aws()).await).await;
    assert!(without_senders.refused("proxy_stranger", 1));
    let (_folder, tls, _) = certificate();
    let with_tls = Setup { tls: Some(tls), senders: Some(BALANCER), ..Setup::default() }.start(at_once(|request| who(&request)));
    for header in [&aws()[..], LINE.as_bytes()] {
        // The alert of TLS may come.
        let _ = within(with_tls.connect_and_send(header).await.read(&mut [0; 100])).await;
    }
    assert!(with_tls.refused("proxy_stranger", 2), "{}", with_tls.metrics());
    assert!(front.log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_header_is_enough() {
    let front = start();
    for second in [&aws()[..], LINE.as_bytes()] {
        let mut stream = front.connect_as_balancer().await;
        stream.write_all(&[&aws()[..], second, last("/").as_bytes()].concat()).await.unwrap();
        closed(&mut stream).await;
    }
    assert!(front.refused("proxy_header", 2), "{}", front.metrics());
}

#[tokio::test]
async fn a_balancers_connection_beyond_the_cap_is_told_so() {
    let front = Setup { max_connections: 1, senders: Some(BALANCER), ..Setup::default() }.start(at_once(|request| who(&request)));
    let mut first = front.connect_as_balancer().await;
    first.write_all(&[&aws()[..], get("/").as_bytes()].concat()).await.unwrap();
    read_answer(&mut first).await;
    let mut second = front.connect_as_balancer().await;
    second.write_all(&[&aws()[..], get("/").as_bytes()].concat()).await.unwrap();
    let mut answer = String::new();
    within(second.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && front.refused("full", 1), "{answer}");
}

#[tokio::test]
async fn new_senders_are_for_new_connections() {
    let front = start();
    let mut open = front.connect_as_balancer().await;
    open.write_all(&aws()).await.unwrap();
    let mut still_known = async || {
        open.write_all(get("/").as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut open).await.1, BY_AWS.as_bytes());
    };
    still_known().await;
    front.entrance.replace(Terms::read(&listener_config(None, Some("127.0.0.1/32"), 100)).unwrap());
    closed(&mut {
        let mut stream = front.connect_as_balancer().await;
        stream.write_all(&aws()).await.unwrap();
        stream
    })
    .await;
    assert!(front.refused("proxy_stranger", 1), "{}", front.metrics());
    let other = front.connect_and_send([&aws()[..], last("/").as_bytes()].concat()).await;
    assert_eq!(body(&mut { other }).await.unwrap(), BY_AWS.replace("127.0.0.2", "127.0.0.1"));
    still_known().await;
}
