//! What of the configuration a request is answered by.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::oci::RegistryName;
use crate::policy::Rules;
use crate::quota::Quotas;

/// The snapshot in force. A request takes it once, when it comes, so it never sees half of a change.
pub type Live = ArcSwap<Snapshot>;

/// All that a reload may change about how requests are answered. Immutable.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) config: Arc<Config>,
    pub(super) rules: Rules,
    pub(super) quotas: Arc<Quotas>,
}

impl Snapshot {
    /// What `config` comes to.
    pub fn new(config: Arc<Config>) -> Self {
        let quotas = Arc::new(Quotas::new(&config.limits));
        Self { rules: Rules::new(&config.policy), quotas, config }
    }

    /// The registry of requests that name none and came by `listener`, where it has one of its own.
    pub(super) fn default_registry(&self, listener: &str) -> Option<&RegistryName> {
        let listener = self.config.listeners.iter().find(|known| *known.name == *listener)?;
        listener.default_registry.as_ref()
    }
}
