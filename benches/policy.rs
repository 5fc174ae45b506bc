//! How long a decision takes over a thousand statements. A decision is made for every request, hit or miss.
//!
//!     cargo bench --bench policy
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use roadstead::config::Policy;
use roadstead::policy::{Question, Rules};
use roadstead::request::{Caller, Endpoint, Item, Principal, Target};

const STATEMENTS: usize = 1000;

/// A policy of a thousand statements, each with the keys that `keys` makes of its number.
fn rules(keys: impl Fn(usize) -> String) -> Rules {
    let one = |number| format!("[[policy.statement]]\nid = \"s{number}\"\neffect = \"allow\"\n{}\n", keys(number));
    let text: String = (0..STATEMENTS).map(one).collect();
    Rules::new(&Policy::parse(&text, Path::new("bench.toml")).expect("it is a policy").0)
}

fn caller() -> Caller {
    Caller {
        endpoint: Endpoint::aws("vpce-500"),
        principals: [Principal::user("ci-500"), Principal::spiffe("spiffe://prod/ns/team-500/sa/default")].into(),
        ..Caller::direct("nodes".into(), ([10, 20, 30, 40], 50_000).into())
    }
}

fn target() -> Target {
    let tag = "v1.2.3".parse().expect("it is a tag");
    let repository = "acme/team-500/service".parse().expect("it is a repository");
    let item = Item::Manifest(roadstead::oci::Reference::Tag(tag));
    Target { registry: "ghcr.io".parse().expect("it is a registry"), repository, item }
}

fn decide(criterion: &mut Criterion) {
    let policies = [
        // A tenant each, with an endpoint and a namespace of its own.
        (
            "typical",
            rules(|n| {
                format!(
                    "endpoints = [\"aws:vpce-{n}\"]\nsources = [\"10.0.0.0/8\"]\nresources = [\"ghcr.io/acme/team-{n}/**\"]\nactions = [\"pull\"]"
                )
            }),
        ),
        // All tenants in one namespace, told apart by names.
        ("by principal", rules(|n| format!("principals = [\"user:ci-{n}\"]\nresources = [\"ghcr.io/acme/**\"]"))),
        ("none, indexed", rules(|n| format!("resources = [\"quay.io/other-{n}/*\"]"))),
        // Nothing that could be looked up: each has to be asked.
        ("none, by source", rules(|n| format!("sources = [\"192.168.{}.0/24\"]\nresources = [\"**\"]", n % 256))),
        ("none, by principals' patterns", rules(|n| format!("principals = [\"user:team-{n}-*\"]"))),
        ("none, by resources' patterns", rules(|n| format!("resources = [\"*/acme/*-{n}/*-service\"]"))),
    ];
    let (caller, target) = (caller(), target());
    let now = jiff::Timestamp::UNIX_EPOCH;
    let question = Question { caller: &caller, target: &target, user_agent: Some("containerd/2.0.1"), is_private: false, now };
    let mut group = criterion.benchmark_group("decide over 1000 statements");
    for (name, rules) in &policies {
        group.bench_function(*name, |bencher| bencher.iter(|| rules.decide(black_box(&question)).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
