//! `private_endpoint` of a registry: where it is reached instead of at the addresses of its name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::fault::Complaint;
use super::host;
use super::raw::Value;

/// Where a registry is connected to; name and certificate stay its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivateEndpoint {
    /// At just this address.
    Address(SocketAddr),
    /// At the addresses of this name (lower case), which is looked up for every connection.
    Name(String, u16),
}

impl PrivateEndpoint {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }

    /// The name or address, IPv6 without brackets.
    pub fn host(&self) -> String {
        match self {
            Self::Address(address) => address.ip().to_string(),
            Self::Name(name, _) => name.clone(),
        }
    }
}

impl fmt::Display for PrivateEndpoint {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Reads it. A registry whose urls are addresses already has no name to connect elsewhere for.
pub(super) fn check(value: &Value<'_>, urls: &[Url]) -> Option<PrivateEndpoint> {
    if let Some(url) = urls.iter().find(|url| !matches!(url.host(), Some(Host::Domain(_)))) {
        value.fault(format!("{url} has an address already"), "write the registry's host name in urls, or remove this");
    }
    value.parse(endpoint)
}

fn endpoint(text: &str) -> Result<PrivateEndpoint, Complaint> {
    let unfit = || {
        let remedy = "write ip:port or host:port, such as \"10.1.2.3:443\" or \"vpce.example:443\"";
        Complaint::new(format!("{text:?} is neither an address nor a host with a port"), remedy)
    };
    let pattern = host::pattern(text).map_err(|_| unfit())?;
    let port = pattern.port.filter(|_| !pattern.wildcard).ok_or_else(unfit)?;
    // An address in a notation that only URLs and resolvers understand is one all the same.
    let address = pattern.host.parse().ok().or_else(|| match Host::parse(&pattern.host) {
        Ok(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        _ => None,
    });
    Ok(match address {
        Some(address) => PrivateEndpoint::Address(SocketAddr::new(address, port)),
        None => PrivateEndpoint::Name(pattern.host, port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_names() {
        for (text, shown, name) in [
            ("10.1.2.3:443", "10.1.2.3:443", false),
            ("[fd00::1]:8443", "[fd00::1]:8443", false),
            ("2130706433:443", "127.0.0.1:443", false),
            ("VPCE-0a1.example:443", "vpce-0a1.example:443", true),
            ("localhost:5000", "localhost:5000", true),
        ] {
            let endpoint = endpoint(text).unwrap();
            assert_eq!((endpoint.to_string(), matches!(endpoint, PrivateEndpoint::Name(..))), (shown.to_owned(), name), "{text}");
        }
        for bad in ["10.1.2.3", "vpce.example", "*.example:443", "https://vpce.example:443", "a:0", ":443"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
