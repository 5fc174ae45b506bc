//! A policy, and requests held against it: whatever it says, deciding ends, and the explanation says the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use roadstead::config::Policy;
use roadstead::oci::Digest;
use roadstead::policy::{Question, Rules, Scope, Way, review};
use roadstead::request::{Caller, Endpoint, Item, Principal, Target};

fuzz_target!(|text: &str| {
    let Ok((policy, _)) = Policy::parse(text, Path::new("policy.toml")) else { return };
    let now = "2026-06-06T12:00:00Z".parse().expect("it is a time");
    review(&policy, now);
    let rules = Rules::new(&policy);
    let digest: Digest = format!("sha256:{}", "1".repeat(64)).parse().expect("it is a digest");
    let tag = || Item::Manifest("v1".parse().map(roadstead::oci::Reference::Tag).expect("it is a tag"));
    for item in [tag(), Item::Blob(digest), Item::Tags, Item::Referrers(digest)] {
        let repository = "library/app".parse().expect("it is a repository");
        let target = Target { registry: "docker.io".parse().expect("it is a registry"), repository, item };
        let caller = Caller {
            endpoint: Endpoint::aws("vpce-1"),
            principals: [Principal::user("ci"), Principal::spiffe("spiffe://prod/ns/a")].into(),
            ..Caller::direct("nodes".into(), ([10, 1, 2, 3], 1).into())
        };
        let question = Question { caller: &caller, target: &target, user_agent: Some("containerd/2.0"), is_private: false, now };
        let (decided, explained) = (rules.decide(&question), rules.explain(&question));
        assert_eq!(format!("{decided:?}"), format!("{:?}", explained.decided));
        if let Ok(permit) = decided
            && let Scope::Limited(limited) = permit.scope()
        {
            let unknown = limited.judge(Way { tag: None, digests: &[digest] }).is_ok();
            let known = limited.judge(Way { tag: Some("v1"), digests: &[digest] }).is_ok();
            assert!(known || !unknown, "what is not known is not more");
        }
    }
});
