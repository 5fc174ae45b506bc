//! Where a registry's blobs may live: an object store behind signed URLs that wants no other credentials.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Response};
use tokio::time::Instant;

use super::pki::Identity;
use super::registry::content;
use super::server::{Recorded, Server, refusal};

/// A CDN; derefs to its server, for faults and the record. Clones are the same one.
#[derive(Clone)]
pub struct Cdn {
    server: Server,
    state: Arc<Mutex<State>>,
}

struct State {
    lifetime: Duration,
    /// By the path and query that opens it.
    signed: BTreeMap<String, Signed>,
}

struct Signed {
    method: Method,
    digest: String,
    bytes: Bytes,
    until: Instant,
}

impl Deref for Cdn {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Cdn {
    pub async fn start() -> Self {
        let state = State::new();
        Self { server: Server::start(answers(&state)).await, state }
    }

    pub async fn start_tls(identity: &Identity) -> Self {
        let state = State::new();
        Self { server: Server::start_tls(identity, None, answers(&state)).await, state }
    }

    /// How long the URLs hold that are signed from now on; a minute at first.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().unwrap().lifetime = lifetime;
    }

    /// No URL signed so far opens anything any longer.
    pub fn expire_all(&self) {
        self.state.lock().unwrap().signed.values_mut().for_each(|signed| signed.until = Instant::now());
    }

    /// A URL that opens these bytes for this method, for a while.
    pub fn sign(&self, method: &Method, digest: &str, bytes: &Bytes) -> String {
        let mut state = self.state.lock().unwrap();
        let target = format!("/data/{}?Expires=60&Signature={}", digest.replace(':', "/"), state.signed.len());
        let until = Instant::now() + state.lifetime;
        let signed = Signed { method: method.clone(), digest: digest.to_owned(), bytes: bytes.clone(), until };
        state.signed.insert(target.clone(), signed);
        format!("{}{target}", self.server.url())
    }
}

impl State {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { lifetime: Duration::from_secs(60), signed: BTreeMap::new() }))
    }

    fn answer(&self, request: &Recorded) -> Response<Bytes> {
        // As S3 does: a signed URL and an Authorization header are two ways of saying who one is.
        if request.headers.contains_key(AUTHORIZATION) {
            return refusal(400, "InvalidArgument", "only one auth mechanism allowed");
        }
        match self.signed.get(&request.target()) {
            Some(signed) if signed.method != request.method => refusal(403, "SignatureDoesNotMatch", "signed for another method"),
            Some(signed) if signed.until <= Instant::now() => refusal(403, "AccessDenied", "request has expired"),
            Some(signed) => content(request, &signed.bytes, "application/octet-stream", &signed.digest, None),
            None => refusal(403, "SignatureDoesNotMatch", "not signed"),
        }
    }
}

fn answers(state: &Arc<Mutex<State>>) -> impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static {
    let state = state.clone();
    move |request| state.lock().unwrap().answer(request)
}
