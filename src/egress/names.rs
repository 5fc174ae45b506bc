//! Name resolution.

use std::net::SocketAddr;

use async_trait::async_trait;

/// Resolves host names. Tests map well-known names to sockets of their own.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// All addresses of `host`. A port other than 0 is connected to where the URL names none.
    ///
    /// # Errors
    /// Where the name has no address or no server answered.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    /// A dropped look-up goes on in the background until the system's own deadline and is then forgotten.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}
