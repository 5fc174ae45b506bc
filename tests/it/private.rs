//! What one tenant may pull is nothing to another, whatever is stored: two tenants, each with a listener for its endpoint.

use std::net::SocketAddr;

use super::support::proxy::{Proxy, Setup};
use super::support::*;

/// The digest of nothing that anybody has; as long as any other.
const ABSENT: &str = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

/// Red may pull everything. Blue may pull what is public, and the versions of one more repository.
const POLICY: &str = r#"
[[listener]]
name = "blue"
address = "127.0.0.1:0"

[policy]
default = "deny"

[[policy.statement]]
id = "red"
effect = "allow"
endpoints = ["nodes"]

[[policy.statement]]
id = "blue"
effect = "allow"
endpoints = ["blue"]
resources = ["docker.io/public/*", "docker.io/team/app:v*"]
"#;

struct Scene {
    hub: Registry,
    proxy: Proxy,
    blue: SocketAddr,
}

impl Scene {
    async fn new(cache: &str) -> Self {
        let hub = Registry::start().await;
        let setup = Setup::new().registry("docker.io", &hub, "default = true").cache(cache).section(POLICY);
        let audit = format!("[audit]\noutput = \"{}\"\n", setup.folder().join("audit.log").display());
        let setup = setup.section(&audit);
        let proxy = setup.start().await;
        let blue = proxy.addresses[1];
        Self { hub, proxy, blue }
    }

    /// Red pulls all of an image, until it is stored.
    async fn pull(&self, repository: &str, tag: &str, image: &Image) {
        let base = format!("/v2/{repository}");
        for reference in [tag, &image.manifest.digest.to_string()] {
            assert_eq!(self.proxy.get(&format!("{base}/manifests/{reference}"), &[]).await.status, 200);
        }
        for blob in image.layers.iter().chain([&image.config]) {
            self.proxy.get_until(&format!("{base}/blobs/{}", blob.digest), |reply| reply.header("x-cache") == "hit").await;
        }
    }

    /// What blue gets for each of `paths`, asked in each of the ways there are to ask.
    async fn blue_gets(&self, paths: &[String]) -> Vec<Face> {
        let mut faces = Vec::new();
        for path in paths {
            for (method, headers) in WAYS {
                faces.push(face(&Client::connect(self.blue).await.ask(method, path, headers).await));
            }
        }
        faces
    }
}

/// By GET, HEAD, range, and as somebody who has it already.
const WAYS: [(&str, client::Headers<'static>); 5] = [
    ("GET", &[]),
    ("HEAD", &[]),
    ("GET", &[("range", "bytes=0-9")]),
    ("GET", &[("range", "bytes=5-")]),
    ("GET", &[("if-none-match", "*")]),
];

/// An answer, but for what is different in any two, and how old a list is that is there.
type Face = (u16, Vec<(String, String)>, String);

fn face(reply: &Reply) -> Face {
    assert!(reply.complete());
    let fields = reply.headers.iter().filter(|(name, _)| !["x-request-id", "date", "age"].contains(&name.as_str()));
    let mut fields: Vec<(String, String)> =
        fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    fields.sort();
    (reply.status, fields, String::from_utf8(reply.body.to_vec()).unwrap())
}

/// The paths by which an image, or what is in it, can be asked for by digest through a repository.
fn by_digest(repository: &str, image: &Image) -> Vec<String> {
    let (manifest, base) = (image.manifest.digest, format!("/v2/{repository}"));
    let blobs = image.layers.iter().chain([&image.config]).map(|blob| format!("{base}/blobs/{}", blob.digest));
    let manifests = ["manifests", "blobs", "referrers"].map(|kind| format!("{base}/{kind}/{manifest}"));
    blobs.chain(manifests).collect()
}

/// The same paths, with a digest that nobody has.
fn absent(paths: &[String]) -> Vec<String> {
    paths.iter().map(|path| format!("{}/{ABSENT}", path.rsplit_once('/').unwrap().0)).collect()
}

#[tokio::test]
async fn a_repository_of_another_tenant_is_as_one_that_does_not_exist_and_nobody_is_asked() {
    let scene = Scene::new("").await;
    let image = scene.hub.push_image("private/app", "v1", &[layer(300_000), layer(1000)]);
    scene.pull("private/app", "v1", &image).await;
    scene.hub.forget();
    let mut paths = by_digest("private/app", &image);
    let nowhere = [absent(&paths), ["manifests/v1", "tags/list"].map(|rest| format!("/v2/private/app/{rest}")).to_vec()].concat();
    paths.extend(["manifests/none".to_owned(), "tags/list".to_owned()].map(|rest| format!("/v2/private/app/{rest}")));
    let (there, not) = (scene.blue_gets(&paths).await, scene.blue_gets(&nowhere).await);
    assert!(there.iter().all(|(status, ..)| *status == 403), "{there:?}");
    assert_eq!(there, not);
    // The answer says the name that was asked for, so it is one of the same length.
    let elsewhere: Vec<String> = paths.iter().map(|path| path.replace("private/app", "private/nil")).collect();
    let renamed = |(status, fields, body): Face| {
        let field = |(name, value): (String, String)| (name, value.replace("private/nil", "private/app"));
        (status, fields.into_iter().map(field).collect::<Vec<_>>(), body.replace("private/nil", "private/app"))
    };
    assert_eq!(scene.blue_gets(&elsewhere).await.into_iter().map(renamed).collect::<Vec<_>>(), there);
    assert_eq!(scene.hub.requests().len(), 0);
}

#[tokio::test]
async fn what_is_stored_for_another_tenant_is_not_had_through_a_repository_that_is_allowed() {
    let scene = Scene::new("").await;
    let image = scene.hub.push_image("private/app", "v1", &[layer(300_000), layer(1000)]);
    scene.hub.push_image("public/tool", "v1", &[layer(10)]);
    scene.pull("private/app", "v1", &image).await;
    scene.hub.forget();
    let paths = by_digest("public/tool", &image);
    let there = scene.blue_gets(&paths).await;
    // The upstream is asked about the public repository, as it would be for what nobody has: that is how it is found out.
    let asked = scene.hub.requests();
    assert!(asked.iter().all(|request| request.path.starts_with("/v2/public/tool/")), "{asked:?}");
    let not = scene.blue_gets(&absent(&paths)).await;
    assert_eq!(there, not);
    let is_list = |n: usize| paths[n / WAYS.len()].contains("/referrers/");
    for (n, (status, _, body)) in there.iter().enumerate() {
        assert_eq!((*status, body.contains(&image.manifest.digest.to_string())), (if is_list(n) { 200 } else { 404 }, false));
    }
    scene.hub.forget();
    scene.blue_gets(&paths).await;
    assert_eq!(scene.hub.requests().len(), 0, "it is remembered");
}

#[tokio::test]
async fn of_a_repository_that_is_allowed_by_tag_nothing_else_can_be_had_and_nobody_is_asked() {
    let scene = Scene::new("").await;
    let shared = layer(300_000);
    let open = scene.hub.push_image("team/app", "v1", &[shared.clone(), layer(1000)]);
    let secret = scene.hub.push_image("team/app", "secret", &[shared.clone(), layer(2000)]);
    scene.pull("team/app", "v1", &open).await;
    scene.pull("team/app", "secret", &secret).await;
    scene.hub.forget();
    let (mine, theirs) = (by_digest("team/app", &open), by_digest("team/app", &secret));
    let hidden: Vec<String> = theirs.iter().filter(|path| !mine.contains(path)).cloned().collect();
    assert_eq!(hidden.len(), theirs.len() - 1, "the shared layer");
    let there = scene.blue_gets(&hidden).await;
    assert!(there.iter().all(|(status, ..)| *status == 404), "{there:?}");
    assert_eq!(there, scene.blue_gets(&absent(&hidden)).await);
    let tags = ["secret", "none"].map(|tag| vec![format!("/v2/team/app/manifests/{tag}")]);
    assert_eq!(scene.blue_gets(&tags[0]).await, scene.blue_gets(&tags[1]).await);
    assert_eq!(scene.hub.requests().len(), 0);
    for path in mine {
        let reply = get(scene.blue, &path, &[]).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    // And what the upstream itself says is not there looks the same.
    let red = scene.proxy.get(&format!("/v2/team/app/blobs/{ABSENT}"), &[]).await;
    assert_eq!(face(&red), there[0]);
    // The operator is told of a refusal, and whose it is.
    let setup = scene.proxy.stop().await;
    let log = std::fs::read_to_string(setup.folder().join("audit.log")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let refused: Vec<_> = records.filter(|record| record["status"] == 404 && record["listener"] == "blue").collect();
    assert_eq!(refused.len(), 2 * hidden.len() * WAYS.len());
    for record in refused {
        assert_eq!((&record["decision"], &record["statement"]), (&"deny".into(), &"default".into()), "{record}");
    }
}

#[tokio::test]
async fn a_tenant_pulls_by_tag_what_nobody_has_pulled_before() {
    let scene = Scene::new("").await;
    let image = Image::oci(&[layer(300_000), layer(1000)]);
    let index = Manifest::index(&[(&image, "linux/amd64")]);
    scene.hub.push("team/app", None, &image);
    scene.hub.push_manifest("team/app", Some("v2"), &index);
    let base = "/v2/team/app";
    assert_eq!(get(scene.blue, &format!("{base}/manifests/{}", image.manifest.digest), &[]).await.status, 404);
    assert_eq!(client::head(scene.blue, &format!("{base}/manifests/v2"), &[]).await.status, 200);
    for (kind, digest) in [("manifests", index.digest), ("manifests", image.manifest.digest)] {
        assert_eq!(get(scene.blue, &format!("{base}/{kind}/{digest}"), &[]).await.status, 200, "{kind}");
    }
    let blobs = image.layers.iter().chain([&image.config]).map(async |blob| {
        let reply = get(scene.blue, &format!("{base}/blobs/{}", blob.digest), &[]).await;
        assert_eq!((reply.status, reply.body), (200, blob.bytes.clone()));
    });
    futures_util::future::join_all(blobs).await;
}

/// Being asked for keeps content in the cache: so it shows whether the store was asked.
#[tokio::test]
async fn what_is_refused_to_a_tenant_is_not_even_looked_for() {
    for (repository, asker, stays) in
        [("private/app", "red", true), ("private/app", "blue", false), ("team/app", "red", true), ("team/app", "blue", false)]
    {
        let scene = Scene::new("max_size = \"2 MiB\"").await;
        let [first, second, third] = [600_001, 600_002, 1_200_000].map(layer);
        [&first, &second, &third].into_iter().for_each(|blob| scene.hub.push_blob(repository, blob));
        let path = |blob: &Blob| format!("/v2/{repository}/blobs/{}", blob.digest);
        for blob in [&first, &second] {
            scene.proxy.get(&path(blob), &[]).await;
            within(async {
                while scene.proxy.metric("roadstead_store_blobs").await < if blob == &first { 1.0 } else { 2.0 } {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        let address = if asker == "red" { scene.proxy.address } else { scene.blue };
        for (method, headers) in WAYS {
            Client::connect(address).await.ask(method, &path(&first), headers).await;
        }
        scene.proxy.get_until(&path(&third), |reply| reply.header("x-cache") == "hit").await;
        scene.hub.forget();
        let reply = scene.proxy.get(&path(&first), &[]).await;
        assert_eq!((reply.header("x-cache") == "hit", scene.hub.requests().is_empty()), (stays, stays), "{repository} {asker}");
    }
}
