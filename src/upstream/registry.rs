//! One upstream registry: its URLs, tried in order.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::time::{Instant, Timeout, timeout, timeout_at};

use super::base::{Base, concrete};
use super::connections::{Connection, Connections, Full, Use};
use super::fetch::{Ask, Fetched, Line, Source};
use super::health::Health;
use super::retry::{self, Next};
use super::{Error, Kind, Via};
use crate::config;
use crate::credentials::{Authenticator, Tokens};
use crate::egress::{Client, Way};
use crate::oci::RepositoryName;

/// All URLs of a registry together, waiting for a free connection included. containerd gives up at 30 s.
const BUDGET: Duration = Duration::from_secs(20);
/// When to ask again where no connection is to be had.
const WHEN_BUSY: Duration = Duration::from_secs(2);

/// What all hosts of one configured registry share.
pub(super) struct Shared {
    config: Arc<config::Registry>,
    way: Arc<Way>,
    client: Client,
    via: Via,
    connections: Connections,
    tokens: Arc<Tokens>,
}

/// One upstream registry: its URLs in order, its credentials and its cap on connections.
pub struct Registry {
    shared: Arc<Shared>,
    sources: Arc<[Source]>,
    health: Arc<Mutex<Health>>,
    via: HeaderValue,
}

/// Which URLs (by index) are not asked as configured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice<'a> {
    /// Never to be asked.
    pub(super) skip: &'a [usize],
    /// To be asked after all others.
    pub(super) last: &'a [usize],
}

impl Shared {
    pub(super) fn new(config: Arc<config::Registry>, way: Arc<Way>, client: Client, via: Via) -> Arc<Self> {
        let tokens = Arc::new(Tokens::new(client.clone(), way.clone(), config.credentials.clone()));
        let connections = Connections::new(config.max_connections);
        Arc::new(Self { config, way, client, via, connections, tokens })
    }

    /// Spares the first question what can be done before it is known.
    pub(super) async fn prepare(&self) {
        self.client.prepare(&self.way).await;
    }

    /// The registry at `host`, which stands for the `*` of a wildcard. `None` where that makes no URL.
    pub(super) fn registry(self: &Arc<Self>, host: &str) -> Option<Registry> {
        let realm = match &self.config.realm {
            Some(realm) => Some(concrete(realm, &self.config, host)?),
            None => None,
        };
        let source = |url: &url::Url| {
            let base = Base::new(&concrete(url, &self.config, host)?);
            let authenticator = Authenticator::new(base.as_url().clone(), realm.clone(), self.tokens.clone());
            Some(Source { base, authenticator })
        };
        let sources = self.config.urls.iter().map(source).collect::<Option<Arc<[_]>>>()?;
        let health = Arc::new(Mutex::new(Health::new(sources.len())));
        Some(Registry { shared: self.clone(), sources, health, via: self.via.value().clone() })
    }
}

impl Registry {
    /// The configured registry's name, for metrics.
    pub fn label(&self) -> &str {
        self.shared.way.label()
    }

    /// The same registry, asked with this `Via`.
    pub fn with_via(&self, via: HeaderValue) -> Self {
        Self { shared: self.shared.clone(), sources: self.sources.clone(), health: self.health.clone(), via }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// How the registry is configured.
    pub fn config(&self) -> &config::Registry {
        &self.shared.config
    }

    /// Tries the URLs with `attempt`, which is given a URL's index, until one succeeds or one's answer holds for all. Everything
    /// together takes 20 s at most, of which each URL has its share; the connection is the one that an answer may still hold.
    pub(super) async fn over_urls<T, F>(
        &self,
        purpose: Use,
        choice: Choice<'_>,
        attempt: impl Fn(usize) -> F,
    ) -> Result<(T, Connection), Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + BUDGET;
        let connection = self.connection(purpose, deadline).await?;
        let urls = self.order(choice);
        let mut failure: Option<Error> = None;
        for (asked, index) in urls.iter().copied().enumerate() {
            let share = retry::share(deadline - Instant::now(), urls.len() - asked);
            let error = match self.noted(index, timeout(share, attempt(index))).await {
                Ok(reply) => return Ok((reply, connection)),
                Err(error) if retry::next(error.kind) == Next::Stop => return Err(error),
                Err(error) => error,
            };
            tracing::debug!(registry = self.label(), url = index, "asking failed: {error}");
            failure = Some(match failure {
                Some(before) => retry::merge(before, error),
                None => error,
            });
        }
        // What a URL that rests would say, nobody knows: the others' "not there" does not stand for it.
        let whole = urls.len() == self.sources.len();
        Err(failure.filter(|failure| whole || failure.kind != Kind::NotFound).unwrap_or_else(|| self.resting()))
    }

    /// Waits for the URL at `index` to be asked, and remembers whether it could be reached.
    async fn noted<T>(&self, index: usize, asking: Timeout<impl Future<Output = Result<T, Error>>>) -> Result<T, Error> {
        let began = Instant::now();
        let result = asking.await.unwrap_or_else(|_| Err(self.late(index)));
        let ended = result.as_ref().map(|_| ()).map_err(|error| error.kind);
        self.health().asked(index, ended, began, Instant::now());
        result
    }

    /// The URLs to be asked: first those that answer, then those that could not be reached lately, then those that `choice` puts
    /// last; among their like as configured.
    fn order(&self, choice: Choice<'_>) -> Vec<usize> {
        let (health, now) = (self.health(), Instant::now());
        let mut urls: Vec<usize> = (0..self.sources.len()).filter(|url| !choice.skip.contains(url)).collect();
        urls.sort_by_key(|url| (choice.last.contains(url), health.is_last(*url, now)));
        urls
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resting(&self) -> Error {
        self.error(Kind::Failed, "a url that may have it rests because it gave wrong content for this digest")
    }

    /// Asks the URL at `index` once for `rest` in `repository`.
    pub(super) fn ask(&self, index: usize, method: Method, repository: &RepositoryName, rest: &str) -> Ask {
        let base = &self.sources[index].base;
        Ask::new(method, base.url(repository, rest), base.scope(repository))
    }

    /// Sends `ask` to the URL at `index`.
    pub(super) async fn fetch(&self, index: usize, ask: &Ask) -> Result<Fetched, Error> {
        let line = Line { client: &self.shared.client, way: &self.shared.way, via: &self.via };
        line.fetch(&self.sources[index], ask).await
    }

    pub(super) fn error(&self, kind: Kind, what: impl Into<String>) -> Error {
        Error::new(kind, self.label(), what)
    }

    async fn connection(&self, purpose: Use, deadline: Instant) -> Result<Connection, Error> {
        match timeout_at(deadline, self.shared.connections.get(purpose)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Full)) => Err(self.busy(purpose, "are in use, and as many requests wait for one")),
            Err(_) => Err(self.busy(purpose, "were in use for 20 s")),
        }
    }

    fn busy(&self, purpose: Use, how: &str) -> Error {
        let most = self.shared.connections.most(purpose);
        let which = match purpose {
            Use::Question => "",
            Use::Transfer => " that blobs may use",
        };
        let what = format!("all {most} connections to it{which} {how}; max_connections can be raised");
        self.error(Kind::Overloaded, what).with_retry_after(Some(WHEN_BUSY))
    }

    fn late(&self, index: usize) -> Error {
        let host = self.sources[index].base.host();
        self.error(Kind::TimedOut, format!("{host} had not answered when its share of the 20 s for all urls was over"))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("label", &self.label()).finish_non_exhaustive()
    }
}
