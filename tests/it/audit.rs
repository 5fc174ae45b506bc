//! The audit log of the whole proxy: every request is in it, no secret ever is, and what happens to it shows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::support::process::{Process, run};
use super::support::proxy::{ANYBODY, Setup};
use super::support::registry::basic;
use super::support::*;

fn audited(hub: &Registry, keys: &str) -> Setup {
    let setup = Setup::new().registry("docker.io", hub, &format!("default = true\n{keys}"));
    let log = setup.folder().join("audit.log");
    setup.section(&format!("[audit]\noutput = \"{}\"\n", log.display()))
}

fn log_of(setup: &Setup) -> PathBuf {
    setup.folder().join("audit.log")
}

/// The records in a log.
fn records(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("{\"chain\":"));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `roadstead audit verify` with these arguments: its exit code and what it says.
async fn verify(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["audit", "verify"], arguments].concat()).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// For what happens behind an answer's back.
async fn until(fits: impl Fn() -> bool) {
    within(async {
        while !fits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn hub() -> (Registry, Image) {
    let hub = Registry::start().await;
    let image = hub.push_image("library/app", "latest", &[layer(1000)]);
    (hub, image)
}

const SECRET: &str = "hunter2";

#[tokio::test]
async fn every_request_is_recorded_and_no_secret_of_anybody() {
    let ((hub, image), cdn) = (hub().await, Cdn::start().await);
    hub.require_basic("alice", "hunter2-upstream");
    hub.redirect_blobs(&cdn, 307);
    let credentials = "credentials = { kind = \"basic\", username = \"alice\", password = { file = \"password\" } }";
    let setup = audited(&hub, &format!("{credentials}\nblob_hosts = [\"{}\"]", cdn.host()));
    std::fs::write(setup.folder().join("password"), "hunter2-upstream\n").unwrap();
    let proxy = setup.section(ANYBODY).start().await;
    let login = basic("bob", "hunter2-client");
    let headers = [
        ("authorization", login.as_str()),
        ("cookie", "session=hunter2-cookie"),
        ("proxy-authorization", "Bearer hunter2-proxy"),
        ("user-agent", "containerd/2.0"),
    ];
    let blob = format!("/v2/library/app/blobs/{}", image.layers[0].digest);
    for (method, path, status) in [
        ("GET", "/v2/library/app/manifests/latest?ns=docker.io&token=hunter2-query", 200),
        ("HEAD", &format!("/v2/library/app/manifests/{}", image.manifest.digest), 200),
        ("GET", &blob, 200),
        ("GET", "/v2/library/app/tags/list?n=5&last=a&password=hunter2-query", 200),
        ("GET", "/token?account=bob&password=hunter2-query", 404),
        ("GET", "/v2/library/absent/manifests/latest?hunter2-query", 404),
        ("GET", "http://bob:hunter2-origin@host/v2/?access_token=hunter2-query", 400),
        ("GET", "/v2/library/app/tags/list?n=a#hunter2-query", 400),
        ("POST", "/v2/library/app/blobs/uploads/?mount=hunter2-query", 405),
    ] {
        let reply = Client::connect(proxy.address).await.ask(method, path, &headers).await;
        assert_eq!(reply.status, status, "{method} {path}: {:?}", reply.body);
    }
    // Signed URLs that lead nowhere any more, and answers that are none.
    let other = hub.push_image("library/app", "other", &[layer(2000)]);
    cdn.fault(on("/data/"), Fault::Status(403));
    let blob = format!("/v2/library/app/blobs/{}", other.layers[0].digest);
    assert!(proxy.get(&blob, &headers).await.status >= 400);
    let mut client = Client::connect(proxy.address).await;
    client.send(format!("GET /v2/?password=hunter2-query HTTP/1.1\r\nAuthorization: {login}\r\n\r\n")).await;
    assert_eq!(client.reply().await.status, 400);
    let access = format!("{:?}", proxy.log());
    let setup = proxy.stop().await;
    let log = log_of(&setup);
    let text = std::fs::read_to_string(&log).unwrap();
    for (name, said) in [("audit", &text), ("access", &access)] {
        let found = said.lines().find(|line| line.contains(SECRET) || line.contains(&login[6..]) || line.contains("Signature="));
        assert_eq!(found, None, "in the {name} log");
    }
    let records = records(&log);
    assert_eq!(records.len(), 11);
    assert!(records.iter().all(|record| record["client_ip"] == "127.0.0.1" && record["listener"] == "nodes"));
    assert_eq!(records[0]["path"], "/v2/library/app/manifests/latest?ns=docker.io&...");
    assert_eq!(records[0]["resolved_digest"], image.manifest.digest.to_string());
    assert_eq!(records[0]["media_type"], image.manifest.media_type);
    let by_digest = (&records[1]["resolved_digest"], &records[1]["reference"]["digest"]);
    assert_eq!(by_digest, (&Value::Null, &image.manifest.digest.to_string().into()));
    assert_eq!((&records[2]["bytes"], &records[2]["cache"]), (&1000.into(), &"miss".into()));
    assert_eq!((&records[3]["action"], &records[3]["decision"]), (&"tags".into(), &"allow".into()));
    assert_eq!((&records[4]["status"], &records[4]["error_code"]), (&404.into(), &"NAME_UNKNOWN".into()));
    assert_eq!(records[10]["error_code"], "UNSUPPORTED");
    let (code, said) = verify(&[log.to_str().unwrap(), "--strict"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("11 records are as they were written"), "{said}");
}

#[tokio::test]
async fn what_the_policy_refuses_is_recorded_with_what_decided() {
    let (hub, _) = hub().await;
    let proxy = audited(&hub, "").section("[policy]\ndefault = \"deny\"\n").start().await;
    assert_eq!(proxy.get("/v2/library/app/manifests/latest", &[]).await.status, 403);
    let records = records(&log_of(&proxy.stop().await));
    let record = &records[0];
    assert_eq!((&record["decision"], &record["statement"], &record["status"]), (&"deny".into(), &"default".into(), &403.into()));
    assert_eq!((&record["repository"], &record["reference"]["tag"]), (&"library/app".into(), &"latest".into()));
    assert_eq!(record["error_code"], "DENIED");
    assert_eq!(record["policy"].as_str().map(str::len), Some(16));
}

#[tokio::test]
async fn a_log_is_moved_away_verified_and_found_out() {
    let (hub, _) = hub().await;
    let setup = audited(&hub, "");
    let (log, moved) = (log_of(&setup), setup.folder().join("audit.log.1"));
    let (log_name, moved_name) = (log.to_str().unwrap(), moved.to_str().unwrap());
    let mut process = Process::start(&setup).await;
    get(process.address, "/v2/", &[]).await;
    until(|| records(&log).len() == 1).await;
    std::fs::rename(&log, &moved).unwrap();
    process.hang_up();
    until(|| log.exists()).await;
    get(process.address, "/v2/", &[]).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!((records(&moved).len(), records(&log).len()), (1, 1));
    let (code, said) = verify(&["--rotated", log_name]).await;
    assert_eq!((code, said.lines().next()), (Some(0), Some("2 records are as they were written, in a chain of 4 links")), "{said}");
    let head = said.lines().nth(1).unwrap().rsplit(' ').next().unwrap().to_owned();
    let (_, json) = verify(&["--json", moved_name, log_name]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["head"], &json["records"], &json["tail"]), (&head.as_str().into(), &2.into(), &Value::Null));
    let (code, said) = verify(&[log_name]).await;
    assert!(code == Some(0) && said.contains("the chain begins with link 2"), "{said}");

    let text = std::fs::read_to_string(&log).unwrap();
    let cut: String = text.lines().take(1).map(|line| line.to_owned() + "\n").collect();
    std::fs::write(&log, &cut).unwrap();
    assert_eq!(verify(&["--rotated", log_name, "--strict"]).await.0, Some(0), "nobody who does not know the head can tell");
    let (code, said) = verify(&["--rotated", log_name, "--head", &head]).await;
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("{log_name}:1: the log ends without the link {head}")), "{said}");
    std::fs::write(&log, text.replace("\"status\":200", "\"status\":201")).unwrap();
    let (code, said) = verify(&["--rotated", log_name]).await;
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("{log_name}:2: from here on something was changed")), "{said}");
    let open: String = text.lines().take(2).map(|line| line.to_owned() + "\n").collect();
    std::fs::write(&log, &open).unwrap();
    let (code, said) = verify(&["--rotated", log_name]).await;
    assert!(code == Some(0) && said.contains(&format!("1 lines from {log_name}:2 on are not chained yet")), "{said}");
    assert_eq!(verify(&["--rotated", log_name, "--strict"]).await.0, Some(1));
}

#[tokio::test]
async fn without_its_audit_log_it_does_not_start() {
    let (hub, _) = hub().await;
    let setup = Setup::new().registry("docker.io", &hub, "default = true").section("[audit]\noutput = \"absent/audit.log\"\n");
    let mut process = Process::launch(&setup);
    assert_eq!(process.ended().await.code(), Some(1));
    let said = process.stderr();
    assert!(said.contains("roadstead cannot start: the audit log") && said.contains("its folder must exist"), "{said}");
}

#[tokio::test]
async fn where_nothing_may_go_unrecorded_a_full_disk_refuses_requests() {
    let (hub, _) = hub().await;
    let setup = audited(&hub, "").section("when_full = \"block\"\n");
    let log = log_of(&setup);
    // Larger than any other file of the proxy, so that it alone meets the limit.
    let mut process = Process::start(&setup).await;
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    let mut text = std::fs::read_to_string(&log).unwrap();
    text += &("{\"schema\":1}".to_owned() + &" ".repeat(1000) + "\n").repeat(16 << 10);
    std::fs::write(&log, text).unwrap();
    let mut process = Process::start_with_growing_forbidden(&setup).await;
    process.limit_files(Some(std::fs::metadata(&log).unwrap().len() + 100));
    let mut client = Client::connect(process.address).await;
    assert_eq!(client.ask("GET", "/v2/", &[]).await.status, 200, "it was not known yet");
    process.says("its output fails").await;
    let reply = client.ask("GET", "/v2/", &[]).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "5"));
    assert!(String::from_utf8_lossy(&reply.body).contains("audit log"), "{:?}", reply.body);
    process.limit_files(None);
    assert_eq!(client.ask("GET", "/v2/", &[]).await.status, 200, "as soon as it is written");
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    let (code, said) = verify(&[log.to_str().unwrap(), "--strict"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 more records were lost"), "the one that was refused: {said}");
}
