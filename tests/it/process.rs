//! The real program as an operator meets it: how it starts, why it does not, how it ends, and its verbs.

use std::process::Output;
use std::time::{Duration, Instant};

use super::support::process::{Process, roadstead, run};
use super::support::proxy::Setup;
use super::support::*;

const MIB: usize = 1 << 20;

fn at(hub: &Registry) -> Setup {
    Setup::new().registry("docker.io", hub, "default = true")
}

fn blob_path(blob: &Blob) -> String {
    format!("/v2/library/app/blobs/{}", blob.digest)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exit 1, and one line on standard error that says all of this.
#[track_caller]
fn assert_one_complaint(output: &Output, says: &[&str]) {
    let complaint = text(&output.stderr);
    let lines: Vec<_> = complaint.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 1), "{complaint}");
    for part in says {
        assert!(lines[0].contains(part), "{part:?} is missing in {complaint}");
    }
}

#[tokio::test]
async fn sigterm_ends_an_idle_proxy_at_once() {
    let hub = Registry::start().await;
    let setup = at(&hub);
    let mut process = Process::start(&setup).await;
    let mut idle = Client::connect(process.address).await;
    assert_eq!(idle.ask("GET", "/v2/", &[]).await.status, 200);
    let mut silent = Client::connect(process.address).await;
    let mut http2 = H2::connect(process.address).await;
    assert_eq!(http2.get("/v2/", &[]).await.status, 200);
    let asked = Instant::now();
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr());
    // The drain's limit is 25 s; what is left for these is far below.
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(!process.stderr().contains("ending downloads"), "{}", process.stderr());
    idle.ended().await;
    silent.ended().await;
    assert_eq!(process.stdout().lines().count(), 2, "each request is in the log: {}", process.stdout());
}

#[tokio::test]
async fn sigterm_while_it_still_opens_its_cache_is_not_forgotten() {
    let hub = Registry::start().await;
    let setup = at(&hub);
    let mut process = Process::start(&setup).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    // A file that can be opened when a writer comes, and read when that one is done.
    let file = setup.cache_folder().join("VERSION");
    let version = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let mut process = Process::launch(&setup);
    let opened = within(tokio::task::spawn_blocking(move || std::fs::File::create(file).unwrap()));
    let mut pipe = opened.await.unwrap();
    process.terminate();
    std::io::Write::write_all(&mut pipe, &version).unwrap();
    drop(pipe);
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr());
}

#[tokio::test]
async fn sigterm_lets_an_answer_under_way_end_whole() {
    let blob = layer(4 * MIB);
    let hub = Registry::start().await;
    hub.push_image("library/app", "latest", std::slice::from_ref(&blob));
    let gate = Gate::new();
    hub.fault(on(blob.digest).get(), Fault::HoldAfter(2 * MIB, gate.clone()));
    let setup = at(&hub);
    let mut process = Process::start(&setup).await;
    let mut client = Client::connect(process.address).await;
    client.request("GET", &blob_path(&blob), &[]).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    assert_eq!(client.read(MIB).await, blob.bytes.slice(..MIB));
    process.terminate();
    process.says("stopping").await;
    within(async { while tokio::net::TcpStream::connect(process.address).await.is_ok() {} }).await;
    gate.open();
    let (rest, end) = client.rest().await;
    assert_eq!(end, End::Whole);
    assert!(rest == blob.bytes.slice(MIB..));
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.stderr());
    let log: serde_json::Value = serde_json::from_str(&process.stdout()).unwrap();
    assert_eq!((&log["status"], &log["sent"]), (&200.into(), &blob.len().into()));
    // The download was finished and written down, too.
    let process = Process::start(&setup).await;
    assert_eq!(client::get(process.address, &blob_path(&blob), &[]).await.header("x-cache"), "hit");
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_one_message_with_a_remedy() {
    let hub = Registry::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::TempDir::new().unwrap();
    let serve = async |toml: &str| {
        let file = folder.path().join("roadstead.toml");
        std::fs::write(&file, toml).unwrap();
        run(&["serve", "--config", file.to_str().unwrap()]).await
    };
    let setup = at(&hub);
    let refused = serve(&setup.toml().replacen("127.0.0.1:0", &address, 1)).await;
    assert_one_complaint(&refused, &["\"nodes\"", &address, "already in use", "choose another address"]);

    let _running = Process::start(&setup).await;
    let refused = serve(&setup.toml()).await;
    assert_one_complaint(&refused, &[setup.cache_folder().to_str().unwrap(), "another roadstead", "name another folder"]);

    let refused = serve("[cache]\nmax_size = \"12 bananas\"\n").await;
    assert_one_complaint(&refused, &["roadstead.toml:2: cache.max_size:", "bananas", "GiB"]);

    let refused = run(&["serve", "--config", "/nonexistent/roadstead.toml"]).await;
    assert_one_complaint(&refused, &["/nonexistent/roadstead.toml", "No such file", "--config"]);

    let tls = "tls = { certificate = \"absent.crt\", key = \"absent.key\" }";
    let refused = serve(&at(&hub).listener(tls).toml()).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("absent.crt") && text(&refused.stderr).contains("absent.key"));
}

#[tokio::test]
async fn check_accepts_the_documented_file_and_names_every_fault_of_a_bad_one() {
    let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/config/roadstead.toml");
    let good = run(&["check", "--config", documented]).await;
    assert_eq!((good.status.code(), text(&good.stderr)), (Some(0), ""));
    assert!(text(&good.stdout).contains("is good") && text(&good.stdout).contains("name = \"docker.io\""));
    let json = run(&["check", "--json", "--config", documented]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["registry"][0]["name"], "docker.io", "the example in --help uses this key");

    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("bad.toml");
    let bad = "[cache]\nmax_size = \"12 bananas\"\n\ndirectry = \"/tmp\"\n[policy]\ndefault = \"perhaps\"\n";
    std::fs::write(&file, bad).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let complaint = text(&output.stderr);
    for (line, part) in [(2, "max_size"), (4, "did you mean directory"), (6, "default")] {
        let place = format!("bad.toml:{line}: ");
        assert!(complaint.lines().any(|said| said.contains(&place) && said.contains(part)), "{place}{part} in {complaint}");
    }
    assert_eq!(complaint.lines().count(), 3, "{complaint}");
}

#[tokio::test]
async fn check_finds_certificate_files_that_are_of_no_use() {
    let (ca, folder) = (Ca::new(), tempfile::TempDir::new().unwrap());
    let (ours, other) = (ca.issue(&["us.test"]), ca.issue(&["other.test"]));
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let check = async |authority: &str, key: &str| {
        let file = folder.path().join("roadstead.toml");
        let files = [("ca.pem", authority), ("us.crt", &ours.certificate_pem), ("us.key", key)];
        files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        let keys = "ca = 'ca.pem'\nclient_certificate = { certificate = 'us.crt', key = 'us.key' }\n";
        std::fs::write(&file, format!("[[registry]]\nname = 'r.test'\nurls = ['https://r.test']\n{keys}")).unwrap();
        run(&["check", "--config", file.to_str().unwrap()]).await
    };
    let good = check(&ca.pem(), &ours.key_pem).await;
    assert_eq!((good.status.code(), text(&good.stderr)), (Some(0), ""));
    assert_one_complaint(&check(broken, &ours.key_pem).await, &["r.test", "ca.pem"]);
    assert_one_complaint(&check(&ca.pem(), &other.key_pem).await, &["r.test", "client_certificate", "us.crt"]);
}

#[tokio::test]
async fn egress_plan_prints_in_each_format() {
    let plan = async |format: &[&str]| {
        let output = run(&[&["egress", "plan"], format].concat()).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = plan(&[]).await;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "registry-1.docker.io 443 api docker.io",
        "auth.docker.io 443 token realm docker.io",
        "production.cloudflare.docker.com 443 blob host docker.io",
        "*.pkg.dev 443 api *.pkg.dev",
        "* 53 dns all",
    ] {
        assert!(table.lines().any(|row| words(row) == line), "{line} is missing in\n{table}");
    }
    let json: Vec<serde_json::Value> = serde_json::from_str(&plan(&["--format", "json"]).await).unwrap();
    assert_eq!(json.len() + 1, table.lines().count(), "each entry is one row below the head");
    assert_eq!((&json[0]["host"], &json[0]["reason"]), (&"registry-1.docker.io".into(), &"api".into()));
    let policy = plan(&["--format", "networkpolicy"]).await;
    let policy = yaml_rust2::YamlLoader::load_from_str(&policy).unwrap();
    assert_eq!(policy[0]["kind"].as_str(), Some("NetworkPolicy"));
}

#[tokio::test]
async fn rm_asks_the_running_proxy_or_else_opens_the_folder() {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(1000)]);
    let setup = at(&hub);
    let mut process = Process::start(&setup).await;
    let config = process.config(&setup);
    let rm = async |targets: &[&str]| run(&[&["rm", "--config", config.as_str()], targets].concat()).await;
    let pull = async |process: &Process| {
        client::get(process.address, "/v2/library/app/manifests/latest", &[]).await;
        client::get(process.address, &blob_path(&image.layers[0]), &[]).await;
        // It is stored soon after.
        within(async { while client::get(process.address, &blob_path(&image.layers[0]), &[]).await.header("x-cache") != "hit" {} })
            .await;
    };
    let digest = image.layers[0].digest.to_string();

    pull(&process).await;
    let refused = rm(&["docker.io/app:latest", "app"]).await;
    assert_one_complaint(&refused, &["app: ", "REGISTRY/REPOSITORY:TAG"]);
    let dropped = rm(&["docker.io/app:latest", digest.as_str()]).await;
    let said = format!(
        "docker.io/app:latest: dropped 1 tag, 0 blobs, 0 bytes\n{digest}: dropped 0 tags, 1 blob, {} bytes\n",
        image.layers[0].len()
    );
    assert_eq!((dropped.status.code(), text(&dropped.stdout)), (Some(0), said.as_str()), "{}", text(&dropped.stderr));
    assert!(text(&rm(&[digest.as_str()]).await.stdout).contains("nothing of it was cached"));
    assert_eq!(client::get(process.address, &blob_path(&image.layers[0]), &[]).await.header("x-cache"), "miss");

    pull(&process).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    let dropped = rm(&["--json", digest.as_str()]).await;
    let json: serde_json::Value = serde_json::from_slice(&dropped.stdout).unwrap();
    assert_eq!((dropped.status.code(), &json["dropped"]["blobs"]), (Some(0), &1.into()), "{}", text(&dropped.stderr));
    let process = Process::start(&setup).await;
    assert_eq!(client::get(process.address, &blob_path(&image.layers[0]), &[]).await.header("x-cache"), "miss");

    // With another admin address than the running proxy's it cannot be asked, and the folder is not free.
    let refused = rm(&[digest.as_str()]).await;
    assert_one_complaint(&refused, &[digest.as_str(), "another roadstead uses this cache"]);
}

#[test]
fn the_help_of_every_verb_has_an_example() {
    let help = |arguments: &[&str]| {
        let output = roadstead(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    let listed = all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs: Vec<_> = listed.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").collect();
    assert!(["serve", "check", "policy", "rm"].iter().all(|verb| verbs.contains(verb)), "{all}");
    for verb in verbs {
        let help = help(&[verb, "--help"]);
        let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb} has none:\n{help}"));
        assert!(examples.contains(&format!("roadstead {verb}")), "{help}");
    }
    for verb in ["test", "explain", "simulate"] {
        assert!(help(&["policy", verb, "--help"]).contains(&format!("Examples:\n  roadstead policy {verb}")), "{verb}");
    }
}
