//! The tokens of one registry: each is fetched once for all who need it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;
use url::Url;

use super::standing::{Standing, still_holds};
use super::token::{MAX_ANSWER, Token};
use super::{Error, Scope};
use crate::config::Credentials;
use crate::egress::{self, Client, Request, Response, Way};

/// How many (realm, service, scope) are remembered. Repositories are what strangers ask for, so it must be bounded.
const MAX_TOKENS: u64 = 4096;
/// The longest wait for a token server's whole answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The parameters of a token request that are never taken from a challenge's realm.
const OURS: [&str; 3] = ["service", "scope", "account"];

/// Fetches and keeps the tokens of one configured registry, with its one identity.
pub struct Tokens {
    client: Client,
    way: Arc<Way>,
    credentials: Option<Credentials>,
    slots: moka::sync::Cache<Want, Arc<tokio::sync::Mutex<Slot>>>,
    standing: Mutex<Standing>,
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Want {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: Scope,
}

/// What is known of one want.
#[derive(Default)]
struct Slot {
    token: Option<Token>,
    /// The registry has taken this token.
    worked: bool,
    failure: Option<(Instant, Error)>,
}

/// What to do for one who needs a token.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Use(HeaderValue),
    Fail(Error),
    Fetch,
}

impl Slot {
    /// Decides for one who has waited since `asked` and whose `rejected` token the registry refused, if any. A refusal is
    /// believed for a while, unless the token had worked before: then it was revoked or ran out early. Whoever waited while
    /// a fetch failed shares the failure.
    fn step(&self, host: &str, asked: Instant, now: Instant, rejected: Option<&HeaderValue>) -> Step {
        if let Some(token) = self.token.as_ref().filter(|token| token.is_good(now)) {
            return match rejected {
                Some(header) if *header != token.header => Step::Use(token.header.clone()),
                Some(_) if !self.worked && still_holds(token.obtained, now) => Step::Fail(Error::Rejected(host.to_owned())),
                Some(_) => Step::Fetch,
                None => Step::Use(token.header.clone()),
            };
        }
        match &self.failure {
            Some((at, error)) if *at > asked => Step::Fail(error.clone()),
            Some((at, error @ (Error::Rejected(_) | Error::Missing(_)))) if still_holds(*at, now) => Step::Fail(error.clone()),
            _ => Step::Fetch,
        }
    }

    fn note(&mut self, now: Instant, result: Result<Token, Error>) -> Result<HeaderValue, Error> {
        match result {
            Ok(token) => {
                let header = token.header.clone();
                *self = Self { token: Some(token), worked: false, failure: None };
                Ok(header)
            }
            Err(error) => {
                self.failure = Some((now, error.clone()));
                Err(error)
            }
        }
    }
}

impl Tokens {
    /// No tokens yet. They are asked for with `credentials`, or anonymously, over `way`.
    pub fn new(client: Client, way: Arc<Way>, credentials: Option<Credentials>) -> Self {
        let slots = moka::sync::Cache::builder().max_capacity(MAX_TOKENS).time_to_idle(Duration::from_secs(60 * 60)).build();
        Self { client, way, credentials, slots, standing: Mutex::default() }
    }

    /// A token for `want`, from memory or freshly fetched; `rejected` is one that the registry has just refused. One fetch
    /// at a time for each want: others wait for it. A dropped future leaves the fetch to the next who waits.
    pub(super) async fn token(&self, want: Want, rejected: Option<&HeaderValue>) -> Result<HeaderValue, Error> {
        let asked = Instant::now();
        let host = want.realm.host_str().unwrap_or_default().to_owned();
        let slot = self.slots.get_with_by_ref(&want, Arc::default);
        let mut slot = slot.lock().await;
        match slot.step(&host, asked, Instant::now(), rejected) {
            Step::Use(header) => Ok(header),
            Step::Fail(error) => Err(error),
            Step::Fetch => {
                let result = self.fetch(&want, &host).await;
                slot.note(Instant::now(), result)
            }
        }
    }

    /// `Basic` with the registry's credentials, unless there are none or they have just been refused.
    pub(super) fn basic(&self, host: &str) -> Result<HeaderValue, Error> {
        let credentials = self.credentials.as_ref().ok_or(Error::Missing("none are set"))?;
        if self.with_standing(|standing| standing.rests(Instant::now())) {
            return Err(Error::Rejected(host.to_owned()));
        }
        basic(credentials)
    }

    /// The registry took this token. (One that is being replaced at this moment is past caring.)
    pub(super) fn worked(&self, want: &Want, header: &HeaderValue) {
        let slot = self.slots.get(want);
        if let Some(mut slot) = slot.as_ref().and_then(|slot| slot.try_lock().ok()) {
            slot.worked |= slot.token.as_ref().is_some_and(|token| token.header == *header);
        }
    }

    /// The credentials worked.
    pub(super) fn accepted(&self) {
        self.with_standing(Standing::accepted);
    }

    /// The credentials were refused.
    pub(super) fn rejected(&self) {
        self.with_standing(|standing| standing.rejected(Instant::now()));
    }

    fn with_standing<T>(&self, act: impl FnOnce(&mut Standing) -> T) -> T {
        act(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the token server: GET with `service` and `scope`, and Basic where there are credentials.
    async fn fetch(&self, want: &Want, host: &str) -> Result<Token, Error> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if self.credentials.is_some() {
            headers.insert(AUTHORIZATION, self.basic(host)?);
        }
        let url = want.url(self.credentials.as_ref());
        let response =
            self.client.send(&self.way, Request { method: Method::GET, url, headers, body: bytes::Bytes::new() }).await?;
        let response = self.judge(response, host)?;
        let late = || egress::Error::new(egress::Kind::TimedOut, format!("{host} did not finish its answer within 10 s"));
        let body = tokio::time::timeout(ANSWER, response.body.collect(MAX_ANSWER)).await.map_err(|_| late())??;
        let token = Token::parse(&body, Instant::now(), Timestamp::now());
        token.map_err(|what| Error::Failed { host: host.to_owned(), what: what.to_owned() })
    }

    fn judge(&self, response: Response, host: &str) -> Result<Response, Error> {
        let host = host.to_owned();
        match response.status {
            StatusCode::OK => {
                self.accepted();
                Ok(response)
            }
            StatusCode::UNAUTHORIZED if self.credentials.is_none() => Err(Error::Missing("none are set")),
            StatusCode::UNAUTHORIZED => {
                self.rejected();
                Err(Error::Rejected(host))
            }
            StatusCode::FORBIDDEN => Err(Error::Rejected(host)),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Error::RateLimited { host, retry_after: egress::retry_after(&response.headers, Timestamp::now()) })
            }
            status => Err(Error::Failed { host, what: format!("it answered {}", status.as_u16()) }),
        }
    }
}

impl Want {
    /// The realm's own query is kept, but for what is ours to say: the upstream wrote it, and might ask for more than this
    /// want by it.
    fn url(&self, credentials: Option<&Credentials>) -> Url {
        let mut url = self.realm.clone();
        url.set_fragment(None);
        url.set_query(None);
        let kept = self.realm.query_pairs().filter(|(name, _)| !OURS.contains(&&**name));
        let mut query = url.query_pairs_mut();
        query.extend_pairs(kept);
        query.extend_pairs(self.service.iter().map(|service| ("service", service)));
        query.append_pair("scope", self.scope.as_str());
        query.extend_pairs(credentials.map(|credentials| ("account", &credentials.username)));
        drop(query);
        url
    }
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, Error> {
    let pair = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password.expose()));
    let mut value =
        HeaderValue::try_from(format!("Basic {pair}")).map_err(|_| Error::Missing("they cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
