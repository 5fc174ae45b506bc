//! Bodies: exact to the byte, prompt, and never whole when they are not.

use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_core::apps::ServerApp;

use super::*;

#[tokio::test]
async fn files_and_bytes_are_sent_exactly_whatever_the_mix() {
    let (file, content) = stored(5 << 20);
    let front = Front::start(move |request| {
        let parts = [
            bytes(b"--part\r\n"),
            part(&file, 1, 2),
            part(&file, 70_000, 70_000),
            part(&file, 3, (4 << 20) + 5),
            bytes(b"--"),
            part(&file, (5 << 20) - 7, 5 << 20),
        ];
        let length = 8 + 1 + (4 << 20) + 2 + 2 + 7;
        Answer::new(Reply::Partial).body(pieces(parts), (request.path == "/known").then_some(length))
    });
    let expected = [b"--part\r\n", &content[1..2], &content[3..(4 << 20) + 5], b"--", &content[(5 << 20) - 7..]].concat();
    let mut stream = front.connect_and_send(get("/known")).await;
    let (head, body) = read_answer(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 206") && body == expected);
    let (_front, mut stream) = over_tls(
        {
            let expected = Bytes::from(expected.clone());
            at_once(move |_| Answer::new(Reply::Ok).body(pieces([Ok(Chunk::Bytes(expected.clone()))]), None))
        },
        b"http/1.1",
    )
    .await;
    stream.write_all(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    let mut chunked = Vec::new();
    within(stream.read_to_end(&mut chunked)).await.unwrap();
    assert!(unchunk(&chunked) == expected);
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let line = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return content;
        }
        content.extend_from_slice(&body[line + 2..line + 2 + length]);
        body = &body[line + 4 + length..];
    }
}

#[tokio::test]
async fn a_file_that_is_not_in_the_page_cache_is_sent_all_the_same() {
    let (file, content) = stored(3 << 20);
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let front = Front::start(move |_| Answer::new(Reply::Ok).body(pieces([part(&file, 0, 3 << 20)]), Some(3 << 20)));
    let mut stream = front.connect_and_send(get("/")).await;
    assert!(read_answer(&mut stream).await.1 == content);
}

#[tokio::test]
async fn what_is_there_goes_out_before_the_rest_comes() {
    let (file, content) = stored(10);
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let front = Front::start(move |_| Answer::new(Reply::Ok).body(body(), Some(15)));
    let mut stream = front.connect_and_send(get("/")).await;
    assert_eq!(field(&read_head(&mut stream).await, "content-length"), Some("15"));
    sender.send(part(&file, 0, 10)).await.unwrap();
    let mut first = [0; 10];
    within(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(first, content[..]);
    sender.send(bytes(b"-last")).await.unwrap();
    within(stream.read_exact(&mut first[..5])).await.unwrap();
    assert_eq!(&first[..5], b"-last");
    drop(sender);
    stream.write_all(get("/").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn tls_holds_nothing_back_while_the_rest_is_awaited() {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let body = move || Body::Stream(Box::new(Fed(receiver.lock().unwrap().take().unwrap())));
    let handler = By(at_once(move |_| Answer::new(Reply::Ok).body(body(), Some(50_000))));
    let (_folder, certificate, roots) = certificate();
    // A pipe that takes little at once leaves TLS with much to hold back.
    let (ours, theirs) = tokio::io::duplex(1000);
    let (_shutdown, watch) = watch::channel(false);
    let serving = tokio::spawn(async move {
        let mut caller = Caller::direct("nodes".into(), (std::net::Ipv4Addr::LOCALHOST, 4000).into());
        let stream = tls::Acceptor::read(&certificate).unwrap().accept(ours, &mut caller).await.unwrap();
        connection(handler).await.process_new(Box::new(stream), &watch).await;
    });
    let mut stream = tls_client(theirs, roots, b"http/1.1").await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    sender.send(Ok(Chunk::Bytes(Bytes::from(vec![1; 40_000])))).await.unwrap();
    let mut first = vec![0; 40_000];
    within(stream.read_exact(&mut first)).await.expect("all that was sent");
    serving.abort();
}

/// What a client has when the connection ends: whether it was closed in order, and the bytes.
async fn until_end(stream: &mut TcpStream) -> (bool, Vec<u8>) {
    let mut answer = Vec::new();
    let end = within(stream.read_to_end(&mut answer)).await;
    (end.is_ok(), answer)
}

#[tokio::test]
async fn a_cut_answer_never_looks_whole() {
    let front = Front::start(|request| {
        let broken = pieces([bytes(b"half"), cut()]);
        Answer::new(Reply::Ok).body(broken, (request.path == "/known").then_some(8))
    });
    let (_, known) = until_end(&mut front.connect_and_send(get("/known")).await).await;
    assert!(known.ends_with(b"\r\n\r\nhalf"), "{}", known.escape_ascii());
    let (_, chunked) = until_end(&mut front.connect_and_send(get("/chunked")).await).await;
    assert!(!chunked.ends_with(b"0\r\n\r\n") && chunked.ends_with(b"4\r\nhalf\r\n"), "{}", chunked.escape_ascii());
    let (in_order, _) = until_end(&mut front.connect_and_send("GET / HTTP/1.0\r\n\r\n").await).await;
    assert!(!in_order, "a body that ends with the connection was cut and looks whole");
    assert_eq!(front.logged(3).await.matches("\"reason\":\"the digest is wrong\"").count(), 3);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_cut() {
    let (file, _) = stored(3);
    let front = Front::start(move |request| match request.path.as_str() {
        "/short" => Answer::new(Reply::Ok).body(pieces([bytes(b"abc")]), Some(4)),
        "/long" => Answer::new(Reply::Ok).body(pieces([bytes(b"abc"), bytes(b"de")]), Some(4)),
        "/bytes" => Answer::new(Reply::Ok).body(Body::Bytes(Bytes::from_static(b"abcde")), Some(4)),
        "/file" => Answer::new(Reply::Ok).body(pieces([part(&file, 0, 4)]), Some(4)),
        _ => Answer::new(Reply::Ok).body(Body::Empty, Some(4)),
    });
    for (path, sent) in [("/short", 3), ("/long", 3), ("/bytes", 0), ("/file", 3), ("/empty", 0)] {
        let mut stream = front.connect_and_send(get(path)).await;
        assert_eq!(field(&read_head(&mut stream).await, "content-length"), Some("4"));
        assert_eq!(until_end(&mut stream).await.1.len(), sent, "{path}");
    }
}

#[tokio::test]
async fn a_panic_in_a_body_cuts_the_answer() {
    struct Panics;
    #[async_trait::async_trait]
    impl ChunkStream for Panics {
        async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
            panic!("no more")
        }
    }
    let front = Front::start(|_| Answer::new(Reply::Ok).body(Body::Stream(Box::new(Panics)), None));
    let (in_order, _) = until_end(&mut front.connect_and_send("GET / HTTP/1.0\r\n\r\n").await).await;
    assert!(!in_order);
    assert!(front.logged(1).await.contains("panic: no more"));
}

/// A body of a file, which counts how often it is told that the file cannot be read.
struct Kept(Option<Result<Chunk, Cut>>, Arc<AtomicUsize>);

#[async_trait::async_trait]
impl ChunkStream for Kept {
    async fn next(&mut self) -> Option<Result<Chunk, Cut>> {
        self.0.take()
    }

    fn unreadable(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn whose_file_ends_too_soon_is_told_so_and_the_answer_is_cut() {
    let (file, content) = stored(3 << 20);
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let front = Front::start(move |request| {
        let length = if request.path == "/whole" { 3 << 20 } else { 4 << 20 };
        let body = Body::Stream(Box::new(Kept(Some(part(&file, 0, length)), count.clone())));
        Answer::new(Reply::Ok).body(body, (request.path != "/unknown").then_some(length))
    });
    for (done, path) in ["/known", "/unknown"].into_iter().enumerate() {
        let mut stream = front.connect_and_send(get(path)).await;
        let head = read_head(&mut stream).await;
        let (_, body) = until_end(&mut stream).await;
        let got = if path == "/unknown" { !body.ends_with(b"\r\n0\r\n\r\n") } else { body == content };
        assert!(got, "{path}: {head}");
        assert!(front.logged(done + 1).await.lines().last().unwrap().contains("cannot be read"), "{path}");
        assert_eq!(told.load(Ordering::SeqCst), done + 1, "{path}");
    }
    // A whole one is not suspected, nor is one whose client left in the middle.
    let mut stream = front.connect_and_send(get("/whole")).await;
    assert!(read_answer(&mut stream).await.1 == content);
    drop(front.connect_and_send(get("/whole")).await);
    front.logged(4).await;
    assert_eq!(told.load(Ordering::SeqCst), 2);
}
