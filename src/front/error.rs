//! Why a listener could not be opened.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A listener that cannot be opened as configured. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listener {endpoint:?} cannot listen on {address}: {source}; {}", remedy(.source))]
    Bind {
        /// The listener's name.
        endpoint: String,
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A PEM file cannot be read, or does not hold what it should.
    #[error("{} cannot be used as {role}: {reason}; give a readable PEM file that holds one", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        role: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not make a pair that TLS can use.
    #[error("{} and {} do not work together: {source}; give the key that the first certificate was issued for", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The threads that serve connections cannot be started.
    #[error("no threads can be had for connections: {0}; allow the process more threads and open files")]
    Threads(io::Error),
    /// TLS cannot be had at all.
    #[error("TLS cannot be set up: {0}; report this as a bug")]
    Tls(rustls::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that listens there, or choose another address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one or grant it",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address; choose one that exists",
        _ => "choose another address",
    }
}
