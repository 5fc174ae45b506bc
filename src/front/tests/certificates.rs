//! Certificates of listeners and of clients, and new ones while old connections go on.

use std::io;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::http2::{ask, client};
use super::*;
use crate::config::{ClientAuth, ListenerTls};
use crate::request::Principal;

/// An authority.
struct Ca {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Leaf {
    pem: (String, String),
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, hosts: &[&str]) -> Leaf {
        self.issue_with(hosts, |_| {})
    }

    fn issue_with(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key_der = key.serialize_der().try_into().unwrap();
        Leaf { pem: (leaf.pem(), key.serialize_pem()), chain: vec![leaf.der().clone()], key: key_der }
    }

    /// A client that trusts this authority and shows `own` where it is asked.
    fn client(&self, protocol: &[u8], own: Option<&Leaf>) -> Arc<ClientConfig> {
        self.client_of(rustls::ALL_VERSIONS, protocol, own)
    }

    fn client_of(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocol: &[u8],
        own: Option<&Leaf>,
    ) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

/// The authority's file and the leaves' files in `folder`, as a listener's TLS.
fn tls(folder: &Path, leaves: &[&Leaf], clients: Option<(&Ca, bool)>) -> ListenerTls {
    let write = |name: String, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let pair = |(index, leaf): (usize, &&Leaf)| config::KeyPair {
        certificate: write(format!("{index}.crt"), &leaf.pem.0),
        key: write(format!("{index}.key"), &leaf.pem.1),
    };
    let clients = clients.map(|(ca, required)| ClientAuth { ca: write("ca.pem".to_owned(), &ca.certificate.pem()), required });
    ListenerTls { certificates: leaves.iter().enumerate().map(pair).collect(), clients }
}

async fn connect(front: &Front, host: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let host = host.to_owned().try_into().unwrap();
    within(TlsConnector::from(config).connect(host, front.connect().await)).await
}

/// Answers with what it knows of its caller.
fn who(request: &Request) -> Answer {
    let tls = request.caller.tls.as_ref().expect("a listener with TLS");
    let host = tls.server_name.as_deref().unwrap_or("-");
    let names: Vec<&str> = request.caller.principals.iter().map(Principal::as_str).collect();
    Answer::new(Reply::Ok).body(Body::Bytes(format!("{} {host} {}", tls.version, names.join(" ")).into()), None)
}

/// What the listener says to this client's request; with TLS 1.3 its refusal shows only then.
async fn said(front: &Front, host: &str, config: Arc<ClientConfig>) -> io::Result<String> {
    let mut stream = connect(front, host, config).await?;
    stream.write_all(get("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await?;
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

const H1: &[u8] = b"http/1.1";

#[tokio::test]
async fn a_clients_names_are_known_by_either_protocol_and_version() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let server = ca.issue(&["mirror.test"]);
    let setup = Setup { tls: Some(tls(folder.path(), &[&server], Some((&clients, true)))), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    let node = clients.issue_with(&["node.test"], |params| {
        params.subject_alt_names.push(SanType::URI("spiffe://prod/node".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "the node");
    });
    let names = "dns:node.test spiffe://prod/node cn:the node";
    let answer = said(&front, "mirror.test", ca.client(H1, Some(&node))).await.unwrap();
    assert_eq!(answer, format!("1.3 mirror.test {names}"));
    let mut http2 = client(connect(&front, "mirror.test", ca.client(b"h2", Some(&node))).await.unwrap()).await;
    for _ in 0..2 {
        let answer = ask(&mut http2, "GET", "/", Bytes::new()).await.into_body();
        let body = http_body_util::BodyExt::collect(answer).await.unwrap().to_bytes();
        assert_eq!(body, format!("1.3 mirror.test {names}"));
    }
    let old = ca.client_of(&[&rustls::version::TLS12], H1, Some(&node));
    assert_eq!(said(&front, "mirror.test", old).await.unwrap(), format!("1.2 mirror.test {names}"));
    assert!(front.logged(4).await.contains("\"status\":200"));
}

#[tokio::test]
async fn who_has_no_certificate_or_a_wrong_one_is_refused_and_each_counts() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let server = ca.issue(&["mirror.test"]);
    let setup = Setup { tls: Some(tls(folder.path(), &[&server], Some((&clients, true)))), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    let without = said(&front, "mirror.test", ca.client(H1, None)).await.unwrap_err();
    assert!(without.to_string().contains("CertificateRequired"), "{without}");
    let foreign = said(&front, "mirror.test", ca.client(H1, Some(&ca.issue(&["node.test"])))).await.unwrap_err();
    assert!(foreign.to_string().contains("UnknownCA"), "{foreign}");
    let expired = clients.issue_with(&["node.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let expired = said(&front, "mirror.test", ca.client(H1, Some(&expired))).await.unwrap_err();
    assert!(expired.to_string().contains("CertificateExpired"), "{expired}");
    let names: Vec<String> = (0..40).map(|i| format!("n{i}.test")).collect();
    let many = clients.issue(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(said(&front, "mirror.test", ca.client(H1, Some(&many))).await.is_err());
    assert!(front.refused("no_certificate", 1) && front.refused("certificate", 3), "{}", front.metrics());
    let good = clients.issue(&["node.test"]);
    assert!(said(&front, "mirror.test", ca.client(H1, Some(&good))).await.is_ok());
}

#[tokio::test]
async fn a_client_that_is_still_sending_learns_what_it_lacks() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let server = ca.issue(&["mirror.test"]);
    let setup = Setup { tls: Some(tls(folder.path(), &[&server], Some((&clients, true)))), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    let mut stream = connect(&front, "mirror.test", ca.client(H1, None)).await.unwrap();
    within(async {
        while !front.refused("no_certificate", 1) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
        within(stream.write_all(&[7; 64 << 10])).await.expect("what it sends is taken for a while");
    }
    let learnt = within(stream.read_u8()).await.unwrap_err();
    assert!(learnt.to_string().contains("CertificateRequired"), "{learnt}");
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_and_not_be_wrong() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let server = ca.issue(&["mirror.test"]);
    let setup = Setup { tls: Some(tls(folder.path(), &[&server], Some((&clients, false)))), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    assert_eq!(said(&front, "mirror.test", ca.client(H1, None)).await.unwrap(), "1.3 mirror.test ");
    let good = clients.issue(&["node.test"]);
    let known = said(&front, "mirror.test", ca.client(H1, Some(&good))).await.unwrap();
    assert!(known.starts_with("1.3 mirror.test dns:node.test"), "{known}");
    assert!(said(&front, "mirror.test", ca.client(H1, Some(&ca.issue(&["node.test"])))).await.is_err());
    assert!(front.refused("certificate", 1));
}

/// The certificate that the listener shows to who wants `host`.
async fn shown(front: &Front, host: &str, ca: &Ca) -> CertificateDer<'static> {
    let stream = connect(front, host, ca.client(H1, None)).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn the_host_that_is_wanted_chooses_the_certificate() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new("servers"));
    let [first, exact, wild] = [&["first.test", "10.0.0.1"][..], &["a.wild.test"], &["*.wild.test"]].map(|hosts| ca.issue(hosts));
    let setup = Setup { tls: Some(tls(folder.path(), &[&first, &exact, &wild], None)), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    for (host, leaf) in [("first.test", &first), ("a.wild.test", &exact), ("b.wild.test", &wild), ("10.0.0.1", &first)] {
        assert_eq!(shown(&front, host, &ca).await, leaf.chain[0], "{host}");
    }
    assert!(connect(&front, "other.test", ca.client(H1, None)).await.is_err(), "the first is not for it");
}

#[tokio::test]
async fn new_files_are_for_new_connections_and_broken_ones_for_none() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let (old, new) = (ca.issue(&["mirror.test"]), ca.issue(&["mirror.test"]));
    let setup = Setup { tls: Some(tls(folder.path(), &[&old], None)), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    let mut open = connect(&front, "mirror.test", ca.client(H1, None)).await.unwrap();
    let mut still_served = async || {
        open.write_all(get("/").as_bytes()).await.unwrap();
        read_answer(&mut open).await
    };
    still_served().await;

    let renewed = listener_config(Some(tls(folder.path(), &[&new], Some((&clients, true)))), None, 100);
    std::fs::write(folder.path().join("0.key"), &old.pem.1).unwrap();
    assert!(Terms::read(&renewed).is_err());
    assert_eq!(shown(&front, "mirror.test", &ca).await, old.chain[0]);
    assert!(said(&front, "mirror.test", ca.client(H1, None)).await.is_ok(), "nothing of a broken reload counts");

    std::fs::write(folder.path().join("0.key"), &new.pem.1).unwrap();
    front.entrance.replace(Terms::read(&renewed).unwrap());
    assert!(said(&front, "mirror.test", ca.client(H1, None)).await.is_err());
    let node = clients.issue(&["node.test"]);
    let stream = connect(&front, "mirror.test", ca.client(H1, Some(&node))).await.unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], new.chain[0]);
    still_served().await;
}

#[tokio::test]
async fn no_session_of_a_client_with_a_certificate_is_resumed() {
    let (folder, ca, clients) = (tempfile::tempdir().unwrap(), Ca::new("servers"), Ca::new("clients"));
    let server = ca.issue(&["mirror.test"]);
    let setup = Setup { tls: Some(tls(folder.path(), &[&server], Some((&clients, true)))), ..Setup::default() };
    let front = setup.start(at_once(|request| who(&request)));
    let config = ca.client(H1, Some(&clients.issue(&["node.test"])));
    for _ in 0..2 {
        let mut stream = connect(&front, "mirror.test", config.clone()).await.unwrap();
        stream.write_all(get("/").as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}
