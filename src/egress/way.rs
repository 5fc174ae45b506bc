//! One registry's way out.

use std::sync::Arc;

use url::Url;

use super::own::Own;
use super::rules::Rules;
use super::tls::Tls;
use super::{Error, Kind};
use crate::config::{self, Config};

/// What one configured registry may reach and how: its hosts, addresses and certificates. Made once per `[[registry]]`; for
/// a wildcard, all hosts that its name matches share it.
#[derive(Debug)]
pub struct Way {
    pub(super) rules: Arc<Rules>,
    pub(super) tls: Arc<Tls>,
    /// The client without a proxy, with its connection pool; made at first use.
    pub(super) direct: Made,
    /// The clients of the proxies, in the order of the rules.
    pub(super) proxied: Vec<Made>,
}

/// What is wrong with the certificate files that `config` names for its registries, one error per registry. Blocks on the disk.
pub fn check_certificates(config: &Config) -> Vec<Error> {
    let named = |registry: &&Arc<config::Registry>| registry.ca.is_some() || registry.client_certificate.is_some();
    let check = |registry: &Arc<config::Registry>| {
        Tls::check(registry).err().map(|error| Error::new(error.kind, format!("registry {}: {error}", registry.label())))
    };
    config.registries.iter().filter(named).filter_map(check).collect()
}

/// A client that is made at first use.
pub(super) type Made = tokio::sync::OnceCell<reqwest::Client>;

impl Way {
    /// The way of `registry`. Reads its certificate files.
    ///
    /// # Errors
    /// `Setup` where a file cannot be read or used, or `private_endpoint` is given for a URL that is an address already.
    pub fn new(registry: &config::Registry, egress: &config::Egress) -> Result<Self, Error> {
        let literal = |url: &&Url| !matches!(url.host(), Some(url::Host::Domain(_)));
        if registry.private_endpoint.is_some()
            && let Some(url) = registry.urls.iter().find(literal)
        {
            let what = format!("registry {}: private_endpoint needs urls with a host name, {url} has an address", registry.label());
            return Err(Error::new(Kind::Setup, what));
        }
        let rules = Arc::new(Rules::new(registry, egress));
        let proxied = std::iter::repeat_with(Made::default).take(rules.proxies()).collect();
        Ok(Self { rules, tls: Arc::new(Tls::read(registry)?), direct: Made::default(), proxied })
    }

    /// The registry's name in metrics and messages.
    pub fn label(&self) -> &str {
        &self.rules.label
    }

    pub(super) fn shared_label(&self) -> Arc<str> {
        self.rules.label.clone()
    }

    /// Whether an exchange with `url` may be tried: its host is declared and its scheme is meant. Needs no network; the
    /// addresses of a name are checked when it is connected to.
    ///
    /// # Errors
    /// `Forbidden`, with the host and what to configure.
    pub fn check(&self, url: &Url) -> Result<(), Error> {
        self.rules.check(url, &Own::default())
    }
}
