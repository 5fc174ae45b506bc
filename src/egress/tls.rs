//! The certificates of one way, and the HTTP clients made with them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::{Error, Kind};
use crate::config;

/// Name look-up, connection and TLS together.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// What reqwest takes its cryptography from, without which it makes no client.
pub(super) fn install_provider() {
    // One provider for the process; where another room was first, it installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Trust and identity beyond the system's own.
#[derive(Debug)]
pub(super) struct Tls {
    authorities: Vec<reqwest::Certificate>,
    identity: Option<reqwest::Identity>,
    source: Option<config::Source>,
}

impl Tls {
    /// Reads the registry's certificate files.
    pub(super) fn read(registry: &config::Registry) -> Result<Self, Error> {
        let authorities = registry.ca.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let identity = registry.client_certificate.as_ref().map(identity).transpose()?;
        Ok(Self { authorities, identity, source: registry.source.clone() })
    }

    /// A client that resolves with `resolver`, sends everything through `proxy` if there is one, follows no redirect and
    /// decodes no body. Reads the system's certificates, so it blocks for some milliseconds.
    pub(super) fn client(
        &self,
        resolver: &Arc<dyn reqwest::dns::Resolve>,
        proxy: Option<&config::Proxy>,
    ) -> Result<reqwest::Client, Error> {
        install_provider();
        let proxy = proxy.map(through).transpose()?;
        let builder = || self.builder(resolver.clone(), proxy.clone());
        let made = builder().tls_certs_merge(self.authorities.iter().cloned()).build();
        let made = match made {
            // A system without certificates must not keep plain upstreams away.
            Err(error) if self.authorities.is_empty() => {
                tracing::warn!("no https upstream without a ca of its own can be trusted: {}", chain(&error));
                builder().tls_certs_only([]).build()
            }
            made => made,
        };
        made.map_err(|error| Error::new(Kind::Setup, format!("no TLS client can be made: {}", chain(&error))))
    }

    /// Whether a client can be made of the registry's certificate files; if not, which of them is at fault.
    pub(super) fn check(registry: &config::Registry) -> Result<(), Error> {
        let nowhere: Arc<dyn reqwest::dns::Resolve> = Arc::new(Nowhere);
        let mut tls = Self::read(registry)?;
        let identity = tls.identity.take();
        let at_fault = |key: &str, path: Option<&Path>, error: &Error| {
            Error::new(Kind::Setup, format!("{key} {}: {error}", path.unwrap_or(Path::new("")).display()))
        };
        tls.client(&nowhere, None).map_err(|error| at_fault("ca", registry.ca.as_deref(), &error))?;
        tls.identity = identity;
        let certificate = registry.client_certificate.as_ref().map(|files| files.certificate.as_path());
        tls.client(&nowhere, None).map_err(|error| at_fault("client_certificate", certificate, &error))?;
        Ok(())
    }

    /// HTTP/1.1 only: blob bodies cost half the CPU that they do on HTTP/2.
    fn builder(&self, resolver: Arc<dyn reqwest::dns::Resolve>, proxy: Option<reqwest::Proxy>) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("roadstead/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(POOL_IDLE)
            .dns_resolver(resolver);
        let builder = match &self.source {
            Some(config::Source::Address(address)) => builder.local_address(*address),
            Some(config::Source::Interface(name)) => builder.interface(name),
            None => builder,
        };
        let builder = match &self.identity {
            Some(identity) => builder.identity(identity.clone()),
            None => builder,
        };
        match proxy {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        }
    }
}

/// Resolves nothing.
struct Nowhere;

impl reqwest::dns::Resolve for Nowhere {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async { Err(Error::new(Kind::Setup, "nothing is asked here").into()) })
    }
}

/// For https a tunnel (CONNECT), so that the proxy sees the host's name and nothing else.
fn through(proxy: &config::Proxy) -> Result<reqwest::Proxy, Error> {
    let unfit = |why: &str| Error::new(Kind::Setup, format!("the proxy {} is of no use: {why}", proxy.url));
    let made = reqwest::Proxy::all(proxy.url.clone()).map_err(|error| unfit(&chain(&error)))?;
    let Some(credentials) = &proxy.credentials else { return Ok(made) };
    let pair = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password.expose()));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| unfit("its credentials are no header"))?;
    value.set_sensitive(true);
    Ok(made.custom_http_auth(value))
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, Error> {
    let found = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|error| unfit(path, &chain(&error)))?;
    if found.is_empty() { Err(unfit(path, "there is no certificate in it")) } else { Ok(found) }
}

fn identity(files: &config::ClientCertificate) -> Result<reqwest::Identity, Error> {
    let mut pem = read(&files.certificate)?;
    pem.push(b'\n');
    pem.extend(read(&files.key)?);
    reqwest::Identity::from_pem(&pem).map_err(|error| unfit(&files.certificate, &chain(&error)))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::new(Kind::Setup, format!("{} cannot be read: {error}", path.display())))
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::new(Kind::Setup, format!("{} is of no use as a PEM certificate file: {why}", path.display()))
}

/// The message of `error` and of all that caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
