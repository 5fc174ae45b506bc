//! The other side of the wire.
//!
//! | file | plays |
//! |---|---|
//! | `registry` | an upstream registry, with `tokens` for its token server and `cdn` for where its blobs may live |
//! | `server`, `play` | the HTTP server under all three: records every request, and fails as `faults` tell it |
//! | `images` | deterministic images, indexes and blobs |
//! | `client`, `multipart` | raw HTTP/1.1 and HTTP/2 clients that see how an answer ended; answers of several ranges |
//! | `pki`, `names` | certificates and host names |
//! | `proxy`, `process` | the proxy itself: in this process, and as the real program |
//!
//! ```ignore
//! let hub = Registry::start().await;
//! let image = hub.push_image("library/busybox", "latest", &[layer(1 << 20)]);
//! hub.fault(on("/blobs/").get().once(), Fault::CutAt(1000));
//! …
//! assert_eq!(hub.sent(on(&image.layers[0].digest)), 1000);
//! ```
// Tests come and go; a helper without a caller today is not yet wrong.
#![allow(dead_code, unused_imports)]

pub mod cdn;
pub mod client;
pub mod faults;
pub mod images;
pub mod multipart;
pub mod names;
pub mod pki;
mod play;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod server;
pub mod tokens;

use std::time::Duration;

pub use cdn::Cdn;
pub use client::{Client, End, H2, Reply, get};
pub use faults::{Fault, Gate, on};
pub use images::{Blob, Image, Manifest, layer};
pub use names::Hosts;
pub use pki::{Ca, Identity};
pub use registry::Registry;
pub use tokens::Tokens;

/// Awaits what must come soon, so that a test that hangs fails and says where.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        let answer = tokio::time::timeout(Duration::from_secs(20), future).await;
        answer.unwrap_or_else(|_| panic!("{place}: nothing came for 20 s"))
    }
}
