//! The extensions of version 2: type, length, value, one after another to the header's end.

use super::{Malformed, crc32c};
use crate::request::Endpoint;

const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const GCP: u8 = 0xe0;
const AWS: u8 = 0xea;
const AZURE: u8 = 0xee;

/// AWS and Azure use their types for several things; this one is the endpoint.
const ENDPOINT: u8 = 0x01;
/// A unique id may have so many bytes.
const MAX_UNIQUE_ID: usize = 128;
/// What comes before the extensions inside of [`SSL`]: a byte of flags, and four of the verification's result.
const SSL_FIXED: usize = 5;
/// An id of AWS may have so many characters; theirs have 22.
const MAX_AWS_ID: usize = 64;

/// One extension.
struct Extension<'a> {
    kind: u8,
    value: &'a [u8],
    /// Where the value begins.
    at: usize,
}

/// The extensions in `bytes` from `at` on.
struct Extensions<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let extension = self.read();
        self.at = extension.as_ref().map_or(self.bytes.len(), |extension| extension.at + extension.value.len());
        Some(extension.ok_or(Malformed::Truncated))
    }
}

impl<'a> Extensions<'a> {
    fn read(&self) -> Option<Extension<'a>> {
        let &[kind, high, low] = self.bytes.get(self.at..)?.first_chunk()?;
        let at = self.at + 3;
        let value = self.bytes.get(at..at + usize::from(u16::from_be_bytes([high, low])))?;
        Some(Extension { kind, value, at })
    }
}

/// The endpoint that is named in the extensions of `header`, which begin at `start`. All of them are checked.
pub(super) fn endpoint(header: &[u8], start: usize) -> Result<Option<Endpoint>, Malformed> {
    let (mut endpoint, mut checksum) = (None, None);
    for extension in (Extensions { bytes: header, at: start }) {
        let Extension { kind, value, at } = extension?;
        match kind {
            CRC32C => {
                let said = u32::from_be_bytes(value.try_into().map_err(|_| Malformed::Extension(kind))?);
                if checksum.replace((at, said)).is_some() {
                    return Err(Malformed::TwoChecksums);
                }
            }
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(Malformed::Extension(kind)),
            SSL => ssl(value)?,
            _ => {
                let named = id(kind, value)?;
                if named.is_some() && std::mem::replace(&mut endpoint, named).is_some() {
                    return Err(Malformed::TwoEndpoints);
                }
            }
        }
    }
    match checksum {
        Some((at, said)) if said != crc32c::checksum([&header[..at], &[0; 4], &header[at + 4..]]) => Err(Malformed::Checksum),
        _ => Ok(endpoint),
    }
}

/// What the sender knows of TLS is not used, but it has extensions of its own that must be whole.
fn ssl(value: &[u8]) -> Result<(), Malformed> {
    if value.len() < SSL_FIXED {
        return Err(Malformed::Extension(SSL));
    }
    Extensions { bytes: value, at: SSL_FIXED }.try_for_each(|extension| extension.map(drop))
}

/// The endpoint's id in the form of its cloud. None in an extension that is about something else.
fn id(kind: u8, value: &[u8]) -> Result<Option<Endpoint>, Malformed> {
    let wrong = Malformed::Extension(kind);
    match (kind, value) {
        (AWS, [ENDPOINT, id @ ..]) => aws(id).map(Some).ok_or(wrong),
        (AZURE, [ENDPOINT, id @ ..]) => {
            let id = id.try_into().map_err(|_| wrong)?;
            Ok(Some(Endpoint::azure(u32::from_le_bytes(id))))
        }
        (GCP, id) => {
            let id = id.try_into().map_err(|_| wrong)?;
            Ok(Some(Endpoint::gcp(u64::from_be_bytes(id))))
        }
        (AWS | AZURE, []) => Err(wrong),
        _ => Ok(None),
    }
}

fn aws(id: &[u8]) -> Option<Endpoint> {
    let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let text = std::str::from_utf8(id).ok()?;
    ((1..=MAX_AWS_ID).contains(&id.len()) && id.iter().all(is_id)).then(|| Endpoint::aws(text))
}
