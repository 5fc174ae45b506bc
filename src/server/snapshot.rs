//! What of the configuration a request is answered by.

use std::sync::Arc;

use arc_swap::ArcSwap;
use url::Url;

use crate::config::{Config, Listener, UsersMode};
use crate::identity::{self, Users};
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
    doors: Vec<Door>,
}

/// A listener that asks who comes.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: Arc<str>,
    pub(super) users: Users,
    pub(super) mode: UsersMode,
    /// Where tokens are given out, if not at the host that was asked for.
    pub(super) realm: Option<Url>,
    pub(super) speaks_tls: bool,
}

impl Snapshot {
    /// What `config` comes to. Where its limits are those of `before`, what was taken goes on counting. Reads the files of
    /// users, and so blocks on the disk.
    ///
    /// # Errors
    /// Names the file of users that cannot be used, and the line.
    pub fn new(config: Arc<Config>, before: Option<&Self>) -> Result<Self, identity::Error> {
        let doors = config.listeners.iter().filter_map(Door::new).collect::<Result<_, _>>()?;
        let quotas = before.map(|before| &before.quotas).filter(|quotas| quotas.is_of(&config.limits));
        let quotas = quotas.cloned().unwrap_or_else(|| Arc::new(Quotas::new(&config.limits)));
        Ok(Self { rules: Rules::new(&config.policy), quotas, doors, config })
    }

    /// The configuration that it came of.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Names the policy, as its decisions do.
    pub fn policy(&self) -> &Arc<str> {
        self.rules.name()
    }

    /// The registry of requests that name none and came by `listener`, where it has one of its own.
    pub(super) fn default_registry(&self, listener: &str) -> Option<&RegistryName> {
        let listener = self.config.listeners.iter().find(|known| *known.name == *listener)?;
        listener.default_registry.as_ref()
    }

    /// The listener of this name, where it asks who comes.
    pub(super) fn door(&self, listener: &str) -> Option<&Door> {
        self.doors.iter().find(|door| *door.listener == *listener)
    }
}

impl Door {
    fn new(listener: &Listener) -> Option<Result<Self, identity::Error>> {
        let configured = listener.users.as_ref()?;
        Some(Users::load(&configured.file).map(|users| Self {
            listener: listener.name.clone(),
            users,
            mode: configured.mode,
            realm: configured.realm.clone(),
            speaks_tls: listener.tls.is_some(),
        }))
    }
}
