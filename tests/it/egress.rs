//! Where the proxy does not go: whatever upstreams and names say, nobody is contacted who is not meant, no credential leaves, the
//! client is told which host was refused, and the log says exactly why.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::support::proxy::{ANYBODY, Proxy, Setup};
use super::support::*;

const USER: &str = "credentials = { kind = \"basic\", username = \"alice\", password = { file = \"password\" } }";

/// A listener that nobody may contact, and that counts who does.
struct Trap {
    address: SocketAddr,
    contacts: Arc<AtomicUsize>,
}

impl Trap {
    async fn at(address: impl Into<SocketAddr>) -> Self {
        let listener = tokio::net::TcpListener::bind(address.into()).await.unwrap();
        let (address, contacts) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = contacts.clone();
        tokio::spawn(async move {
            loop {
                let contact = listener.accept().await;
                count.fetch_add(1, Ordering::SeqCst);
                drop(contact);
            }
        });
        Self { address, contacts }
    }

    async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0)).await
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn contacts(&self) -> usize {
        self.contacts.load(Ordering::SeqCst)
    }
}

fn setup(hub: &Registry, keys: &str) -> Setup {
    let setup = Setup::new().registry("docker.io", hub, &format!("default = true\n{USER}\n{keys}")).section(ANYBODY);
    std::fs::write(setup.folder().join("password"), "s3cret\n").unwrap();
    setup
}

/// A registry that wants credentials, which a proxy of it has shown already when this returns.
async fn known(keys: &str, hosts: Hosts) -> (Registry, Proxy) {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(100_000)]);
    hub.require_basic("alice", "s3cret");
    let proxy = setup(&hub, keys).hosts(hosts).start().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 200);
    (hub, proxy)
}

/// Asks for something that is refused: what the client was told, and the reason in the log.
async fn refused(proxy: &Proxy, path: &str) -> (String, String) {
    let before = proxy.log().len();
    let reply = proxy.get(path, &[]).await;
    assert_eq!(reply.status, 502, "{path}: {:?}", reply.body);
    let line = within(async {
        loop {
            match proxy.log().get(before) {
                Some(line) => return line.clone(),
                None => tokio::task::yield_now().await,
            }
        }
    });
    let reason = line.await["reason"].as_str().unwrap().to_owned();
    (reply.json()["errors"][0]["message"].as_str().unwrap().to_owned(), reason)
}

/// Each asks for another tag, so that none is answered from what is known of another.
fn tag(number: usize) -> String {
    format!("/v2/library/app/manifests/t{number}")
}

#[tokio::test]
async fn a_redirect_to_what_is_not_declared_contacts_nobody_in_any_notation() {
    let trap = Trap::start().await;
    let (hub, proxy) = known("", Hosts::of(&[("trap.test", trap.address), ("metadata.google.internal", trap.address)])).await;
    let loopback = ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "0.0.0.0", "localhost"];
    let dressed = ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "trap.test", "trap.test.", "alice:s3cret@127.0.0.1"];
    let metadata = [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.169.254.",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "metadata.google.internal",
    ];
    let traps = loopback.iter().chain(&dressed).map(|host| format!("http://{host}:{}/x?signature=secret", trap.port()));
    let metadata = metadata.iter().map(|host| format!("http://{host}/latest/meta-data/"));
    let relative = [format!("//trap.test:{}/x", trap.port()), "file:///etc/passwd".to_owned()];
    for (number, place) in traps.chain(metadata).chain(relative).enumerate() {
        hub.heal();
        hub.fault(on("/manifests/"), Fault::Redirect(place.clone()));
        let (told, reason) = refused(&proxy, &tag(number)).await;
        assert!(told.contains("docker.io may not connect to ") && !told.contains("secret"), "{place}: {told}");
        assert_eq!(told, reason, "{place}");
    }
    assert_eq!(trap.contacts(), 0);
    assert_eq!(proxy.setup().names().asked(), [""; 0], "not even a name is looked up");
}

#[tokio::test]
async fn a_blob_s_redirect_is_judged_as_a_manifest_s() {
    let trap = Trap::start().await;
    let (hub, proxy) = known("", Hosts::default()).await;
    let blob = layer(5000);
    hub.push_blob("library/app", &blob);
    hub.fault(on("/blobs/"), Fault::Redirect(format!("http://{}/", trap.address)));
    let (told, _) = refused(&proxy, &format!("/v2/library/app/blobs/{}", blob.digest)).await;
    assert!(told.contains(&format!("may not connect to {}", trap.address)) && told.contains("blob_hosts"), "{told}");
    assert_eq!(trap.contacts(), 0);
}

#[tokio::test]
async fn a_declared_name_at_an_address_that_is_not_meant_is_not_contacted_and_the_client_is_not_told_where_it_leads() {
    let trap = Trap::start().await;
    let keys = format!("blob_hosts = [\"cdn.test:{}\"]\naddresses = [\"169.254.0.0/16\", \"fd00::/8\"]", trap.port());
    let (hub, proxy) = known(&keys, Hosts::default()).await;
    hub.fault(on("/manifests/"), Fault::Redirect(format!("http://cdn.test:{}/x", trap.port())));
    let addresses =
        ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"];
    for (number, address) in addresses.iter().enumerate() {
        let ip: std::net::IpAddr = address.parse().unwrap();
        // Beside one that is fit, as somebody would answer who wants to be let through.
        proxy.setup().names().point("cdn.test", &[SocketAddr::new([1, 1, 1, 1].into(), 0), SocketAddr::new(ip, 0)]);
        let (told, reason) = refused(&proxy, &tag(number)).await;
        let place = ip.to_canonical().to_string();
        assert!(told.contains("cdn.test") && !told.contains(&place), "{told}");
        assert!(reason.contains(&format!("may not connect to cdn.test at {place}: ")), "{reason}");
    }
    assert_eq!(trap.contacts(), 0);
}

#[tokio::test]
async fn a_name_that_means_something_else_when_it_is_asked_again_leads_only_where_it_was_checked() {
    for (networks, contacts) in [("127.0.0.1/32", 0), ("127.0.0.0/8", 1)] {
        let hub = Registry::start().await;
        hub.push_image("library/app", "latest", &[layer(10)]);
        let trap = Trap::at((Ipv4Addr::new(127, 0, 0, 2), hub.address().port())).await;
        hub.call_it(&format!("r.test:{}", hub.address().port()));
        let hosts = Hosts::of(&[("r.test", hub.address())]);
        hosts.then("r.test", &[trap.address]);
        let proxy = setup(&hub, &format!("addresses = [\"{networks}\"]")).hosts(hosts).start().await;
        // Were it asked once for the check and again for the connection, this would end in the trap.
        assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 200);
        assert_eq!((proxy.setup().names().asked().len(), hub.connections(), trap.contacts()), (1, 1, 0));
        hub.hang_up().await;
        let (told, reason) = refused(&proxy, &tag(0)).await;
        assert!(told.contains("r.test"), "{told}");
        assert_eq!(reason.contains("may not connect to r.test at 127.0.0.2"), contacts == 0, "{reason}");
        assert_eq!(trap.contacts() > 0, contacts > 0, "{networks}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_let_through_where_the_registry_says_so() {
    for (keys, status) in [("", 502), ("addresses = [\"127.0.0.0/8\"]", 200), ("addresses = [\"10.0.0.0/8\"]", 502)] {
        let hub = Registry::start().await;
        hub.push_image("library/app", "latest", &[layer(10)]);
        hub.call_it(&format!("registry.internal:{}", hub.address().port()));
        let proxy = setup(&hub, keys).hosts(Hosts::of(&[("registry.internal", hub.address())])).start().await;
        assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, status, "{keys}");
        assert_eq!(hub.connections() > 0, status == 200);
    }
}

#[tokio::test]
async fn a_realm_elsewhere_gets_nothing() {
    let trap = Trap::start().await;
    for realm in [
        format!("http://{}/token", trap.address),
        format!("http://trap.test:{}/token", trap.port()),
        "http://169.254.169.254/latest/api/token".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let (hub, tokens) = (Registry::start().await, Tokens::start().await);
        tokens.set_realm(realm.clone());
        hub.require_tokens(&tokens);
        // Even where the host may be connected to for blobs.
        let keys = format!("blob_hosts = [\"{}\", \"trap.test:{}\"]", trap.address, trap.port());
        let hosts = Hosts::of(&[("trap.test", trap.address)]);
        let proxy = setup(&hub, &format!("{keys}\naddresses = [\"127.0.0.0/8\"]")).hosts(hosts).start().await;
        let (told, reason) = refused(&proxy, "/v2/library/app/manifests/latest").await;
        assert!(told.contains(&format!("set realm = \"{realm}\"")) && told == reason, "it says what to configure: {told}");
        assert!(hub.requests().iter().all(|asked| asked.header("authorization").is_none()));
    }
    assert_eq!(trap.contacts(), 0);
}

#[tokio::test]
async fn a_list_that_goes_on_elsewhere_is_neither_followed_nor_passed_off_as_whole() {
    let trap = Trap::start().await;
    let (hub, proxy) = known(&format!("blob_hosts = [\"{}\"]", trap.address), Hosts::default()).await;
    let link = format!("<http://{}/v2/library/app/tags/list?n=1&last=a>; rel=\"next\"", trap.address);
    hub.fault(on("/tags/list"), Fault::Header("link", link));
    let (told, reason) = refused(&proxy, "/v2/library/app/tags/list?n=1").await;
    let says = format!("the list goes on at http://{}, which is not followed", trap.address);
    assert!(told.contains(&says) && told == reason, "{told}");
    assert_eq!(trap.contacts(), 0);
}

#[tokio::test]
async fn https_never_turns_into_http() {
    let (trap, ca) = (Trap::start().await, Ca::new());
    let hub = Registry::start_tls(&ca.issue(&["127.0.0.1"]), None).await;
    let setup = setup(&hub, &format!("ca = \"ca.pem\"\nblob_hosts = [\"{}\", \"127.0.0.1\"]", trap.address));
    std::fs::write(setup.folder().join("ca.pem"), ca.pem()).unwrap();
    let proxy = setup.start().await;
    for (number, place) in [trap.address.to_string(), hub.address().to_string(), "127.0.0.1".to_owned()].iter().enumerate() {
        hub.heal();
        hub.fault(on("/manifests/"), Fault::Redirect(format!("http://{place}/x")));
        let (told, reason) = refused(&proxy, &tag(number)).await;
        assert!(told.contains("redirects from https to plain http at 127.0.0.1") && told == reason, "{told}");
    }
    assert_eq!(trap.contacts(), 0);
}

/// A port that nobody listens on, but for whom it is meant.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listener(address: &str, port: u16) -> String {
    format!("[[listener]]\nname = \"fixed\"\naddress = \"{address}:{port}\"\n")
}

#[tokio::test]
async fn a_redirect_to_ourselves_is_not_followed_though_it_is_declared() {
    for ours in ["127.0.0.1", "0.0.0.0"] {
        let (hub, port) = (Registry::start().await, free_port());
        let hosts = ["127.0.0.1", "0.0.0.0", "localhost", "front.test"].map(|host| format!("{host}:{port}"));
        let keys = format!("blob_hosts = {hosts:?}\naddresses = [\"127.0.0.0/8\"]");
        let names = Hosts::default();
        for name in ["localhost", "front.test"] {
            names.point(name, &[(Ipv4Addr::LOCALHOST, 0).into()]);
        }
        let section = format!("{}[policy]\ndefault = \"allow\"\n", listener(ours, port));
        let proxy = setup(&hub, &keys).section(&section).hosts(names).start().await;
        for (number, host) in hosts.iter().enumerate() {
            hub.heal();
            hub.fault(on("/manifests/"), Fault::Redirect(format!("http://{host}/v2/library/app/manifests/latest")));
            let (told, reason) = refused(&proxy, &tag(number)).await;
            assert!(told.contains("is this proxy itself"), "{ours}: {told}");
            assert!(reason.contains(&format!(":{port})")), "{reason}");
        }
        assert_eq!(proxy.log().len(), hosts.len(), "none of them came back");
    }
}

#[tokio::test]
async fn a_proxy_whose_upstream_is_itself_says_so() {
    let port = free_port();
    let registry = format!("[[registry]]\nname = \"docker.io\"\nurls = [\"http://127.0.0.1:{port}\"]\ndefault = true\n");
    let proxy = Setup::new().registries(&registry).section(&listener("127.0.0.1", port)).start().await;
    let (told, _) = refused(&proxy, "/v2/library/app/manifests/latest").await;
    assert!(told.contains("is this proxy itself"), "{told}");
    assert_eq!(proxy.log().len(), 1);
}

#[tokio::test]
async fn a_circle_of_proxies_closes_at_once_and_says_so() {
    let ports = [free_port(), free_port()];
    let start = async |own: u16, next: u16| {
        let registry = format!("[[registry]]\nname = \"docker.io\"\nurls = [\"http://127.0.0.1:{next}\"]\ndefault = true\n");
        Setup::new().registries(&registry).section(&listener("127.0.0.1", own)).start().await
    };
    let (first, second) = (start(ports[0], ports[1]).await, start(ports[1], ports[0]).await);
    let blob = format!("/v2/library/app/blobs/{}", layer(10).digest);
    for (number, path) in ["/v2/library/app/manifests/latest", &blob, "/v2/library/app/tags/list"].into_iter().enumerate() {
        refused(&first, path).await;
        let came_back = |line: &Value| line["reason"].as_str().is_some_and(|why| why.contains("came from this very proxy"));
        assert!(first.log().iter().filter(|line| came_back(line)).count() > number, "{path}: {:?}", first.log());
    }
    assert!(!second.log().is_empty());
}

#[tokio::test]
async fn what_has_passed_eight_proxies_goes_no_further_and_what_has_passed_fewer_says_so_upstream() {
    let (hub, proxy) = known("", Hosts::default()).await;
    hub.forget();
    let mark = "1.1 roadstead-0123456789abcdef";
    let eight = [mark; 8].join(", ");
    let reply = proxy.get("/v2/library/app/manifests/t1", &[("via", &eight)]).await;
    assert_eq!((reply.status, hub.requests().len()), (502, 0));
    assert!(String::from_utf8_lossy(&reply.body).contains("has passed 8 proxies"), "{:?}", reply.body);
    proxy.get("/v2/library/app/manifests/t1", &[("via", &format!("1.1 gw.corp.example, {mark}"))]).await;
    let via = hub.requests()[0].header("via").unwrap().to_owned();
    assert!(via.starts_with(&format!("{mark}, 1.1 roadstead-")) && !via.contains("corp"), "{via}");
}

#[tokio::test]
async fn through_an_http_proxy_names_are_declared_here_and_looked_up_there() {
    let (gateway, trap) = (Registry::start().await, Trap::start().await);
    let image = gateway.push_image("library/app", "latest", &[layer(1000)]);
    let registry = "[[registry]]\nname = \"docker.io\"\nurls = [\"http://registry.internal\"]\ndefault = true\n";
    let egress = format!(
        "[egress]\nproxy = \"http://{}\"\nproxy_credentials = {{ username = \"us\", password = {{ file = \"password\" }} }}\n",
        gateway.address()
    );
    let setup = Setup::new().registries(registry).section(&egress);
    std::fs::write(setup.folder().join("password"), "s3cret\n").unwrap();
    let proxy = setup.start().await;
    let reply = proxy.get("/v2/library/app/manifests/latest", &[]).await;
    assert_eq!((reply.status, &reply.body), (200, &image.manifest.bytes));
    let asked = &gateway.requests()[0];
    assert_eq!(asked.header("host"), Some("registry.internal"));
    assert_eq!(asked.header("proxy-authorization"), Some(&*super::support::registry::basic("us", "s3cret")));
    for (number, place) in ["other.internal".to_owned(), trap.address.to_string()].iter().enumerate() {
        gateway.heal();
        gateway.fault(on("/manifests/"), Fault::Redirect(format!("http://{place}/")));
        let before = gateway.requests().len();
        let (told, _) = refused(&proxy, &tag(number)).await;
        assert!(told.contains(&format!("may not connect to {place}")), "{told}");
        assert_eq!(gateway.requests().len(), before + 1, "the proxy is not asked for it");
    }
    assert_eq!((proxy.setup().names().asked().len(), trap.contacts()), (0, 0));
}
