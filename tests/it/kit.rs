//! The kit does what it says: a fault that is not one would make tests of the proxy pass for nothing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use roadstead::oci::{Manifest as Parsed, ManifestKind};

use super::support::images::{self, OCI_INDEX, OCI_MANIFEST, noise};
use super::support::registry::basic;
use super::support::server::Door;
use super::support::*;

const REPOSITORY: &str = "library/busybox";
const SIZE: usize = 100_000;

struct Scene {
    hub: Registry,
    image: Image,
    path: String,
}

impl Scene {
    async fn new() -> Self {
        Self::of(Registry::start().await)
    }

    fn of(hub: Registry) -> Self {
        let image = hub.push_image(REPOSITORY, "latest", &[layer(SIZE)]);
        let path = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0].digest);
        Self { hub, image, path }
    }

    /// The blob, with one fault.
    async fn with(&self, fault: Fault) -> Reply {
        self.hub.heal();
        self.hub.fault(on("/blobs/").get(), fault);
        self.get(&[]).await
    }

    async fn get(&self, headers: client::Headers<'_>) -> Reply {
        get(self.hub.address(), &self.path, headers).await
    }

    fn bytes(&self) -> &Bytes {
        &self.image.layers[0].bytes
    }
}

/// Lets time pass while nothing is under way: a clock that stands still while sockets are read would jump ahead of them.
async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_registry_serves_what_it_holds_and_records_who_asked() {
    let Scene { hub, image, path } = Scene::new().await;
    let manifest = get(hub.address(), "/v2/library/busybox/manifests/latest", &[("accept", "*/*")]).await;
    assert_eq!((manifest.status, manifest.header("content-type"), &manifest.body), (200, OCI_MANIFEST, &image.manifest.bytes));
    let by_digest = format!("/v2/{REPOSITORY}/manifests/{}", image.manifest.digest);
    let head = client::head(hub.address(), &by_digest, &[]).await;
    assert_eq!(head.header("content-length"), image.manifest.bytes.len().to_string());
    assert_eq!(head.header("docker-content-digest"), image.manifest.digest.to_string());
    let blob = get(hub.address(), &format!("{path}?ns=docker.io"), &[("authorization", "Basic eA==")]).await;
    assert_eq!((blob.body.len(), blob.complete()), (SIZE, true));
    assert_eq!(get(hub.address(), "/v2/", &[]).await.status, 200);
    assert_eq!(get(hub.address(), "/v2/library/busybox/manifests/no", &[]).await.json()["errors"][0]["code"], "MANIFEST_UNKNOWN");
    assert_eq!(get(hub.address(), "/v2/no/manifests/latest", &[]).await.json()["errors"][0]["code"], "NAME_UNKNOWN");
    assert_eq!((hub.requests().len(), hub.count(on("/manifests/").head()), hub.connections()), (6, 1, 6));
    let [asked] = &hub.matching(on("?ns=docker.io"))[..] else { panic!("{:?}", hub.requests()) };
    assert_eq!((asked.sent(), asked.header("authorization")), (SIZE as u64, Some("Basic eA==")));
    assert_eq!(asked.parameter("ns").as_deref(), Some("docker.io"));
    hub.forget();
    assert_eq!((hub.requests().len(), hub.connections()), (0, 0));
}

#[tokio::test]
async fn ranges_are_answered_exactly_or_ignored() {
    let scene = Scene::new().await;
    let ask = async |range: &str| scene.get(&[("range", range)]).await;
    let part = ask("bytes=10-19").await;
    assert_eq!((part.status, &part.body[..], part.header("content-range")), (206, &scene.bytes()[10..20], "bytes 10-19/100000"));
    assert_eq!(ask("bytes=99990-").await.body, scene.bytes().slice(99_990..));
    let past = ask("bytes=100000-").await;
    assert_eq!((past.status, past.header("content-range")), (416, "bytes */100000"));
    scene.hub.fault(on("/blobs/").once(), Fault::IgnoreRange);
    let whole = ask("bytes=10-19").await;
    assert_eq!((whole.status, whole.body.len()), (200, SIZE));
    assert_eq!(scene.hub.requests()[3].header("range"), Some("bytes=10-19"));
    scene.hub.fault(on("/blobs/").once(), Fault::OtherRange("bytes=20-29"));
    let other = ask("bytes=10-19").await;
    assert_eq!((&other.body, other.header("content-range")), (&scene.bytes().slice(20..30), "bytes 20-29/100000"));
}

#[tokio::test]
async fn a_range_of_other_content_than_meant_is_the_whole() {
    let scene = Scene::new().await;
    let etag = scene.get(&[]).await.header("etag").to_owned();
    let status = async |etag: &str| scene.get(&[("range", "bytes=0-9"), ("if-range", etag)]).await.status;
    assert_eq!((status(&etag).await, status("\"new\"").await), (206, 200));
    scene.hub.set_etag("new");
    assert_eq!((status(&etag).await, status("\"new\"").await), (200, 206));
}

#[test]
fn parts_are_read_strictly() {
    let body = "\r\n--b\r\nContent-Type: x/y\r\nContent-Range: bytes 2-4/9\r\n\r\n--b\r\n--b\r\nContent-Type: x/y\r\n\
                Content-Range: bytes 0-0/9\r\n\r\na\r\n--b--\r\n";
    let part = |range: &str, body: &'static str| multipart::Part {
        media_type: "x/y".to_owned(),
        range: range.to_owned(),
        body: body.into(),
    };
    let parse = |body: &str| multipart::parse(&Bytes::copy_from_slice(body.as_bytes()), "b");
    let parts = vec![part("bytes 2-4/9", "--b"), part("bytes 0-0/9", "a")];
    assert_eq!((parse(body), parse(&body[2..])), (Some(parts.clone()), Some(parts)));
    for (from, to) in [("2-4", "2-3"), ("2-4", "2-5"), ("--b--", "--b"), ("--b--\r\n", "--b--\r\nx"), ("Content-Range", "Range")] {
        assert_eq!(parse(&body.replacen(from, to, 1)), None, "{to}");
    }
    assert_eq!(parse(&body[..body.len() - 8]), None, "no end");
}

proptest::proptest! {
    #[test]
    fn any_parts_are_read_back(parts in proptest::collection::vec((0usize..1000, "[-a\r\n]{1,30}"), 1..5)) {
        let part = |(first, body): &(usize, String)| multipart::Part {
            media_type: "x/y".to_owned(),
            range: format!("bytes {first}-{}/2000", first + body.len() - 1),
            body: body.clone().into(),
        };
        let parts: Vec<multipart::Part> = parts.iter().map(part).collect();
        let mut body = Vec::new();
        for multipart::Part { media_type, range, body: content } in &parts {
            body.extend(format!("\r\n--a\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n").into_bytes());
            body.extend(content);
        }
        body.extend(b"\r\n--a--\r\n");
        proptest::prop_assert_eq!(multipart::parse(&body.into(), "a"), Some(parts));
    }
}

#[tokio::test]
async fn refusals_come_as_scripted_and_as_often() {
    let Scene { hub, path, .. } = &Scene::new().await;
    let status = async || get(hub.address(), path, &[]).await.status;
    hub.fault(on("/blobs/").get().times(2), Fault::Status(503));
    assert_eq!([status().await, status().await, status().await], [503, 503, 200]);
    hub.fault(on("/blobs/").get().after(1).once(), Fault::Status(500));
    assert_eq!([status().await, status().await, status().await], [200, 500, 200]);
    hub.fault(on("/blobs/").head(), Fault::Status(405));
    assert_eq!((client::head(hub.address(), path, &[]).await.status, status().await), (405, 200));
    hub.fault(on(path).once(), Fault::Later(429, "7"));
    let later = get(hub.address(), path, &[]).await;
    assert_eq!((later.status, later.header("retry-after"), later.complete()), (429, "7", true));
    hub.fault(on("/blobs/"), Fault::Redirect("http://169.254.169.254/".into()));
    let elsewhere = get(hub.address(), path, &[]).await;
    assert_eq!((elsewhere.status, elsewhere.header("location")), (307, "http://169.254.169.254/"));
    hub.heal();
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn headers_lie_or_are_missing() {
    let scene = Scene::new().await;
    let lie = noise(7, 1).digest.to_string();
    let lying = scene.with(Fault::Header("docker-content-digest", lie.clone())).await;
    assert_eq!((lying.header("docker-content-digest"), &lying.body), (lie.as_str(), scene.bytes()));
    assert_eq!(scene.with(Fault::NoHeader("docker-content-digest")).await.header("docker-content-digest"), "");
    let chunked = scene.with(Fault::NoLength).await;
    assert_eq!((chunked.header("content-length"), chunked.header("transfer-encoding")), ("", "chunked"));
    assert!(chunked.complete() && chunked.body == scene.bytes());
    let (more, less) = (scene.with(Fault::Length(SIZE as u64 + 1)).await, scene.with(Fault::Length(SIZE as u64 - 1)).await);
    assert_eq!((more.header("content-length"), more.end, more.body.len()), ("100001", End::Closed, SIZE));
    assert_eq!((less.header("content-length"), less.end, less.body.len()), ("99999", End::Whole, SIZE - 1));
    scene.with(Fault::GzipIfAsked).await;
    assert_eq!(scene.get(&[]).await.header("content-encoding"), "");
    assert_eq!(scene.get(&[("accept-encoding", "zstd, gzip;q=0.8")]).await.header("content-encoding"), "gzip");
}

#[tokio::test]
async fn bodies_are_wrong_in_well_formed_answers() {
    let scene = Scene::new().await;
    let wrong = scene.with(Fault::Flip(50_000)).await;
    let differs: Vec<usize> = (0..SIZE).filter(|at| wrong.body[*at] != scene.bytes()[*at]).collect();
    assert_eq!((differs, wrong.complete()), (vec![50_000], true));
    for (fault, length) in [(Fault::Short(1_000), 1_000), (Fault::Extra(5), SIZE + 5), (Fault::Body(Bytes::from("login")), 5)] {
        let reply = scene.with(fault).await;
        assert_eq!((reply.complete(), reply.body.len(), reply.header("content-length")), (true, length, &*length.to_string()));
    }
    scene.hub.heal();
    scene.hub.fault(on("/blobs/"), Fault::NoLength);
    scene.hub.fault(on("/blobs/"), Fault::Short(1_000));
    let both = scene.get(&[]).await;
    assert_eq!((both.complete(), both.body.len(), both.header("transfer-encoding")), (true, 1_000, "chunked"));
}

#[tokio::test]
async fn cuts_come_after_exactly_so_many_bytes() {
    let scene = Scene::new().await;
    for at in [0, 1, 16 << 10, 70_000, SIZE - 1] {
        for (fault, end) in [(Fault::CutAt(at), End::Closed), (Fault::ResetAt(at), End::Reset)] {
            let reply = scene.with(fault).await;
            assert_eq!((reply.status, reply.end, &reply.body[..]), (200, end, &scene.bytes()[..at]), "at {at}");
        }
    }
    assert_eq!(scene.hub.requests().last().unwrap().sent(), SIZE as u64 - 1);
    scene.hub.fault(on("/blobs/"), Fault::NoLength);
    assert_eq!(scene.get(&[]).await.end, End::Reset);
    scene.hub.heal();
    scene.hub.fault(on("/blobs/"), Fault::Drop);
    let mut client = Client::connect(scene.hub.address()).await;
    client.request("GET", &scene.path, &[]).await;
    assert_eq!(client.head().await.unwrap_err(), End::Closed);
}

#[tokio::test]
async fn a_gate_holds_many_answers_in_the_middle() {
    let Scene { hub, image, path } = &Scene::new().await;
    let gate = Gate::new();
    hub.fault(on(image.layers[0].digest).get(), Fault::HoldAfter(SIZE / 2, gate.clone()));
    let opened = join_all((0..32).map(async |_| {
        let mut client = Client::connect(hub.address()).await;
        client.request("GET", path, &[]).await;
        let (head, half) = (client.head().await.unwrap(), client.read(SIZE / 2).await);
        assert_eq!((head.status, half.len()), (200, SIZE / 2));
        client
    }));
    let mut clients = opened.await;
    within(gate.reached(32)).await;
    assert_eq!(hub.sent(on("/blobs/")), 32 * SIZE as u64 / 2);
    drop(clients.pop());
    gate.open();
    for mut client in clients {
        let (rest, end) = client.rest().await;
        assert_eq!((rest, end), (image.layers[0].bytes.slice(SIZE / 2..), End::Whole));
    }
}

#[tokio::test]
async fn hanging_and_slow_answers_take_their_time() {
    let scene = Scene::new().await;
    let gate = Gate::new();
    scene.hub.fault(on("/blobs/").once(), Fault::Hang);
    scene.hub.fault(on("/manifests/").once(), Fault::HoldHead(gate.clone()));
    let mut client = Client::connect(scene.hub.address()).await;
    client.request("GET", &scene.path, &[]).await;
    within(scene.hub.seen(on("/blobs/"), 1)).await;
    tokio::time::pause();
    assert!(client.silence(Duration::from_secs(3600)).await);
    tokio::time::resume();
    let held = tokio::spawn(get(scene.hub.address(), "/v2/library/busybox/manifests/latest", &[]));
    within(gate.reached(1)).await;
    gate.open();
    assert_eq!(held.await.unwrap().status, 200);
    let start = tokio::time::Instant::now();
    let slow = scene.with(Fault::Trickle(10_000, Duration::from_millis(5))).await;
    assert!(start.elapsed() >= Duration::from_millis(50) && slow.body == scene.bytes());
}

#[tokio::test]
async fn a_stopped_registry_refuses_and_comes_back_where_it_was() {
    let Scene { hub, path, .. } = &Scene::new().await;
    let mut kept = Client::connect(hub.address()).await;
    assert_eq!(kept.ask("GET", path, &[]).await.body.len(), SIZE);
    assert!(hub.stop().await && !hub.stop().await);
    assert_ne!(kept.ended().await, End::Whole);
    let refused = tokio::net::TcpStream::connect(hub.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    hub.resume();
    let mut kept = Client::connect(hub.address()).await;
    assert_eq!(kept.ask("HEAD", path, &[]).await.status, 200);
    hub.hang_up().await;
    assert_ne!(kept.ended().await, End::Whole);
    assert_eq!(get(hub.address(), path, &[]).await.status, 200);
    hub.door(Door::Slammed);
    assert_eq!(Client::connect(hub.address()).await.ended().await, End::Reset);
    hub.door(Door::Silent);
    let mut client = Client::connect(hub.address()).await;
    client.request("GET", path, &[]).await;
    within(hub.connected(5)).await;
    assert_eq!(hub.requests().len(), 3);
}

#[tokio::test]
async fn lists_are_paged() {
    let hub = Registry::start().await;
    let image = Image::oci(&[layer(10)]);
    ["c", "a", "b"].iter().for_each(|tag| hub.push("acme/app", Some(tag), &image));
    let page = get(hub.address(), "/v2/acme/app/tags/list?n=2", &[]).await;
    assert_eq!(page.json(), serde_json::json!({ "name": "acme/app", "tags": ["a", "b"] }));
    assert_eq!(page.header("link"), "</v2/acme/app/tags/list?n=2&last=b>; rel=\"next\"");
    let last = get(hub.address(), "/v2/acme/app/tags/list?n=2&last=b", &[]).await;
    assert_eq!((last.json()["tags"][0].as_str(), last.header("link")), (Some("c"), ""));
    let signed = |n: u64, kind: &str| hub.push("acme/app", None, &Image::artifact(&image.manifest, kind, &noise(n, 9)));
    [(1, "x/sbom"), (2, "x/sig"), (3, "x/sig")].into_iter().for_each(|(n, kind)| signed(n, kind));
    hub.page_referrers(1);
    let path = format!("/v2/acme/app/referrers/{}", image.manifest.digest);
    let found = get(hub.address(), &format!("{path}?artifactType=x/sig"), &[]).await;
    assert_eq!((found.header("content-type"), found.header("oci-filters-applied")), (OCI_INDEX, "artifactType"));
    assert_eq!(found.json()["manifests"][0]["artifactType"], "x/sig");
    assert_eq!(found.header("link"), format!("<{path}?from=1>; rel=\"next\""));
    hub.without_referrers();
    assert_eq!(get(hub.address(), &path, &[]).await.status, 404);
}

#[tokio::test]
async fn basic_auth_lets_in_whom_it_knows() {
    let Scene { hub, path, .. } = &Scene::new().await;
    hub.require_basic("alice", "secret");
    let refused = get(hub.address(), path, &[("authorization", &basic("alice", "wrong"))]).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Basic realm=\"the registry\""));
    assert_eq!(get(hub.address(), path, &[("authorization", &basic("alice", "secret"))]).await.status, 200);
    hub.allow_all();
    assert_eq!(get(hub.address(), path, &[]).await.status, 200);
}

#[tokio::test]
async fn tokens_open_their_repository_for_their_time() {
    let Scene { hub, path, .. } = &Scene::new().await;
    let tokens = Tokens::start().await;
    hub.require_tokens(&tokens);
    let challenge = get(hub.address(), path, &[]).await.header("www-authenticate").to_owned();
    let scope = "repository:library/busybox:pull";
    assert_eq!(challenge, format!("Bearer realm=\"{}\",service=\"registry.test\",scope=\"{scope}\"", tokens.realm()));
    let ask = async |headers: client::Headers<'_>| get(tokens.address(), &format!("/token?service=x&scope={scope}"), headers).await;
    let token = async || format!("Bearer {}", ask(&[]).await.json()["token"].as_str().unwrap());
    let with = async |token: &str| get(hub.address(), path, &[("authorization", token)]).await.status;
    tokens.set_lifetime(Duration::from_secs(300));
    let good = token().await;
    assert_eq!((with(&good).await, with("Bearer token-7").await, with("Bearer x").await), (200, 401, 401));
    later(Duration::from_secs(301)).await;
    assert_eq!((with(&good).await, with(&token().await).await), (401, 200));
    tokens.withhold(REPOSITORY);
    assert_eq!(with(&token().await).await, 401);
    tokens.add_user("alice", "secret");
    let (known, wrong) = (basic("alice", "secret"), basic("alice", "wrong"));
    assert_eq!((ask(&[]).await.status, ask(&[("authorization", &wrong)]).await.status), (401, 401));
    assert_eq!(ask(&[("authorization", &known)]).await.json()["expires_in"], 300);
    let form = format!("grant_type=password&username=alice&password=secret&scope={scope}");
    let request = format!("POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{form}", form.len());
    let mut client = Client::connect(hub.address()).await;
    client.send(request).await;
    assert_eq!(client.reply().await.json()["access_token"], "token-4");
    assert_eq!((tokens.issued(), hub.requests().last().unwrap().body.len()), (5, form.len()));
}

#[tokio::test]
async fn a_cdn_opens_signed_urls_for_a_while_and_refuses_credentials() {
    let Scene { hub, image, path } = &Scene::new().await;
    let cdn = Cdn::start().await;
    hub.redirect_blobs(&cdn, 307);
    let place = get(hub.address(), path, &[]).await.header("location").to_owned();
    let signed = place.strip_prefix(&cdn.url()).unwrap();
    assert_eq!(get(cdn.address(), signed, &[]).await.body, image.layers[0].bytes);
    assert_eq!(get(cdn.address(), signed, &[("range", "bytes=1-2")]).await.status, 206);
    assert_eq!(get(cdn.address(), signed, &[("authorization", "Bearer token-0")]).await.status, 400);
    assert_eq!(client::head(cdn.address(), signed, &[]).await.status, 403);
    assert_eq!(get(cdn.address(), &format!("{signed}0"), &[]).await.status, 403);
    later(Duration::from_secs(60)).await;
    assert_eq!(get(cdn.address(), signed, &[]).await.status, 403);
    let place = get(hub.address(), path, &[]).await.header("location").to_owned();
    cdn.expire_all();
    assert_eq!(get(cdn.address(), place.strip_prefix(&cdn.url()).unwrap(), &[]).await.status, 403);
}

#[tokio::test]
async fn one_authority_vouches_for_well_known_names() {
    let ca = Ca::new();
    let scene = Scene::of(Registry::start_tls(&ca.issue(&["registry-1.docker.io", "127.0.0.1"]), None).await);
    scene.hub.call_it("registry-1.docker.io");
    assert_eq!(scene.hub.url(), "https://registry-1.docker.io");
    let hosts = Hosts::of(&[("registry-1.docker.io", scene.hub.address())]);
    let address = hosts.look_up("registry-1.docker.io")[0];
    let connect = async |name| Client::connect_tls(address, name, ca.client(&["http/1.1"], None)).await;
    assert_eq!(connect("registry-1.docker.io").await.unwrap().ask("GET", &scene.path, &[]).await.body, scene.bytes());
    assert!(connect("ghcr.io").await.is_err() && hosts.look_up("ghcr.io").is_empty());
    assert_eq!(hosts.asked(), ["registry-1.docker.io", "ghcr.io"]);
    scene.hub.fault(on("/blobs/").once(), Fault::CutAt(10));
    assert_eq!(connect("127.0.0.1").await.unwrap().ask("GET", &scene.path, &[]).await.end, End::Closed);
    let mut h2 = H2::connect_tls(address, "registry-1.docker.io", ca.client(&["h2"], None)).await;
    assert_eq!(h2.get(&scene.path, &[]).await.body, scene.bytes());
    let asked = scene.hub.requests().pop().unwrap();
    assert_eq!((asked.version, asked.header("host")), (http::Version::HTTP_2, Some("registry-1.docker.io")));
    let gate = Gate::new();
    scene.hub.fault(on("/blobs/"), Fault::HoldAfter(10, gate.clone()));
    scene.hub.fault(on("/blobs/"), Fault::CutAt(10));
    let mut open = h2.open(Method::GET, &scene.path, &[]).await.unwrap();
    assert_eq!((open.head.status, open.read(10).await), (200, scene.bytes().slice(..10)));
    gate.open();
    assert_eq!(open.rest().await, (Bytes::new(), End::Reset));
}

#[tokio::test]
async fn a_client_certificate_may_be_wanted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let scene = Scene::of(Registry::start_tls(&ca.issue(&["hub.test"]), Some(&ca)).await);
    for (identity, expected) in [(Some(ca.issue(&["me"])), Some(200)), (Some(other.issue(&["me"])), None), (None, None)] {
        let config = ca.client(&[], identity.as_ref());
        let mut client = Client::connect_tls(scene.hub.address(), "hub.test", config).await.unwrap();
        client.request("GET", &scene.path, &[]).await;
        assert_eq!(client.head().await.ok().map(|head| head.status), expected);
    }
}

#[test]
fn images_are_the_same_on_every_run_and_read_as_what_they_are() {
    assert_eq!(noise(1, 20).bytes, noise(1, 20).bytes);
    assert_ne!(noise(1, 20).digest, noise(2, 20).digest);
    let (oci, docker) = (Image::oci(&[layer(10), layer(20)]), Image::docker(&[layer(10)]));
    let index = Manifest::index(&[(&oci, "linux/amd64"), (&docker, "linux/arm64")]);
    let list = Manifest::docker_list(&[(&docker, "linux/amd64")]);
    let artifact = Image::artifact(&oci.manifest, "x/sig", &layer(9)).manifest;
    let read = |manifest: &Manifest| Parsed::parse(&manifest.bytes, Some(&manifest.media_type)).unwrap();
    for (manifest, kind, children) in [
        (&oci.manifest, ManifestKind::Image, 3),
        (&docker.manifest, ManifestKind::Image, 2),
        (&index, ManifestKind::Index, 2),
        (&list, ManifestKind::Index, 1),
        (&artifact, ManifestKind::Image, 2),
    ] {
        let parsed = read(manifest);
        assert_eq!((parsed.kind, parsed.children.len(), &parsed.media_type), (kind, children, &manifest.media_type));
    }
    assert_eq!(read(&artifact).subject.unwrap().digest, oci.manifest.digest);
    let lying = oci.edited(|content| content["layers"][0]["size"] = 11.into());
    assert_eq!((read(&lying.manifest).children[1].size, lying.layers[0].len()), (11, 10));
    assert_eq!(oci.manifest.digest, images::Blob::new(oci.manifest.bytes.clone()).digest);
}
