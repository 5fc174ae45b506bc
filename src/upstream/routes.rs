//! Which registry a name means.

use std::collections::HashMap;
use std::sync::Arc;

use super::registry::Shared;
use super::{Error, Kind, Registry, Via};
use crate::config::{Config, RegistryMatch};
use crate::egress::{self, Exchange, Way};
use crate::oci::RegistryName;
use crate::telemetry::Telemetry;

/// How many hosts of wildcard registries are remembered. Strangers choose them.
const MAX_CONCRETE: u64 = 1024;

/// All upstream registries.
pub struct Upstreams {
    exact: HashMap<RegistryName, Arc<Registry>>,
    /// Longest suffix first.
    suffixes: Vec<(String, Arc<Shared>)>,
    concrete: moka::sync::Cache<RegistryName, Arc<Registry>>,
    via: Via,
    client: egress::Client,
}

impl Upstreams {
    /// The registries of `config`, asked over `exchange`. Reads their certificate files.
    ///
    /// # Errors
    /// Where a certificate file cannot be used, or a URL cannot be made.
    pub fn new(config: &Config, exchange: Arc<dyn Exchange>, telemetry: Arc<Telemetry>) -> Result<Self, Error> {
        Self::over(egress::Client::new(exchange, telemetry), Via::random(), config)
    }

    /// The registries of another `config`, asked over the same exchange and with the same mark. What was known of the old ones
    /// (tokens, health, idle connections) is not carried over.
    ///
    /// # Errors
    /// As [`Upstreams::new`].
    pub fn renewed(&self, config: &Config) -> Result<Self, Error> {
        Self::over(self.client.clone(), self.via.clone(), config)
    }

    fn over(client: egress::Client, via: Via, config: &Config) -> Result<Self, Error> {
        let (mut exact, mut suffixes) = (HashMap::new(), Vec::new());
        for registry in &config.registries {
            let label = registry.label();
            let way = Way::new(registry, &config.egress).map_err(|error| Error::from_egress(&label, &error))?;
            let shared = Shared::new(registry.clone(), Arc::new(way), client.clone(), via.clone());
            match &registry.name {
                RegistryMatch::Suffix(suffix) => suffixes.push((suffix.clone(), shared)),
                RegistryMatch::Exact(name) => {
                    let unfit = || Error::new(Kind::Failed, &label, "its urls are of no use; check urls and realm");
                    exact.insert(name.clone(), Arc::new(shared.registry(name.as_str()).ok_or_else(unfit)?));
                }
            }
        }
        suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(Self { exact, suffixes, concrete: moka::sync::Cache::new(MAX_CONCRETE), via, client })
    }

    /// The registry that is called `name`: the one configured so, else the host of the wildcard that fits best.
    pub fn registry(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        if let Some(registry) = self.exact.get(name) {
            return Some(registry.clone());
        }
        let host = name.as_str();
        let fits = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
        let (_, shared) = self.suffixes.iter().find(|(suffix, _)| fits(suffix))?;
        self.concrete.optionally_get_with_by_ref(name, || shared.registry(host).map(Arc::new))
    }

    /// The mark on all requests of this process, by which a listener knows one that came back.
    pub fn via(&self) -> &Via {
        &self.via
    }
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").field("exact", &self.exact.keys()).finish_non_exhaustive()
    }
}
