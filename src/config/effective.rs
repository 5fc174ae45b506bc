//! The settings that hold: what the file says and, where it is silent, what is built in.

use std::fmt;

use serde::Serialize;

use super::policy::PolicySection;
use super::{
    Audit, AuditOutput, Config, Credentials, Egress, Freshness, HostPattern, KeyPair, Listener, ListenerTls, ListenerUsers, Of,
    Proxy, ProxyChoice, Registry, SharedProxy, Source, TenantLimit, UsersMode, WhenFull, audit, freshness, units,
};

/// A configuration in the words of its file, every default written out. It prints as TOML that, secrets apart, reads back as
/// the same configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    cache: CacheSection,
    admin: AdminSection,
    policy: PolicySection,
    egress: EgressSection,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<AuditSection>,
    listener: Vec<ListenerSection>,
    limit: Vec<LimitSection>,
    registry: Vec<RegistrySection>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct CacheSection {
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<String>,
    memory: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct AdminSection {
    address: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct EgressSection {
    allow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    proxy_from_environment: bool,
    proxy_addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_credentials: Option<User>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct AuditSection {
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    when_full: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ListenerSection {
    name: String,
    address: String,
    max_connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_protocol: Option<ProxyProtocolSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<UsersSection>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct UsersSection {
    file: String,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ProxyProtocolSection {
    from: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TlsSection {
    #[serde(flatten)]
    first: Pem,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_auth: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    more: Vec<Pem>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LimitSection {
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    downloads: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct RegistrySection {
    name: String,
    urls: Vec<String>,
    hosts: Vec<String>,
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    blob_hosts: Vec<String>,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    max_connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_credentials: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<Pem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<CredentialsSection>,
    freshness: Vec<FreshnessSection>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Pem {
    certificate: String,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct CredentialsSection {
    kind: &'static str,
    #[serde(flatten)]
    user: User,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct User {
    username: String,
    password: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct FreshnessSection {
    tags: String,
    r#for: String,
    stale_if_error: String,
}

impl Effective {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            cache: CacheSection {
                directory: config.cache.directory.display().to_string(),
                max_size: config.cache.max_size.map(units::show_size),
                memory: units::show_size(config.cache.memory),
            },
            admin: AdminSection { address: config.admin.address.to_string() },
            policy: PolicySection::new(&config.policy),
            egress: egress(&config.egress),
            audit: config.audit.as_ref().map(audit_section),
            listener: config.listeners.iter().map(listener).collect(),
            limit: config.limits.iter().map(limit).collect(),
            registry: config.registries.iter().map(|registry| self::registry(registry)).collect(),
        }
    }
}

impl fmt::Display for Effective {
    /// TOML, with a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string_pretty(self).map_err(|_| fmt::Error)?;
        match self.cache.max_size {
            Some(_) => f.write_str(&text),
            None => f.write_str(&text.replacen("[cache]\n", "[cache]\n# max_size: 80 % of the file system\n", 1)),
        }
    }
}

fn egress(egress: &Egress) -> EgressSection {
    let given = match &egress.proxy {
        SharedProxy::Given(proxy) => Some(proxy),
        SharedProxy::None | SharedProxy::Environment(_) => None,
    };
    EgressSection {
        allow: texts(&egress.allow),
        proxy: given.map(|proxy| proxy.url.to_string()),
        proxy_from_environment: matches!(egress.proxy, SharedProxy::Environment(_)),
        proxy_addresses: texts(&egress.proxy_addresses),
        proxy_credentials: given.and_then(proxy_user),
    }
}

fn proxy_user(proxy: &Proxy) -> Option<User> {
    proxy.credentials.as_ref().map(user)
}

fn user(credentials: &Credentials) -> User {
    User { username: credentials.username.clone(), password: credentials.password.to_string() }
}

fn audit_section(audit: &Audit) -> AuditSection {
    let (output, rotate, keep) = match &audit.output {
        AuditOutput::Stdout => (audit::STDOUT.to_owned(), None, None),
        AuditOutput::File { path, rotate, keep } => {
            (path.display().to_string(), Some(rotate.map_or_else(|| "never".to_owned(), units::show_size)), Some(*keep))
        }
    };
    let when_full = match audit.when_full {
        WhenFull::Drop => "drop",
        WhenFull::Block => "block",
    };
    AuditSection { output, rotate, keep, when_full }
}

fn listener(listener: &Listener) -> ListenerSection {
    ListenerSection {
        name: listener.name.to_string(),
        address: listener.address.to_string(),
        max_connections: listener.max_connections,
        default_registry: listener.default_registry.as_ref().map(ToString::to_string),
        proxy_protocol: listener.proxy_protocol.as_ref().map(|config| ProxyProtocolSection { from: texts(&config.from) }),
        tls: listener.tls.as_ref().and_then(tls),
        users: listener.users.as_ref().map(users),
    }
}

fn users(users: &ListenerUsers) -> UsersSection {
    UsersSection {
        file: users.file.display().to_string(),
        mode: match users.mode {
            UsersMode::Require => "require",
            UsersMode::Optional => "optional",
        },
        realm: users.realm.as_ref().map(ToString::to_string),
    }
}

fn limit(limit: &TenantLimit) -> LimitSection {
    LimitSection {
        by: limit.by.as_str(),
        of: limit.of.as_ref().map(Of::texts),
        requests: limit.requests,
        bytes: limit.bytes.map(units::show_size),
        connections: limit.connections,
        downloads: limit.downloads,
    }
}

fn tls(tls: &ListenerTls) -> Option<TlsSection> {
    let mut pairs = tls.certificates.iter().map(|KeyPair { certificate, key }| pem(certificate, key));
    Some(TlsSection {
        first: pairs.next()?,
        client_ca: tls.clients.as_ref().map(|clients| clients.ca.display().to_string()),
        client_auth: tls.clients.as_ref().map(|clients| if clients.required { "require" } else { "optional" }),
        more: pairs.collect(),
    })
}

fn registry(registry: &Registry) -> RegistrySection {
    let (proxy, proxy_credentials) = match &registry.proxy {
        ProxyChoice::Shared => (None, None),
        ProxyChoice::Direct => (Some("direct".to_owned()), None),
        ProxyChoice::Through(proxy) => (Some(proxy.url.to_string()), proxy_user(proxy)),
    };
    let (source_address, interface) = match &registry.source {
        None => (None, None),
        Some(Source::Address(address)) => (Some(address.to_string()), None),
        Some(Source::Interface(name)) => (None, Some(name.clone())),
    };
    RegistrySection {
        name: registry.label(),
        urls: texts(&registry.urls),
        hosts: registry.hosts.clone(),
        default: registry.default,
        ca: registry.ca.as_ref().map(|path| path.display().to_string()),
        realm: registry.realm.as_ref().map(ToString::to_string),
        blob_hosts: texts::<HostPattern>(&registry.blob_hosts),
        addresses: texts(&registry.addresses),
        private_endpoint: registry.private_endpoint.as_ref().map(ToString::to_string),
        source_address,
        interface,
        proxy,
        max_connections: registry.max_connections,
        client_certificate: registry.client_certificate.as_ref().map(|files| pem(&files.certificate, &files.key)),
        proxy_credentials,
        credentials: registry.credentials.as_ref().map(|credentials| CredentialsSection { kind: "basic", user: user(credentials) }),
        freshness: registry.freshness.iter().map(rule).collect(),
    }
}

fn rule(rule: &Freshness) -> FreshnessSection {
    FreshnessSection {
        tags: rule.tags.glob().glob().to_owned(),
        r#for: rule.fresh.map_or_else(|| freshness::FOREVER.to_owned(), units::show_time),
        stale_if_error: units::show_time(rule.stale_if_error),
    }
}

fn pem(certificate: &std::path::Path, key: &std::path::Path) -> Pem {
    Pem { certificate: certificate.display().to_string(), key: key.display().to_string() }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
