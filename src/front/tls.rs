//! TLS of a listener: certificate and key from PEM files, HTTP/2 and HTTP/1.1 by ALPN.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;
use crate::config::ListenerTls;

/// Reads the files and makes the TLS side of a listener. Versions and ciphers are rustls's defaults (TLS 1.2 and 1.3).
pub(super) fn server_config(tls: &ListenerTls) -> Result<Arc<ServerConfig>, Error> {
    let certificates = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| unusable(&tls.key, "private key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|source| Error::Pair { certificate: tls.certificate.clone(), key: tls.key.clone(), source })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |error: PemError| unusable(path, "certificate", &error);
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() { Err(failed(PemError::NoItemsFound)) } else { Ok(chain) }
}

fn unusable(path: &Path, role: &'static str, error: &PemError) -> Error {
    let reason = match error {
        PemError::NoItemsFound => format!("there is no {role} in it"),
        PemError::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    Error::Pem { path: path.to_owned(), role, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(certificate: &str, key: &str) -> (tempfile::TempDir, ListenerTls) {
        let folder = tempfile::tempdir().unwrap();
        let tls = ListenerTls { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        std::fs::write(&tls.certificate, certificate).unwrap();
        std::fs::write(&tls.key, key).unwrap();
        (folder, tls)
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn message(tls: &ListenerTls) -> String {
        server_config(tls).unwrap_err().to_string()
    }

    #[test]
    fn a_fitting_pair_is_taken() {
        let (certificate, key) = pair();
        let (_folder, tls) = files(&certificate, &key);
        assert!(server_config(&tls).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        let (certificate, key) = pair();
        let (_, other_key) = pair();
        let (_folder, tls) = files(&certificate, &other_key);
        let text = message(&tls);
        assert!(text.contains("tls.crt") && text.contains("tls.key") && text.contains("do not work together"), "{text}");

        let (_folder, tls) = files(&key, &certificate);
        assert!(
            message(&tls).contains("tls.crt cannot be used as certificate: there is no certificate in it"),
            "{}",
            message(&tls)
        );
        let (_folder, tls) = files(&certificate, "");
        assert!(
            message(&tls).contains("tls.key cannot be used as private key: there is no private key in it"),
            "{}",
            message(&tls)
        );
        let (folder, tls) = files(&certificate, &key);
        drop(folder);
        assert!(message(&tls).contains("No such file"), "{}", message(&tls));
    }
}
