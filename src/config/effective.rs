//! The settings that hold: what the file says and, where it is silent, what is built in.

use std::fmt;

use serde::Serialize;

use super::{Audit, AuditOutput, Config, Effect, Freshness, HostPattern, Listener, Registry, WhenFull, audit, freshness, units};

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
struct PolicySection {
    default: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct EgressSection {
    allow: Vec<String>,
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
    tls: Option<Pem>,
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
    max_connections: usize,
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
            policy: PolicySection { default: word(config.policy.default) },
            egress: EgressSection { allow: texts(&config.egress.allow) },
            audit: config.audit.as_ref().map(audit_section),
            listener: config.listeners.iter().map(listener).collect(),
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
        tls: listener.tls.as_ref().map(|tls| pem(&tls.certificate, &tls.key)),
    }
}

fn registry(registry: &Registry) -> RegistrySection {
    RegistrySection {
        name: registry.label(),
        urls: texts(&registry.urls),
        hosts: registry.hosts.clone(),
        default: registry.default,
        ca: registry.ca.as_ref().map(|path| path.display().to_string()),
        realm: registry.realm.as_ref().map(ToString::to_string),
        blob_hosts: texts::<HostPattern>(&registry.blob_hosts),
        addresses: texts(&registry.addresses),
        private_endpoint: registry.private_endpoint.map(|address| address.to_string()),
        max_connections: registry.max_connections,
        client_certificate: registry.client_certificate.as_ref().map(|files| pem(&files.certificate, &files.key)),
        credentials: registry.credentials.as_ref().map(|credentials| CredentialsSection {
            kind: "basic",
            username: credentials.username.clone(),
            password: credentials.password.to_string(),
        }),
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

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
