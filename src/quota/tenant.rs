//! One tenant of one limit, and the table of all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use super::{Over, What};
use crate::config::{By, Of, TenantLimit};
use crate::request::Caller;

/// Tenants of one limit that are remembered; beyond them, those who take nothing at the moment are forgotten.
const MAX_TENANTS: usize = 65_536;
/// Sweeping the table takes a few milliseconds, so strangers cannot have it done all the time.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);
/// When to come back for a connection or a download: nobody knows when one ends.
const LATER: Duration = Duration::from_secs(2);
/// A turn of sending lasts this part of a second, within bounds: pieces small enough to share, large enough to be cheap.
const TURNS: u64 = 20;
const PIECE: std::ops::RangeInclusive<u64> = (16 << 10)..=(1 << 20);

/// What a limit counts as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Text(Arc<str>),
    Source(IpAddr),
    /// Whoever comes when too many are known, together.
    Others,
}

/// The tenants of one limit.
#[derive(Debug, Default)]
pub(super) struct Tenants(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    tenants: HashMap<Name, Arc<Tenant>>,
    swept: Option<Instant>,
}

/// What one tenant has taken.
#[derive(Debug)]
pub(super) struct Tenant {
    limit: TenantLimit,
    requests: Option<Mutex<Bucket>>,
    bytes: Option<Mutex<Bucket>>,
    connections: AtomicU64,
    downloads: AtomicU64,
}

/// One of a tenant's connections or downloads, given back when dropped.
#[derive(Debug)]
pub(super) struct Count {
    tenant: Arc<Tenant>,
    what: What,
}

impl Tenants {
    /// The tenant that `caller` is to `limit`; none where the limit does not mean it.
    pub(super) fn of(&self, limit: &TenantLimit, caller: &Caller, now: Instant) -> Option<Arc<Tenant>> {
        let name = name(limit, caller)?;
        let mut table = lock(&self.0);
        if let Some(tenant) = table.tenants.get(&name) {
            return Some(tenant.clone());
        }
        table.sweep(now);
        let name = if table.tenants.len() >= MAX_TENANTS { Name::Others } else { name };
        Some(table.tenants.entry(name).or_insert_with(|| Arc::new(Tenant::new(limit, now))).clone())
    }
}

impl Table {
    /// Makes room where there is none, no more often than it can bring anything.
    fn sweep(&mut self, now: Instant) {
        let lately = self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < BETWEEN_SWEEPS);
        if self.tenants.len() >= MAX_TENANTS && !lately {
            self.swept = Some(now);
            self.tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1 || !tenant.is_idle(now));
        }
    }
}

fn name(limit: &TenantLimit, caller: &Caller) -> Option<Name> {
    let address = caller.source.ip();
    let text = match limit.by {
        By::Source => {
            let meant = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&address));
            return match &limit.of {
                Some(Of::Networks(networks)) if !meant(networks) => None,
                _ => Some(Name::Source(host(address))),
            };
        }
        By::Endpoint => caller.endpoint.shared(),
        By::Principal => caller.name(),
    };
    match &limit.of {
        Some(Of::Names(_, globs)) if !globs.is_match(&*text) => None,
        _ => Some(Name::Text(text)),
    }
}

/// One host has all addresses of a /64 (RFC 4291 section 2.5.4).
fn host(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

impl Tenant {
    fn new(limit: &TenantLimit, now: Instant) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|rate| Mutex::new(Bucket::new(rate, now)));
        Self {
            requests: bucket(limit.requests),
            bytes: bucket(limit.bytes),
            connections: AtomicU64::new(0),
            downloads: AtomicU64::new(0),
            limit: limit.clone(),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        [&self.requests, &self.bytes].into_iter().flatten().all(|bucket| lock(bucket).is_full(now))
    }

    pub(super) fn request(&self, now: Instant) -> Result<(), Over> {
        let (Some(bucket), Some(limit)) = (&self.requests, self.limit.requests) else { return Ok(()) };
        lock(bucket).take(1, now).map_err(|after| Over { by: self.limit.by, what: What::Requests, limit, after })
    }

    pub(super) fn send(&self, bytes: u64, now: Instant) -> Duration {
        self.bytes.as_ref().map_or(Duration::ZERO, |bucket| lock(bucket).reserve(bytes, now))
    }

    pub(super) fn unsent(&self, bytes: u64) {
        if let Some(bucket) = &self.bytes {
            lock(bucket).give_back(bytes);
        }
    }

    pub(super) fn piece(&self) -> Option<u64> {
        self.limit.bytes.map(|rate| (rate / TURNS).clamp(*PIECE.start(), *PIECE.end()))
    }

    pub(super) fn connection(self: &Arc<Self>) -> Option<Result<Count, Over>> {
        self.one_more(What::Connections, self.limit.connections?)
    }

    pub(super) fn download(self: &Arc<Self>) -> Option<Result<Count, Over>> {
        self.one_more(What::Downloads, self.limit.downloads?)
    }

    fn one_more(self: &Arc<Self>, what: What, limit: u64) -> Option<Result<Count, Over>> {
        let more = |count| (count < limit).then_some(count + 1);
        Some(match self.count(what).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Count { tenant: self.clone(), what }),
            Err(_) => Err(Over { by: self.limit.by, what, limit, after: LATER }),
        })
    }

    fn count(&self, what: What) -> &AtomicU64 {
        if what == What::Downloads { &self.downloads } else { &self.connections }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.tenant.count(self.what).fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
