//! Strangers: what is malformed, too large, too slow, or too many.

use super::*;

fn quick() -> Setup {
    Setup::timeouts(|timeouts| {
        timeouts.setup = Duration::from_millis(200);
        timeouts.head = Duration::from_millis(200);
        timeouts.idle = Duration::from_millis(500);
        timeouts.stall = Duration::from_millis(300);
        timeouts.linger = Duration::from_millis(200);
    })
}

#[track_caller]
fn assert_refused(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("\r\n\r\n{\"errors\":[{\"code\":\""), "{answer}");
    assert!(field(answer, "x-request-id").is_some(), "{answer}");
}

#[tokio::test]
async fn what_is_malformed_is_a_400_in_our_form() {
    let front = quick().start(at_once(|_| hello()));
    for request in [
        "GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "nonsense\r\n\r\n",
        "\u{16}\u{3}\u{1} this is TLS \r\n\r\n",
    ] {
        assert_refused(&within(front.until_close(request)).await, "400");
    }
    assert_eq!(front.logged(7).await.matches("\"status\":400").count(), 7);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let front = quick().start(at_once(|_| hello()));
    let header = |count: usize, length: usize| {
        let fields: String = (0..count).map(|i| format!("X-{i}: {}\r\n", "a".repeat(length))).collect();
        format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n")
    };
    assert_refused(&front.until_close(header(150, 1)).await, "431");
    assert_refused(&front.until_close(header(300, 1)).await, "400");
    assert_refused(&front.until_close(header(3, 12_000)).await, "431");
    assert_refused(&within(front.until_close(header(3, 300_000))).await, "431");
    let endless = format!("GET /v2/ HTTP/1.1\r\nHost: h\r\nX-A: {}", "a".repeat(60_000));
    assert_refused(&within(front.until_close(endless)).await, "431");
    let long = format!("GET /v2/{}/manifests/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "a".repeat(10_000));
    assert_refused(&front.until_close(long).await, "414");
    assert!(front.until_close(header(90, 100)).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_refused_request_does_not_end_a_sound_connection() {
    let front = Front::start(|_| hello());
    let mut stream = front.connect_and_send("GET /v2/ HTTP/1.1\r\n\r\n").await;
    assert!(read_answer(&mut stream).await.0.starts_with("HTTP/1.1 400"));
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
}

#[tokio::test]
async fn silence_and_trickle_are_ended() {
    let front = quick().start(at_once(|_| hello()));
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\nHo"] {
        let mut stream = front.connect_and_send(beginning).await;
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = within(stream.read_to_end(&mut rest)).await;
        assert!(!rest.starts_with(b"HTTP"), "{beginning}");
    }
    assert!(front.metrics().contains("roadstead_refused_connections_total{endpoint=\"nodes\",reason=\"no_request\"} 5"));
}

#[tokio::test]
async fn one_deadline_holds_for_all_of_a_later_head() {
    let front = quick().start(at_once(|_| hello()));
    let mut stream = front.connect_and_send(get("/")).await;
    read_answer(&mut stream).await;
    let trickle = async {
        let mut bytes = 0;
        while stream.write_all(b"G").await.is_ok() && bytes < 1000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            bytes += 1;
        }
        bytes
    };
    assert!(within(trickle).await < 100);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let front = quick().start(at_once(|_| hello()));
    let mut stream = front.connect_and_send(get("/")).await;
    read_answer(&mut stream).await;
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_happen_is_ended() {
    let (_folder, tls, _) = certificate();
    let front = Setup { tls: Some(tls), ..quick() }.start(at_once(|_| hello()));
    let mut silent = front.connect().await;
    assert_eq!(within(silent.read(&mut [0])).await.unwrap(), 0);
    let _ = within(front.connect_and_send(get("/")).await.read(&mut [0; 100])).await;
    let metrics = front.metrics();
    assert!(metrics.contains("reason=\"tls_timeout\"} 1") && metrics.contains("reason=\"tls\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let (file, _) = stored(32 << 20);
    let content = Bytes::from(vec![7; 32 << 20]);
    let front = quick().start(at_once(move |request| {
        let answer = Answer::new(Reply::Ok);
        match request.path.as_str() {
            "/file" => answer.body(pieces([part(&file, 0, 32 << 20)]), Some(32 << 20)),
            "/direct" => answer.body(pieces([Ok(Chunk::Bytes(content.clone()))]), Some(32 << 20)),
            "/chunked" => answer.body(pieces([part(&file, 0, 32 << 20)]), None),
            _ => answer.body(Body::Bytes(content.clone()), None),
        }
    }));
    for (done, path) in ["/file", "/direct", "/chunked", "/bytes"].into_iter().enumerate() {
        let stream = front.connect_and_send(get(path)).await;
        let log = front.logged(done + 1).await;
        assert!(log.lines().last().unwrap().contains("timed out"), "{path}: {log}");
        drop(stream);
    }
}

#[tokio::test]
async fn a_slow_client_that_takes_a_little_is_not_cut() {
    let (file, content) = stored(8 << 20);
    let front = quick().start(at_once(move |_| Answer::new(Reply::Ok).body(pieces([part(&file, 0, 8 << 20)]), Some(8 << 20))));
    let mut stream = front.connect_and_send(get("/")).await;
    read_head(&mut stream).await;
    let (mut body, mut piece) = (Vec::new(), vec![0; 100_000]);
    // All in all several times the deadline.
    while body.len() < content.len() {
        let read = within(stream.read(&mut piece)).await.unwrap();
        assert!(read > 0, "cut after {}", body.len());
        body.extend_from_slice(&piece[..read]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(body == content);
}
