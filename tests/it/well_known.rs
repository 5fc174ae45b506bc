//! The built-in registries against stand-ins under their real names: token dance, redirect to the blob host, own authority.

use std::net::SocketAddr;

use roadstead::config::{Config, HostPattern, Registry as Known, RegistryMatch};

use super::support::proxy::Setup;
use super::support::*;

/// A host that fits the pattern.
fn example(pattern: &HostPattern) -> String {
    if pattern.wildcard { format!("bucket{}", pattern.host) } else { pattern.host.clone() }
}

fn built_in() -> Vec<std::sync::Arc<Known>> {
    let home = |key: &str| (key == "HOME").then(|| "/nonexistent".to_owned());
    Config::built_in(&home).unwrap().0.registries
}

/// The name clients say, and the host that is asked.
fn names(known: &Known) -> (String, String) {
    let host = known.urls[0].host_str().unwrap().to_owned();
    match &known.name {
        RegistryMatch::Exact(name) => (name.to_string(), host),
        RegistryMatch::Suffix(suffix) => (format!("europe-docker{suffix}"), format!("europe-docker{suffix}")),
    }
}

#[tokio::test]
async fn all_ten_are_there() {
    let labels: Vec<String> = built_in().iter().map(|known| known.label()).collect();
    let expected = [
        "docker.io",
        "ghcr.io",
        "quay.io",
        "registry.k8s.io",
        "gcr.io",
        "*.pkg.dev",
        "public.ecr.aws",
        "mcr.microsoft.com",
        "nvcr.io",
        "registry.gitlab.com",
    ];
    assert_eq!(labels, expected);
}

#[tokio::test]
async fn each_is_pulled_from_with_its_own_realm_and_blob_host() {
    for known in built_in() {
        let (name, api) = names(&known);
        let realm_host = known.realm.as_ref().and_then(|realm| realm.host_str()).unwrap_or(&api).to_owned();
        let blob_host = known.blob_hosts.first().map(example);
        let ca = Ca::new();
        let identity = ca.issue(&[&api, &realm_host, blob_host.as_deref().unwrap_or("none.test")]);
        let (hub, tokens, cdn) =
            (Registry::start_tls(&identity, None).await, Tokens::start_tls(&identity).await, Cdn::start_tls(&identity).await);
        hub.call_it(&api);
        let image = hub.push_image("acme/app", "latest", &[layer(100_000)]);
        let mut hosts: Vec<(&str, SocketAddr)> = vec![(&api, hub.address())];
        if let Some(realm) = &known.realm {
            tokens.set_realm(realm.as_str());
            hub.require_tokens(&tokens);
            // A realm on the registry's own host is served by the registry.
            if realm_host != api {
                hosts.push((&realm_host, tokens.address()));
            }
        }
        if let Some(blob_host) = &blob_host {
            cdn.call_it(blob_host);
            hub.redirect_blobs(&cdn, 307);
            hosts.push((blob_host, cdn.address()));
        }
        let keys = format!("[[registry]]\nname = \"{}\"\nca = \"ca.pem\"\naddresses = [\"127.0.0.0/8\"]\n", known.label());
        let setup = Setup::new().registries(&keys).hosts(Hosts::of(&hosts));
        std::fs::write(setup.folder().join("ca.pem"), ca.pem()).unwrap();
        let proxy = setup.start().await;
        let manifest = proxy.get(&format!("/v2/acme/app/manifests/latest?ns={name}"), &[]).await;
        assert_eq!((manifest.status, &manifest.body), (200, &image.manifest.bytes), "{name}: {:?}", manifest.body);
        let blob = proxy.get(&format!("/v2/{name}/acme/app/blobs/{}", image.layers[0].digest), &[]).await;
        assert_eq!((blob.status, &blob.body), (200, &image.layers[0].bytes), "{name}");
        assert_eq!(tokens.issued() > 0, known.realm.is_some(), "{name}");
        assert_eq!(!cdn.requests().is_empty(), blob_host.is_some(), "{name}");
        assert!(cdn.requests().iter().all(|asked| asked.header("authorization").is_none()));
    }
}
