//! The header by which a load balancer says whose connection it passes on: PROXY protocol, versions 1 and 2.
//!
//! Nothing is read or waited for here: bytes go in, and out comes the header or how many more bytes certainly belong to it.
//! So whoever reads need never read beyond the header, and what cannot become one is refused with its first wrong byte.
//! What does not conform in every particular is refused (haproxy's proxy-protocol.txt), whatever it would have said.

mod crc32c;
mod tlv;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use crate::request::{Caller, Endpoint};

/// Longer headers are refused, in bytes. Those of the clouds have about a hundred.
pub(super) const MAX_HEADER: usize = 4 << 10;

/// What a header says. None of it is proved; it is worth as much as its sender is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// The client's address. None where the header names none: the socket's own is the client's then.
    pub(super) source: Option<SocketAddr>,
    /// The private endpoint that the client came by. Never without a source.
    pub(super) endpoint: Option<Endpoint>,
    /// Whether the connection is the load balancer's own (LOCAL) and speaks for no client.
    pub(super) is_probe: bool,
}

/// How far a header has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not complete. At least so many more bytes belong to it, one or more.
    Needs(usize),
    /// Complete; what follows its bytes is the connection's.
    Complete {
        /// What it says.
        header: Header,
        /// How many bytes it has.
        length: usize,
    },
}

/// What is no header, or not a sound one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// Something else than a header begins the connection.
    #[error("what came is no PROXY protocol header")]
    NoHeader,
    /// A line of version 1 breaks its grammar.
    #[error("the line of version 1 is malformed: {0}")]
    Line(&'static str),
    /// The command is neither LOCAL nor PROXY.
    #[error("version 2 knows no command {0}")]
    Command(u8),
    /// Address family and transport do not fit together, or do not exist.
    #[error("version 2 knows no address family {0:#04x}")]
    Family(u8),
    /// More bytes than this proxy reads.
    #[error("the header is {0} bytes long; at most {MAX_HEADER} are read")]
    TooLong(usize),
    /// The announced length has no room for the addresses.
    #[error("the header is too short for its addresses")]
    NoAddresses,
    /// The extensions (TLVs) do not fill what is left exactly.
    #[error("an extension ends beyond the header")]
    Truncated,
    /// An extension is not what its type wants.
    #[error("the extension of type {0:#04x} is malformed")]
    Extension(u8),
    /// The checksum stands more than once.
    #[error("the header has two checksums")]
    TwoChecksums,
    /// The checksum is not that of these bytes.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// The endpoint is named more than once.
    #[error("the header names two endpoints")]
    TwoEndpoints,
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// As soon as `bytes` cannot be the beginning of a sound header.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    if begins(bytes, v1::SIGNATURE) {
        v1::parse(bytes)
    } else if begins(bytes, v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

/// Whether the bytes are so many that they can only be a header's, sound or not.
pub(super) fn is_begun(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::SIGNATURE) || bytes.starts_with(v2::SIGNATURE)
}

/// So many bytes are enough for [`is_begun`] to say yes.
pub(super) const SIGNATURE: usize = v2::SIGNATURE.len();

fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let known = bytes.len().min(signature.len());
    bytes[..known] == signature[..known]
}

impl Header {
    /// Tells `caller` what the header says of it.
    pub(super) fn describe(self, caller: &mut Caller) {
        if let Some(source) = self.source {
            caller.source = SocketAddr::new(source.ip().to_canonical(), source.port());
        }
        if let Some(endpoint) = self.endpoint {
            caller.endpoint = endpoint;
        }
        caller.is_probe = self.is_probe;
    }
}
