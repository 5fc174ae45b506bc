//! A listener's certificates, and which of them a client gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::{ClientHello, Error, ResolvesServerCert, files, names};
use crate::config::KeyPair;

/// Certificates by the names in them.
#[derive(Debug)]
pub(super) struct Certificates {
    /// For clients that want a host that is in none, or none at all.
    first: Arc<CertifiedKey>,
    /// By host; for a wildcard by what follows its `*`, dot included. Of two for the same name the earlier one counts.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads the files, of which there is at least one pair.
    ///
    /// # Errors
    /// Names the first file that cannot be used; one behind the first pair needs a host in its certificate.
    pub(super) fn read(pairs: &[KeyPair], provider: &CryptoProvider) -> Result<Self, Error> {
        let mut by_name = HashMap::new();
        let mut first = None;
        for pair in pairs {
            let certified = Arc::new(certified(pair, provider)?);
            let names = certified.cert.first().map(names::hosts).unwrap_or_default();
            if first.is_some() && names.is_empty() {
                let reason = "there is no DNS name in it, so no client would ever get it".to_owned();
                return Err(Error::Pem { path: pair.certificate.clone(), role: "certificate of more", reason });
            }
            for name in names {
                by_name.entry(name).or_insert_with(|| certified.clone());
            }
            first.get_or_insert(certified);
        }
        Ok(Self { first: first.ok_or(Error::Tls(rustls::Error::NoCertificatesPresented))?, by_name })
    }

    /// The certificate for who wants this host.
    pub(super) fn of(&self, host: &str) -> &Arc<CertifiedKey> {
        let host = host.to_ascii_lowercase();
        let host = host.trim_end_matches('.');
        // A wildcard stands for exactly one label.
        let wildcard = || host.find('.').and_then(|dot| self.by_name.get(&host[dot..]));
        self.by_name.get(host).or_else(wildcard).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.first, |host| self.of(host)).clone())
    }
}

fn certified(pair: &KeyPair, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let (chain, key) = (files::certificates(&pair.certificate)?, files::key(&pair.key)?);
    CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::Pair {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
        source,
    })
}
