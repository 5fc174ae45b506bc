//! PEM files of certificates and keys.

use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;

/// All certificates in the file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |error: PemError| unusable(path, "certificate", &error);
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() { Err(failed(PemError::NoItemsFound)) } else { Ok(chain) }
}

/// The first private key in the file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, "private key", &error))
}

fn unusable(path: &Path, role: &'static str, error: &PemError) -> Error {
    let reason = match error {
        PemError::NoItemsFound => format!("there is no {role} in it"),
        PemError::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Error::Pem { path: path.to_owned(), role, reason }
}
