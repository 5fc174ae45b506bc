//! The data side: caller, path, permit, mirror, answer.

mod answer;
mod body;
mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod identify;
mod pace;
mod path;
mod route;
mod snapshot;

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::front::{Answer, Fault, Handler, Place, Reply, Request};
use crate::identity::challenge::TOKEN_PATH;
use crate::mirror::{self, ListQuery, Mirror};
use crate::oci::{ErrorCode, Reference};
use crate::policy::{Permit, Question};
use crate::quota::{Allowance, Over};
use crate::request::{Caller, Item, Target, Verdict};
use crate::telemetry::{Outcome, Telemetry};
use answer::Asker;
use identify::Identify;
use path::{Asked, Query, What};
use snapshot::Door;
pub use snapshot::{Live, Snapshot};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const API: HeaderValue = HeaderValue::from_static("registry/2.0");

/// Answers the data listeners' requests.
pub struct Server {
    live: Arc<Live>,
    mirror: Arc<Mirror>,
    identify: Identify,
    telemetry: Arc<Telemetry>,
}

/// A data request that was understood.
struct Understood<'r> {
    target: Target,
    /// Whether its registry is asked with credentials of ours.
    is_private: bool,
    allowance: Allowance,
    asker: Asker<'r>,
    list: ListQuery,
}

impl Server {
    /// A server over `mirror`. Each request is answered by the snapshot that is in `live` when it comes.
    pub fn new(live: Arc<Live>, mirror: Arc<Mirror>, telemetry: Arc<Telemetry>) -> Self {
        Self { live, mirror, identify: Identify::new(telemetry.clone()), telemetry }
    }

    async fn serve(&self, request: &Request, outcome: &mut Outcome) -> Result<Answer, Fault> {
        outcome.record_at(self.telemetry.admit().await.map_err(fault::unrecorded)?);
        let head = match request.method {
            http::Method::GET => false,
            http::Method::HEAD => true,
            _ => return Err(fault::method_not_allowed(&request.method)),
        };
        if request.path == "/readyz" && (request.caller.is_probe || is_local(&request.caller)) {
            return Ok(self.health());
        }
        if request.caller.is_probe {
            return Err(fault::probe());
        }
        let now = self.live.load();
        let door = now.door(&request.caller.listener);
        if request.path == TOKEN_PATH
            && let Some(door) = door
        {
            self.admit(&now, &request.caller)?;
            return self.identify.token(door, request, outcome).await;
        }
        self.data(&now, door, request, head, outcome).await
    }

    async fn data(
        &self,
        now: &Snapshot,
        door: Option<&Door>,
        request: &Request,
        head: bool,
        outcome: &mut Outcome,
    ) -> Result<Answer, Fault> {
        let passed = self.mirror.passed(request.headers.get_all(http::header::VIA)).map_err(fault::circle)?;
        let asked = path::parse(&request.path);
        let who = self.identify.who(door, request, asked.as_ref().ok(), outcome).await?;
        let allowance = self.admit(now, &who.caller)?;
        let (asked, query) = (asked.map_err(fault::path)?, Query::parse(request.query.as_deref()));
        let query = query.map_err(|error| fault::bad_request(ErrorCode::Unsupported, error))?;
        let Asked::Of(name, what) = asked else { return Ok(answer::ping(head)) };
        let understood = understand(now, request, name, what, query, allowance, outcome)?;
        let permit = permit(now, request, &who.caller, &understood, outcome).map_err(|fault| who.refused(fault))?;
        let permit = permit.having_passed(passed);
        self.permitted(&permit, &understood, request, head, outcome).await
    }

    async fn permitted(
        &self,
        permit: &Permit,
        understood: &Understood<'_>,
        request: &Request,
        head: bool,
        outcome: &mut Outcome,
    ) -> Result<Answer, Fault> {
        let target = permit.target();
        match &target.item {
            Item::Manifest(reference) => {
                let manifest = self.mirror.manifest(permit, head).await.map_err(|error| refuse(&error, target, outcome))?;
                outcome.served = Some(manifest.served);
                outcome.media_type = Some(manifest.media_type.shared());
                if matches!(reference, Reference::Tag(_)) {
                    outcome.resolved = Some(manifest.digest);
                }
                Ok(pace::paced(answer::manifest(manifest, &understood.asker, request), &understood.allowance))
            }
            Item::Blob(_) => {
                let blob =
                    self.mirror.blob(permit, &understood.allowance, head).await.map_err(|error| refuse(&error, target, outcome))?;
                outcome.served = Some(blob.served);
                Ok(pace::paced(answer::blob(blob, &understood.asker, request), &understood.allowance))
            }
            Item::Tags | Item::Referrers(_) => {
                let list = self.mirror.list(permit, &understood.list).await.map_err(|error| refuse(&error, target, outcome))?;
                outcome.served = Some(list.served);
                answer::list(&list, &understood.asker, target)
            }
        }
    }

    /// Takes one request of what the caller may make, and what it may take beyond that.
    fn admit(&self, now: &Snapshot, caller: &Caller) -> Result<Allowance, Fault> {
        if now.quotas.is_empty() {
            return Ok(Allowance::default());
        }
        let instant = Instant::now().into_std();
        let allowance = now.quotas.of(caller, instant);
        allowance.request(instant).map_err(|over| self.over(over))?;
        Ok(allowance)
    }

    fn over(&self, over: Over) -> Fault {
        self.telemetry.metrics.limited(over.by.as_str(), over.what.label());
        fault::over(&over)
    }

    /// For load balancers and node-local checks: no body, nothing about why.
    fn health(&self) -> Answer {
        if self.telemetry.health.is_ready() { Answer::new(Reply::Ok) } else { Answer::new(Reply::Unready) }
    }
}

#[async_trait]
impl Handler for Server {
    fn connected(&self, caller: &Caller) -> Result<Place, Fault> {
        let held = self.live.load().quotas.of(caller, Instant::now().into_std()).connection();
        held.map(|held| Box::new(held) as Place).map_err(|over| self.over(over))
    }

    async fn answer(&self, request: &Request, outcome: &mut Outcome) -> Answer {
        let answer = self.serve(request, outcome).await.unwrap_or_else(|fault| {
            // What the client is told, unless there is more that only the operator may know.
            outcome.reason.get_or_insert_with(|| fault.detail.clone().unwrap_or_else(|| fault.message.clone()));
            Answer::fault(fault)
        });
        answer.header_value(API_VERSION, API)
    }
}

fn understand<'r>(
    now: &Snapshot,
    request: &'r Request,
    name: &'r str,
    what: What,
    query: Query<'r>,
    allowance: Allowance,
    outcome: &mut Outcome,
) -> Result<Understood<'r>, Fault> {
    let default = now.default_registry(&request.caller.listener);
    let route = route::route(&now.config.registries, default, query.ns.as_deref(), &request.host, name).map_err(fault::route)?;
    let client_name = path::repository(route.repository).map_err(fault::path)?;
    let repository = if route.registry.is_docker_hub() { client_name.with_library() } else { client_name.clone() };
    let item = match what {
        What::Manifest(reference) => Item::Manifest(reference),
        What::Blob(digest) => Item::Blob(digest),
        What::Tags => Item::Tags,
        What::Referrers(digest) => Item::Referrers(digest),
    };
    let target = Target { registry: route.registry, repository, item };
    outcome.target(&target, route.label);
    // The name was made of `ns`, where there is one.
    let namespace = query.ns.as_ref().and_then(|_| HeaderValue::from_str(target.registry.as_str()).ok());
    let asker = Asker { prefix: route.prefix, repository: client_name, ns: query.ns, namespace };
    // What the upstream alone knows goes back to it as it came, or paging would start anew for ever.
    let paged = query.foreign || matches!(target.item, Item::Referrers(_)) && (query.n.is_some() || query.last.is_some());
    let page = paged.then_some(query.rest);
    let list = ListQuery { n: query.n, last: query.last, artifact_type: query.artifact_type, page };
    Ok(Understood { target, is_private: route.is_private, allowance, asker, list })
}

/// Asks the policy, and notes what it said.
fn permit(
    now: &Snapshot,
    request: &Request,
    caller: &Caller,
    understood: &Understood<'_>,
    outcome: &mut Outcome,
) -> Result<Permit, Fault> {
    let question = Question {
        caller,
        target: &understood.target,
        user_agent: request.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()),
        is_private: understood.is_private,
        now: jiff::Timestamp::now(),
    };
    let decided = now.rules.decide(&question);
    let decision = decided.as_ref().map_or_else(|refusal| &refusal.decision, Permit::decision);
    outcome.decision = Some(decision.clone());
    decided.map_err(|refusal| {
        outcome.reason = Some(refusal.to_string());
        fault::refused(&refusal, &understood.target)
    })
}

/// What the mirror says to a request that was let through. Where it is the rest of the policy's word, the record says so.
fn refuse(error: &mirror::Error, target: &Target, outcome: &mut Outcome) -> Fault {
    if error.kind == mirror::Kind::Withheld
        && let Some(decision) = &mut outcome.decision
    {
        decision.verdict = Verdict::Deny;
        decision.statement = error.statement().unwrap_or(&decision.statement).clone();
    }
    fault::mirror(error, target)
}

fn is_local(caller: &Caller) -> bool {
    caller.source.ip().is_loopback()
}
