//! The real exchange: connects only where the way leads and only to addresses that were checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use http::HeaderValue;
use http::header::HOST;
use tokio::time::timeout;

use super::own::Own;
use super::proxies::Gate;
use super::rules::Rules;
use super::tls::chain;
use super::{Body, Error, Exchange, Kind, Names, Request, Response, Way};
use crate::config::{self, PrivateEndpoint};

/// The longest wait for a name's addresses.
const LOOKUP: Duration = Duration::from_secs(2);

/// Exchanges over the network. One per process; each [`Way`] has its own connections.
pub struct Guarded {
    names: Arc<dyn Names>,
    own: Arc<Own>,
}

impl Guarded {
    /// An exchange that resolves with `names`.
    pub fn new(names: Arc<dyn Names>) -> Self {
        Self { names, own: Arc::default() }
    }

    /// From now on no connection is made to `listeners`, the addresses this proxy itself listens on.
    pub fn refuse(&self, listeners: Vec<SocketAddr>) {
        self.own.set(listeners);
    }

    /// The way's client for exchanges without a proxy.
    async fn direct<'a>(&self, way: &'a Way) -> Result<&'a reqwest::Client, Error> {
        way.direct.get_or_try_init(|| self.make(way, Guard::Way(way.rules.clone()), None)).await
    }

    /// The way's client for exchanges through the proxy behind `gate`, its `index`th.
    async fn proxied<'a>(&self, way: &'a Way, index: usize, gate: &Arc<Gate>) -> Result<&'a reqwest::Client, Error> {
        gate.check(&self.own)?;
        let proxy = gate.proxy.clone();
        way.proxied[index].get_or_try_init(|| self.make(way, Guard::Proxy(gate.clone()), Some(proxy))).await
    }

    /// Making a client reads the system's certificates, away from the workers.
    async fn make(&self, way: &Way, guard: Guard, proxy: Option<config::Proxy>) -> Result<reqwest::Client, Error> {
        let resolver: Arc<dyn reqwest::dns::Resolve> =
            Arc::new(Resolver { guard, names: self.names.clone(), own: self.own.clone() });
        let tls = way.tls.clone();
        let made = tokio::task::spawn_blocking(move || tls.client(&resolver, proxy.as_ref())).await;
        made.unwrap_or_else(|error| Err(Error::new(Kind::Setup, format!("no TLS client can be made: {error}"))))
    }
}

#[async_trait]
impl Exchange for Guarded {
    async fn exchange(&self, way: &Way, mut request: Request) -> Result<Response, Error> {
        // The client asks the resolver about names only, so addresses in the URL are checked here.
        way.rules.check(&request.url, &self.own)?;
        let proxy = way.rules.proxy(&request.url);
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let by = by(way, &host, proxy.map(|(_, gate)| &**gate));
        let client = match proxy {
            Some((index, gate)) => self.proxied(way, index, gate).await?,
            None => self.direct(way).await?,
        };
        use_private_port(&way.rules, &mut request);
        let mut outgoing = reqwest::Request::new(request.method, request.url);
        *outgoing.headers_mut() = request.headers;
        if !request.body.is_empty() {
            *outgoing.body_mut() = Some(request.body.into());
        }
        let answer = client.execute(outgoing).await.map_err(|error| failure(&host, &by, error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let stream = answer.bytes_stream().map(move |item| item.map_err(|error| failure(&host, &by, error)));
        Ok(Response { status, headers, body: Body::from_stream(stream) })
    }

    async fn prepare(&self, way: &Way) {
        if way.proxied.is_empty() {
            // What fails here fails again for the first request, which is told why.
            let _ = self.direct(way).await;
        }
    }
}

/// A port in the URL overrides the resolver's, so a private endpoint's own port goes into the URL and the `Host` header
/// keeps what the registry expects. Name and certificate stay the same.
fn use_private_port(rules: &Rules, request: &mut Request) {
    let Some(port) = rules.private_port(&request.url) else { return };
    let authority = request.url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
    if let Ok(authority) = HeaderValue::try_from(authority)
        && request.url.set_port(Some(port)).is_ok()
    {
        request.headers.insert(HOST, authority);
    }
}

/// What lies before `host` on the way to it, and may be at fault when it cannot be reached. Empty where nothing does.
fn by(way: &Way, host: &str, proxy: Option<&Gate>) -> String {
    let mut by = match (proxy, way.rules.private_endpoint(host)) {
        (Some(gate), _) => format!(" through the proxy {}", gate.name()),
        (None, Some(endpoint)) => format!(" at its private endpoint {endpoint}"),
        (None, None) => String::new(),
    };
    if let Some(source) = &way.rules.source {
        by += &format!(" from {source}");
    }
    by
}

/// What the client failed with, in words that hold no URL: its query may carry a signature.
fn failure(host: &str, by: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    if let Some(refusal) = refusal(&error) {
        return refusal.clone();
    }
    let kind = if error.is_timeout() {
        Kind::TimedOut
    } else if error.is_connect() {
        Kind::Unreachable
    } else {
        Kind::Broken
    };
    let what = chain(&error);
    let told = Error::new(kind, format!("{host}: {what}"));
    if by.is_empty() { told } else { told.with_detail(format!("{host}{by}: {what}")) }
}

/// The guard's own error, where it stopped the client.
fn refusal(error: &reqwest::Error) -> Option<&Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<Error>() {
            return Some(refusal);
        }
        source = cause.source();
    }
    None
}

/// What stands between the client and the network: it hands out checked addresses only. Asked for every new connection.
struct Resolver {
    guard: Guard,
    names: Arc<dyn Names>,
    own: Arc<Own>,
}

/// Who says which addresses are fit.
#[derive(Clone)]
enum Guard {
    /// For connections to what the way leads to.
    Way(Arc<Rules>),
    /// For connections to a proxy.
    Proxy(Arc<Gate>),
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (guard, names, own) = (self.guard.clone(), self.names.clone(), self.own.clone());
        Box::pin(async move {
            let addresses = guard.addresses(&*names, &own, name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

impl Guard {
    /// Where to connect for `host`.
    async fn addresses(&self, names: &dyn Names, own: &Own, host: &str) -> Result<Vec<SocketAddr>, Error> {
        let rules = match self {
            Self::Way(rules) => rules,
            Self::Proxy(gate) => return gate.admit(host, lookup(names, host).await?, own),
        };
        let Some(endpoint) = rules.private_endpoint(host) else {
            return rules.admit(host, lookup(names, host).await?, own);
        };
        let found = match endpoint {
            PrivateEndpoint::Address(address) => vec![*address],
            PrivateEndpoint::Name(name, _) => lookup(names, name).await?,
        };
        rules.admit_private(host, endpoint, found, own)
    }
}

/// The addresses of `host`, at least one.
async fn lookup(names: &dyn Names, host: &str) -> Result<Vec<SocketAddr>, Error> {
    let found = timeout(LOOKUP, names.lookup(host)).await;
    let found = found.map_err(|_| Error::new(Kind::TimedOut, format!("{host} could not be resolved within 2 s")))?;
    let found = found.map_err(|error| Error::new(Kind::Unreachable, format!("{host} could not be resolved: {error}")))?;
    if found.is_empty() {
        return Err(Error::new(Kind::Unreachable, format!("{host} resolves to no address")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
