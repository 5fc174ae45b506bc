//! An upstream registry: what it holds, who it lets in, and where its blobs are.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LINK, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use http::{Method, Response};
use roadstead::oci::Digest;
use serde_json::{Value, json};

use super::cdn::Cdn;
use super::images::{Blob, Image, Manifest, OCI_INDEX};
use super::pki::{Ca, Identity};
use super::server::{Recorded, Server, refusal};
use super::tokens::Tokens;

/// A registry; derefs to its server, for faults and the record. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    server: Server,
    contents: Arc<Mutex<Contents>>,
}

#[derive(Default)]
struct Contents {
    repositories: BTreeMap<String, Repository>,
    auth: Auth,
    cdn: Option<(Cdn, u16)>,
    etag: Option<&'static str>,
    without_referrers: bool,
    referrers_per_page: Option<usize>,
}

#[derive(Default)]
struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeMap<String, Manifest>,
    blobs: BTreeMap<String, Bytes>,
}

#[derive(Default)]
enum Auth {
    #[default]
    Anonymous,
    Basic(String),
    Bearer(Tokens),
}

impl Deref for Registry {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Registry {
    pub async fn start() -> Self {
        let contents = Arc::<Mutex<Contents>>::default();
        Self { server: Server::start(answers(&contents)).await, contents }
    }

    /// With TLS, and client certificates by a CA where one is named.
    pub async fn start_tls(identity: &Identity, clients: Option<&Ca>) -> Self {
        let contents = Arc::<Mutex<Contents>>::default();
        Self { server: Server::start_tls(identity, clients, answers(&contents)).await, contents }
    }

    /// Makes an OCI image of these layers and pushes it.
    pub fn push_image(&self, repository: &str, tag: &str, layers: &[Blob]) -> Image {
        let image = Image::oci(layers);
        self.push(repository, Some(tag), &image);
        image
    }

    /// An image with its blobs.
    pub fn push(&self, repository: &str, tag: Option<&str>, image: &Image) {
        image.layers.iter().chain([&image.config]).for_each(|blob| self.push_blob(repository, blob));
        self.push_manifest(repository, tag, &image.manifest);
    }

    /// A manifest or index alone.
    pub fn push_manifest(&self, repository: &str, tag: Option<&str>, manifest: &Manifest) {
        self.edit(repository, |held| {
            held.manifests.insert(manifest.digest.to_string(), manifest.clone());
            held.tags.extend(tag.map(|tag| (tag.to_owned(), manifest.digest)));
        });
    }

    pub fn push_blob(&self, repository: &str, blob: &Blob) {
        self.edit(repository, |held| drop(held.blobs.insert(blob.digest.to_string(), blob.bytes.clone())));
    }

    pub fn remove_tag(&self, repository: &str, tag: &str) {
        self.edit(repository, |held| held.tags.retain(|held, _| held != tag));
    }

    /// A manifest or blob, with the tags that mean it.
    pub fn remove(&self, repository: &str, digest: &Digest) {
        self.edit(repository, |held| {
            held.manifests.remove(&digest.to_string());
            held.blobs.remove(&digest.to_string());
            held.tags.retain(|_, tagged| tagged != digest);
        });
    }

    pub fn allow_all(&self) {
        self.contents.lock().unwrap().auth = Auth::Anonymous;
    }

    pub fn require_basic(&self, user: &str, password: &str) {
        self.contents.lock().unwrap().auth = Auth::Basic(basic(user, password));
    }

    /// Wants tokens of this server. They may also be asked for here, at `/token`: see `Tokens::set_realm`.
    pub fn require_tokens(&self, tokens: &Tokens) {
        self.contents.lock().unwrap().auth = Auth::Bearer(tokens.clone());
    }

    /// From now on answers for blobs with redirects of this status to signed URLs at `cdn`.
    pub fn redirect_blobs(&self, cdn: &Cdn, status: u16) {
        self.contents.lock().unwrap().cdn = Some((cdn.clone(), status));
    }

    /// Blobs have this entity tag from now on, and not their digest.
    pub fn set_etag(&self, etag: &'static str) {
        self.contents.lock().unwrap().etag = Some(etag);
    }

    /// Does not know the referrers API: 404.
    pub fn without_referrers(&self) {
        self.contents.lock().unwrap().without_referrers = true;
    }

    /// Lists so many referrers on one page.
    pub fn page_referrers(&self, per_page: usize) {
        self.contents.lock().unwrap().referrers_per_page = Some(per_page);
    }

    fn edit(&self, repository: &str, edit: impl FnOnce(&mut Repository)) {
        edit(self.contents.lock().unwrap().repositories.entry(repository.to_owned()).or_default());
    }
}

/// The value of `Authorization` for a user and password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn answers(contents: &Arc<Mutex<Contents>>) -> impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static {
    let contents = contents.clone();
    move |request| contents.lock().unwrap().answer(request)
}

/// The parts of `/v2/<repository>/<kind>/<rest>`.
fn split(path: &str) -> Option<(&str, &str, &str)> {
    let path = path.strip_prefix("/v2/")?;
    let of = |kind: &'static str| path.rsplit_once(kind).map(|(repository, rest)| (repository, kind, rest));
    of("/manifests/").or_else(|| of("/blobs/")).or_else(|| of("/referrers/")).or_else(|| of("/tags/list"))
}

impl Contents {
    fn answer(&self, request: &Recorded) -> Response<Bytes> {
        let parts = split(&request.path);
        match &self.auth {
            Auth::Bearer(tokens) if tokens.is_realm(&request.path) => return tokens.answer(request),
            auth => {
                if let Some(challenge) = auth.challenge(request, parts.map(|(repository, ..)| repository)) {
                    return with(refusal(401, "UNAUTHORIZED", "who are you?"), WWW_AUTHENTICATE, &challenge);
                }
            }
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return refusal(405, "UNSUPPORTED", "this registry is read-only");
        }
        let Some((name, kind, rest)) = parts else {
            return if request.path == "/v2/" { plain("{}") } else { refusal(404, "UNSUPPORTED", "no such path") };
        };
        let Some(repository) = self.repositories.get(name) else {
            return refusal(404, "NAME_UNKNOWN", "no such repository");
        };
        match kind {
            "/manifests/" => repository.manifest(request, rest),
            "/blobs/" => self.blob(repository, request, rest),
            "/tags/list" => repository.tags(request, name),
            _ => self.referrers(repository, request, rest),
        }
    }

    fn blob(&self, repository: &Repository, request: &Recorded, digest: &str) -> Response<Bytes> {
        let Some(bytes) = repository.blobs.get(digest) else { return refusal(404, "BLOB_UNKNOWN", "no such blob") };
        let Some((cdn, status)) = &self.cdn else { return content(request, bytes, "application/octet-stream", digest, self.etag) };
        let place = cdn.sign(&request.method, digest, bytes);
        with(Response::builder().status(*status).body(Bytes::new()).unwrap(), LOCATION, &place)
    }

    fn referrers(&self, repository: &Repository, request: &Recorded, subject: &str) -> Response<Bytes> {
        if self.without_referrers {
            return refusal(404, "UNSUPPORTED", "no such path");
        }
        let kind = request.parameter("artifactType");
        let fits = |entry: &Value| kind.as_deref().is_none_or(|kind| entry["artifactType"] == kind);
        let found: Vec<Value> =
            repository.manifests.values().filter_map(|manifest| referrer(manifest, subject)).filter(fits).collect();
        let from: usize = request.parameter("from").and_then(|from| from.parse().ok()).unwrap_or(0);
        let page = self.referrers_per_page.unwrap_or(usize::MAX);
        let shown: Vec<&Value> = found.iter().skip(from).take(page).collect();
        let next = (from + shown.len() < found.len()).then(|| format!("from={}", from + shown.len()));
        let body = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown }).to_string();
        let mut response = linked(plain(body), request, next);
        if kind.is_some() {
            response.headers_mut().insert("oci-filters-applied", "artifactType".parse().unwrap());
        }
        with(response, CONTENT_TYPE, OCI_INDEX)
    }
}

impl Repository {
    fn manifest(&self, request: &Recorded, reference: &str) -> Response<Bytes> {
        let digest = self.tags.get(reference).map_or_else(|| reference.to_owned(), Digest::to_string);
        match self.manifests.get(&digest) {
            Some(manifest) => content(request, &manifest.bytes, &manifest.media_type, &digest, None),
            None => refusal(404, "MANIFEST_UNKNOWN", "no such manifest"),
        }
    }

    fn tags(&self, request: &Recorded, name: &str) -> Response<Bytes> {
        let last = request.parameter("last").unwrap_or_default();
        let n = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let rest: Vec<&String> = self.tags.keys().filter(|tag| **tag > last).collect();
        let shown = &rest[..n.min(rest.len())];
        let next = shown.last().filter(|_| shown.len() < rest.len()).map(|last| format!("n={n}&last={last}"));
        linked(plain(json!({ "name": name, "tags": shown }).to_string()), request, next)
    }
}

impl Auth {
    /// The challenge for a request that is not let in.
    fn challenge(&self, request: &Recorded, repository: Option<&str>) -> Option<String> {
        let shown = request.header(AUTHORIZATION);
        match self {
            Self::Anonymous => None,
            Self::Basic(expected) => (shown != Some(expected.as_str())).then(|| "Basic realm=\"the registry\"".to_owned()),
            Self::Bearer(tokens) => {
                let token = shown.and_then(|value| value.strip_prefix("Bearer "));
                (!token.is_some_and(|token| tokens.admits(token, repository)))
                    .then(|| tokens.challenge(repository, token.is_some()))
            }
        }
    }
}

/// The descriptor in a list of referrers, if this manifest refers to `subject`.
fn referrer(manifest: &Manifest, subject: &str) -> Option<Value> {
    let content: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    let mut entry = manifest.descriptor();
    entry["artifactType"] = content.get("artifactType").unwrap_or(&content["config"]["mediaType"]).clone();
    (content["subject"]["digest"] == subject).then_some(entry)
}

/// Stored bytes, or the one range of them that was asked for. Without an entity tag of their own, they have their digest.
pub(super) fn content(request: &Recorded, bytes: &Bytes, media_type: &str, digest: &str, etag: Option<&str>) -> Response<Bytes> {
    let etag = format!("\"{}\"", etag.unwrap_or(digest));
    let response = with(plain(bytes.clone()), CONTENT_TYPE, media_type);
    let mut response = with(with(response, ETAG, &etag), ACCEPT_RANGES, "bytes");
    response.headers_mut().insert("docker-content-digest", digest.parse().unwrap());
    let ranges = request.method == Method::GET && request.header(IF_RANGE).is_none_or(|value| value == etag);
    let asked = request.header(RANGE).filter(|_| ranges).and_then(|value| value.strip_prefix("bytes="));
    let Some((first, last)) = asked.and_then(|asked| asked.split_once('-')) else { return response };
    let last = last.parse().map_or(bytes.len(), |last: usize| last.saturating_add(1)).min(bytes.len());
    match first.parse::<usize>() {
        Ok(first) if first < last => {
            *response.body_mut() = bytes.slice(first..last);
            *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
            with(response, CONTENT_RANGE, &format!("bytes {first}-{}/{}", last - 1, bytes.len()))
        }
        Ok(_) => with(refusal(416, "UNSUPPORTED", "no such range"), CONTENT_RANGE, &format!("bytes */{}", bytes.len())),
        // A suffix, or several ranges: RFC 9110 section 14.2 lets a server ignore what it does not care for.
        Err(_) => response,
    }
}

fn plain(body: impl Into<Bytes>) -> Response<Bytes> {
    with(Response::new(body.into()), CONTENT_TYPE, "application/json")
}

fn with(mut response: Response<Bytes>, name: http::HeaderName, value: &str) -> Response<Bytes> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}

/// With a link to the next page, which has this query.
fn linked(response: Response<Bytes>, request: &Recorded, next: Option<String>) -> Response<Bytes> {
    match next {
        Some(query) => with(response, LINK, &format!("<{}?{query}>; rel=\"next\"", request.path)),
        None => response,
    }
}
