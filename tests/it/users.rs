//! Listeners with users: who is asked to log in, how clients do, and that their secrets stay here.

use roadstead::app::App;
use roadstead::oci::{Challenge, Challenges};
use roadstead::telemetry::Telemetry;

use super::support::process;
use super::support::proxy::{Proxy, Setup};
use super::support::registry::basic;
use super::support::*;

const MANIFEST: &str = "/v2/library/app/manifests/latest";

struct Scene {
    hub: Registry,
    image: Image,
    proxy: Proxy,
}

fn setup(hub: &Registry, keys: &str, more: &str) -> Setup {
    let setup = Setup::new().registry("docker.io", hub, "default = true");
    let line = format!("# who may pull\nci:{}\n", bcrypt::hash("hunter2", 4).unwrap());
    std::fs::write(setup.folder().join("users"), line).unwrap();
    setup.listener(&format!("users = {{ file = \"users\"{keys} }}")).section(more)
}

impl Scene {
    async fn new(keys: &str, more: &str) -> Self {
        let hub = Registry::start().await;
        let image = hub.push_image("library/app", "latest", &[layer(100_000)]);
        let proxy = setup(&hub, keys, more).start().await;
        Self { hub, image, proxy }
    }

    async fn get(&self, path: &str, authorization: &str) -> Reply {
        let headers = [("authorization", authorization)];
        self.proxy.get(path, if authorization.is_empty() { &[] } else { &headers }).await
    }

    async fn status(&self, path: &str, authorization: &str) -> u16 {
        self.get(path, authorization).await.status
    }

    /// Does as a client does that is answered 401: what it shows from then on.
    async fn follow(&self, reply: &Reply, authorization: &str) -> String {
        assert_eq!((reply.status, &reply.json()["errors"][0]["code"]), (401, &"UNAUTHORIZED".into()));
        let (realm, _) = bearer(reply);
        let path = realm.strip_prefix(&format!("http://{}", self.proxy.address)).expect("a realm on the host that was asked for");
        let query = "?service=roadstead&scope=repository%3Alibrary%2Fapp%3Apull&account=ci&client_id=x&offline_token=true";
        let answer = self.get(&format!("{path}{query}"), authorization).await;
        assert_eq!(
            (answer.status, answer.header("content-type"), answer.header("cache-control")),
            (200, "application/json", "no-store")
        );
        let token = answer.json();
        assert_eq!((token["expires_in"].as_u64(), &token["token"]), (Some(300), &token["access_token"]));
        assert!(token["refresh_token"].is_null(), "{token}");
        format!("Bearer {}", token["token"].as_str().unwrap())
    }

    async fn assert_pulls(&self, authorization: &str) {
        let manifest = self.get(MANIFEST, authorization).await;
        assert_eq!((manifest.status, &manifest.body), (200, &self.image.manifest.bytes));
        let blob = self.get(&self.blob(), authorization).await;
        assert_eq!((blob.status, &blob.body), (200, &self.image.layers[0].bytes));
    }

    fn blob(&self) -> String {
        format!("/v2/library/app/blobs/{}", self.image.layers[0].digest)
    }
}

fn bearer(reply: &Reply) -> (String, Option<String>) {
    let read = Challenges::parse([reply.header("www-authenticate")]);
    let Some(Challenge::Bearer { realm, service, scope }) = read.preferred() else { panic!("{:?}", reply.headers) };
    assert_eq!(service.as_deref(), Some("roadstead"));
    (realm.clone(), scope.clone())
}

#[tokio::test]
async fn nobody_is_served_who_has_not_logged_in_not_even_what_is_stored() {
    let scene = Scene::new("", "").await;
    let (user, blob) = (basic("ci", "hunter2"), scene.blob());
    for turn in ["cold", "warm"] {
        for path in ["/v2/", MANIFEST, &*blob, "/v2/library/app/tags/list", "/v2/nowhere.test/a/manifests/x"] {
            let reply = scene.get(path, "").await;
            assert_eq!((reply.status, reply.header("docker-content-digest")), (401, ""), "{turn} {path}");
            assert_eq!(scene.status(path, &basic("ci", "hunter3")).await, 401, "{turn} {path}");
        }
        assert_eq!(bearer(&scene.get(MANIFEST, "").await).1.as_deref(), Some("repository:library/app:pull"));
        assert_eq!(scene.proxy.head(&blob, &[]).await.header("www-authenticate").split(' ').next(), Some("Bearer"));
        if turn == "cold" {
            assert_eq!(scene.hub.requests().len(), 0);
        }
        scene.assert_pulls(&user).await;
    }
    assert_eq!((scene.status("/v2/", &user).await, scene.status("/readyz", "").await), (200, 200));
}

#[tokio::test]
async fn a_password_is_changed_for_a_token_as_clients_do() {
    let scene = Scene::new("", "").await;
    let user = basic("ci", "hunter2");
    let token = scene.follow(&scene.get("/v2/", "").await, &user).await;
    assert_eq!(scene.status("/v2/", &token).await, 200);
    scene.assert_pulls(&token).await;
    let flipped = token.replacen("Bearer A", "Bearer B", 1);
    let refused = scene.get(MANIFEST, &flipped).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").ends_with("error=\"invalid_token\""), "{:?}", refused.headers);
    for authorization in ["", &*basic("ci", "hunter3"), &*token] {
        let reply = scene.get("/token", authorization).await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Basic realm=\"roadstead\""), "{authorization}");
    }
    assert_eq!(scene.proxy.metric("roadstead_logins_total{listener=\"nodes\",result=\"wrong\"}").await, 1.0);
}

#[tokio::test]
async fn whoever_is_anonymous_is_served_where_that_is_allowed() {
    let scene = Scene::new(", mode = \"optional\"", "").await;
    scene.assert_pulls("").await;
    // Clients that look at /v2/ first learn there how to log in, and those without a login get a token all the same.
    let anonymous = scene.follow(&scene.get("/v2/", "").await, "").await;
    assert_eq!(scene.status("/v2/", &anonymous).await, 200);
    scene.assert_pulls(&anonymous).await;
    scene.assert_pulls(&scene.follow(&scene.get("/v2/", "").await, &basic("ci", "hunter2")).await).await;
    for authorization in [&*basic("ci", "hunter3"), "Bearer x"] {
        assert_eq!(scene.status(MANIFEST, authorization).await, 401, "{authorization}");
    }
}

#[tokio::test]
async fn what_the_policy_refuses_is_401_to_the_unknown_and_403_to_a_user() {
    let scene = Scene::new(", mode = \"optional\"", "[policy]\ndefault = \"deny\"\n").await;
    let refused = scene.get(MANIFEST, "").await;
    assert_eq!((refused.status, bearer(&refused).1.as_deref()), (401, Some("repository:library/app:pull")));
    let (anonymous, user) = (scene.follow(&refused, "").await, scene.follow(&refused, &basic("ci", "hunter2")).await);
    let again = scene.get(MANIFEST, &anonymous).await;
    assert!(
        again.status == 401 && again.header("www-authenticate").ends_with("error=\"insufficient_scope\""),
        "{:?}",
        again.headers
    );
    for authorization in [&*user, &*basic("ci", "hunter2")] {
        let denied = scene.get(MANIFEST, authorization).await;
        assert_eq!(
            (denied.status, denied.header("www-authenticate"), &denied.json()["errors"][0]["code"]),
            (403, "", &"DENIED".into())
        );
    }
    assert_eq!(scene.hub.requests().len(), 0);
}

#[tokio::test]
async fn no_secret_goes_upstream_or_into_a_log() {
    let scene = Scene::new("", "").await;
    let user = basic("ci", "hunter2");
    let token = scene.follow(&scene.get("/v2/", "").await, &user).await;
    scene.assert_pulls(&token).await;
    scene.assert_pulls(&user).await;
    assert_eq!(scene.status(MANIFEST, &basic("ci", "hunter3")).await, 401);
    assert!(!scene.hub.requests().is_empty() && scene.hub.requests().iter().all(|asked| asked.header("authorization").is_none()));
    let log = serde_json::to_string(&scene.proxy.log()).unwrap();
    for secret in ["hunter", user.trim_start_matches("Basic "), token.trim_start_matches("Bearer ")] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn without_users_there_is_no_token_server_and_nothing_shown_is_looked_at() {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(10)]);
    let proxy = Proxy::of(&hub).await;
    assert_eq!(proxy.get("/token", &[("authorization", &basic("ci", "hunter2"))]).await.status, 404);
    for authorization in [&*basic("ci", "hunter2"), "Bearer x", "nonsense"] {
        let headers = [("authorization", authorization)];
        assert_eq!((proxy.get("/v2/", &headers).await.status, proxy.get(MANIFEST, &headers).await.status), (200, 200));
    }
}

/// containerd posts its password first, and asks as everybody does when that is not offered.
#[tokio::test]
async fn a_post_for_a_token_is_told_to_get_it_and_its_body_is_dropped() {
    let scene = Scene::new("", "").await;
    let body = "grant_type=password&service=roadstead&client_id=containerd-client&username=ci&password=hunter2";
    let mut client = Client::connect(scene.proxy.address).await;
    let length = body.len();
    client.send(format!("POST /token HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n\r\n{body}")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"));
    assert_eq!(client.ask("GET", "/token", &[("authorization", &basic("ci", "hunter2"))]).await.status, 200);
    assert!(!serde_json::to_string(&scene.proxy.log()).unwrap().contains("hunter"));
}

#[tokio::test]
async fn the_realm_is_where_the_client_came_to_unless_that_is_no_host() {
    let scene = Scene::new("", "").await;
    for (host, realm) in [("mirror.test:5000", "Bearer realm=\"http://mirror.test:5000/token\""), ("evil\"test", "Basic realm=")] {
        let reply = Client::connect(scene.proxy.address).await.host(host).ask("GET", "/v2/", &[]).await;
        assert_eq!(reply.status, 401, "{host}");
        assert!(reply.header("www-authenticate").starts_with(realm), "{host}: {:?}", reply.headers);
    }
}

#[tokio::test]
async fn over_tls_the_realm_is_https_and_http2_logs_in_as_well() {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(10)]);
    let ca = Ca::new();
    let setup = setup(&hub, "", "").listener("\ntls = { certificate = \"tls.crt\", key = \"tls.key\" }");
    let identity = ca.issue(&["mirror.test"]);
    std::fs::write(setup.folder().join("tls.crt"), &identity.certificate_pem).unwrap();
    std::fs::write(setup.folder().join("tls.key"), &identity.key_pem).unwrap();
    let proxy = setup.start().await;
    let mut http2 = H2::connect_tls(proxy.address, "mirror.test", ca.client(&["h2"], None)).await;
    let refused = http2.get("/v2/", &[]).await;
    assert_eq!((refused.status, bearer(&refused).0.as_str()), (401, "https://mirror.test/token"));
    let answer = http2.get("/token", &[("authorization", &basic("ci", "hunter2"))]).await;
    let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    assert_eq!(http2.get(MANIFEST, &[("authorization", &token)]).await.status, 200);
}

#[tokio::test]
async fn a_file_of_users_that_cannot_be_used_keeps_it_from_starting() {
    let hub = Registry::start().await;
    let setup = setup(&hub, "", "");
    std::fs::write(setup.folder().join("users"), "# who may pull\nci:$apr1$hunter2\n").unwrap();
    let hosts = std::sync::Arc::new(Hosts::default());
    let Err(error) = App::build(setup.config(), hosts, Telemetry::quiet()).await else { panic!("it started") };
    let told = error.to_string();
    assert!(
        told.contains("/users:2: the password is hashed by apr1 (MD5), which is not taken; make the line anew with `htpasswd -B`"),
        "{told}"
    );
    assert!(!told.contains("hunter"), "{told}");
}

#[tokio::test]
async fn check_names_every_file_of_users_that_cannot_be_used() {
    let folder = tempfile::TempDir::new().unwrap();
    let listener =
        |n: u8| format!("[[listener]]\nname = \"l{n}\"\naddress = \"127.0.0.1:{n}\"\nusers = {{ file = \"users{n}\" }}\n");
    let config = folder.path().join("roadstead.toml");
    std::fs::write(&config, format!("[cache]\ndirectory = \"c\"\n{}", (1..=3).map(listener).collect::<String>())).unwrap();
    for (n, line) in [(1, "ci:{SHA}hunter2"), (2, "# nobody yet"), (3, "\nhunter2")] {
        std::fs::write(folder.path().join(format!("users{n}")), line).unwrap();
    }
    let output = process::run(&["check", "--config", config.to_str().unwrap()]).await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), told.lines().count()), (Some(1), 0, 2), "{told}");
    assert!(told.contains("users1:1: the password is hashed by SHA-1") && told.contains("users3:2: not a user"), "{told}");
    assert!(!told.contains("hunter"), "{told}");
}
