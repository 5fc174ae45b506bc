use std::net::SocketAddr;

use super::*;
use crate::config::Config;
use crate::request::{Endpoint, Principal};

fn limits(text: &str) -> Vec<TenantLimit> {
    let environment = |key: &str| (key == "HOME").then(|| "/nonexistent".to_owned());
    Config::parse(text, std::path::Path::new("test.toml"), &environment).unwrap().0.limits
}

fn caller(source: &str) -> Caller {
    let source: SocketAddr = source.parse().unwrap();
    Caller::direct("nodes".into(), source)
}

fn user(name: &str) -> Caller {
    let principals = [Principal::dns("host.test"), Principal::user(name)].into();
    Caller { principals, ..caller("10.0.0.1:1") }
}

/// How many of ten requests pass.
fn passed(quotas: &Quotas, caller: &Caller, now: Instant) -> usize {
    (0..10).filter(|_| quotas.of(caller, now).request(now).is_ok()).count()
}

#[test]
fn each_source_has_its_own_and_an_ipv6_host_is_one() {
    let (quotas, now) = (Quotas::new(&limits("[[limit]]\nby = \"source\"\nrequests = 3")), Instant::now());
    assert_eq!(passed(&quotas, &caller("10.0.0.1:1"), now), 3);
    assert_eq!(passed(&quotas, &caller("10.0.0.1:2"), now), 0);
    assert_eq!(passed(&quotas, &caller("[::ffff:10.0.0.1]:2"), now), 0, "the same address in another dress");
    assert_eq!(passed(&quotas, &caller("10.0.0.2:1"), now), 3);
    assert_eq!(passed(&quotas, &caller("[2001:db8::1]:1"), now), 3);
    assert_eq!(passed(&quotas, &caller("[2001:db8::ffff:1:2:3]:1"), now), 0);
    assert_eq!(passed(&quotas, &caller("[2001:db8:0:1::1]:1"), now), 3);
    assert_eq!(passed(&quotas, &caller("10.0.0.1:1"), now + Duration::from_secs(1)), 3);
}

#[test]
fn a_limit_is_for_those_it_names() {
    let text = r#"
        [[limit]]
        by = "endpoint"
        of = ["aws:*"]
        requests = 2
        [[limit]]
        by = "principal"
        requests = 4
        [[limit]]
        by = "source"
        of = ["192.168.0.0/16"]
        requests = 1
    "#;
    let (quotas, now) = (Quotas::new(&limits(text)), Instant::now());
    let endpoint = |endpoint| Caller { endpoint, ..user("ci") };
    assert_eq!(passed(&quotas, &endpoint(Endpoint::aws("vpce-1")), now), 2, "the smaller of two counts");
    assert_eq!(passed(&quotas, &endpoint(Endpoint::azure(1)), now), 2, "the principal has two of its four left");
    assert_eq!(passed(&quotas, &user("another"), now), 4);
    assert_eq!(passed(&quotas, &caller("10.0.0.1:1"), now), 4, "the anonymous are one tenant");
    assert_eq!(passed(&quotas, &caller("10.0.0.2:1"), now), 0);
    assert_eq!(passed(&quotas, &Caller { source: "192.168.1.1:1".parse().unwrap(), ..user("third") }, now), 1);
}

#[test]
fn what_is_held_is_given_back() {
    let text = "[[limit]]\nby = \"source\"\nconnections = 2\ndownloads = 1";
    let (quotas, now) = (Quotas::new(&limits(text)), Instant::now());
    let allowance = quotas.of(&caller("10.0.0.1:1"), now);
    let (first, second) = (allowance.connection().unwrap(), allowance.connection().unwrap());
    let over = quotas.of(&caller("10.0.0.1:2"), now).connection().unwrap_err();
    assert_eq!(over.to_string(), "over the limit of 2 connections at once for this source");
    drop(first);
    let third = allowance.connection().unwrap();
    let download = allowance.download().unwrap();
    assert_eq!(allowance.download().unwrap_err().what, What::Downloads);
    assert!(quotas.of(&caller("10.0.0.2:1"), now).download().is_ok());
    drop((second, third, download));
    assert!(allowance.download().is_ok());
}

#[test]
fn what_one_limit_refuses_is_not_taken_from_another() {
    let text = "[[limit]]\nby = \"endpoint\"\ndownloads = 2\n[[limit]]\nby = \"source\"\ndownloads = 1";
    let (quotas, now) = (Quotas::new(&limits(text)), Instant::now());
    let of = |source| quotas.of(&caller(source), now);
    let _first = of("10.0.0.1:1").download().unwrap();
    assert_eq!(of("10.0.0.1:1").download().unwrap_err().by, By::Source);
    let _second = of("10.0.0.2:1").download().unwrap();
    assert_eq!(of("10.0.0.3:1").download().unwrap_err().by, By::Endpoint);
}

#[test]
fn strangers_do_not_swell_the_table() {
    let (quotas, now) = (Quotas::new(&limits("[[limit]]\nby = \"source\"\nrequests = 1")), Instant::now());
    for host in 0..100_000_u32 {
        let caller = Caller::direct("nodes".into(), (std::net::Ipv4Addr::from(host), 1).into());
        let passes = quotas.of(&caller, now).request(now).is_ok();
        assert_eq!(passes, host <= 65_536, "those beyond the table share one place: {host}");
    }
    let later = now + Duration::from_secs(2);
    assert_eq!(passed(&quotas, &caller("10.0.0.1:1"), later), 1);
}

#[test]
fn limits_are_told_apart_by_what_they_say() {
    let text = "[[limit]]\nby = \"endpoint\"\nof = [\"aws:*\"]\nrequests = 2";
    let quotas = Quotas::new(&limits(text));
    assert!(quotas.is_of(&limits(text)));
    assert!(!quotas.is_of(&limits(&text.replace("aws", "gcp"))));
    assert!(!quotas.is_of(&[]));
}
