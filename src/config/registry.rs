//! `[[registry]]`: the upstream registries.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use url::Url;

use super::fault::Complaint;
use super::network::network;
use super::raw::{Keys, Once, Section, Value};
use super::{ClientCertificate, Credentials, ProxyChoice, Registry, RegistryMatch};
use super::{file, freshness, host, private_endpoint, proxy, secret, source, urls};

pub(super) const KEYS: Keys = Keys {
    known: &[
        "name",
        "urls",
        "hosts",
        "default",
        "ca",
        "client_certificate",
        "realm",
        "blob_hosts",
        "addresses",
        "private_endpoint",
        "source_address",
        "interface",
        "proxy",
        "proxy_credentials",
        "max_connections",
        "credentials",
        "freshness",
    ],
    later: &[],
};
const CLIENT_CERTIFICATE_KEYS: Keys = Keys { known: &["certificate", "key"], later: &[] };
const CREDENTIALS_KEYS: Keys = Keys { known: &["kind", "username", "password"], later: &[] };

const MAX_CONNECTIONS: usize = 64;

/// What may stand once in all registries together.
#[derive(Default)]
struct Claims {
    names: Once,
    hosts: Once,
    default: Once,
}

/// Reads the registries. A registry that `known` has too gets from there what it leaves out.
pub(super) fn check(sections: &[Section<'_>], known: &[Arc<Registry>]) -> Vec<Arc<Registry>> {
    let mut claims = Claims::default();
    sections.iter().filter_map(|section| registry(section, known, &mut claims)).map(Arc::new).collect()
}

fn registry(section: &Section<'_>, known: &[Arc<Registry>], claims: &mut Claims) -> Option<Registry> {
    let name = name(section, claims);
    let model = name.as_ref().and_then(|name| model(name, known));
    let urls = urls(section, name.as_ref(), model.as_ref());
    // A mirror of a known registry has a realm and blob hosts of its own.
    let model = model.filter(|model| same_origin(&urls, &model.urls));
    let registry = Registry {
        realm: match section.get("realm") {
            Some(value) => realm(&value, &urls),
            None => model.as_ref().and_then(|model| model.realm.clone()),
        },
        blob_hosts: match section.get("blob_hosts") {
            Some(value) => value.parse_items(host::pattern),
            None => model.map(|model| model.blob_hosts).unwrap_or_default(),
        },
        credentials: section.get("credentials").and_then(|value| credentials(&value, &urls)),
        hosts: hosts(section, name.as_ref(), claims),
        default: default(section, name.as_ref(), claims),
        ca: section.get("ca").and_then(|value| file::pem(&value, "CERTIFICATE")),
        client_certificate: section.get("client_certificate").and_then(|value| client_certificate(&value)),
        addresses: section.get("addresses").map(|value| networks(&value)).unwrap_or_default(),
        private_endpoint: section.get("private_endpoint").and_then(|value| private_endpoint::check(&value, &urls)),
        source: source::check(section),
        proxy: proxy(section),
        max_connections: section.get("max_connections").and_then(|value| value.count()).unwrap_or(MAX_CONNECTIONS),
        freshness: freshness::check(section.get("freshness").as_ref()),
        name: name?,
        urls,
    };
    Some(registry)
}

fn name(section: &Section<'_>, claims: &mut Claims) -> Option<RegistryMatch> {
    let value = section.require("name", "write what clients call it, such as name = \"docker.io\"")?;
    let name = value.parse(registry_match)?;
    claims.names.claim(&value, name.to_string(), &format!("{name} is configured already"), "merge the two, or remove one");
    Some(name)
}

fn registry_match(text: &str) -> Result<RegistryMatch, Complaint> {
    let wrong = |_| Complaint::new(format!("{text:?} is not a registry name"), "write a host, host:port or *.suffix");
    match text.strip_prefix("*.") {
        // A wildcard stands for hosts, so it has no port.
        Some(suffix) if suffix.contains(':') => Err(wrong(())),
        // Not by way of a registry name: that would turn a suffix of Docker Hub's into another one.
        Some(suffix) => host::header(suffix).map(|suffix| RegistryMatch::Suffix(format!(".{suffix}"))).map_err(|_| wrong(())),
        None => text.parse().map(RegistryMatch::Exact).map_err(|_| wrong(())),
    }
}

/// The known registry of this name; for a host that a known wildcard covers, with the host in the wildcard's place.
fn model(name: &RegistryMatch, known: &[Arc<Registry>]) -> Option<Registry> {
    if let Some(exact) = known.iter().find(|registry| registry.name == *name) {
        return Some(Registry::clone(exact));
    }
    let RegistryMatch::Exact(host) = name else { return None };
    let mut registry = Registry::clone(known.iter().find(|registry| registry.name.covers(host.as_str()))?);
    for url in &mut registry.urls {
        url.set_host(Some(host.as_str())).ok()?;
    }
    Some(registry)
}

/// Whether the urls lead to the known registry itself rather than to a mirror of it.
fn same_origin(urls: &[Url], known: &[Url]) -> bool {
    urls.iter().all(|url| known.iter().any(|known| known.origin() == url.origin()))
}

fn urls(section: &Section<'_>, name: Option<&RegistryMatch>, model: Option<&Registry>) -> Vec<Url> {
    match (section.get("urls"), model) {
        (None, Some(model)) => return model.urls.clone(),
        // Whether a registry without a name is known cannot be told.
        (None, None) if name.is_none() => return Vec::new(),
        _ => {}
    }
    let Some(value) = section.require("urls", "write where the registry is, such as urls = [\"https://registry.example\"]") else {
        return Vec::new();
    };
    let items = value.items();
    if items.as_ref().is_some_and(Vec::is_empty) {
        value.fault("no URL", "write at least one, such as [\"https://registry.example\"]");
    }
    items.unwrap_or_default().iter().filter_map(|item| item.parse(|text| url_of(text, name))).collect()
}

/// The URL of a registry of this name: a wildcard's has `*` for a host, no other has.
fn url_of(text: &str, name: Option<&RegistryMatch>) -> Result<Url, Complaint> {
    let url = urls::registry(text)?;
    let host = url.host_str().unwrap_or_default();
    match name {
        Some(RegistryMatch::Suffix(_)) if host != "*" => Err(Complaint::new(
            format!("{text:?} names one host for a wildcard"),
            "write https://*, where * stands for the host asked for",
        )),
        Some(RegistryMatch::Exact(_)) if host.contains('*') => {
            Err(Complaint::new(format!("{text:?} has a * in its host"), "name the host"))
        }
        _ => Ok(url),
    }
}

fn realm(value: &Value<'_>, urls: &[Url]) -> Option<Url> {
    let realm = value.parse(urls::realm)?;
    if realm.scheme() == "http" && urls.iter().any(|url| url.scheme() == "https") {
        value.fault("is http though the registry is https: credentials would travel in the clear", "write https://…");
    }
    Some(realm)
}

fn hosts(section: &Section<'_>, name: Option<&RegistryMatch>, claims: &mut Claims) -> Vec<String> {
    let items = section.get("hosts").and_then(|value| value.items()).unwrap_or_default();
    if let Some(first) = items.first() {
        refuse_wildcard(first, name);
    }
    let read = |item: &Value<'_>| {
        let host = item.parse(host::header)?;
        claims.hosts.claim(item, &*host, &format!("{host} names a registry already"), "let each host name one registry");
        Some(host)
    };
    items.iter().filter_map(read).collect()
}

fn default(section: &Section<'_>, name: Option<&RegistryMatch>, claims: &mut Claims) -> bool {
    let Some(value) = section.get("default") else { return false };
    let default = value.boolean().unwrap_or(false);
    if default {
        refuse_wildcard(&value, name);
        claims.default.claim(&value, "", "another registry is the default", "keep default = true in one");
    }
    default
}

/// A request that does not name a registry cannot mean one of many hosts.
fn refuse_wildcard(value: &Value<'_>, name: Option<&RegistryMatch>) {
    if let Some(wildcard @ RegistryMatch::Suffix(_)) = name {
        value.fault(format!("{wildcard} is many registries"), "write it for a registry that is one host");
    }
}

/// Networks in which names may lie though they are not public.
pub(super) fn networks(value: &Value<'_>) -> Vec<IpNet> {
    let read = |item: &Value<'_>| {
        let network = item.parse(network)?;
        if network.prefix_len() == 0 {
            item.warn(
                format!("{network} lets its names lead to any address, this machine's included"),
                "name the networks it is in",
            );
        }
        Some(network)
    };
    value.items().unwrap_or_default().iter().filter_map(read).collect()
}

/// A private endpoint is a way of its own, which does not lead through a proxy.
fn proxy(section: &Section<'_>) -> ProxyChoice {
    let choice = proxy::of_registry(section);
    if let (ProxyChoice::Through(_), Some(private), Some(value)) = (&choice, section.get("private_endpoint"), section.get("proxy"))
    {
        value.fault(format!("private_endpoint stands on line {} already", private.line), "keep one of proxy and private_endpoint");
    }
    choice
}

fn client_certificate(value: &Value<'_>) -> Option<ClientCertificate> {
    let (certificate, key) = file::certificate(&value.section(&CLIENT_CERTIFICATE_KEYS)?)?;
    Some(ClientCertificate { certificate, key })
}

fn credentials(value: &Value<'_>, urls: &[Url]) -> Option<Credentials> {
    let section = value.section(&CREDENTIALS_KEYS)?;
    let kind = section.require("kind", "write kind = \"basic\"");
    let user = user(&section);
    if urls.iter().any(|url| url.scheme() == "http" && !is_local(url)) {
        value.warn("the credentials travel in the clear: the registry is http", "write https:// in urls");
    }
    kind?.parse(basic)?;
    user
}

/// The keys `username` and `password`.
pub(super) fn user(section: &Section<'_>) -> Option<Credentials> {
    let username = section.require("username", "write the user name");
    let password = section.require("password", "write { file = \"…\" } or { env = \"…\" }");
    let username = username.and_then(|value| value.parse(user_name));
    let password = password.and_then(|value| secret::check(&value));
    Some(Credentials { username: username?, password: password? })
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(super::is_loopback)
}

fn basic(text: &str) -> Result<(), Complaint> {
    if text == "basic" {
        return Ok(());
    }
    Err(Complaint::new(format!("{text:?} is not a kind of credentials in this version of roadstead"), "write kind = \"basic\""))
}

/// A colon would end the name too early in an `Authorization: Basic` (RFC 7617 section 2).
fn user_name(text: &str) -> Result<String, Complaint> {
    if text.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Complaint::new("a colon or control character is in the user name", "remove it"));
    }
    Ok(text.to_owned())
}
