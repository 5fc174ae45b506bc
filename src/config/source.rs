//! `source_address` and `interface` of a registry: where its connections start from.

use std::fmt;
use std::net::IpAddr;

use super::fault::Complaint;
use super::raw::Section;

/// The longest name of a network interface on Linux, in bytes.
const MAX_INTERFACE: usize = 15;

/// Where connections start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An address of this machine. Only addresses of its own family are connected to.
    Address(IpAddr),
    /// A network interface, whatever the routes say.
    Interface(String),
}

impl Source {
    /// Whether a connection from here can lead to `address`.
    pub fn reaches(&self, address: IpAddr) -> bool {
        match self {
            Self::Address(source) => source.is_ipv4() == address.to_canonical().is_ipv4(),
            Self::Interface(_) => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "source_address {address}"),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// Reads the two keys of a registry, of which there is at most one.
pub(super) fn check(section: &Section<'_>) -> Option<Source> {
    let (address, interface) = (section.get("source_address"), section.get("interface"));
    if let (Some(first), Some(second)) = (&address, &interface) {
        second.fault(format!("source_address stands on line {} already", first.line), "keep one of source_address and interface");
    }
    let address = address.and_then(|value| value.parse(source_address));
    address.or_else(|| interface?.parse(interface_name))
}

fn source_address(text: &str) -> Result<Source, Complaint> {
    let remedy = "write an address of this machine, such as \"10.1.2.3\"";
    let address: IpAddr = text.parse().map_err(|_| Complaint::new(format!("{text:?} is not an address"), remedy))?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return Err(Complaint::new(format!("{address} is no address to start from"), remedy));
    }
    Ok(Source::Address(address))
}

fn interface_name(text: &str) -> Result<Source, Complaint> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if text.len() > MAX_INTERFACE || text.contains(odd) || matches!(text, "." | "..") {
        let remedy = "write a name as `ip link` shows it, such as \"eth1\"";
        return Err(Complaint::new(format!("{text:?} is not the name of a network interface"), remedy));
    }
    Ok(Source::Interface(text.to_owned()))
}
