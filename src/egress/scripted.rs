//! An [`Exchange`] that plays the other side: a closure answers, and what was asked is kept. For the tests of this room and
//! of those that send through it.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::HeaderName};
use url::Url;

pub(crate) use super::Kind;
use super::{Body, Error, Exchange, Request, Response, Way};
use crate::config;

/// What the other side does with one request.
pub(crate) enum Reply {
    /// It answers.
    Answer(Answer),
    /// It never answers.
    Hang,
    /// The exchange fails.
    Fail(Kind),
    /// It does the rest after a while.
    After(Duration, Box<Reply>),
}

/// An answer in the making.
pub(crate) struct Answer {
    status: u16,
    headers: HeaderMap,
    body: VecDeque<Step>,
    held: Held,
}

/// Something that lives as long as an exchange is under way, its body included.
type Held = Option<Box<dyn Any + Send>>;

/// What a body does next.
pub(crate) enum Step {
    /// Bytes come.
    Bytes(Bytes),
    /// The test takes note that the body came so far.
    Note(Box<dyn FnOnce() + Send>),
    /// Nothing comes for a while.
    Pause(Duration),
    /// Nothing comes until the test says so.
    Wait(Arc<tokio::sync::Notify>),
    /// Nothing ever comes.
    Hang,
    /// The connection breaks.
    Break,
}

impl Reply {
    /// An empty answer.
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(Answer { status, headers: HeaderMap::new(), body: VecDeque::new(), held: None })
    }

    /// A 200 with this body and its length.
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::status(200).header("content-length", &body.len().to_string()).step(Step::Bytes(body))
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let answer = self.answer();
        answer.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// With more body.
    pub(crate) fn step(mut self, step: Step) -> Self {
        self.answer().body.push_back(step);
        self
    }

    /// Drops `guard` when nobody reads the answer any more, or waits for it: so a test sees how long it was of use.
    pub(crate) fn holding(mut self, guard: impl Any + Send) -> Self {
        self.answer().held = Some(Box::new(guard));
        self
    }

    fn answer(&mut self) -> &mut Answer {
        match self {
            Self::Answer(answer) => answer,
            _ => panic!("only an answer has headers and a body"),
        }
    }
}

type Script = dyn Fn(&Way, &Request) -> Reply + Send + Sync;

/// The other side.
pub(crate) struct Scripted {
    script: Box<Script>,
    seen: Mutex<Vec<Request>>,
}

impl Scripted {
    /// Answers each request as `script` says.
    pub(crate) fn new(script: impl Fn(&Way, &Request) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), seen: Mutex::default() })
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and URL of all requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.url)).collect()
    }

    /// How many requests had `part` in their URL.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|request| request.url.as_str().contains(part)).count()
    }
}

#[async_trait]
impl Exchange for Scripted {
    async fn exchange(&self, way: &Way, request: Request) -> Result<Response, Error> {
        self.seen.lock().unwrap().push(request.clone());
        let mut reply = (self.script)(way, &request);
        loop {
            match reply {
                Reply::Answer(answer) => return Ok(answer.into_response()),
                Reply::Hang => std::future::pending().await,
                Reply::Fail(kind) => return Err(Error::new(kind, format!("{} fails as scripted", request.url))),
                Reply::After(wait, then) => {
                    tokio::time::sleep(wait).await;
                    reply = *then;
                }
            }
        }
    }
}

impl Answer {
    fn into_response(self) -> Response {
        let stream = futures_util::stream::unfold((self.body, self.held), |(mut steps, held)| async {
            loop {
                match steps.pop_front()? {
                    Step::Bytes(bytes) => return Some((Ok(bytes), (steps, held))),
                    Step::Note(note) => note(),
                    Step::Pause(time) => tokio::time::sleep(time).await,
                    Step::Wait(signal) => signal.notified().await,
                    Step::Hang => std::future::pending().await,
                    Step::Break => {
                        return Some((Err(Error::new(Kind::Broken, "the connection broke as scripted")), (steps, held)));
                    }
                }
            }
        });
        Response { status: StatusCode::from_u16(self.status).unwrap(), headers: self.headers, body: Body::from_stream(stream) }
    }
}

/// A plain GET.
pub(crate) fn get(url: &str) -> Request {
    Request { method: Method::GET, url: url.parse().unwrap(), headers: HeaderMap::new(), body: Bytes::new() }
}

/// A registry with this URL and nothing else set.
pub(crate) fn registry(url: &str) -> config::Registry {
    let url: Url = url.parse().unwrap();
    let name = config::RegistryMatch::Exact("r.test".parse().unwrap());
    config::Registry {
        name,
        urls: vec![url],
        hosts: Vec::new(),
        default: false,
        ca: None,
        client_certificate: None,
        realm: None,
        blob_hosts: Vec::new(),
        addresses: Vec::new(),
        private_endpoint: None,
        source: None,
        proxy: config::ProxyChoice::Shared,
        max_connections: 8,
        credentials: None,
        freshness: Vec::new(),
    }
}

/// A configuration with these registries and nothing else of interest.
pub(crate) fn config(registries: impl IntoIterator<Item = config::Registry>) -> config::Config {
    config::Config {
        cache: config::Cache { directory: Default::default(), max_size: None, memory: 0 },
        listeners: Vec::new(),
        admin: config::Admin { address: ([127, 0, 0, 1], 0).into() },
        registries: registries.into_iter().map(Arc::new).collect(),
        egress: config::Egress::default(),
        limits: Vec::new(),
        policy: config::Policy::without_statements(config::Effect::Allow),
        audit: None,
    }
}

/// The way of [`registry`].
pub(crate) fn way(url: &str) -> Way {
    Way::new(&registry(url), &config::Egress::default()).unwrap()
}

/// A host pattern as the configuration has it.
pub(crate) fn pattern(text: &str) -> config::HostPattern {
    let wildcard = text.starts_with("*.");
    let text = if wildcard { &text[1..] } else { text };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port.parse().unwrap())),
        _ => (text, None),
    };
    config::HostPattern { wildcard, host: host.to_owned(), port }
}
