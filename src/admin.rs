//! The back door: metrics, health and the API, on an address of its own and never on a data listener.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;

use crate::front::{Answer, Body, Fault, FaultKind, Handler, Reply, Request};
use crate::mirror::{Mirror, Purge, PurgeError};
use crate::oci::ErrorCode;
use crate::telemetry::{Outcome, Telemetry};

const INDEX: &str = "roadstead admin

GET    /livez                        200 while the process runs
GET    /readyz                       200 while requests are welcome, else 503; one line per part
GET    /metrics                      Prometheus metrics
DELETE /api/v1/images/IMAGE          drop a tag (REGISTRY/REPOSITORY:TAG) or a whole repository
DELETE /api/v1/blobs/DIGEST          drop content, whichever repository it belongs to
";

/// Answers the admin listener's requests.
pub struct Admin {
    mirror: Arc<Mirror>,
    telemetry: Arc<Telemetry>,
}

impl Admin {
    /// The back door of `mirror`.
    pub fn new(mirror: Arc<Mirror>, telemetry: Arc<Telemetry>) -> Self {
        Self { mirror, telemetry }
    }

    async fn serve(&self, request: &Request) -> Result<Answer, Fault> {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", path) => self.read(path),
            ("DELETE", path) => self.purge(path).await,
            (method, _) => Err(Fault::new(
                FaultKind::MethodNotAllowed,
                ErrorCode::Unsupported,
                format!("{method} is not offered here; GET / lists what is"),
            )),
        }
    }

    fn read(&self, path: &str) -> Result<Answer, Fault> {
        match path {
            "/" => Ok(text(Reply::Ok, INDEX.to_owned())),
            "/livez" => Ok(text(Reply::Ok, "ok\n".to_owned())),
            "/readyz" => {
                let reply = if self.telemetry.health.is_ready() { Reply::Ok } else { Reply::Unready };
                Ok(text(reply, self.telemetry.health.report()))
            }
            "/metrics" => Ok(text(Reply::Ok, self.telemetry.metrics.render(&self.telemetry.health))
                .header(CONTENT_TYPE, "text/plain; version=0.0.4")),
            _ => Err(nothing_here()),
        }
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
        let body = serde_json::json!(purged).to_string() + "\n";
        Ok(text(Reply::Ok, body).header(CONTENT_TYPE, "application/json"))
    }
}

fn nothing_here() -> Fault {
    Fault::new(FaultKind::NotFound, ErrorCode::Unknown, "there is nothing at this path; GET / lists what is")
}

fn text(reply: Reply, text: String) -> Answer {
    let body = Bytes::from(text);
    let length = body.len() as u64;
    Answer::new(reply).header(CONTENT_TYPE, "text/plain; charset=utf-8").body(Body::Bytes(body), Some(length))
}

#[async_trait]
impl Handler for Admin {
    async fn answer(&self, request: &Request, _outcome: &mut Outcome) -> Answer {
        self.serve(request).await.unwrap_or_else(Answer::fault)
    }
}
