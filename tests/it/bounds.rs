//! Load has bounds: what many clients cost, and what is left when they have gone.

use std::net::SocketAddr;

use bytes::BufMut as _;
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::support::process::Process;
use super::support::proxy::Setup;
use super::support::*;

const MIB: usize = 1 << 20;
const READERS: usize = 1_000;

/// What a client with an answer under way may cost in the process's memory, in KiB: its connection's buffers, and the state
/// of its task, which is large where nothing is optimized. The answer's bytes are in the page cache.
const PER_READER: i64 = 48;

/// Asks, reads the head, and nothing after it; there is room for little more than so many bytes on its side.
async fn slow_reader(address: SocketAddr, path: &str, room: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(room).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(within(stream.read_buf(&mut (&mut head).limit(256))).await.unwrap() > 0);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    stream
}

/// Room for the sockets of this many clients.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = String::from_utf8(get(admin, "/metrics", &[]).await.body.to_vec()).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_thousand_slow_readers_of_one_download_cost_next_to_nothing_and_slow_nobody() {
    raise_descriptor_limit();
    let blob = layer(8 * MIB);
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", std::slice::from_ref(&blob));
    let gate = Gate::new();
    hub.fault(on(blob.digest).get(), Fault::HoldAfter(4 * MIB, gate.clone()));
    let setup = Setup::new().registry("docker.io", &hub, "default = true");
    let process = Process::start(&setup).await;
    let path = format!("/v2/library/app/blobs/{}", blob.digest);
    let mut quick = Client::connect(process.address).await;
    quick.request("GET", &path, &[]).await;
    assert_eq!(quick.head().await.unwrap().status, 200);
    assert!(quick.read(4 * MIB - MIB).await == blob.bytes.slice(..3 * MIB));

    let before = process.kibibytes("VmRSS");
    process.forget_peak();
    let readers = join_all((0..READERS).map(|_| slow_reader(process.address, &path, 1024))).await;
    let beside = async {
        let mut beside = Client::connect(process.address).await;
        beside.request("GET", &path, &[]).await;
        let head = beside.head().await.unwrap();
        assert_eq!((head.status, head.headers["x-cache"].to_str().unwrap()), (200, "joined"));
        assert!(beside.read(3 * MIB).await == blob.bytes.slice(..3 * MIB), "what is there comes at once");
        beside
    };
    let mut beside = beside.await;
    gate.open();
    for client in [&mut quick, &mut beside] {
        let (rest, end) = client.rest().await;
        assert!((rest, end) == (blob.bytes.slice(3 * MIB..), End::Whole));
    }
    let grown = process.kibibytes("VmHWM") - before;
    assert!(grown < PER_READER * READERS as i64, "{grown} KiB for {READERS} readers");
    assert_eq!(hub.count(on(blob.digest).get()), 1);

    let connections = "roadstead_connections{endpoint=\"nodes\"}";
    assert!(metric(process.admin, connections).await >= READERS as f64);
    drop((readers, quick, beside));
    within(async {
        while metric(process.admin, connections).await + metric(process.admin, "roadstead_downloads").await > 0.0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stored_blob_that_ends_too_soon_is_cut_dropped_and_fetched_again() {
    let blob = layer(12 * MIB);
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", std::slice::from_ref(&blob));
    let setup = Setup::new().registry("docker.io", &hub, "default = true");
    let process = Process::start(&setup).await;
    let path = format!("/v2/library/app/blobs/{}", blob.digest);
    within(async { while get(process.address, &path, &[]).await.header("x-cache") != "hit" {} }).await;

    let mut reader = slow_reader(process.address, &path, 64 << 10).await;
    let hex = blob.digest.to_hex();
    let file = setup.cache_folder().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::File::options().write(true).open(file).unwrap().set_len(8 * MIB as u64).unwrap();
    let mut rest = Vec::new();
    within(reader.read_to_end(&mut rest)).await.unwrap();
    assert!(blob.bytes[..8 * MIB].ends_with(&rest), "all that is there, and no end: {} bytes", rest.len());
    process.says("a stored blob cannot be read").await;
    // Before anybody asks for it again.
    process.says("deleting broken content").await;
    let again = get(process.address, &path, &[]).await;
    assert!(again.complete() && again.body == blob.bytes);
    assert_eq!(hub.count(on(blob.digest).get()), 2);
}
