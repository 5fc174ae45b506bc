//! Asking for lists: tags and referrers.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use url::Url;

use super::connections::Use;
use super::fetch::{Ask, Fetched};
use super::link::{self, Elsewhere};
use super::registry::Choice;
use super::{Error, Kind, Registry};
use crate::oci::{self, Digest, RepositoryName};

/// The largest page that is read, in bytes.
const MAX_LIST: u64 = 1024 * 1024;
/// The longest list of filters that is passed on, in bytes. There is one filter.
const MAX_FILTERS: usize = 256;

/// Which tags are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many at most.
    pub n: Option<u32>,
    /// Those after this one.
    pub last: Option<String>,
    /// The upstream's own query of the page, as [`ListReply::next`] gave it; then nothing else counts.
    pub page: Option<String>,
}

/// Which referrers are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersQuery {
    /// Those of this type only, where the upstream filters.
    pub artifact_type: Option<String>,
    /// The upstream's own query of the page, as [`ListReply::next`] gave it; then nothing else counts.
    pub page: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListReply {
    /// The whole body, 1 MiB at most.
    pub body: Bytes,
    /// `Content-Type`.
    pub media_type: Option<String>,
    /// `OCI-Filters-Applied`.
    pub filters_applied: Option<String>,
    /// The query of the next page, where there is one on the same origin.
    pub next: Option<String>,
}

impl Registry {
    /// One page of a repository's tags.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn list_tags(&self, repository: &RepositoryName, page: &Page) -> Result<ListReply, Error> {
        let attempt = |url| {
            let mut ask = self.ask(url, Method::GET, repository, "tags/list");
            match &page.page {
                Some(page) => ask.url.set_query(Some(page)),
                None => {
                    append(&mut ask.url, "n", page.n.map(|n| n.to_string()).as_deref());
                    append(&mut ask.url, "last", page.last.as_deref());
                }
            }
            self.list_at(url, ask)
        };
        Ok(self.over_urls(Use::Question, Choice::default(), attempt).await?.0)
    }

    /// One page of what refers to a digest. A registry without that API answers 404.
    ///
    /// # Errors
    /// See [`Error`]; 20 s at most. Dropping the future gives the request up.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        query: &ReferrersQuery,
    ) -> Result<ListReply, Error> {
        let attempt = |url| {
            let mut ask = self.ask(url, Method::GET, repository, &format!("referrers/{digest}"));
            match &query.page {
                Some(page) => ask.url.set_query(Some(page)),
                None => append(&mut ask.url, "artifactType", query.artifact_type.as_deref()),
            }
            self.list_at(url, ask)
        };
        Ok(self.over_urls(Use::Question, Choice::default(), attempt).await?.0)
    }

    async fn list_at(&self, url: usize, ask: Ask) -> Result<ListReply, Error> {
        let answer = self.fetch(url, &ask).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.failure(self.label()));
        }
        let next = link::next(&answer.headers, &ask.url).map_err(|elsewhere| self.elsewhere(&answer, elsewhere))?;
        let media_type = answer.header(CONTENT_TYPE).and_then(oci::media_type).map(str::to_owned);
        let filters_applied =
            answer.header("oci-filters-applied").filter(|filters| filters.len() <= MAX_FILTERS).map(str::to_owned);
        let body = answer.body.collect(MAX_LIST).await.map_err(|error| Error::from_egress(self.label(), &error))?;
        Ok(ListReply { body, media_type, filters_applied, next })
    }

    fn elsewhere(&self, answer: &Fetched, Elsewhere(place): Elsewhere) -> Error {
        let what = format!("{} says that the list goes on at {place}, which is not followed", answer.host);
        self.error(Kind::Forbidden, what)
    }
}

fn append(url: &mut Url, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, value);
    }
}
