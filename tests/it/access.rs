//! Who we are to upstreams, and what never leaves: credentials go to their registry and its own token server only.

use super::support::proxy::{ANYBODY, Proxy, Setup};
use super::support::registry::basic;
use super::support::*;

const USER: &str = "credentials = { kind = \"basic\", username = \"alice\", password = { file = \"password\" } }";

async fn proxy(hub: &Registry, keys: &str) -> Proxy {
    setup(hub, keys).section(ANYBODY).start().await
}

fn setup(hub: &Registry, keys: &str) -> Setup {
    let setup = Setup::new().registry("docker.io", hub, &format!("default = true\n{keys}"));
    std::fs::write(setup.folder().join("password"), "s3cret\n").unwrap();
    setup
}

async fn hub() -> (Registry, Image) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(100_000)]);
    (hub, image)
}

async fn pull(proxy: &Proxy, image: &Image) -> (u16, u16) {
    let manifest = proxy.get("/v2/library/app/manifests/latest", &[]).await;
    let blob = proxy.get(&format!("/v2/library/app/blobs/{}", image.layers[0].digest), &[]).await;
    assert!(manifest.status != 200 || manifest.body == image.manifest.bytes);
    assert!(blob.status != 200 || blob.body == image.layers[0].bytes);
    (manifest.status, blob.status)
}

#[tokio::test]
async fn basic_credentials_open_a_basic_registry() {
    let (hub, image) = hub().await;
    hub.require_basic("alice", "s3cret");
    assert_eq!(pull(&proxy(&hub, USER).await, &image).await, (200, 200));
    let without = proxy(&hub, "").await;
    let reply = without.get("/v2/library/app/manifests/latest", &[("authorization", &basic("alice", "s3cret"))]).await;
    assert_eq!((reply.status, reply.header("www-authenticate")), (403, ""), "a client's own secret is never passed on");
    assert!(String::from_utf8_lossy(&reply.body).contains("credential"), "{:?}", reply.body);
}

#[tokio::test]
async fn what_credentials_open_is_for_anonymous_clients_only_by_a_statement() {
    let (hub, image) = hub().await;
    hub.require_basic("alice", "s3cret");
    let versions = "[policy]\ndefault = \"allow\"\n[[policy.statement]]\nid = \"app\"\neffect = \"allow\"\n\
                    resources = [\"docker.io/app:latest\"]\n";
    let proxy = setup(&hub, USER).start().await;
    assert_eq!(pull(&proxy, &image).await, (403, 403));
    let refused = proxy.get("/v2/library/app/manifests/latest", &[]).await;
    let told = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(!told.contains("default") && !told.contains("statement"), "the client is not told why: {told}");
    let reason = proxy.log().last().unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("an anonymous caller needs a statement"), "{reason}");
    assert_eq!(hub.connections(), 0);
    let proxy = setup(&hub, USER).section(versions).start().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 200);
    assert_eq!(proxy.get("/v2/library/app/manifests/other", &[]).await.status, 403);
}

#[tokio::test]
async fn tokens_are_fetched_from_the_pinned_realm_and_used_again() {
    for user in [false, true] {
        let ((hub, image), tokens) = (hub().await, Tokens::start().await);
        if user {
            tokens.add_user("alice", "s3cret");
        }
        hub.require_tokens(&tokens);
        let keys = format!("realm = \"{}\"\n{}", tokens.realm(), if user { USER } else { "" });
        let proxy = proxy(&hub, &keys).await;
        assert_eq!(pull(&proxy, &image).await, (200, 200), "user: {user}");
        assert_eq!(tokens.issued(), 1);
        let asked = &tokens.requests()[0];
        assert_eq!(asked.parameter("scope").as_deref(), Some("repository:library/app:pull"));
        assert_eq!(asked.header("authorization").is_some(), user);
        assert!(hub.requests().iter().all(|asked| !asked.header("authorization").unwrap_or_default().starts_with("Basic")));
        tokens.revoke_all();
        hub.push_image("library/app", "more", &[layer(5)]);
        assert_eq!(proxy.get("/v2/library/app/manifests/more", &[]).await.status, 200, "an expired token is replaced");
    }
}

#[tokio::test]
async fn blobs_behind_redirects_are_fetched_without_authorization() {
    for status in [302, 307, 308] {
        let ((hub, image), cdn) = (hub().await, Cdn::start().await);
        hub.require_basic("alice", "s3cret");
        hub.redirect_blobs(&cdn, status);
        let keys = format!("{USER}\nblob_hosts = [\"{}\"]", cdn.host());
        assert_eq!(pull(&proxy(&hub, &keys).await, &image).await, (200, 200), "{status}");
        assert!(!cdn.requests().is_empty());
        assert!(cdn.requests().iter().all(|asked| asked.header("authorization").is_none()));
    }
}

#[tokio::test]
async fn tls_upstreams_are_trusted_by_their_own_authority_and_no_other() {
    let ca = Ca::new();
    let hub = Registry::start_tls(&ca.issue(&["127.0.0.1"]), None).await;
    let image = hub.push_image("library/app", "latest", &[layer(10)]);
    for (authority, expected) in [(&ca, 200), (&Ca::new(), 502)] {
        let setup = Setup::new().registry("docker.io", &hub, "default = true\nca = \"ca.pem\"");
        std::fs::write(setup.folder().join("ca.pem"), authority.pem()).unwrap();
        assert_eq!(pull(&setup.start().await, &image).await, (expected, expected));
    }
}
