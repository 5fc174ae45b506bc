mod files;
mod full;
mod tampering;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::link::Link;
use super::*;
use crate::config::Audit;
use crate::oci::{Digest, ErrorCode, Reference};
use crate::request::{Caller, Decision, Endpoint, Item, Principal, Served, Target, Tls, Verdict};
use crate::telemetry::{AccessLog, Telemetry};

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A log in a folder of its own.
struct Folder {
    folder: tempfile::TempDir,
    rotate: Option<u64>,
    keep: usize,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), rotate: None, keep: 10 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    fn numbered(&self, number: usize) -> PathBuf {
        file::numbered(&self.path(), number)
    }

    fn start(&self) -> Arc<Telemetry> {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> Result<Arc<Telemetry>, AuditError> {
        let output = AuditOutput::File { path: self.path(), rotate: self.rotate, keep: self.keep };
        Telemetry::start(AccessLog::off(), Some(&Audit { output, when_full: WhenFull::Drop }))
    }

    /// A run of the program with so many requests.
    fn run(&self, requests: usize) {
        let telemetry = self.start();
        (0..requests).for_each(|_| request(&telemetry));
        telemetry.finish();
    }

    fn text(&self) -> String {
        read(&self.path())
    }

    fn verify(&self) -> Verified {
        verify(&rotated(&self.path()).unwrap(), None).unwrap_or_else(|error| panic!("{error}\n{}", self.text()))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn peer() -> SocketAddr {
    ([10, 0, 0, 7], 40_000).into()
}

/// Somebody who came by a private endpoint.
fn by_endpoint() -> Caller {
    Caller {
        source: ([10, 20, 0, 5], 41_000).into(),
        endpoint: Endpoint::aws("vpce-08d2bf15fac5001c9"),
        ..Caller::direct("private".into(), peer())
    }
}

fn request(telemetry: &Arc<Telemetry>) {
    let mut outcome = Outcome::open(telemetry, "GET", "/v2/");
    outcome.caller(Caller::direct("nodes".into(), peer()), None);
    outcome.answered(200);
}

/// The log's lines, with what differs from run to run written as `_`.
fn masked(text: &str) -> String {
    let mut masked = text.to_owned();
    for key in ["\"time\":", "\"event_id\":", "\"request_id\":", "\"duration_ms\":", "\"hash\":"] {
        let mut from = 0;
        while let Some(at) = masked[from..].find(key) {
            let start = from + at + key.len();
            let end = start + masked[start..].find([',', '}']).unwrap();
            masked.replace_range(start..end, "_");
            from = start;
        }
    }
    masked
}

fn decision(verdict: Verdict, statement: &str) -> Option<Decision> {
    Some(Decision { verdict, statement: statement.into(), policy: "0123456789abcdef".into() })
}

fn target(item: Item) -> Target {
    Target { registry: "ghcr.io".parse().unwrap(), repository: "acme/app".parse().unwrap(), item }
}

/// A request by a private endpoint, over TLS, with a certificate and a user, let through and answered from the cache.
fn allowed(telemetry: &Arc<Telemetry>) {
    let mut outcome = Outcome::open(telemetry, "GET", "/v2/ghcr.io/acme/app/manifests/v1?ns=ghcr.io");
    let principals = [Principal::spiffe("spiffe://prod/ns/a"), Principal::user("ci")];
    let caller = Caller {
        tls: Some(Arc::new(Tls { version: "1.3", server_name: Some("mirror.example".into()) })),
        principals: principals.into(),
        ..by_endpoint()
    };
    outcome.caller(caller, Some("containerd/2.0 \"x\""));
    outcome.target(&target(Item::Manifest(Reference::Tag("v1".parse().unwrap()))), "ghcr.io".into());
    outcome.resolved = Some(D.parse().unwrap());
    outcome.media_type = Some("application/vnd.oci.image.index.v1+json".into());
    outcome.decision = decision(Verdict::Allow, "payments");
    outcome.served = Some(Served::Hit);
    outcome.answered(200);
    outcome.sent = 1234;
}

fn denied(telemetry: &Arc<Telemetry>) {
    let mut outcome = Outcome::open(telemetry, "HEAD", &format!("/v2/ghcr.io/acme/app/blobs/{D}"));
    let caller = Caller { is_probe: true, ..Caller::direct("nodes".into(), peer()) };
    outcome.caller(caller, None);
    let digest: Digest = D.parse().unwrap();
    outcome.target(&target(Item::Blob(digest)), "ghcr.io".into());
    outcome.decision = decision(Verdict::Deny, "default");
    outcome.answered(403);
    outcome.error_code = Some(ErrorCode::Denied);
    outcome.reason = Some("not\nallowed".to_owned());
}

#[test]
fn records_have_the_documented_shape() {
    let folder = Folder::new();
    let telemetry = folder.start();
    allowed(&telemetry);
    denied(&telemetry);
    // Its client left.
    drop(Outcome::open(&telemetry, "-", "-"));
    let detail = "the client showed no certificate".to_owned();
    telemetry.refused_connection(&RefusedConnection { caller: by_endpoint(), reason: "no_certificate", detail });
    telemetry.finish();
    let zeros = "0".repeat(64);
    let text = masked(&folder.text());
    let chain = |number, records, previous: &str| {
        format!(r#"{{"chain":{{"number":{number},"records":{records},"adopted":0,"lost":0,"previous":"{previous}","hash":_}}}}"#)
    };
    let first = Link::parse(folder.text().lines().next().unwrap().as_bytes()).unwrap();
    let expected = [
        chain(0, 0, &zeros),
        format!(
            r#"{{"schema":1,"time":_,"event":"request","event_id":_,"request_id":_,"listener":"private","endpoint":{{"cloud":"aws","id":"vpce-08d2bf15fac5001c9","source":"proxy"}},"peer_ip":"10.0.0.7","client_ip":"10.20.0.5","client_port":41000,"identity":["spiffe://prod/ns/a","user:ci"],"tls":{{"version":"1.3","sni":"mirror.example"}},"method":"GET","path":"/v2/ghcr.io/acme/app/manifests/v1?ns=ghcr.io","action":"manifest","registry":"ghcr.io","repository":"acme/app","reference":{{"tag":"v1"}},"resolved_digest":"{D}","media_type":"application/vnd.oci.image.index.v1+json","decision":"allow","statement":"payments","policy":"0123456789abcdef","status":200,"bytes":1234,"cache":"hit","duration_ms":_,"user_agent":"containerd/2.0 \"x\""}}"#
        ),
        format!(
            r#"{{"schema":1,"time":_,"event":"request","event_id":_,"request_id":_,"listener":"nodes","endpoint":{{"id":"nodes","source":"listener"}},"peer_ip":"10.0.0.7","client_ip":"10.0.0.7","client_port":40000,"probe":true,"method":"HEAD","path":"/v2/ghcr.io/acme/app/blobs/{D}","action":"blob","registry":"ghcr.io","repository":"acme/app","reference":{{"digest":"{D}"}},"decision":"deny","statement":"default","policy":"0123456789abcdef","status":403,"bytes":0,"duration_ms":_,"error_code":"DENIED","reason":"not\nallowed"}}"#
        ),
        r#"{"schema":1,"time":_,"event":"request","event_id":_,"request_id":_,"method":"-","path":"-","bytes":0,"duration_ms":_}"#.to_owned(),
        r#"{"schema":1,"time":_,"event":"connection","event_id":_,"listener":"private","endpoint":{"cloud":"aws","id":"vpce-08d2bf15fac5001c9","source":"proxy"},"peer_ip":"10.0.0.7","client_ip":"10.20.0.5","client_port":41000,"error_code":"no_certificate","reason":"the client showed no certificate"}"#.to_owned(),
        chain(1, 4, &first.hash.to_string()),
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let metrics = telemetry.metrics.render(&telemetry.health);
    assert!(metrics.contains("roadstead_refused_connections_total{endpoint=\"private\",reason=\"no_certificate\"} 1"), "{metrics}");
}

#[test]
fn a_user_is_recorded_however_many_names_its_certificate_has() {
    let folder = Folder::new();
    for names in [14, 15, 16, 32] {
        let telemetry = folder.start();
        let names = (0..names).map(|n| Principal::dns(&format!("n{n}"))).chain([Principal::user("ci")]);
        let caller = Caller { principals: names.collect(), ..Caller::direct("nodes".into(), peer()) };
        Outcome::open(&telemetry, "GET", "/").caller(caller, None);
        telemetry.finish();
    }
    let text = folder.text();
    let recorded = text.lines().filter(|line| !line.starts_with("{\"chain\":"));
    let recorded: Vec<serde_json::Value> = recorded.map(|line| serde_json::from_str(line).unwrap()).collect();
    let lengths: Vec<usize> = recorded.iter().map(|record| record["identity"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [15, 16, 16, 16]);
    assert!(recorded.iter().all(|record| record["identity"].as_array().unwrap().last() == Some(&"user:ci".into())), "{text}");
}

#[test]
fn every_record_is_one_line_of_json_whatever_clients_write() {
    let folder = Folder::new();
    let telemetry = folder.start();
    for text in ["\r\n{\"chain\":{}}\n", "\u{0}\u{1f}\"\\", "\u{2028}é漢", &"x".repeat(100_000)] {
        let mut outcome = Outcome::open(&telemetry, text, text);
        let tls = Arc::new(Tls { version: "1.2", server_name: Some(text.into()) });
        let principals = vec![Principal::common_name(text); 100].into();
        let caller = Caller { tls: Some(tls), principals, ..Caller::direct("nodes".into(), peer()) };
        outcome.caller(caller.clone(), Some(text));
        outcome.reason = Some(text.to_owned());
        let refused = RefusedConnection { caller, reason: "tls", detail: text.to_owned() };
        telemetry.refused_connection(&refused);
    }
    telemetry.finish();
    let text = folder.text();
    let records: Vec<&str> = text.lines().filter(|line| !line.starts_with("{\"chain\":")).collect();
    assert_eq!(records.len(), 8);
    for record in records {
        let value: serde_json::Value = serde_json::from_str(record).unwrap();
        assert_eq!(value["schema"], 1);
        assert!(record.len() < 16_384, "{}", record.len());
    }
    folder.verify();
}

#[test]
fn the_metrics_show_where_the_chain_stands() {
    let folder = Folder::new();
    let telemetry = folder.start();
    request(&telemetry);
    telemetry.finish();
    let verified = folder.verify();
    let metrics = telemetry.metrics.render(&telemetry.health);
    assert!(metrics.contains("roadstead_audit_chain_number 1\n"), "{metrics}");
    assert!(metrics.contains(&format!("roadstead_audit_chain_head{{hash=\"{}\"}} 1", verified.head)), "{metrics}");
    assert_eq!(metrics.matches("roadstead_audit_chain_head{").count(), 1, "only the last: {metrics}");
}

#[test]
fn a_batch_is_linked_by_count_and_by_time() {
    let folder = Folder::new();
    folder.run(600);
    assert_eq!((folder.verify().records, folder.verify().links), (600, 4), "the first line, 256, 256, 88");
    let telemetry = folder.start();
    request(&telemetry);
    let start = std::time::Instant::now();
    while folder.verify().records < 601 {
        assert!(start.elapsed() < Duration::from_secs(20), "it waits for its link in vain");
        std::thread::yield_now();
    }
}

#[test]
fn standard_output_gets_whole_lines_in_pieces_that_pipes_keep() {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join("out")).unwrap();
    let mut stdout = Stdout::of(file);
    let lines = "x".repeat(99) + "\n";
    assert_eq!(stdout.write(lines.repeat(100).as_bytes()).unwrap(), 4000);
    assert_eq!(stdout.write(("x".repeat(9000) + "\ny\n").as_bytes()).unwrap(), 9001);
}
