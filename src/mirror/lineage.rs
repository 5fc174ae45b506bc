//! How content was reached: what a permit that is limited to tags or digests depends on.
//!
//! A client names a tag once and asks for all else by digest. So it is remembered which tags meant which manifest and what each
//! manifest names, for every client, and looked up for those whose permit is [`Scope::Limited`]: they get what they could have
//! come to by themselves, and of all else the answer to what is absent. That answer is made of the index alone.
//!
//! What an artifact refers to does not name the artifact: a signature is not reached through the image that it signs.

use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::tag::{self, TagKey};
use super::{Error, ManifestAnswer, Mirror, Place};
use crate::oci::{Digest, Manifest, Tag};
use crate::policy::{Permit, Scope, Way};
use crate::store::{Lineage, TagRecord};

/// Indexes within indexes: a tag's manifest is no further above a blob.
const DEPTH: usize = 4;
/// Steps on the way up from one digest before it counts as not reached: tens of milliseconds on a thread of the pool.
const MOST_STEPS: usize = 4096;

/// Tags that are not looked after again.
const MOST_MEANINGS: usize = 10_000;

/// What is known of a repository, asked step by step.
trait Records {
    /// The tags that meant this manifest.
    fn tags(&self, manifest: &Digest) -> Vec<Tag>;
    /// The manifests that name this.
    fn parents(&self, child: &Digest) -> Vec<Digest>;
}

impl Records for Lineage<'_> {
    fn tags(&self, manifest: &Digest) -> Vec<Tag> {
        Lineage::tags(self, manifest)
    }

    fn parents(&self, child: &Digest) -> Vec<Digest> {
        Lineage::parents(self, child)
    }
}

/// The tags that were served of late: their lineage is known, and what they mean needs no look-up.
pub(super) struct Meanings(Cache<TagKey, Meaning>);

/// What a tag meant when it was served.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    digest: Digest,
    /// When the upstream said so, where that is on record, and the version of the records.
    checked: Option<SystemTime>,
    version: u64,
}

/// A [`TagKey`] that was not made, for looking up.
struct Named<'a>(&'a Place, &'a Tag);

impl Hash for Named<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.name, &self.0.repository, self.1).hash(state);
    }
}

impl Equivalent<TagKey> for Named<'_> {
    fn equivalent(&self, (registry, repository, tag): &TagKey) -> bool {
        (&self.0.name, &self.0.repository, self.1) == (registry, repository, tag)
    }
}

impl Meanings {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST_MEANINGS))
    }

    /// The record of a tag whose lineage is known, where it is that of this version of the records.
    pub(super) fn record(&self, place: &Place, tag: &Tag, version: u64) -> Option<TagRecord> {
        let Meaning { digest, checked, .. } = self.0.get(&Named(place, tag)).filter(|meaning| meaning.version == version)?;
        Some(TagRecord { digest, checked: checked? })
    }

    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

/// Lets a manifest through that was asked for by tag. How else it could be reached does not count.
///
/// # Errors
/// `Withheld`. Not the refusal that policy itself gives: a permit may be limited because the caller has no right to the tag and may
/// have one to what it means, and then a refusal would tell which tags there are.
pub(super) fn check_tag(permit: &Permit, place: &Place, tag: &Tag, digest: &Digest) -> Result<(), Error> {
    let Scope::Limited(limited) = permit.scope() else { return Ok(()) };
    let judged = limited.judge(Way { tag: Some(tag.as_str()), digests: &[*digest] });
    judged.map(drop).map_err(|by| Error::withheld(format_args!("{digest}, the {tag} of {place},"), Some(by.clone())))
}

impl Mirror {
    /// Lets through what was asked for by digest. Looks at nothing but the lineage.
    ///
    /// # Errors
    /// `Withheld`.
    pub(super) async fn check_reached(&self, permit: &Permit, place: &Place, digest: &Digest) -> Result<(), Error> {
        let Scope::Limited(limited) = permit.scope() else { return Ok(()) };
        let (limited, content) = (limited.clone(), *digest);
        let judge = move |way: Way<'_>| limited.judge(way).map(drop).map_err(Arc::clone);
        let look = move |lineage: &Lineage<'_>| reached(lineage, content, &judge);
        let judged = self.store.lineage(&place.name, &place.repository, look).await;
        judged.map_err(|by| Error::withheld(format_args!("{digest} in {place}"), by))
    }

    /// Writes down what a manifest names.
    pub(super) fn remember_children(&self, place: &Place, digest: &Digest, manifest: &Manifest) {
        let children = manifest.children.iter().map(|child| child.digest);
        self.store.put_children(&place.name, &place.repository, digest, children);
    }

    /// Sees to it that the lineage of what is about to be served by tag is known: a crash may have lost it, and not what is
    /// served. A tag is looked after once, as long as it means the same.
    pub(super) async fn remember_tag(&self, place: &Place, tag: &Tag, answer: &ManifestAnswer) {
        let (digest, version) = (answer.digest, self.store.tags_version());
        let known = self.meanings.0.get(&Named(place, tag)).filter(|meaning| meaning.digest == digest);
        if known.is_none() {
            self.store.put_reached(&place.name, &place.repository, &digest, tag).await;
            self.remember_held(place, answer).await;
        }
        if known.is_none_or(|meaning| meaning.version != version) {
            let record = self.store.tag(&place.name, &place.repository, tag).await.filter(|record| record.digest == digest);
            self.meanings.0.insert(tag::key(place, tag), Meaning { digest, checked: record.map(|record| record.checked), version });
        }
    }

    /// The same for a manifest, by whatever name it was asked for.
    pub(super) async fn remember_held(&self, place: &Place, answer: &ManifestAnswer) {
        if let Some(body) = &answer.body
            && !self.store.knows_children(&place.name, &place.repository, &answer.digest).await
            && let Ok(manifest) = Manifest::parse(body, Some(answer.media_type.as_str()))
        {
            self.remember_children(place, &answer.digest, &manifest);
        }
    }
}

/// What a judge says to one way: yes, or which statement refuses.
type Judge<'a> = &'a dyn Fn(Way<'_>) -> Result<(), Arc<str>>;

/// Whether one of the ways to `content` is admitted. Where none is known, it is its own.
///
/// # Errors
/// What refused the first of them.
fn reached(known: &impl Records, content: Digest, judge: Judge<'_>) -> Result<(), Option<Arc<str>>> {
    let mut climb = Climb { known, judge, digests: [content; DEPTH + 1], left: MOST_STEPS, refused: None };
    match climb.from(DEPTH) {
        ControlFlow::Break(End::Admitted) => Ok(()),
        ControlFlow::Break(End::Tired) | ControlFlow::Continue(()) => Err(climb.refused),
    }
}

/// On the way up from content to the tags it was reached by.
struct Climb<'a, K> {
    known: &'a K,
    judge: Judge<'a>,
    /// The way at hand stands at the end: what is above comes before.
    digests: [Digest; DEPTH + 1],
    left: usize,
    refused: Option<Arc<str>>,
}

/// Why no further way is tried.
enum End {
    Admitted,
    Tired,
}

impl<K: Records> Climb<'_, K> {
    /// Tries all ways that lead over the digest at `first`.
    fn from(&mut self, first: usize) -> ControlFlow<End> {
        let top = self.digests[first];
        let (tags, parents) = (self.known.tags(&top), self.known.parents(&top));
        for tag in &tags {
            self.try_way(first, Some(tag))?;
        }
        // Nobody came to it by a tag, so somebody asked for it by its digest. Where tags are known they alone speak.
        if tags.is_empty() && parents.is_empty() {
            self.try_way(first, None)?;
        }
        let Some(above) = first.checked_sub(1) else { return ControlFlow::Continue(()) };
        for parent in parents {
            self.step()?;
            self.digests[above] = parent;
            self.from(above)?;
        }
        ControlFlow::Continue(())
    }

    fn try_way(&mut self, first: usize, tag: Option<&Tag>) -> ControlFlow<End> {
        self.step()?;
        match (self.judge)(Way { tag: tag.map(Tag::as_str), digests: &self.digests[first..] }) {
            Ok(()) => ControlFlow::Break(End::Admitted),
            Err(by) => {
                self.refused.get_or_insert(by);
                ControlFlow::Continue(())
            }
        }
    }

    fn step(&mut self) -> ControlFlow<End> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return ControlFlow::Break(End::Tired),
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::oci::Algorithm;

    /// Tags and parents by digest, in words.
    struct Table(&'static [(&'static str, &'static [&'static str], &'static [&'static str])]);

    impl Records for Table {
        fn tags(&self, manifest: &Digest) -> Vec<Tag> {
            self.row(manifest).0.iter().map(|tag| tag.parse().unwrap()).collect()
        }

        fn parents(&self, child: &Digest) -> Vec<Digest> {
            self.row(child).1.iter().map(|parent| digest(parent)).collect()
        }
    }

    impl Table {
        fn row(&self, of: &Digest) -> (&[&str], &[&str]) {
            self.0.iter().find(|(name, ..)| digest(name) == *of).map_or((&[], &[]), |(_, tags, parents)| (*tags, *parents))
        }

        /// The ways to `content` that are tried, when none is admitted.
        fn ways(&self, content: &str) -> Vec<String> {
            let (ways, names) = (RefCell::new(Vec::new()), ["a", "b", "c", "d", "e", "f", "g"]);
            let name = |of: &Digest| names.into_iter().find(|name| digest(name) == *of).unwrap();
            let note = |way: Way<'_>| {
                let digests: String = way.digests.iter().map(name).collect();
                let way = format!("{}:{digests}", way.tag.unwrap_or_default());
                ways.borrow_mut().push(way.clone());
                Err(way.into())
            };
            let refused = reached(self, digest(content), &note).unwrap_err();
            assert_eq!(refused.as_deref(), ways.borrow().first().map(String::as_str));
            ways.into_inner()
        }
    }

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    #[test]
    fn every_way_is_tried_from_its_tag_down() {
        let image = Table(&[("a", &["v1", "v2"], &[]), ("b", &[], &["a"]), ("c", &["x"], &[]), ("d", &[], &["b", "c", "f"])]);
        assert_eq!(image.ways("a"), ["v1:a", "v2:a"]);
        assert_eq!(image.ways("b"), ["v1:ab", "v2:ab"]);
        assert_eq!(image.ways("d"), ["v1:abd", "v2:abd", "x:cd", ":fd"], "f was asked for by digest");
        assert_eq!(image.ways("e"), [":e"], "nothing is known of it");
    }

    #[test]
    fn a_manifest_may_have_a_tag_of_its_own_and_lie_in_an_index() {
        let both = Table(&[("a", &["all"], &[]), ("b", &["amd64"], &["a"]), ("c", &[], &["b"])]);
        assert_eq!(both.ways("c"), ["amd64:bc", "all:abc"]);
    }

    #[test]
    fn what_is_deeper_or_goes_round_counts_as_not_reached() {
        let deep = Table(&[
            ("a", &["v1"], &[]),
            ("b", &[], &["a"]),
            ("c", &[], &["b"]),
            ("d", &[], &["c"]),
            ("e", &[], &["d"]),
            ("f", &[], &["e"]),
        ]);
        assert_eq!(deep.ways("e"), ["v1:abcde"]);
        assert_eq!(deep.ways("f"), Vec::<String>::new());
        let ring = Table(&[("a", &[], &["b"]), ("b", &[], &["a"])]);
        assert_eq!(ring.ways("a"), Vec::<String>::new());
    }

    #[test]
    fn the_first_that_is_admitted_is_enough_and_there_is_an_end() {
        let image = Table(&[("a", &["v1", "v2"], &[]), ("b", &[], &["a"])]);
        let asked = Cell::new(0);
        let admits = |_: Way<'_>| {
            asked.set(asked.get() + 1);
            Ok(())
        };
        assert_eq!(reached(&image, digest("b"), &admits), Ok(()));
        assert_eq!(asked.get(), 1);

        struct Endless;
        impl Records for Endless {
            fn tags(&self, _: &Digest) -> Vec<Tag> {
                vec!["v1".parse().unwrap()]
            }
            fn parents(&self, child: &Digest) -> Vec<Digest> {
                (0..100).map(|n| digest(&format!("{child}{n}"))).collect()
            }
        }
        let steps = Cell::new(0);
        let denies = |_: Way<'_>| {
            steps.set(steps.get() + 1);
            Err("s".into())
        };
        assert_eq!(reached(&Endless, digest("a"), &denies), Err(Some("s".into())));
        assert!(steps.get() <= MOST_STEPS);
    }
}
