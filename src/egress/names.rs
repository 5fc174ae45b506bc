//! Name resolution.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most look-ups at once, and those of one name among them. Each takes a thread for as long as the system's resolver
/// waits, half a minute and more where no server answers, from the threads that also read the disk: without a cap, the hits
/// would wait for the names of those who miss.
const MOST: usize = 128;
const MOST_OF_ONE: usize = 4;
/// How many names are remembered. Strangers choose those below a wildcard.
const MAX_NAMES: u64 = 1024;

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
#[derive(Clone, Debug)]
pub struct SystemNames {
    all: Arc<Semaphore>,
    each: moka::sync::Cache<String, Arc<Semaphore>>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST)), each: moka::sync::Cache::new(MAX_NAMES) }
    }
}

#[async_trait]
impl Names for SystemNames {
    /// A dropped look-up goes on in the background until the system's own deadline and is then forgotten; so long it counts.
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<SocketAddr>> {
        let places = self.places(host).await;
        let host = host.to_owned();
        let look = move || {
            let found = (host.as_str(), 0).to_socket_addrs().map(Iterator::collect);
            drop(places);
            found
        };
        tokio::task::spawn_blocking(look).await?
    }
}

impl SystemNames {
    /// The right to look `host` up. Its own comes first: one dead name must not take the places of the others.
    async fn places(&self, host: &str) -> [OwnedSemaphorePermit; 2] {
        let own = self.each.get_with_by_ref(host, || Arc::new(Semaphore::new(MOST_OF_ONE)));
        let take = async |semaphore: Arc<Semaphore>| semaphore.acquire_owned().await.expect("nobody closes it");
        let own = take(own).await;
        [own, take(self.all.clone()).await]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn addresses_and_localhost_resolve() {
        let names = SystemNames::default();
        assert_eq!(names.lookup("127.0.0.1").await.unwrap(), ["127.0.0.1:0".parse().unwrap()]);
        assert!(names.lookup("localhost").await.unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_whose_look_ups_hang_takes_no_thread_from_the_others() {
        let names = SystemNames::default();
        let mut hanging = Vec::new();
        for _ in 0..MOST_OF_ONE {
            hanging.push(names.places("dead.test").await);
        }
        let soon = Duration::from_secs(1);
        assert!(timeout(soon, names.places("dead.test")).await.is_err());
        assert!(timeout(soon, names.places("alive.test")).await.is_ok());
        hanging.pop();
        assert!(timeout(soon, names.places("dead.test")).await.is_ok());
    }
}
