//! HTTP/1.1 and 1.0: what ends a message, and what becomes of the connection.

use super::*;

#[tokio::test]
async fn every_answer_has_a_date_and_the_id_that_the_log_has() {
    let front = Front::start(|_| hello());
    let mut stream = front.connect_and_send(get("/v2/")).await;
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, b"hello");
    assert!(field(&head, "date").is_some());
    let log = front.logged(1).await;
    assert!(log.contains(field(&head, "x-request-id").unwrap()) && log.contains("\"sent\":5"), "{log}");
    assert!(field(&head, "content-encoding").is_none() && field(&head, "transfer-encoding").is_none());
}

#[tokio::test]
async fn the_handler_gets_the_request_as_it_was_sent() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let front = Front::start(move |request| {
        sender.send(request).unwrap();
        hello()
    });
    front.until_close("GET /v2/a%2fb?ns=x HTTP/1.1\r\nHost: h:1\r\nAccept: a\r\nAccept: b\r\nConnection: close\r\n\r\n").await;
    let request = requests.recv().await.unwrap();
    assert_eq!((request.path.as_str(), request.query.as_deref(), request.host.as_str()), ("/v2/a%2fb", Some("ns=x"), "h:1"));
    assert_eq!(request.headers.get_all("accept").iter().count(), 2);
    let caller = &request.caller;
    assert!(caller.source.ip().is_loopback() && caller.tls.is_none() && caller.endpoint.as_str() == "nodes");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_stored_file() {
    let (file, content) = stored(3 << 20);
    let front = Front::start(move |_| Answer::new(Reply::Ok).body(pieces([part(&file, 0, 3 << 20)]), Some(3 << 20)));
    let mut stream = front.connect().await;
    for _ in 0..3 {
        stream.write_all(get("/blob").as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut stream).await;
        assert_eq!(field(&head, "connection"), Some("keep-alive"));
        assert!(body == content);
    }
    assert_eq!(front.logged(3).await.matches("\"sent\":3145728").count(), 3);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_turn() {
    let (file, content) = stored(100_000);
    let front = Front::start(move |request| match request.path.as_str() {
        "/blob" => Answer::new(Reply::Ok).body(pieces([part(&file, 0, 100_000)]), Some(100_000)),
        _ => hello(),
    });
    let mut stream = front.connect_and_send([get("/blob"), get("/2"), get("/blob"), get("/4")].concat()).await;
    for _ in 0..2 {
        assert!(read_answer(&mut stream).await.1 == content);
        assert_eq!(read_answer(&mut stream).await.1, b"hello");
    }
}

#[tokio::test]
async fn head_has_the_same_header_and_no_body() {
    let (file, _) = stored(10);
    let front = Front::start(move |request| match request.path.as_str() {
        "/blob" => Answer::new(Reply::Ok).body(pieces([part(&file, 0, 10)]), Some(10)),
        "/length" => Answer::new(Reply::Ok).body(Body::Empty, Some(1234)),
        "/unknown" => Answer::new(Reply::Ok).body(pieces([bytes(b"x")]), None),
        _ => Answer::fault(Fault::new(FaultKind::NotFound, ErrorCode::BlobUnknown, "no such blob")),
    });
    let mut stream = front.connect().await;
    for (path, length) in [("/blob", Some("10")), ("/length", Some("1234")), ("/unknown", None)] {
        stream.write_all(get(path).replace("GET", "HEAD").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert_eq!(field(&head, "content-length"), length, "{path}");
    }
    stream.write_all(get("/gone").replace("GET", "HEAD").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert_eq!(field(&head, "x-error-reason"), Some("BLOB_UNKNOWN: no such blob"));
    stream.write_all(get("/gone").as_bytes()).await.unwrap();
    let (again, body) = read_answer(&mut stream).await;
    assert_eq!(field(&again, "content-length"), field(&head, "content-length"));
    assert!(body.starts_with(b"{\"errors\""));
}

#[tokio::test]
async fn not_modified_has_no_length_and_keeps_the_connection() {
    let front = Front::start(|request| if request.path == "/304" { Answer::new(Reply::NotModified) } else { hello() });
    let mut stream = front.connect_and_send(get("/304") + &get("/")).await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 304") && field(&head, "content-length").is_none(), "{head}");
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer_and_the_connection_goes_on() {
    let front = Front::start(|request| if request.method == "GET" { hello() } else { refusal() });
    let mut stream =
        front.connect_and_send("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n").await;
    stream.write_all(&[b'x'; 100_000]).await.unwrap();
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 405") && field(&head, "allow") == Some("GET, HEAD"), "{head}");
    assert!(body.starts_with(b"{\"errors\":[{\"code\":\"UNSUPPORTED\""));
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.1, b"hello");
}

#[tokio::test]
async fn a_long_upload_gets_its_answer_while_it_goes_on() {
    let front = Front::start(|_| refusal());
    let mut stream = front.connect_and_send("PUT /v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n").await;
    stream.write_all(&vec![0; 1_100_000]).await.unwrap();
    let (head, _) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 405") && field(&head, "connection") == Some("close"), "{head}");
    for _ in 0..5 {
        stream.write_all(&[0; 1000]).await.expect("a reset might have overtaken the answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut upload = async || while stream.write_all(&[0; 65536]).await.is_ok() {};
    within(upload()).await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_the_final_status_at_once() {
    let front = Front::start(|_| refusal());
    let answer = within(
        front.until_close("PUT /v2/ HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"),
    );
    assert!(answer.await.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn an_unknown_length_is_chunked_or_ends_with_the_connection() {
    let front = Front::start(|_| Answer::new(Reply::Ok).body(pieces([bytes(b"one"), bytes(b"two")]), None));
    let answer = front.until_close("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert!(answer.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
    let answer = front.until_close("GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nonetwo") && !answer.to_ascii_lowercase().contains("chunked"), "{answer}");
}

#[tokio::test]
async fn http_1_0_closes_unless_asked_not_to() {
    let front = Front::start(|_| hello());
    assert!(front.until_close("GET / HTTP/1.0\r\n\r\n").await.ends_with("hello"));
    let mut stream = front.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut stream).await.1, b"hello");
    }
}

#[tokio::test]
async fn head_of_a_length_that_nobody_knows_claims_none() {
    let front = Front::start(|_| Answer::new(Reply::Ok).body(Body::Empty, None));
    let answer = front.until_close("HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    assert_eq!(field(&answer, "content-length"), None, "{answer}");
}
