//! A configuration that is taken on while requests are served: every answer is that of one configuration, and no connection
//! ends for it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::process::Process;
use super::support::proxy::{Proxy, Setup};
use super::support::registry::basic;
use super::support::*;

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 8;
const RELOADS: usize = 10;

/// One of the two configurations between which it goes back and forth. They share nothing but addresses, registry and cache.
///
/// | asked for | by `a` | by `b` | by the default of one and the statements of the other |
/// |---|---|---|---|
/// | x | 403 (a statement) | 403 (default) | 200, or 403 |
/// | y | 200 (default) | 200 (a statement) | 403, or 200 |
/// | z | 200 (default) | 403 (default) | |
///
/// The users of one are unknown to the other, so who has logged in as a user of `a` is answered as in the first column, or 401.
struct Side {
    name: &'static str,
    policy: &'static str,
    /// Status for x, y, z.
    answers: [u16; 3],
    /// A line of the file of users.
    ci: String,
    /// What a client of this side trusts and shows.
    client: Arc<ClientConfig>,
}

const A: &str = "[policy]\ndefault = \"allow\"\n[[policy.statement]]\nid = \"a-no-x\"\neffect = \"deny\"\n\
                 resources = [\"docker.io/acme/x\"]\n";
const B: &str = "[policy]\ndefault = \"deny\"\n[[policy.statement]]\nid = \"b-y\"\neffect = \"allow\"\n\
                 resources = [\"docker.io/acme/y\"]\n";

impl Side {
    /// Writes its files into `folder`.
    fn new(name: &'static str, policy: &'static str, answers: [u16; 3], folder: &Path) -> Self {
        let (servers, clients) = (Ca::new(), Ca::new());
        let server = servers.issue(&["mirror.test"]);
        for (file, text) in [("crt", &server.certificate_pem), ("key", &server.key_pem), ("ca", &clients.pem())] {
            std::fs::write(folder.join(format!("{name}.{file}")), text).unwrap();
        }
        let client = servers.client(&["http/1.1"], Some(&clients.issue(&["node.test"])));
        Self { name, policy, answers, ci: user("ci", name, 4), client }
    }

    /// The configuration, with a file of users of its own that has somebody who never was there before.
    fn setup(&self, setup: &Setup, number: usize) -> Setup {
        let Self { name, policy, ci, .. } = self;
        let slow = user(&self.slow(), "slow", 9);
        std::fs::write(setup.folder().join(format!("users-{number}")), format!("{ci}{slow}")).unwrap();
        let tls = format!("certificate = \"{name}.crt\", key = \"{name}.key\", client_ca = \"{name}.ca\"");
        let secure = format!("[[listener]]\nname = \"secure\"\naddress = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n");
        let setup = setup.clone().listener(&format!("users = {{ file = \"users-{number}\" }}"));
        setup.section(&secure).section(policy)
    }

    /// A user of this side alone, whose password takes some time.
    fn slow(&self) -> String {
        format!("slow-{}", self.name)
    }
}

fn user(name: &str, password: &str, cost: u32) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, cost).unwrap())
}

struct Scene {
    proxy: Proxy,
    sides: [Side; 2],
    /// Where x, y and z are.
    paths: [String; 3],
    /// What users of each side show.
    tokens: [String; 2],
    /// What both sides share.
    base: Setup,
    _hub: Registry,
}

impl Scene {
    async fn new() -> Self {
        let hub = Registry::start().await;
        let paths = ["x", "y", "z"].map(|name| {
            let image = hub.push_image(&format!("acme/{name}"), "latest", &[layer(10)]);
            format!("/v2/acme/{name}/manifests/{}", image.manifest.digest)
        });
        let setup = Setup::new().registry("docker.io", &hub, "default = true");
        let log = setup.folder().join("audit.log");
        let setup = setup.section(&format!("[audit]\noutput = \"{}\"\n", log.display()));
        let sides = [Side::new("a", A, [403, 200, 200], setup.folder()), Side::new("b", B, [403, 200, 403], setup.folder())];
        let proxy = sides[0].setup(&setup, 1000).start().await;
        let mut scene = Self { proxy, sides, paths, tokens: Default::default(), base: setup, _hub: hub };
        for side in [1, 0] {
            scene.turn_to(side, 1002 + side).await;
            let login = basic("ci", scene.sides[side].name);
            let answer = scene.proxy.get("/token", &[("authorization", &login)]).await;
            scene.tokens[side] = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
        }
        scene
    }

    async fn turn_to(&self, side: usize, number: usize) {
        let reply = self.proxy.reload(&self.sides[side].setup(&self.base, number).toml()).await;
        assert_eq!((reply.status, &reply.json()["needs_restart"]), (200, &serde_json::json!([])), "{:?}", reply.body);
    }

    /// A connection to one of the listeners that goes on for as long as it likes, and is only let in by `side`.
    async fn connect(&self, secure: bool, side: usize) -> std::io::Result<Client> {
        match secure {
            true => Client::connect_tls(self.proxy.addresses[1], "mirror.test", self.sides[side].client.clone()).await,
            false => Client::try_connect(self.proxy.addresses[0]).await,
        }
    }

    /// What holds is `side`, all of it, for requests and connections that come now.
    async fn assert_turned_to(&self, side: usize) {
        for (asks, token) in self.tokens.iter().enumerate() {
            let mut client = self.connect(false, asks).await.unwrap();
            for (path, answer) in self.paths.iter().zip(self.sides[side].answers) {
                let status = client.ask("GET", path, &[("authorization", token)]).await.status;
                assert_eq!(status, if asks == side { answer } else { 401 }, "{asks} asks {side} for {path}");
            }
        }
        assert!(self.greets(side).await && !self.greets(1 - side).await);
    }

    /// Whether a client of `side` gets through TLS. It finds the certificate that it trusts and is itself believed, or neither.
    async fn greets(&self, side: usize) -> bool {
        let Ok(mut client) = self.connect(true, side).await else { return false };
        assert_eq!(client.ask("GET", "/v2/", &[]).await.status, 200, "a certificate of one side and clients of the other");
        true
    }

    /// Has it read a configuration in which something is broken. It says where, counts it, and goes on as before.
    async fn assert_refuses_what_is_broken(&self, holds: usize, number: usize) {
        let toml = self.sides[1 - holds].setup(&self.base, number).toml();
        let folder = self.base.folder();
        let (broken, told) = match number % 3 {
            0 => {
                let line = 1 + toml.lines().position(|line| line.starts_with("effect")).unwrap();
                (toml.replace("effect = ", "efect = "), format!("/roadstead.toml:{line}: policy.statement.efect: unknown key"))
            }
            1 => {
                std::fs::write(folder.join("no.crt"), "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n").unwrap();
                (toml.replace(&format!("{}.crt", self.sides[1 - holds].name), "no.crt"), "/no.crt".to_owned())
            }
            _ => {
                std::fs::write(folder.join("no.users"), "# nobody\nci:plain\n").unwrap();
                (toml.replace(&format!("users-{number}"), "no.users"), "/no.users:2: ".to_owned())
            }
        };
        let failed = "roadstead_reloads_total{result=\"failed\"}";
        let before = self.proxy.metric(failed).await;
        let reply = self.proxy.reload(&broken).await;
        let said = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && said.contains(&format!("{}{told}", folder.display())), "{said}");
        assert_eq!(self.proxy.metric(failed).await, before + 1.0);
        self.assert_turned_to(holds).await;
    }
}

/// One connection's share of the requests. Whom and what it asks changes from one to the next; each answer must be one that
/// `a` or `b` gives. How often it was answered as only one side does, by side.
async fn ask_on(mut client: Client, scene: Arc<Scene>, has_users: bool, done: watch::Sender<usize>) -> [usize; 2] {
    let mut told = [0, 0];
    for number in 0..REQUESTS / CONNECTIONS {
        let (which, asks) = (number % 3, number / 3 % 2);
        let headers = [("authorization", scene.tokens[asks].as_str())];
        let reply = client.ask("GET", &scene.paths[which], if has_users { &headers } else { &[] }).await;
        let of = |side: usize| if has_users && side != asks { 401 } else { scene.sides[side].answers[which] };
        assert!(reply.complete() && [of(0), of(1)].contains(&reply.status), "{asks} asks for {which}: {reply:?}");
        if of(0) != of(1) {
            told[usize::from(reply.status == of(1))] += 1;
        }
        done.send_modify(|done| *done += 1);
    }
    told
}

/// Turns from side to side, each time when another share of the requests is done.
async fn turn_often(scene: &Scene, mut done: watch::Receiver<usize>) {
    for turn in 0..RELOADS {
        let due = (turn + 1) * REQUESTS / (RELOADS + 1);
        within(done.wait_for(|done| *done >= due)).await.unwrap();
        let (before, after) = (turn % 2, 1 - turn % 2);
        // A request whose password is being compared when the change comes.
        let (address, path) = (scene.proxy.address, scene.paths[2].clone());
        let login = basic(&scene.sides[before].slow(), "slow");
        let caught = tokio::spawn(async move { get(address, &path, &[("authorization", &login)]).await });
        scene.turn_to(after, turn).await;
        let caught = caught.await.unwrap().status;
        assert!([scene.sides[before].answers[2], 401].contains(&caught), "{caught}: the users of one and the policy of the other");
        scene.assert_turned_to(after).await;
        if turn % 3 == 0 {
            scene.assert_refuses_what_is_broken(after, 100 + turn / 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_requests_see_each_one_configuration_while_it_changes_ten_times() {
    let scene = Arc::new(Scene::new().await);
    let (done, turns) = watch::channel(0);
    let mut asking = JoinSet::new();
    for number in 0..CONNECTIONS {
        let secure = number % 2 == 1;
        let client = scene.connect(secure, 0).await.unwrap();
        asking.spawn(ask_on(client, scene.clone(), !secure, done.clone()));
    }
    turn_often(&scene, turns).await;
    let told = asking.join_all().await.into_iter().fold([0, 0], |all, one| [all[0] + one[0], all[1] + one[1]]);
    assert!(*done.borrow() == REQUESTS && told.iter().all(|told| *told > REQUESTS / 10), "{told:?}");
    let [ok, failed] = ["ok", "failed"].map(|result| format!("roadstead_reloads_total{{result=\"{result}\"}}"));
    assert_eq!((scene.proxy.metric(&ok).await, scene.proxy.metric(&failed).await), (RELOADS as f64 + 2.0, 4.0));
    let Ok(Scene { proxy, .. }) = Arc::try_unwrap(scene) else { panic!("nobody asks any more") };
    assert_no_half_policy(&proxy.stop().await.folder().join("audit.log"));
}

/// Every decision in the log was made by a statement of the policy that it names.
fn assert_no_half_policy(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut names: HashMap<&str, String> = HashMap::new();
    for record in records.filter(|record| record["decision"].is_string()) {
        let [decision, statement, policy] = ["decision", "statement", "policy"].map(|key| record[key].as_str().unwrap());
        let side = match (statement, decision, record["repository"].as_str().unwrap()) {
            ("a-no-x", "deny", "acme/x") | ("default", "allow", "acme/y" | "acme/z") => "a",
            ("b-y", "allow", "acme/y") | ("default", "deny", "acme/x" | "acme/z") => "b",
            other => panic!("{other:?}"),
        };
        assert_eq!(names.entry(side).or_insert_with(|| policy.to_owned()), policy, "{record}");
        *seen.entry(format!("{side} {statement}")).or_default() += 1;
    }
    assert!(names["a"] != names["b"] && seen.len() == 4, "{seen:?}");
}

#[tokio::test]
async fn a_listener_that_the_new_configuration_calls_otherwise_still_asks_who_comes() {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(10)]);
    let setup = Setup::new().registry("docker.io", &hub, "default = true").listener("users = { file = \"users\" }");
    std::fs::write(setup.folder().join("users"), user("ci", "secret", 4)).unwrap();
    let (proxy, path) = (setup.start().await, "/v2/library/app/manifests/latest");
    let toml = proxy.setup().toml();
    let reply = proxy.reload(&toml.replace("\"nodes\"", "\"clients\"")).await;
    let parts = ["name, address or max_connections of listener \"clients\"", "the end of listener \"nodes\""];
    assert_eq!((reply.status, &reply.json()["needs_restart"]), (200, &serde_json::json!(parts)));
    for _ in 0..2 {
        assert_eq!(proxy.get(path, &[]).await.status, 401);
        assert_eq!(proxy.get(path, &[("authorization", &basic("ci", "secret"))]).await.status, 200);
        // What it is called for good is told every time.
        let again = proxy.reload(&toml.replace("\"nodes\"", "\"clients\"")).await;
        assert_eq!(again.json()["needs_restart"], serde_json::json!(parts));
    }
}

#[tokio::test]
async fn sighup_has_the_program_read_its_file_again() {
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", &[layer(10)]);
    let setup = Setup::new().registry("docker.io", &hub, "default = true");
    let process = Process::start(&setup).await;
    let status = async || get(process.address, "/v2/library/app/manifests/latest", &[]).await.status;
    let write = |policy: &str| std::fs::write(setup.config_file(), setup.clone().section(policy).toml()).unwrap();
    assert_eq!(status().await, 200);
    write("[policy]\ndefault = \"deny\"\n");
    process.hang_up();
    process.says("the configuration was taken on").await;
    assert_eq!(status().await, 403);
    write("[policy]\ndefault = \"perhaps\"\n");
    process.hang_up();
    process.says("the new configuration is not taken on, the old one holds").await;
    assert!(process.stderr().contains("policy.default: \"perhaps\" is not an effect"), "{}", process.stderr());
    assert_eq!(status().await, 403);
    write("[policy]\ndefault = \"allow\"\n");
    process.hang_up();
    within(async { while status().await != 200 {} }).await;
}
