//! Which registry a name means.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::registry::Shared;
use super::{Error, Kind, Registry, Via};
use crate::config::{Config, RegistryMatch};
use crate::egress::{self, Exchange, Way};
use crate::oci::RegistryName;
use crate::telemetry::Telemetry;

/// How many hosts of wildcard registries are remembered. Strangers choose them.
const MAX_CONCRETE: u64 = 1024;
/// More registries than this are prepared by their first question: each then holds the system's certificates in memory.
const MOST_PREPARED: usize = 8;

/// All upstream registries.
pub struct Upstreams {
    exact: BTreeMap<RegistryName, Arc<Registry>>,
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
        let (mut exact, mut suffixes) = (BTreeMap::new(), Vec::new());
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

    /// Spares the first question to a registry some milliseconds, for the first few of them. Nothing fails for not having waited
    /// for it; may be dropped at any time.
    pub fn prepare(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared: Vec<_> = self.exact.values().map(|registry| registry.shared()).take(MOST_PREPARED).collect();
        async move {
            for shared in shared {
                shared.prepare().await;
            }
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::egress::scripted::{config, registry};
    use crate::egress::{Request, Response};

    #[derive(Default)]
    struct Prepared(Mutex<Vec<String>>);

    #[async_trait::async_trait]
    impl Exchange for Prepared {
        async fn exchange(&self, _: &Way, _: Request) -> Result<Response, egress::Error> {
            Err(egress::Error::new(egress::Kind::Unreachable, "nobody is here"))
        }

        async fn prepare(&self, way: &Way) {
            self.0.lock().unwrap().push(way.label().to_owned());
        }
    }

    #[tokio::test]
    async fn every_registry_is_prepared_unless_they_are_many() {
        let prepared = |count: usize| async move {
            let exchange = Arc::new(Prepared::default());
            let registries = (0..count).map(|index| registry(&format!("https://r{index}.test")));
            let registries = registries.enumerate().map(|(index, mut registry)| {
                registry.name = RegistryMatch::Exact(format!("r{index}.test").parse().unwrap());
                registry
            });
            let upstreams = Upstreams::new(&config(registries), exchange.clone(), Telemetry::quiet()).unwrap();
            upstreams.prepare().await;
            let mut labels = std::mem::take(&mut *exchange.0.lock().unwrap());
            labels.sort();
            labels
        };
        assert_eq!(prepared(2).await, ["r0.test", "r1.test"]);
        assert_eq!(prepared(MOST_PREPARED + 5).await.len(), MOST_PREPARED);
    }
}
