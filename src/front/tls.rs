//! TLS of a listener: certificates chosen by the host that a client wants, client certificates, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! The handshake is not left to pingora, whose acceptor says only in words why one failed.

mod certificates;
mod files;
mod names;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{ProtocolVersion, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::Error;
use super::rejection::Rejection;
use crate::config::{ClientAuth, ListenerTls};
use crate::request::{Caller, Tls};
use certificates::Certificates;
use stream::Encrypted;

/// The TLS side of a listener, ready for its connections.
pub(super) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Reads the files. Versions and ciphers are rustls's defaults (TLS 1.2 and 1.3). Blocks on the disk.
    ///
    /// # Errors
    /// Names the first file that cannot be used.
    pub(super) fn read(tls: &ListenerTls) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = Certificates::read(&tls.certificates, &provider)?;
        let verifier = match &tls.clients {
            Some(clients) => verifier(clients, provider.clone())?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if tls.clients.is_some() {
            // A resumed session would be served after its client's certificate has expired.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self(Arc::new(config).into()))
    }

    /// Does the handshake and tells `caller` what it has proved. Dropping the future breaks the connection off.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        caller: &mut Caller,
    ) -> Result<Encrypted<S>, Rejection> {
        let stream = self.0.accept(socket).await.map_err(|error| rejection(&error))?;
        let (_, session) = stream.get_ref();
        if let Some([leaf, ..]) = session.peer_certificates() {
            caller.principals = names::principals(leaf)?.into();
        }
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        caller.tls = Some(Arc::new(Tls { version, server_name: session.server_name().map(Arc::from) }));
        Ok(Encrypted::new(stream, version))
    }
}

fn verifier(clients: &ClientAuth, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let unusable = |reason: String| Error::Pem { path: clients.ca.clone(), role: "client_ca", reason };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(&clients.ca)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map(|verifier| verifier as _).map_err(|error| unusable(error.to_string()))
}

fn rejection(error: &io::Error) -> Rejection {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Rejection::NoCertificate,
        Some(rustls::Error::InvalidCertificate(error)) => Rejection::Certificate(error.to_string()),
        _ => Rejection::Tls(error.to_string()),
    }
}
