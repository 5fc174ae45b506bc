//! Permits from before a reload.

use super::*;
use crate::config::{Credentials, Effect, Policy, Registry, RegistryMatch, Secret};
use crate::policy::{Question, Rules};
use crate::request::{Caller, Principal};

/// A user's permit for what everybody may read, decided while its registry was asked without credentials or with them.
fn decided(item: Item, is_private: bool) -> Permit {
    let mut caller = Caller::direct("nodes".into(), ([127, 0, 0, 1], 1).into());
    caller.principals = [Principal::user("ci")].into();
    let target = permit("app", item).target().clone();
    let now = jiff::Timestamp::UNIX_EPOCH;
    let question = Question { caller: &caller, target: &target, user_agent: None, is_private, now };
    Rules::new(&Policy::without_statements(Effect::Allow)).decide(&question).unwrap()
}

fn reload(bench: &Bench, registry: Registry) {
    let upstreams = bench.mirror.upstreams_of(&config([registry])).unwrap();
    bench.mirror.ask(upstreams);
}

#[tokio::test]
async fn a_permit_goes_for_no_credentials_that_nobody_decided_about_and_for_no_registry_that_is_gone() {
    let blob = layer();
    let bytes = blob.clone();
    let bench = Bench::new(move |_| Reply::ok(bytes.clone())).await;
    let digest = digest_of(&blob);
    assert_eq!(bench.pull("app", digest).await.unwrap(), blob);
    bench.idle().await;
    let ask = async |is_private| {
        let answer = bench.mirror.blob(&decided(Item::Blob(digest), is_private), &Allowance::default(), true).await;
        answer.map(|answer| answer.served).map_err(|error| error.kind)
    };
    assert_eq!((ask(false).await, ask(true).await), (Ok(Served::Hit), Ok(Served::Hit)));
    let mut private = registry_at(&["https://a.test"]);
    private.credentials = Some(Credentials { username: "us".to_owned(), password: Secret::new("x") });
    reload(&bench, private);
    assert_eq!((ask(false).await, ask(true).await), (Err(Kind::Overloaded), Ok(Served::Hit)));
    let mut other = registry_at(&["https://a.test"]);
    other.name = RegistryMatch::Exact("other.test".parse().unwrap());
    reload(&bench, other);
    assert_eq!(ask(true).await, Err(Kind::Overloaded));
}
