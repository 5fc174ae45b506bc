//! Lists: the tags of a repository, and what refers to a digest. Passed on page by page, held briefly, and held longer for
//! when the upstream is gone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::freshness::age;
use super::{Error, Kind, Mirror, Place};
use crate::oci::{RegistryName, RepositoryName};
use crate::policy::Permit;
use crate::request::{Item, Served, Target};
use crate::store::ListRecord;
use crate::upstream::{ListReply, Page, ReferrersQuery};

const FRESH: Duration = Duration::from_secs(60);

/// Which page of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListQuery {
    /// Tags: the most entries wanted.
    pub n: Option<u32>,
    /// Tags: the entry to start after.
    pub last: Option<String>,
    /// Referrers: only those of this type.
    pub artifact_type: Option<String>,
    /// The upstream's own words for a further page; then nothing else counts.
    pub page: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct ListAnswer {
    /// The upstream's body.
    pub body: Bytes,
    /// Its type.
    pub media_type: Option<String>,
    /// `OCI-Filters-Applied`, where the upstream filtered.
    pub filters_applied: Option<String>,
    /// The query of the next page, where there is one.
    pub next: Option<String>,
    /// Where it came from.
    pub served: Served,
    /// How long ago the upstream sent it.
    pub age: Duration,
}

/// One page of one list.
pub(super) type ListKey = (RegistryName, RepositoryName, String);

impl Mirror {
    /// The page of the list that `permit` is for. Dropping this future leaves a fetch going on for others.
    ///
    /// # Errors
    /// As the upstream answered, see [`Kind`]; `Withheld` where the permit is limited and does not cover it. A 404 for referrers means that the upstream does not offer them, and stays one.
    pub async fn list(self: &Arc<Self>, permit: &Permit, query: &ListQuery) -> Result<ListAnswer, Error> {
        let place = self.place(permit)?;
        let item = permit.target().item.clone();
        if let Item::Referrers(subject) = &item {
            self.check_reached(permit, &place, subject).await?;
        }
        let key = (place.name.clone(), place.repository.clone(), page_key(&item, query)?);
        let held = self.store.list(&key.0, &key.1, &key.2).await;
        let now = SystemTime::now();
        if let Some(held) = held.as_ref().filter(|held| age(held.fetched, now) < FRESH) {
            return Ok(answer(held.clone(), Served::Hit, now));
        }
        if self.absent.contains(permit.target()) {
            return Err(Error::not_found(format_args!("this list of {place}")));
        }
        let (mirror, query, target) = (self.clone(), query.clone(), permit.target().clone());
        // Clients have a say in further pages: that one is not there says nothing of the list.
        let first = query.last.is_none() && query.page.is_none();
        let work = key.clone();
        let (flight, joined) = self.lists.join_or_start(&key, || async move {
            let fetched = mirror.fetch_list(&place, &item, &query, &work).await;
            if let Err(error) = &fetched {
                mirror.conclude_list(error, &work, first.then_some(&target));
            }
            fetched
        });
        match (flight.wait().await, held) {
            (Ok(list), _) => Ok(ListAnswer { served: if joined { Served::Joined } else { Served::Miss }, ..(*list).clone() }),
            (Err(error), Some(held)) if !error.is_authoritative() => Ok(answer(held, Served::Stale, now)),
            (Err(error), _) => Err(error),
        }
    }

    /// A list that the upstream took back may no longer stand in for it. `whole` is what its first page was asked for.
    fn conclude_list(&self, error: &Error, key: &ListKey, whole: Option<&Target>) {
        if error.is_authoritative() {
            self.store.remove_list(&key.0, &key.1, &key.2);
        }
        if error.kind == Kind::NotFound {
            whole.into_iter().for_each(|target| self.absent.insert(target));
        }
    }

    async fn fetch_list(&self, place: &Place, item: &Item, query: &ListQuery, key: &ListKey) -> Result<Arc<ListAnswer>, Error> {
        let reply = match item {
            Item::Referrers(digest) => {
                let query = ReferrersQuery { artifact_type: query.artifact_type.clone(), page: query.page.clone() };
                place.registry.referrers(&place.repository, digest, &query).await?
            }
            _ => {
                place
                    .registry
                    .list_tags(&place.repository, &Page { n: query.n, last: query.last.clone(), page: query.page.clone() })
                    .await?
            }
        };
        let record = record(reply);
        self.store.put_list(&key.0, &key.1, &key.2, record.clone());
        Ok(Arc::new(answer(record, Served::Miss, SystemTime::now())))
    }
}

fn page_key(item: &Item, query: &ListQuery) -> Result<String, Error> {
    let ListQuery { n, last, artifact_type, page } = query;
    match item {
        Item::Tags => Ok(format!("tags {n:?} {last:?} {page:?}")),
        Item::Referrers(digest) => Ok(format!("referrers {digest} {artifact_type:?} {page:?}")),
        Item::Manifest(_) | Item::Blob(_) => Err(Error::new(Kind::Internal, "the permit is not for a list")),
    }
}

fn record(reply: ListReply) -> ListRecord {
    ListRecord {
        body: reply.body,
        media_type: reply.media_type,
        filters_applied: reply.filters_applied,
        next: reply.next,
        fetched: SystemTime::now(),
    }
}

fn answer(record: ListRecord, served: Served, now: SystemTime) -> ListAnswer {
    ListAnswer {
        body: record.body,
        media_type: record.media_type,
        filters_applied: record.filters_applied,
        next: record.next,
        served,
        age: age(record.fetched, now),
    }
}
