//! Outbound HTTP proxies: of a registry, of all, or of the environment.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Url;

use super::fault::Complaint;
use super::host::{self, HostPattern};
use super::raw::Keys;
use super::raw::{Reader, Section, Value};
use super::{Credentials, Secret, is_loopback, registry, urls};

const CREDENTIALS_KEYS: Keys = Keys { known: &["username", "password"], later: &[] };
/// What a registry says to be asked without the proxy of all.
const DIRECT: &str = "direct";

/// An outbound HTTP proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `http://host[:port]`.
    pub url: Url,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
}

/// What a registry says of proxies.
#[derive(Clone, Debug, Default)]
pub enum ProxyChoice {
    /// Nothing: what `[egress]` says holds.
    #[default]
    Shared,
    /// None is used.
    Direct,
    /// This one is used.
    Through(Proxy),
}

/// What `[egress]` says of proxies.
#[derive(Clone, Debug, Default)]
pub enum SharedProxy {
    /// None is used.
    #[default]
    None,
    /// This one is used.
    Given(Proxy),
    /// Those of the environment are used, as it was when the configuration was read.
    Environment(Environment),
}

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, of which the upper case counts where both are set.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// For https.
    pub https: Option<Proxy>,
    /// For http.
    pub http: Option<Proxy>,
    /// What is reached without either.
    pub except: Vec<Exception>,
}

/// An item of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exception {
    /// `*`
    Everything,
    /// The addresses that stand in URLs themselves. Names are not looked up for it.
    Network(IpNet),
    /// A host, and all below it; with a port, that one alone.
    Host(HostPattern),
}

impl Proxy {
    /// Its name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }
}

impl SharedProxy {
    /// All proxies that may be used.
    pub fn all(&self) -> impl Iterator<Item = &Proxy> {
        let (first, second) = match self {
            Self::None => (None, None),
            Self::Given(proxy) => (Some(proxy), None),
            Self::Environment(environment) => (environment.https.as_ref(), environment.http.as_ref()),
        };
        first.into_iter().chain(second)
    }
}

impl ProxyChoice {
    /// The proxy by which `host` (lower case, IPv6 without brackets, or a pattern `*.suffix`) is reached at `port`; `https`
    /// says how. This machine itself is never reached by one.
    pub fn proxy<'a>(&'a self, shared: &'a SharedProxy, https: bool, host: &str, port: u16) -> Option<&'a Proxy> {
        if host == "localhost" || host.parse().is_ok_and(is_loopback) {
            return None;
        }
        match (self, shared) {
            (Self::Direct, _) | (Self::Shared, SharedProxy::None) => None,
            (Self::Through(proxy), _) | (Self::Shared, SharedProxy::Given(proxy)) => Some(proxy),
            (Self::Shared, SharedProxy::Environment(environment)) => {
                let proxy = if https { &environment.https } else { &environment.http };
                proxy.as_ref().filter(|_| !environment.except.iter().any(|exception| exception.covers(host, port)))
            }
        }
    }
}

impl Exception {
    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => host.parse::<IpAddr>().is_ok_and(|address| network.contains(&address.to_canonical())),
            Self::Host(pattern) => {
                let below = host.strip_suffix(pattern.host.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && pattern.port.is_none_or(|only| only == port)
            }
        }
    }
}

/// Reads `proxy` and `proxy_credentials` of a registry.
pub(super) fn of_registry(section: &Section<'_>) -> ProxyChoice {
    let Some(value) = section.get("proxy") else {
        no_credentials_alone(section);
        return ProxyChoice::Shared;
    };
    if value.is_word(DIRECT) {
        no_credentials_alone(section);
        return ProxyChoice::Direct;
    }
    given(section, &value).map_or(ProxyChoice::Shared, ProxyChoice::Through)
}

/// Reads the keys of `[egress]`.
pub(super) fn shared(section: &Section<'_>) -> SharedProxy {
    let from_environment = section.get("proxy_from_environment");
    let opted = from_environment.as_ref().filter(|value| value.boolean() == Some(true));
    match (section.get("proxy"), opted) {
        (Some(value), Some(second)) => {
            second.fault(format!("proxy stands on line {} already", value.line), "keep one of proxy and proxy_from_environment");
            SharedProxy::None
        }
        (Some(value), None) => given(section, &value).map_or(SharedProxy::None, SharedProxy::Given),
        (None, opted) => {
            no_credentials_alone(section);
            opted.map_or(SharedProxy::None, |value| SharedProxy::Environment(environment(value)))
        }
    }
}

fn given(section: &Section<'_>, value: &Value<'_>) -> Option<Proxy> {
    let credentials = section.get("proxy_credentials").and_then(|value| {
        let section = value.section(&CREDENTIALS_KEYS)?;
        registry::user(&section)
    });
    Some(Proxy { url: value.parse(urls::proxy)?, credentials })
}

fn no_credentials_alone(section: &Section<'_>) {
    if let Some(value) = section.get("proxy_credentials") {
        value.fault("there is no proxy beside it", "write proxy = \"http://host:port\", or remove this");
    }
}

/// The variables as they are now. What is wrong with them is told of the key that asks for them.
fn environment(value: &Value<'_>) -> Environment {
    let reader = value.reader();
    let proxy = |name: &str| {
        let (name, text) = variable(reader, name)?;
        of_variable(&text).map_err(|what| value.fault(format!("{name} {what}"), "write http://[user:password@]host:port")).ok()
    };
    let (https, http) = (proxy("HTTPS_PROXY"), proxy("HTTP_PROXY"));
    let list = variable(reader, "NO_PROXY").map(|(_, text)| text).unwrap_or_default();
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    let read = |item: &str| {
        let exception = exception(item);
        if exception.is_none() {
            value.warn(format!("{item:?} in NO_PROXY means nothing here"), "write hosts, addresses and networks");
        }
        exception
    };
    Environment { https, http, except: items.filter_map(read).collect() }
}

fn variable(reader: &Reader<'_>, name: &str) -> Option<(String, String)> {
    let found = |name: String| reader.variable(&name).map(|text| (name, text));
    found(name.to_owned()).or_else(|| found(name.to_ascii_lowercase()))
}

/// A proxy as variables have it: with its credentials in the URL, or without a scheme. What comes back in place of one is
/// never the text, which may hold a password.
fn of_variable(text: &str) -> Result<Proxy, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&text).map_err(|error| format!("is not a URL ({error})"))?;
    let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let credentials = (!url.username().is_empty()).then(|| Credentials {
        username: decoded(url.username()),
        password: Secret::new(decoded(url.password().unwrap_or_default())),
    });
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| "has no host".to_owned())?;
    let url = urls::proxy(url.as_str()).map_err(|complaint: Complaint| complaint.message)?;
    Ok(Proxy { url, credentials })
}

fn exception(item: &str) -> Option<Exception> {
    if item == "*" {
        return Some(Exception::Everything);
    }
    let network = item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
    if let Ok(network) = network {
        return Some(Exception::Network(network));
    }
    let host = item.strip_prefix("*.").or_else(|| item.strip_prefix('.')).unwrap_or(item);
    host::pattern(host).ok().map(Exception::Host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(choice: &ProxyChoice, shared: &SharedProxy, https: bool, host: &str, port: u16) -> Option<String> {
        choice.proxy(shared, https, host, port).map(|proxy| proxy.url.to_string())
    }

    fn environment() -> SharedProxy {
        let list = "10.0.0.0/8, fd00::1, corp.example, .lab.example:8443,*.x.example";
        SharedProxy::Environment(Environment {
            https: Some(of_variable("http://secure.example:3128").unwrap()),
            http: Some(of_variable("plain.example:3129").unwrap()),
            except: list.split(',').map(|item| exception(item.trim()).unwrap()).collect(),
        })
    }

    #[test]
    fn the_scheme_and_no_proxy_choose() {
        let to = |https, host, port| through(&ProxyChoice::Shared, &environment(), https, host, port);
        assert_eq!(to(true, "r.example", 443).as_deref(), Some("http://secure.example:3128/"));
        assert_eq!(to(false, "r.example", 80).as_deref(), Some("http://plain.example:3129/"));
        for (host, port) in [
            ("10.1.2.3", 443),
            ("fd00::1", 443),
            ("corp.example", 443),
            ("r.corp.example", 443),
            ("*.corp.example", 443),
            ("lab.example", 8443),
            ("a.x.example", 443),
            ("localhost", 443),
            ("127.0.0.9", 443),
            ("::ffff:127.0.0.1", 443),
            ("::1", 443),
        ] {
            assert_eq!(to(true, host, port), None, "{host}");
        }
        for (host, port) in [("11.1.2.3", 443), ("mycorp.example", 443), ("lab.example", 443), ("corp.example.net", 443)] {
            assert!(to(true, host, port).is_some(), "{host}");
        }
    }

    #[test]
    fn a_registry_s_own_word_counts_before_that_of_all() {
        let own = ProxyChoice::Through(of_variable("own.example:1").unwrap());
        assert_eq!(through(&own, &environment(), true, "corp.example", 443).as_deref(), Some("http://own.example:1/"));
        assert_eq!(through(&own, &SharedProxy::None, true, "127.0.0.1", 443), None);
        assert_eq!(through(&ProxyChoice::Direct, &environment(), true, "r.example", 443), None);
    }

    #[test]
    fn credentials_of_a_variable_are_taken_out_of_its_url() {
        let proxy = of_variable("http://us%40er:p%3Ass@proxy.example:3128/").unwrap();
        assert_eq!((proxy.url.as_str(), proxy.host(), proxy.port()), ("http://proxy.example:3128/", "proxy.example", 3128));
        let credentials = proxy.credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.expose()), ("us@er", "p:ss"));
        for bad in ["socks5://u:hunter2@p.example:1", "https://p.example", "http://u:hunter2@p example", "http://p.example/path"] {
            let told = of_variable(bad).unwrap_err();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
