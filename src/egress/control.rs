//! Asking the running proxy's admin address, for the verbs that need it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Error, Kind, tls};

/// A purge of a large repository takes a while.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the admin address answered.
#[derive(Clone, Debug)]
pub struct ControlReply {
    /// Its status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

/// Sends one request to the admin address that the configuration names. `path` begins with a slash. `None` where nothing
/// listens there.
///
/// # Errors
/// The connection broke, or there was no answer within 60 s.
pub async fn ask_admin(address: SocketAddr, method: Method, path: &str) -> Result<Option<ControlReply>, Error> {
    let failed = |error: reqwest::Error| {
        let kind = if error.is_timeout() { Kind::TimedOut } else { Kind::Broken };
        Error::new(kind, format!("the proxy's admin address {address} cannot be asked: {error}"))
    };
    tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).tls_certs_only([]).build().map_err(failed)?;
    let url = format!("http://{}{path}", reachable(address));
    match client.request(method, url).send().await {
        Ok(answer) => Ok(Some(ControlReply { status: answer.status(), body: answer.bytes().await.map_err(failed)? })),
        Err(error) if error.is_connect() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// An address that listens everywhere is reached on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
