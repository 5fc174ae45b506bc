//! The names in certificates: a client's are who it is, a server's are the hosts it serves.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::front::rejection::Rejection;
use crate::request::Principal;

/// So many names of a client count. One with more is refused, not half known: a policy may deny by any of them.
const MAX_NAMES: usize = 32;
/// A name may have so many bytes, as a SPIFFE id may.
const MAX_NAME: usize = 2048;

/// Who the verified certificate says that its owner is: SPIFFE ids, DNS names, common names.
///
/// # Errors
/// It has more names than are read, or such as could not be told apart in a log.
pub(super) fn principals(certificate: &CertificateDer<'_>) -> Result<Vec<Principal>, Rejection> {
    let unusable = |reason: &str| Rejection::Certificate(reason.to_owned());
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| unusable("it cannot be read"))?;
    let mut principals = Vec::new();
    let mut claim = |name: &str, principal: fn(&str) -> Principal| {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(unusable("a name in it is empty, too long or not printable"));
        }
        if principals.len() == MAX_NAMES {
            return Err(unusable("there are too many names in it"));
        }
        principals.push(principal(name));
        Ok(())
    };
    for name in alternative_names(&certificate).ok_or_else(|| unusable("its names cannot be read"))? {
        match name {
            GeneralName::URI(uri) if uri.starts_with("spiffe://") => claim(uri, Principal::spiffe)?,
            GeneralName::DNSName(name) => claim(&name.to_ascii_lowercase(), Principal::dns)?,
            _ => {}
        }
    }
    for name in certificate.subject().iter_common_name() {
        // In an encoding that is not UTF-8 it could not be written in a policy either.
        if let Ok(name) = name.as_str() {
            claim(name, Principal::common_name)?;
        }
    }
    Ok(principals)
}

/// The hosts that a server's certificate is for, in lower case, a wildcard without its `*`. None where it cannot be read.
pub(super) fn hosts(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase()),
        _ => None,
    };
    alternative_names(&certificate).unwrap_or_default().iter().filter_map(host).collect()
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [GeneralName<'a>]> {
    let names = certificate.subject_alternative_name().ok()?;
    Some(names.map_or(&[], |names| names.value.general_names.as_slice()))
}
