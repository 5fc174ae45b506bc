//! How much a tenant may take: requests and bytes per second, connections and downloads at once.
//!
//! A tenant is whatever a `[[limit]]` counts as one: an endpoint, a principal or a source. A caller is a tenant of each
//! limit that means it, and all of them must have room. Rates are token buckets with `now` passed in; what is had for a
//! while is a [`Held`] that gives it back when dropped. Nothing in here waits, so nothing can be held up by a tenant that
//! left.

mod bucket;
mod tenant;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{By, TenantLimit};
use crate::request::Caller;
use tenant::{Count, Tenant, Tenants};

/// All limits, with what each tenant has taken. One for as long as the configuration of the limits holds.
#[derive(Debug)]
pub struct Quotas {
    limits: Vec<(TenantLimit, Tenants)>,
}

/// What a caller may take: one for each request.
#[derive(Clone, Debug, Default)]
pub struct Allowance(Option<Arc<[Arc<Tenant>]>>);

/// A connection or download that counts until this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    _counts: Vec<Count>,
}

/// A tenant has had its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the limit of {limit} {} for this {}", .what.as_str(), .by.as_str())]
pub struct Over {
    /// What the limit counts by.
    pub by: By,
    /// What it limits.
    pub what: What,
    /// How much.
    pub limit: u64,
    /// When there is room again, at least.
    pub after: Duration,
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests per second.
    Requests,
    /// Connections at once.
    Connections,
    /// Downloads at once.
    Downloads,
}

impl What {
    /// The words in messages.
    fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests per second",
            Self::Connections => "connections at once",
            Self::Downloads => "downloads at once",
        }
    }

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Downloads => "downloads",
        }
    }
}

impl Quotas {
    /// Nothing is taken yet.
    pub fn new(limits: &[TenantLimit]) -> Self {
        Self { limits: limits.iter().map(|limit| (limit.clone(), Tenants::default())).collect() }
    }

    /// Whether these are the limits, so that what was taken can go on counting.
    pub fn is_of(&self, limits: &[TenantLimit]) -> bool {
        self.limits.iter().map(|(limit, _)| limit).eq(limits)
    }

    /// What `caller` may take.
    pub fn of(&self, caller: &Caller, now: Instant) -> Allowance {
        if self.limits.is_empty() {
            return Allowance::default();
        }
        Allowance(Some(self.limits.iter().filter_map(|(limit, tenants)| tenants.of(limit, caller, now)).collect()))
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }
}

impl Allowance {
    fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.0.iter().flat_map(|tenants| tenants.iter())
    }

    /// Takes one request.
    ///
    /// # Errors
    /// Names the first limit that has none left.
    pub fn request(&self, now: Instant) -> Result<(), Over> {
        self.tenants().try_for_each(|tenant| tenant.request(now))
    }

    /// Takes one connection, for as long as what is returned is held.
    ///
    /// # Errors
    /// Names the first limit that has none left.
    pub fn connection(&self) -> Result<Held, Over> {
        self.hold(Tenant::connection)
    }

    /// Takes one download, for as long as what is returned is held.
    ///
    /// # Errors
    /// Names the first limit that has none left.
    pub fn download(&self) -> Result<Held, Over> {
        self.hold(Tenant::download)
    }

    fn hold(&self, take: impl Fn(&Arc<Tenant>) -> Option<Result<Count, Over>>) -> Result<Held, Over> {
        // Those before the one that has none left give theirs back by being dropped.
        Ok(Held { _counts: self.tenants().filter_map(take).collect::<Result<_, _>>()? })
    }

    /// Takes `bytes` of what may be sent, and says how long to wait before they are. They are taken in the order of the
    /// calls, so who takes small pieces and waits for each shares fairly with all others of the tenant.
    pub fn send(&self, bytes: u64, now: Instant) -> Duration {
        self.tenants().map(|tenant| tenant.send(bytes, now)).max().unwrap_or_default()
    }

    /// Gives back what [`Allowance::send`] took and was not sent, because whoever waited for it left.
    pub fn unsent(&self, bytes: u64) {
        self.tenants().for_each(|tenant| tenant.unsent(bytes));
    }

    /// The most that should be taken at once for sharing to be fair, in bytes. `None` where nothing limits it.
    pub fn piece(&self) -> Option<u64> {
        self.tenants().filter_map(|tenant| tenant.piece()).min()
    }
}
