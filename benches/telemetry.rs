//! How long it takes to tell of one request: a manifest by digest, held, asked for by somebody with a name.
//!
//!     cargo bench --bench telemetry
//!
//! With the audit log nothing is dropped, so what is shown is how fast its thread can chain and write.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use roadstead::config::{Audit, AuditOutput, WhenFull};
use roadstead::oci::{Algorithm, Digest, Reference};
use roadstead::request::{Caller, Decision, Item, Principal, Served, Target, Verdict};
use roadstead::telemetry::{AccessLog, LogFormat, Outcome, Place, Telemetry};

/// A file of the audit log is given up after so many bytes.
const ROTATE: u64 = 64 << 20;

struct Asked {
    caller: Caller,
    target: Target,
    label: Arc<str>,
    path: String,
    decision: Decision,
}

impl Asked {
    fn new() -> Self {
        let digest = Digest::of(Algorithm::Sha256, b"a manifest");
        let caller = Caller {
            principals: [Principal::user("ci")].into(),
            ..Caller::direct("nodes".into(), ([10, 20, 30, 40], 50_000).into())
        };
        let target = Target {
            registry: "docker.io".parse().expect("it is a registry"),
            repository: "library/alpine".parse().expect("it is a repository"),
            item: Item::Manifest(Reference::Digest(digest)),
        };
        let decision = Decision { verdict: Verdict::Allow, statement: "payments".into(), policy: "0123456789abcdef".into() };
        Self {
            caller,
            target,
            label: "docker.io".into(),
            path: format!("/v2/library/alpine/manifests/{digest}?ns=docker.io"),
            decision,
        }
    }

    fn answer(&self, telemetry: &Arc<Telemetry>, place: Place) {
        let mut outcome = Outcome::open(telemetry, "GET", black_box(&self.path));
        outcome.caller(self.caller.clone(), Some("containerd/2.0.1"));
        outcome.record_at(place);
        outcome.target(&self.target, self.label.clone());
        outcome.decision = Some(self.decision.clone());
        outcome.served = Some(Served::Hit);
        outcome.answered(200);
        outcome.sent = 4700;
    }
}

fn tell(criterion: &mut Criterion) {
    let asked = Asked::new();
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let audit = |name| Audit {
        output: AuditOutput::File { path: folder.path().join(name), rotate: Some(ROTATE), keep: 1 },
        when_full: WhenFull::Block,
    };
    let access = || AccessLog::to(std::io::sink(), LogFormat::Json);
    let start = |access, audit: Option<&Audit>| Telemetry::start(access, audit).expect("the folder is new");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it needs nothing");
    let mut group = criterion.benchmark_group("tell of a hit");
    for (name, telemetry) in [
        ("metrics", Telemetry::quiet()),
        ("metrics, access log", start(access(), None)),
        ("metrics, audit log", start(AccessLog::off(), Some(&audit("alone")))),
        ("metrics, access log, audit log", start(access(), Some(&audit("both")))),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let begun = Instant::now();
                runtime.block_on(async {
                    for _ in 0..times {
                        asked.answer(&telemetry, telemetry.admit().await.expect("its thread keeps writing"));
                    }
                });
                begun.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, tell);
criterion_main!(benches);
