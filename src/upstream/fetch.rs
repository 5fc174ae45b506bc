//! One URL of a registry asked once: its challenge met, its redirects followed.

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, LOCATION, RANGE, VIA};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use url::Url;

use super::base::{self, Base};
use super::redirect::{Refusal, Trail, is_redirect};
use super::{Error, Kind, status};
use crate::credentials::{Authenticator, Scope};
use crate::egress::{self, Body, Client, Request, Response, Way};
use crate::oci::ACCEPT_MANIFESTS;

/// How many challenges one request meets: a remembered token may have died, and its successor still be asked for.
const MAX_CHALLENGES: u8 = 2;

/// What is asked, whichever URL it is asked of.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) range: Option<HeaderValue>,
    /// Only ever beside `range`.
    pub(super) if_range: Option<HeaderValue>,
}

impl Ask {
    pub(super) fn new(method: Method, url: Url, scope: Scope) -> Self {
        Self { method, url, scope, range: None, if_range: None }
    }
}

/// A final answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Whether the registry itself gave it, rather than a host that it sent us to.
    home: bool,
    pub(super) host: String,
}

/// One URL of a registry with all that is needed to ask it.
pub(super) struct Source {
    pub(super) base: Base,
    pub(super) authenticator: Authenticator,
}

/// What asking needs beside the source, the same for all URLs of a registry.
pub(super) struct Line<'a> {
    pub(super) client: &'a Client,
    pub(super) way: &'a Way,
    pub(super) via: &'a HeaderValue,
}

impl Line<'_> {
    /// Asks `source`, and whoever it sends us to, until there is a final answer of whatever status. No deadline of its own.
    pub(super) async fn fetch(&self, source: &Source, ask: &Ask) -> Result<Fetched, Error> {
        let label = self.way.label();
        let refused = |error| Error::from_credentials(label, source.base.host(), &error);
        let (mut url, mut trail, mut challenges) = (ask.url.clone(), Trail::new(), 0);
        let mut authorization = source.authenticator.first(&ask.scope).await.map_err(refused)?;
        loop {
            let response = self.send(ask, &url, authorization.as_ref()).await?;
            let unauthorized = response.status == StatusCode::UNAUTHORIZED;
            if unauthorized && trail.is_home() && challenges < MAX_CHALLENGES {
                challenges += 1;
                let met = source.authenticator.after(&response.headers, authorization.as_ref(), &ask.scope).await;
                authorization = Some(met.map_err(refused)?);
                continue;
            }
            if let Some(sent) = authorization.as_ref().filter(|_| status::takes_credentials(response.status)) {
                source.authenticator.accepted(sent, &ask.scope);
            }
            if is_redirect(response.status) {
                url = self.redirected(&mut trail, &url, &response.headers)?;
                authorization = authorization.filter(|_| trail.is_home());
                continue;
            }
            return Ok(Fetched::new(response, &trail, &url));
        }
    }

    async fn send(&self, ask: &Ask, url: &Url, authorization: Option<&HeaderValue>) -> Result<Response, Error> {
        let mut headers = HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static(ACCEPT_MANIFESTS)),
            // What is stored is what has the digest: no encoding in between.
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (VIA, self.via.clone()),
        ]);
        headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        headers.extend(ask.range.as_ref().map(|value| (RANGE, value.clone())));
        headers.extend(ask.if_range.as_ref().map(|value| (IF_RANGE, value.clone())));
        let request = Request { method: ask.method.clone(), url: url.clone(), headers, body: Bytes::new() };
        self.client.send(self.way, request).await.map_err(|error| Error::from_egress(self.way.label(), &error))
    }

    fn redirected(&self, trail: &mut Trail, url: &Url, headers: &HeaderMap) -> Result<Url, Error> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let from = base::host(url);
        let next = trail.next(url, location).map_err(|refusal| self.refused(from, &refusal))?;
        self.way.check(&next).map_err(|error| Error::from_egress(self.way.label(), &error))?;
        Ok(next)
    }

    fn refused(&self, from: &str, refusal: &Refusal) -> Error {
        let (kind, what) = match refusal {
            Refusal::NoTarget => (Kind::Failed, format!("{from} redirects without saying where to, or not legibly")),
            Refusal::TooMany => (Kind::Failed, format!("{from} redirects once too often")),
            Refusal::Downgrade(to) => {
                (Kind::Forbidden, format!("{from} redirects from https to plain http at {to}, which is not followed"))
            }
        };
        Error::new(kind, self.way.label(), what)
    }
}

impl Fetched {
    fn new(response: Response, trail: &Trail, url: &Url) -> Self {
        let host = base::host(url).to_owned();
        Self { status: response.status, headers: response.headers, body: response.body, home: trail.is_home(), host }
    }

    /// A header's value, where it is text.
    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Content-Length`.
    pub(super) fn length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The error that this answer is, where it is none that was hoped for.
    pub(super) fn failure(&self, registry: &str) -> Error {
        let kind = status::kind(self.status, self.home);
        let what = format!("{} answered {}{}", self.host, self.status.as_u16(), status::remedy(kind));
        Error::new(kind, registry, what).with_retry_after(egress::retry_after(&self.headers, Timestamp::now()))
    }

    /// The error that this answer is because of `what` in it.
    pub(super) fn nonsense(&self, registry: &str, what: &str) -> Error {
        Error::new(Kind::Failed, registry, format!("{} {what}", self.host))
    }
}
