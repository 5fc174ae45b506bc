use super::*;
use crate::egress::scripted::{pattern, registry};

fn rules(change: impl FnOnce(&mut config::Registry)) -> Rules {
    let mut registry = registry("https://r.test");
    change(&mut registry);
    let allow = vec![pattern("*.shared.test"), pattern("10.0.0.9")];
    Rules::new(&registry, &config::Egress { allow, ..Default::default() })
}

fn check(rules: &Rules, url: &str) -> Result<(), Kind> {
    rules.check(&url.parse().unwrap(), &Own::default()).map_err(|error| error.kind)
}

fn admit(rules: &Rules, host: &str, addresses: &[&str]) -> Result<usize, Kind> {
    let found = addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
    rules.admit(host, found, &Own::default()).map(|found| found.len()).map_err(|error| error.kind)
}

const FORBIDDEN: Result<(), Kind> = Err(Kind::Forbidden);

#[test]
fn only_declared_hosts_are_reached() {
    let rules = rules(|registry| {
        registry.realm = Some("https://auth.test/token".parse().unwrap());
        registry.blob_hosts = vec![pattern("cdn.test"), pattern("*.store.test"), pattern("odd.test:8443")];
    });
    for url in [
        "https://r.test/v2/",
        "https://auth.test/token?x=y",
        "https://cdn.test/a",
        "https://a.store.test",
        "https://a.b.store.test",
        "https://odd.test:8443/",
        "https://x.shared.test",
    ] {
        assert_eq!(check(&rules, url), Ok(()), "{url}");
    }
    for url in [
        "https://other.test",
        "https://r.test.evil.test",
        "https://store.test",
        "https://xstore.test",
        "https://r.test:444",
        "https://odd.test",
        "https://cdn.test:8443",
        "https://r.test.",
        "ftp://r.test",
        "file:///etc/passwd",
        "data:,x",
        "https://user@r.test",
        "https://:p@r.test",
    ] {
        assert_eq!(check(&rules, url), FORBIDDEN, "{url}");
    }
}

#[test]
fn plain_http_only_where_it_is_written() {
    let secure = rules(|registry| registry.blob_hosts = vec![pattern("cdn.test"), pattern("cdn.test:80"), pattern("127.0.0.1:80")]);
    for url in ["http://r.test", "http://cdn.test", "http://127.0.0.1", "http://x.shared.test"] {
        assert_eq!(check(&secure, url), FORBIDDEN, "{url}");
    }
    let plain = rules(|registry| {
        registry.urls = vec!["http://r.test:5000".parse().unwrap()];
        registry.blob_hosts = vec![pattern("cdn.test"), pattern("odd.test:80"), pattern("127.0.0.1:5001")];
    });
    for url in ["http://r.test:5000", "https://r.test:5000", "http://odd.test", "http://127.0.0.1:5001", "https://cdn.test"] {
        assert_eq!(check(&plain, url), Ok(()), "{url}");
    }
    for url in ["http://cdn.test", "http://r.test", "http://x.shared.test"] {
        assert_eq!(check(&plain, url), FORBIDDEN, "{url}");
    }
}

#[test]
fn literal_addresses_need_to_be_written_in_the_registry_itself() {
    let rules = rules(|registry| {
        registry.urls = vec!["http://127.0.0.1:5000".parse().unwrap(), "http://[::1]:5000".parse().unwrap()];
        registry.blob_hosts = vec![pattern("10.0.0.5")];
    });
    for url in ["http://127.0.0.1:5000/v2/", "http://[::1]:5000", "http://[0:0::1]:5000", "http://10.0.0.5/x", "https://10.0.0.5/x"]
    {
        assert_eq!(check(&rules, url), Ok(()), "{url}");
    }
    for url in [
        "http://127.0.0.1:5001",
        "http://127.0.0.2:5000",
        "http://localhost:5000",
        "http://localhost.:5000",
        "http://[::ffff:127.0.0.1]:5000",
        "https://10.0.0.9",
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://0251.0376.0251.0376/",
    ] {
        assert_eq!(check(&rules, url), FORBIDDEN, "{url}");
    }
}

#[test]
fn metadata_needs_an_exact_network_even_where_it_is_written() {
    let metadata = |networks: &[&str]| {
        rules(|registry| {
            registry.urls = vec!["http://169.254.169.254".parse().unwrap()];
            registry.addresses = networks.iter().map(|text| text.parse().unwrap()).collect();
        })
    };
    assert_eq!(check(&metadata(&[]), "http://169.254.169.254"), FORBIDDEN);
    assert_eq!(check(&metadata(&["169.254.0.0/16"]), "http://169.254.169.254"), FORBIDDEN);
    assert_eq!(check(&metadata(&["169.254.169.254/32"]), "http://169.254.169.254"), Ok(()));
    assert_eq!(admit(&metadata(&["169.254.0.0/16"]), "r.test", &["169.254.169.254"]), Err(Kind::Forbidden));
}

#[test]
fn every_address_of_a_name_must_be_fit() {
    let rules = rules(|registry| registry.addresses = vec!["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(admit(&rules, "r.test", &["1.1.1.1", "10.0.0.1"]), Ok(2));
    assert_eq!(admit(&rules, "r.test", &["1.1.1.1", "192.168.0.1"]), Err(Kind::Forbidden));
    assert_eq!(admit(&rules, "r.test", &["1.1.1.1", "::1"]), Err(Kind::Forbidden));
}

#[test]
fn localhost_is_meant_where_it_is_written() {
    let rules = rules(|registry| registry.urls = vec!["http://localhost:5000".parse().unwrap()]);
    assert_eq!(check(&rules, "http://localhost:5000"), Ok(()));
    assert_eq!(admit(&rules, "localhost", &["127.0.0.1", "::1"]), Ok(2));
    assert_eq!(admit(&rules, "localhost", &["10.0.0.1"]), Err(Kind::Forbidden));
    assert_eq!(admit(&rules, "other.test", &["127.0.0.1"]), Err(Kind::Forbidden));
}

#[test]
fn the_proxy_never_connects_to_itself() {
    let own = Own::default();
    own.set(vec!["127.0.0.1:5000".parse().unwrap(), "10.0.0.1:8443".parse().unwrap()]);
    let literal = rules(|registry| registry.urls = vec!["http://127.0.0.1:5000".parse().unwrap()]);
    assert_eq!(literal.check(&"http://127.0.0.1:5000".parse().unwrap(), &own).unwrap_err().kind, Kind::Loop);
    let named = rules(|registry| {
        registry.urls = vec!["https://r.test:8443".parse().unwrap()];
        registry.addresses = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let at = |text: &str| vec![text.parse().unwrap()];
    assert_eq!(named.admit("r.test", at("10.0.0.1:0"), &own).unwrap_err().kind, Kind::Loop);
    assert!(named.admit("r.test", at("10.0.0.2:0"), &own).is_ok());
}

#[test]
fn a_private_endpoint_stands_for_the_registry_s_own_hosts_only() {
    let rules = rules(|registry| {
        registry.private_endpoint = Some(PrivateEndpoint::Address("10.1.2.3:8443".parse().unwrap()));
        registry.blob_hosts = vec![pattern("cdn.test")];
    });
    assert!(rules.private_endpoint("r.test").is_some() && rules.private_endpoint("cdn.test").is_none());
    assert_eq!(rules.private_port(&"https://r.test".parse().unwrap()), Some(8443));
    assert_eq!(rules.private_port(&"https://cdn.test".parse().unwrap()), None);
}

#[test]
fn a_private_endpoint_s_address_is_meant_and_those_of_its_name_must_be_fit() {
    let rules =
        |networks: &[&str]| rules(|registry| registry.addresses = networks.iter().map(|text| text.parse().unwrap()).collect());
    let own = Own::default();
    own.set(vec!["10.9.9.9:8443".parse().unwrap()]);
    let admit = |networks: &[&str], endpoint: PrivateEndpoint, found: &str| {
        let found = vec![found.parse().unwrap()];
        rules(networks).admit_private("r.test", &endpoint, found, &own).map_err(|error| error.kind)
    };
    let to = |text: &str| Ok(vec![text.parse().unwrap()]);
    let address = |text: &str| PrivateEndpoint::Address(text.parse().unwrap());
    let name = |name: &str| PrivateEndpoint::Name(name.to_owned(), 8443);
    assert_eq!(admit(&[], address("10.1.2.3:8443"), "10.1.2.3:8443"), to("10.1.2.3:8443"));
    assert_eq!(admit(&[], name("vpce.test"), "1.1.1.1:0"), to("1.1.1.1:8443"));
    assert_eq!(admit(&[], name("vpce.test"), "10.1.2.3:0"), Err(Kind::Forbidden));
    assert_eq!(admit(&["10.0.0.0/8"], name("vpce.test"), "10.1.2.3:0"), to("10.1.2.3:8443"));
    assert_eq!(admit(&["10.0.0.0/8"], name("vpce.test"), "10.9.9.9:0"), Err(Kind::Loop));
    assert_eq!(admit(&["10.0.0.0/8"], address("10.9.9.9:8443"), "10.9.9.9:8443"), Err(Kind::Loop));
    assert_eq!(admit(&[], name("localhost"), "127.0.0.1:0"), to("127.0.0.1:8443"));
    for metadata in [&["169.254.0.0/16"][..], &[]] {
        assert_eq!(admit(metadata, address("169.254.169.254:80"), "169.254.169.254:80"), Err(Kind::Forbidden));
        assert_eq!(admit(metadata, name("vpce.test"), "169.254.169.254:0"), Err(Kind::Forbidden));
    }
    assert!(admit(&["169.254.169.254/32"], address("169.254.169.254:80"), "169.254.169.254:80").is_ok());
}

#[test]
fn connections_start_where_they_are_told_to_or_not_at_all() {
    let rules = rules(|registry| {
        registry.source = Some(Source::Address("192.0.2.1".parse().unwrap()));
        registry.urls = vec!["https://r.test".parse().unwrap(), "https://[2606:4700::1]".parse().unwrap()];
    });
    assert_eq!(admit(&rules, "r.test", &["2606:4700::1", "1.1.1.1"]), Ok(1));
    assert_eq!(admit(&rules, "r.test", &["2606:4700::1"]), Err(Kind::Unreachable));
    assert_eq!(check(&rules, "https://[2606:4700::1]"), Err(Kind::Unreachable));
}

#[test]
fn through_a_proxy_names_are_checked_as_names_and_addresses_as_addresses() {
    let proxy = |url: &str| config::Proxy { url: url.parse().unwrap(), credentials: None };
    let rules = rules(|registry| {
        registry.proxy = config::ProxyChoice::Through(proxy("http://p.test:3128"));
        registry.blob_hosts = ["*.google.internal", "169.254.169.254", "10.0.0.5"].map(pattern).into();
    });
    for url in ["https://r.test", "https://10.0.0.5"] {
        assert_eq!(check(&rules, url), Ok(()), "{url}");
        assert!(rules.proxy(&url.parse().unwrap()).is_some());
    }
    for url in ["https://other.test", "http://r.test", "https://metadata.google.internal", "https://169.254.169.254"] {
        assert_eq!(check(&rules, url), FORBIDDEN, "{url}");
    }
}

#[test]
fn a_private_endpoint_is_not_sought_through_the_proxy_of_all() {
    let mut registry = registry("https://r.test");
    registry.private_endpoint = Some(PrivateEndpoint::Address("10.1.2.3:443".parse().unwrap()));
    registry.blob_hosts = vec![pattern("cdn.test")];
    let proxy = config::SharedProxy::Given(config::Proxy { url: "http://p.test:3128".parse().unwrap(), credentials: None });
    let rules = Rules::new(&registry, &config::Egress { proxy, ..Default::default() });
    assert!(rules.proxy(&"https://r.test/v2/".parse().unwrap()).is_none());
    assert!(rules.proxy(&"https://cdn.test/x".parse().unwrap()).is_some());
}

#[test]
fn what_a_name_resolved_to_is_for_the_operator_alone() {
    let error = rules(|_| {}).admit("r.test", vec!["10.7.7.7:0".parse().unwrap()], &Own::default()).unwrap_err();
    assert!(!error.to_string().contains("10.7.7.7") && error.to_string().contains("addresses of registry r.test"), "{error}");
    assert!(error.detail().is_some_and(|detail| detail.contains("r.test at 10.7.7.7")), "{error:?}");
}

#[test]
fn a_wildcard_registry_reaches_every_host_of_its_name() {
    let rules = rules(|registry| {
        registry.name = RegistryMatch::Suffix(".pkg.test".to_owned());
        registry.urls = vec!["https://*".parse().unwrap()];
    });
    assert_eq!(check(&rules, "https://europe-docker.pkg.test/v2/"), Ok(()));
    assert_eq!(check(&rules, "https://pkg.test/v2/"), FORBIDDEN);
    assert_eq!(check(&rules, "http://a.pkg.test/v2/"), FORBIDDEN);
}

#[test]
fn a_refusal_says_what_to_do() {
    let text = |url: &str| rules(|_| {}).check(&url.parse().unwrap(), &Own::default()).unwrap_err().to_string();
    assert_eq!(
        text("https://cdn.other.test/secret?signature=x"),
        "registry r.test may not connect to cdn.other.test: if the registry really sends us there, add it to blob_hosts of registry r.test"
    );
}
