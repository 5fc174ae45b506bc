//! What is left to be decided when it is known how content was reached.

use std::sync::Arc;

use super::resources::Truth;
use super::statement::Residue;
use crate::oci::Digest;

/// How much of a permit's target may be read: all that is asked for, or what was reached in certain ways.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Whatever the target's repository has under the name that was asked for.
    Whole,
    /// Depends on how the content was reached: `mirror` asks [`Limited::judge`] with each way it knows; one that is admitted
    /// suffices. Where it knows none it asks with the content's digest alone.
    Limited(Arc<Limited>),
}

/// What is left to be decided when it is known how content was reached: statements that are limited to tags or digests.
#[derive(Debug)]
pub struct Limited {
    pub(super) denies: Vec<Residue>,
    pub(super) allows: Vec<Residue>,
    /// What allows where none of these does; none: nothing.
    pub(super) base: Option<Arc<str>>,
    /// What refuses then.
    pub(super) default: Arc<str>,
}

/// One way to content: a tag, the manifest that it meant, what that names, and so on down to the content itself.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The tag that it began with; none where the first manifest was asked for by digest, or where that is not known.
    pub tag: Option<&'a str>,
    /// From the first manifest to the content itself, which is the last; never empty.
    pub digests: &'a [Digest],
}

impl Limited {
    /// The id of the statement by which content that was reached in this way may be read.
    ///
    /// # Errors
    /// It may not: the id of the statement that says so. What may have been reached by a tag that is denied is denied.
    pub fn judge(&self, way: Way<'_>) -> Result<&Arc<str>, &Arc<str>> {
        if let Some(deny) = self.denies.iter().find(|deny| deny.matches(&way) != Truth::No) {
            return Err(&deny.id);
        }
        let allow = || self.allows.iter().find(|allow| allow.matches(&way) == Truth::Yes).map(|allow| &allow.id);
        self.base.as_ref().or_else(allow).ok_or(&self.default)
    }
}
