//! Over real sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config;
use crate::egress::scripted::{get, registry};

/// Names that are known here, to sockets of the test.
#[derive(Default)]
struct Known {
    hosts: HashMap<&'static str, Vec<SocketAddr>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Names for Known {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.hosts.get(host).cloned().ok_or_else(|| std::io::Error::other("no such name here"))
    }
}

fn known(host: &'static str, addresses: &[SocketAddr]) -> Arc<Known> {
    Arc::new(Known { hosts: HashMap::from([(host, addresses.to_vec())]), asked: AtomicUsize::new(0) })
}

/// A server that gives every request the same answer and says what it was sent.
struct Server {
    address: SocketAddr,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
}

async fn serve(answer: &'static str, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, tls) = (sender.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => answer_on(stream, answer, sender).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer_on(stream, answer, sender).await;
                        }
                    }
                }
            });
        }
    });
    Server { address, requests }
}

async fn answer_on(
    mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin,
    answer: &str,
    sender: tokio::sync::mpsc::UnboundedSender<String>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let _ = sender.send(String::from_utf8(request).unwrap());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Thing: a\r\n\r\nhello";

fn exchange(names: Arc<Known>) -> Guarded {
    Guarded::new(names)
}

fn way_of(registry: &config::Registry) -> Way {
    Way::new(registry, &config::Egress::default()).unwrap()
}

fn named(url: &str) -> config::Registry {
    let mut registry = registry(url);
    registry.addresses = vec!["127.0.0.0/8".parse().unwrap()];
    registry
}

/// An own authority. Servers get a leaf of it: a self-signed certificate that is its own authority would not be accepted.
struct Authority {
    file: tempfile::NamedTempFile,
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        Self { file, certificate, issuer: rcgen::Issuer::new(parameters, key) }
    }

    fn leaf(&self, host: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn acceptor(&self, host: &str, clients: Arc<dyn rustls::server::danger::ClientCertVerifier>) -> TlsAcceptor {
        let (leaf, key) = self.leaf(host);
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![leaf.der().clone()], rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn plain_acceptor(&self, host: &str) -> TlsAcceptor {
        self.acceptor(host, Arc::new(rustls::server::NoClientAuth))
    }
}

#[tokio::test]
async fn a_name_is_resolved_checked_and_asked() {
    let mut server = serve(HELLO, None).await;
    let names = known("r.test", &[server.address]);
    let way = way_of(&named("http://r.test"));
    let response = exchange(names).exchange(&way, get("http://r.test/v2/?a=b")).await.unwrap();
    assert_eq!((response.status.as_u16(), response.headers["x-thing"].to_str().unwrap()), (200, "a"));
    assert_eq!(response.body.collect(100).await.unwrap(), "hello");
    let request = server.requests.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get /v2/?a=b http/1.1\r\n"), "{request}");
    for line in ["\r\nhost: r.test\r\n", concat!("\r\nuser-agent: roadstead/", env!("CARGO_PKG_VERSION"), "\r\n")] {
        assert!(request.contains(line), "{request}");
    }
    assert!(!request.contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn redirects_are_answers() {
    let server = serve("HTTP/1.1 307 x\r\nLocation: http://other.test/\r\nContent-Length: 0\r\n\r\n", None).await;
    let way = way_of(&named("http://r.test"));
    let response = exchange(known("r.test", &[server.address])).exchange(&way, get("http://r.test/")).await.unwrap();
    assert_eq!(response.status.as_u16(), 307);
}

#[tokio::test]
async fn one_unfit_address_spoils_the_name_and_nothing_is_connected() {
    let mut server = serve(HELLO, None).await;
    let names = known("r.test", &[server.address, "[fe80::1]:80".parse().unwrap()]);
    let way = way_of(&named("http://r.test"));
    let error = exchange(names).exchange(&way, get("http://r.test/")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    assert!(error.detail().unwrap().contains("fe80::1"), "{error}");
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn addresses_in_urls_are_checked_though_they_need_no_resolving() {
    let server = serve(HELLO, None).await;
    let url = format!("http://{}/", server.address);
    let guarded = exchange(Arc::default());
    assert!(guarded.exchange(&way_of(&registry(&url)), get(&url)).await.is_ok());
    let elsewhere = way_of(&registry("http://127.0.0.1:1"));
    assert_eq!(guarded.exchange(&elsewhere, get(&url)).await.unwrap_err().kind, Kind::Forbidden);
    guarded.refuse(vec![server.address]);
    assert_eq!(guarded.exchange(&way_of(&registry(&url)), get(&url)).await.unwrap_err().kind, Kind::Loop);
}

#[tokio::test]
async fn no_host_beyond_the_declared_ones_is_even_resolved() {
    let names = known("other.test", &["1.1.1.1:443".parse().unwrap()]);
    let error =
        exchange(names.clone()).exchange(&way_of(&registry("https://r.test")), get("https://other.test/")).await.unwrap_err();
    assert_eq!((error.kind, names.asked.load(Ordering::Relaxed)), (Kind::Forbidden, 0));
}

#[tokio::test]
async fn unreachable_is_told_from_broken() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let url = format!("http://{closed}/");
    let guarded = exchange(Arc::default());
    assert_eq!(guarded.exchange(&way_of(&registry(&url)), get(&url)).await.unwrap_err().kind, Kind::Unreachable);
    let nowhere = way_of(&registry("https://nowhere.test"));
    let error = guarded.exchange(&nowhere, get("https://nowhere.test")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.to_string().contains("no such name here"), "{error}");
    let error = exchange(known("r.test", &[])).exchange(&way_of(&named("http://r.test")), get("http://r.test")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);

    let server = serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", None).await;
    let url = format!("http://{}/?signature=secret", server.address);
    let response = guarded.exchange(&way_of(&registry(&url)), get(&url)).await.unwrap();
    let error = response.body.collect(100).await.unwrap_err();
    assert_eq!(error.kind, Kind::Broken);
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn an_own_authority_is_trusted_where_it_is_configured() {
    let authority = Authority::new();
    let server = serve(HELLO, Some(authority.plain_acceptor("r.test"))).await;
    let guarded = exchange(known("r.test", &[server.address]));
    let mut registry = named("https://r.test");
    let error = guarded.exchange(&way_of(&registry), get("https://r.test/")).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.to_string().contains("certificate"), "{error}");
    registry.ca = Some(authority.file.path().to_owned());
    let response = guarded.exchange(&way_of(&registry), get("https://r.test/")).await.unwrap();
    assert_eq!(response.body.collect(100).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_private_endpoint_changes_neither_name_nor_certificate() {
    let authority = Authority::new();
    let mut server = serve(HELLO, Some(authority.plain_acceptor("r.test"))).await;
    let mut registry = registry("https://r.test:8443");
    registry.ca = Some(authority.file.path().to_owned());
    registry.private_endpoint = Some(config::PrivateEndpoint::Address(server.address));
    let names = Arc::<Known>::default();
    let guarded = exchange(names.clone());
    guarded.exchange(&way_of(&registry), get("https://r.test:8443/")).await.unwrap();
    let request = server.requests.recv().await.unwrap().to_lowercase();
    assert!(request.contains("\r\nhost: r.test:8443\r\n"), "{request}");
    assert_eq!(names.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let server = serve(HELLO, Some(authority.acceptor("r.test", verifier))).await;
    let guarded = exchange(known("r.test", &[server.address]));
    let mut registry = named("https://r.test");
    registry.ca = Some(authority.file.path().to_owned());
    let nobody = guarded.exchange(&way_of(&registry), get("https://r.test/")).await;
    assert!(nobody.is_err());
    let (certificate, key) = authority.leaf("us.test");
    let files = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (files.path().join("crt"), files.path().join("key"));
    std::fs::write(&certificate_file, certificate.pem().trim_end()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    registry.client_certificate = Some(config::ClientCertificate { certificate: certificate_file, key: key_file });
    assert!(guarded.exchange(&way_of(&registry), get("https://r.test/")).await.is_ok());
}

#[tokio::test]
async fn a_certificate_file_that_is_none_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut registry = registry("https://r.test");
    registry.ca = Some(file.path().to_owned());
    let error = Way::new(&registry, &config::Egress::default()).unwrap_err();
    assert_eq!(error.kind, Kind::Setup);
    assert!(error.to_string().contains("there is no certificate in it"), "{error}");
}

/// A stream that a server never answers on would leave the connection open: nothing here outlives its test.
#[tokio::test]
async fn dropping_an_exchange_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let way = way_of(&registry(&url));
    let guarded = exchange(Arc::default());
    let accept = async {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut head = [0; 3];
        stream.read_exact(&mut head).await.unwrap();
        stream
    };
    let mut stream = tokio::select! {
        _ = guarded.exchange(&way, get(&url)) => unreachable!("nobody answers"),
        stream = accept => stream,
    };
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

fn through(proxy: SocketAddr, credentials: Option<config::Credentials>) -> config::Egress {
    let url = format!("http://{proxy}").parse().unwrap();
    config::Egress { proxy: config::SharedProxy::Given(config::Proxy { url, credentials }), ..Default::default() }
}

/// A proxy that hands every tunnel to one server, and says what it was asked for.
async fn tunnels_to(server: SocketAddr) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let _ = sender.send(String::from_utf8(head).unwrap());
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    Server { address, requests }
}

#[tokio::test]
async fn https_goes_through_a_proxy_as_a_tunnel_and_no_name_is_looked_up_here() {
    let authority = Authority::new();
    let mut server = serve(HELLO, Some(authority.plain_acceptor("r.test"))).await;
    let mut proxy = tunnels_to(server.address).await;
    let credentials = config::Credentials { username: "us".to_owned(), password: config::Secret::new("s3cret") };
    let mut registry = registry("https://r.test");
    registry.ca = Some(authority.file.path().to_owned());
    let way = Way::new(&registry, &through(proxy.address, Some(credentials))).unwrap();
    let names = Arc::<Known>::default();
    let response = exchange(names.clone()).exchange(&way, get("https://r.test/v2/?a=b")).await.unwrap();
    assert_eq!(response.body.collect(100).await.unwrap(), "hello");
    let asked = proxy.requests.recv().await.unwrap();
    assert!(asked.starts_with("CONNECT r.test:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic dxm6cznjcmv0\r\n"), "{asked}");
    let inside = server.requests.recv().await.unwrap().to_lowercase();
    assert!(inside.starts_with("get /v2/?a=b ") && !inside.contains("proxy-authorization"), "{inside}");
    assert_eq!(names.asked.load(Ordering::Relaxed), 0);
    let other = exchange(names).exchange(&way, get("https://other.test/")).await.unwrap_err();
    assert_eq!((other.kind, proxy.requests.try_recv().is_err()), (Kind::Forbidden, true), "an undeclared name");
}

#[tokio::test]
async fn http_goes_through_a_proxy_whole_and_one_that_fails_is_named() {
    let mut proxy = serve(HELLO, None).await;
    let way = Way::new(&registry("http://r.test:5000"), &through(proxy.address, None)).unwrap();
    exchange(Arc::default()).exchange(&way, get("http://r.test:5000/v2/")).await.unwrap();
    let asked = proxy.requests.recv().await.unwrap();
    assert!(asked.starts_with("GET http://r.test:5000/v2/ HTTP/1.1\r\n"), "{asked}");

    let refusing = serve("HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n", None).await;
    let way = Way::new(&registry("https://r.test"), &through(refusing.address, None)).unwrap();
    let error = exchange(Arc::default()).exchange(&way, get("https://r.test/")).await.unwrap_err();
    let told = format!("r.test through the proxy {}: ", refusing.address);
    assert!(error.kind == Kind::Unreachable && error.detail().unwrap().starts_with(&told), "{error:?}");
    assert!(error.to_string().contains("proxy authorization required"), "{error}");
}

#[tokio::test]
async fn a_proxy_s_name_is_resolved_and_checked() {
    let mut proxy = serve(HELLO, None).await;
    let names = known("p.test", &[proxy.address]);
    let url = format!("http://p.test:{}", proxy.address.port()).parse().unwrap();
    let mut egress =
        config::Egress { proxy: config::SharedProxy::Given(config::Proxy { url, credentials: None }), ..Default::default() };
    let ask = async |egress: &config::Egress| {
        let way = Way::new(&named("http://r.test"), egress).unwrap();
        exchange(names.clone()).exchange(&way, get("http://r.test/")).await.map(|_| ()).map_err(|error| error.kind)
    };
    assert_eq!(ask(&egress).await, Err(Kind::Forbidden), "a registry's own addresses are not the proxy's");
    assert!(proxy.requests.try_recv().is_err());
    egress.proxy_addresses = vec!["127.0.0.0/8".parse().unwrap()];
    assert_eq!(ask(&egress).await, Ok(()));
}

#[tokio::test]
async fn connections_start_where_the_registry_says_and_what_fails_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut registry = registry(&url);
    registry.source = Some(config::Source::Address("127.0.0.77".parse().unwrap()));
    let (way, guarded) = (way_of(&registry), exchange(Arc::default()));
    let (_, accepted) = tokio::select! {
        _ = guarded.exchange(&way, get(&url)) => unreachable!("nobody answers"),
        accepted = listener.accept() => accepted.unwrap(),
    };
    assert_eq!(accepted.ip().to_string(), "127.0.0.77");
    for (source, told) in [
        (config::Source::Address("192.0.2.1".parse().unwrap()), " from source_address 192.0.2.1: "),
        (config::Source::Interface("nosuch0".to_owned()), " from interface nosuch0: "),
    ] {
        registry.source = Some(source);
        let error = guarded.exchange(&way_of(&registry), get(&url)).await.unwrap_err();
        assert!(error.kind == Kind::Unreachable && error.detail().unwrap().contains(told), "{error:?}");
    }
}

#[tokio::test]
async fn a_private_endpoint_may_be_a_name() {
    let mut server = serve(HELLO, None).await;
    let names = known("vpce.test", &[server.address]);
    let mut registry = named("http://r.test:5000");
    registry.private_endpoint = Some(config::PrivateEndpoint::Name("vpce.test".to_owned(), server.address.port()));
    exchange(names.clone()).exchange(&way_of(&registry), get("http://r.test:5000/")).await.unwrap();
    let request = server.requests.recv().await.unwrap().to_lowercase();
    assert!(request.contains("\r\nhost: r.test:5000\r\n"), "{request}");
    registry.addresses = Vec::new();
    let error = exchange(names).exchange(&way_of(&registry), get("http://r.test:5000/")).await.unwrap_err();
    assert!(error.kind == Kind::Forbidden && error.to_string().contains("vpce.test"), "{error}");
}

#[tokio::test]
async fn what_is_prepared_is_what_the_first_exchange_needs() {
    let direct = way_of(&named("http://r.test"));
    exchange(Arc::default()).prepare(&direct).await;
    assert!(direct.direct.initialized());
    let proxied = Way::new(&registry("https://r.test"), &through(([127, 0, 0, 1], 9).into(), None)).unwrap();
    exchange(Arc::default()).prepare(&proxied).await;
    assert!(!proxied.direct.initialized(), "it goes through the proxy");
}
