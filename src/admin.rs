//! The back door: metrics, health and the API, on an address of its own and never on a data listener.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ORIGIN};

use crate::front::{Answer, Body, Fault, FaultKind, Handler, Reply, Request};
use crate::mirror::{Mirror, Purge, PurgeError};
use crate::oci::ErrorCode;
use crate::telemetry::{Outcome, Telemetry};

const INDEX: &str = "roadstead admin

GET    /livez                        200 while the process runs
GET    /readyz                       200 while requests are welcome, else 503; one line per part
GET    /metrics                      Prometheus metrics
POST   /api/v1/reload                read the configuration again and take it on, as SIGHUP does
DELETE /api/v1/images/IMAGE          drop a tag (REGISTRY/REPOSITORY:TAG) or a whole repository
DELETE /api/v1/blobs/DIGEST          drop content, whichever repository it belongs to
";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers the admin listener's requests.
pub struct Admin {
    mirror: Arc<Mirror>,
    reload: Arc<dyn Reload>,
    telemetry: Arc<Telemetry>,
}

/// What reads the configuration again.
#[async_trait]
pub trait Reload: Send + Sync + 'static {
    /// Takes on the configuration as it is now. What came of it, as JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator; nothing was changed.
    async fn reload(&self) -> Result<serde_json::Value, String>;
}

impl Admin {
    /// The back door of `mirror`.
    pub fn new(mirror: Arc<Mirror>, reload: Arc<dyn Reload>, telemetry: Arc<Telemetry>) -> Self {
        Self { mirror, reload, telemetry }
    }

    async fn serve(&self, request: &Request) -> Result<Answer, Fault> {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", path) => self.read(path),
            // Browsers say of every change which page wants it, also of one that took the name of this address for its own.
            _ if request.headers.contains_key(ORIGIN) => Err(Fault::new(
                FaultKind::Denied,
                ErrorCode::Denied,
                "nothing is changed here for a web page; use the command line",
            )),
            ("DELETE", path) => self.purge(path).await,
            ("POST", "/api/v1/reload") => self.reload().await,
            (method, _) => Err(Fault::new(
                FaultKind::MethodNotAllowed { allow: "GET, HEAD, POST, DELETE" },
                ErrorCode::Unsupported,
                format!("{method} is not offered here; GET / lists what is"),
            )),
        }
    }

    fn read(&self, path: &str) -> Result<Answer, Fault> {
        match path {
            "/" => Ok(answer(Reply::Ok, TEXT, INDEX.to_owned())),
            "/livez" => Ok(answer(Reply::Ok, TEXT, "ok\n".to_owned())),
            "/readyz" => {
                let reply = if self.telemetry.health.is_ready() { Reply::Ok } else { Reply::Unready };
                Ok(answer(reply, TEXT, self.telemetry.health.report()))
            }
            "/metrics" => Ok(answer(Reply::Ok, METRICS, self.telemetry.metrics.render(&self.telemetry.health))),
            _ => Err(nothing_here()),
        }
    }

    async fn reload(&self) -> Result<Answer, Fault> {
        let refuse = |faults| Fault::new(FaultKind::BadRequest, ErrorCode::Unknown, faults);
        let reloaded = self.reload.reload().await.map_err(refuse)?;
        Ok(answer(Reply::Ok, JSON, reloaded.to_string() + "\n"))
    }

    async fn purge(&self, path: &str) -> Result<Answer, Fault> {
        let target = path.strip_prefix("/api/v1/images/").or_else(|| path.strip_prefix("/api/v1/blobs/"));
        let purge: Purge = target
            .ok_or_else(nothing_here)?
            .parse()
            .map_err(|error: PurgeError| Fault::new(FaultKind::BadRequest, ErrorCode::NameInvalid, error.to_string()))?;
        let purged = self.mirror.purge(&purge).await;
        let purged = purged.map_err(|error| Fault::new(FaultKind::Internal, ErrorCode::Unknown, error.to_string()))?;
        tracing::info!(?purge, ?purged, "purged");
        Ok(answer(Reply::Ok, JSON, serde_json::json!(purged).to_string() + "\n"))
    }
}

fn nothing_here() -> Fault {
    Fault::new(FaultKind::NotFound, ErrorCode::Unknown, "there is nothing at this path; GET / lists what is")
}

fn answer(reply: Reply, media_type: &str, body: String) -> Answer {
    Answer::new(reply).header(CONTENT_TYPE, media_type).body(Body::Bytes(Bytes::from(body)), None)
}

#[async_trait]
impl Handler for Admin {
    async fn answer(&self, request: &Request, _outcome: &mut Outcome) -> Answer {
        self.serve(request).await.unwrap_or_else(Answer::fault)
    }
}
