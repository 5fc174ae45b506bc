//! Version 2: binary, with extensions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, MAX_HEADER, Malformed, Progress, tlv};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length, in bytes.
const FIXED: usize = 16;

/// What the addresses are.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
    /// Of no use here, and so many bytes long.
    Other(usize),
}

/// Reads the header that `bytes` begin with; they agree with the signature as far as they go.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(Progress::Needs(FIXED - bytes.len()));
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    let family = match command {
        // The rest is read and dropped, whatever it is.
        0x20 => None,
        0x21 => Some(self::family(family)?),
        other => return Err(Malformed::Command(other)),
    };
    if length > MAX_HEADER {
        return Err(Malformed::TooLong(length));
    }
    let Some(whole) = bytes.get(..length) else { return Ok(Progress::Needs(length - bytes.len())) };
    let header = family.map_or(Ok(Header { is_probe: true, ..Header::default() }), |family| proxied(whole, family))?;
    Ok(Progress::Complete { header, length })
}

/// The high half is the family, the low one the transport: none, stream or datagram.
fn family(byte: u8) -> Result<Family, Malformed> {
    match byte {
        0x00 => Ok(Family::Other(0)),
        0x11 | 0x12 => Ok(Family::V4),
        0x21 | 0x22 => Ok(Family::V6),
        0x31 | 0x32 => Ok(Family::Other(216)),
        other => Err(Malformed::Family(other)),
    }
}

/// What the complete header of a client's connection says. Without an address that can be used it names no endpoint either:
/// what would be known of the client is half of it.
fn proxied(whole: &[u8], family: Family) -> Result<Header, Malformed> {
    let size = match family {
        Family::V4 => 12,
        Family::V6 => 36,
        Family::Other(size) => size,
    };
    let addresses = whole.get(FIXED..FIXED + size).ok_or(Malformed::NoAddresses)?;
    let endpoint = tlv::endpoint(whole, FIXED + size)?;
    let source = source(addresses, family);
    Ok(Header { source, endpoint: endpoint.filter(|_| source.is_some()), is_probe: false })
}

/// Both addresses come first, the source's before the destination's; then both ports.
fn source(addresses: &[u8], family: Family) -> Option<SocketAddr> {
    let (ip, ports) = match family {
        Family::V4 => (IpAddr::V4(Ipv4Addr::from(*addresses.first_chunk::<4>()?)), addresses.get(8..)?),
        Family::V6 => (IpAddr::V6(Ipv6Addr::from(*addresses.first_chunk::<16>()?)), addresses.get(32..)?),
        Family::Other(_) => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*ports.first_chunk()?)))
}
