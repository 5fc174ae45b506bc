//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Malformed, Progress};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// No line is shorter, and none longer, in bytes with its CRLF.
const SHORTEST: usize = b"PROXY UNKNOWN\r\n".len();
const LONGEST: usize = 107;

/// Reads the line that `bytes` begin with; they agree with the signature as far as they go.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let known = &bytes[..bytes.len().min(LONGEST)];
    match known.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if known[end] == b'\n' => Err(Malformed::Line("a line feed stands alone")),
        Some(end) => match known.get(end + 1) {
            Some(b'\n') => Ok(Progress::Complete { header: line(&known[..end])?, length: end + 2 }),
            None if known.len() < LONGEST => Ok(Progress::Needs(1)),
            _ => Err(Malformed::Line("a carriage return stands alone")),
        },
        None if known.len() + 2 > LONGEST => Err(Malformed::Line("it is longer than 107 bytes")),
        None => Ok(Progress::Needs(SHORTEST.saturating_sub(known.len()).max(2))),
    }
}

/// What the line says, without its end. Sources and destinations are both checked; a destination is of no use here.
fn line(line: &[u8]) -> Result<Header, Malformed> {
    let rest = &line[SIGNATURE.len()..];
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(Header::default());
    }
    let text = std::str::from_utf8(rest).map_err(|_| Malformed::Line("it is not ASCII"))?;
    let fields: Vec<&str> = text.split(' ').collect();
    let &[protocol, source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(Malformed::Line("it does not have six words with a space between"));
    };
    let address: fn(&str) -> Option<IpAddr> = match protocol {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(Malformed::Line("its protocol is none of TCP4, TCP6 and UNKNOWN")),
    };
    let wrong = Malformed::Line("an address is not one of its protocol");
    let (source, _) = (address(source).ok_or(wrong)?, address(destination).ok_or(wrong)?);
    let (port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Header { source: Some(SocketAddr::new(source, port)), ..Header::default() })
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed::Line("a port is not a number from 0 to 65535"))
}
