//! The path and query of a data request: a small parser for what strangers send.

use std::borrow::Cow;
use std::str::Utf8Error;

use percent_encoding::percent_decode_str;

use crate::oci::{Digest, DigestError, NameError, Reference, RepositoryName, Tag};

/// What a path asks for, before it is known which registry is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// `/v2/`: does this speak the protocol?
    Ping,
    /// Something in a repository. The name may begin with a registry's.
    Of(&'a str, What),
}

impl<'a> Asked<'a> {
    /// The repository's name as it was sent.
    pub(super) fn repository(&self) -> Option<&'a str> {
        match *self {
            Self::Ping => None,
            Self::Of(name, _) => Some(name),
        }
    }
}

/// Which thing in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Manifest(Reference),
    Blob(Digest),
    Tags,
    Referrers(Digest),
}

/// Why a path asks for nothing that is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("there is nothing at this path: the registry API is at /v2/")]
    NoSuchPath,
    #[error("{0}")]
    Name(NameError),
    #[error("{0}")]
    Digest(DigestError),
    /// The specification wants 404, not 400, for what cannot be a reference (its conformance suite checks it).
    #[error("no manifest can have this reference: {0}")]
    Reference(NameError),
}

/// A registry's name and a repository's fit in this many bytes, with the words between them.
const MAX_PATH: usize = 1024;

/// Reads a raw path, as it stood in the request line.
pub(super) fn parse(path: &str) -> Result<Asked<'_>, PathError> {
    if path.len() > MAX_PATH {
        return Err(PathError::Name(NameError::Repository));
    }
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Asked::Ping),
        Some(rest) => rest.strip_prefix('/').ok_or(PathError::NoSuchPath)?,
        None => return Err(PathError::NoSuchPath),
    };
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return of(name, What::Tags);
    }
    let (front, last) = rest.rsplit_once('/').ok_or(PathError::NoSuchPath)?;
    let (name, kind) = front.rsplit_once('/').ok_or(PathError::NoSuchPath)?;
    let last = decoded(last).map_err(|_| PathError::Reference(NameError::Tag))?;
    match kind {
        "manifests" => of(name, What::Manifest(reference(&last)?)),
        "blobs" => of(name, What::Blob(digest(&last)?)),
        "referrers" => of(name, What::Referrers(digest(&last)?)),
        _ => Err(PathError::NoSuchPath),
    }
}

/// Most have nothing that would have to be decoded.
fn decoded(text: &str) -> Result<Cow<'_, str>, Utf8Error> {
    if text.contains('%') { percent_decode_str(text).decode_utf8() } else { Ok(Cow::Borrowed(text)) }
}

/// The name is checked as a whole here, apart from what can only stand in a registry's name; the rest is checked once the
/// registry's part is off.
fn of(name: &str, what: What) -> Result<Asked<'_>, PathError> {
    let good = !name.is_empty()
        && name.as_bytes().split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'[' | b']'));
    if good { Ok(Asked::Of(name, what)) } else { Err(PathError::Name(NameError::Repository)) }
}

fn reference(text: &str) -> Result<Reference, PathError> {
    // A tag never has a colon, a digest always does.
    if text.contains(':') {
        return digest(text).map(Reference::Digest);
    }
    text.parse::<Tag>().map(Reference::Tag).map_err(PathError::Reference)
}

fn digest(text: &str) -> Result<Digest, PathError> {
    text.parse().map_err(PathError::Digest)
}

/// The repository's own name, once the registry's is off.
pub(super) fn repository(name: &str) -> Result<RepositoryName, PathError> {
    name.parse().map_err(PathError::Name)
}

/// The parameters of a query that are known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query<'q> {
    /// The registry that the client would have asked without us.
    pub(super) ns: Option<Cow<'q, str>>,
    /// Tags: how many.
    pub(super) n: Option<u32>,
    /// Tags: after which.
    pub(super) last: Option<String>,
    /// Referrers: of which type.
    pub(super) artifact_type: Option<String>,
    /// All but `ns`.
    pub(super) rest: String,
    /// Whether there is a parameter that only the upstream knows, as in its links to further pages.
    pub(super) foreign: bool,
}

/// Why a query cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    #[error("the query names {0} more than once")]
    Repeated(&'static str),
    #[error("the query's n is not a number")]
    Number,
    #[error("the query is longer than 4096 bytes")]
    TooLong,
}

/// More entries of a list than this are given page by page.
const MOST_ENTRIES: u32 = 1000;
const MAX_QUERY: usize = 4096;

impl<'q> Query<'q> {
    /// Reads a raw query. Unknown parameters are kept for the upstream.
    pub(super) fn parse(query: Option<&'q str>) -> Result<Self, QueryError> {
        let query = query.unwrap_or_default();
        if query.len() > MAX_QUERY {
            return Err(QueryError::TooLong);
        }
        let mut read = Self::default();
        let mut rest = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "ns" => {
                    once("ns", &mut read.ns, value)?;
                    continue;
                }
                "n" => {
                    let n = value.parse::<u64>().map_err(|_| QueryError::Number)?;
                    once("n", &mut read.n, u32::try_from(n).unwrap_or(MOST_ENTRIES).min(MOST_ENTRIES))?;
                }
                "last" => once("last", &mut read.last, value.to_string())?,
                "artifactType" => once("artifactType", &mut read.artifact_type, value.to_string())?,
                _ => read.foreign = true,
            }
            rest.append_pair(&key, &value);
        }
        read.rest = rest.finish();
        Ok(read)
    }
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), QueryError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::Repeated(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_every_path_that_is_served() {
        let digest: Digest = D.parse().unwrap();
        for (path, asked) in [
            ("/v2".to_owned(), Asked::Ping),
            ("/v2/".to_owned(), Asked::Ping),
            ("/v2/a/manifests/latest".to_owned(), Asked::Of("a", What::Manifest(Reference::Tag("latest".parse().unwrap())))),
            (format!("/v2/a/b/manifests/{D}"), Asked::Of("a/b", What::Manifest(Reference::Digest(digest)))),
            (format!("/v2/ghcr.io:443/a/blobs/{D}"), Asked::Of("ghcr.io:443/a", What::Blob(digest))),
            (format!("/v2/a/blobs/{}", D.replace(':', "%3A")), Asked::Of("a", What::Blob(digest))),
            ("/v2/a/b/tags/list".to_owned(), Asked::Of("a/b", What::Tags)),
            (format!("/v2/a/referrers/{D}"), Asked::Of("a", What::Referrers(digest))),
            // A repository may be called like the words between.
            (format!("/v2/manifests/blobs/blobs/{D}"), Asked::Of("manifests/blobs", What::Blob(digest))),
            ("/v2/tags/list/tags/list".to_owned(), Asked::Of("tags/list", What::Tags)),
        ] {
            assert_eq!(parse(&path), Ok(asked), "{path}");
        }
    }

    #[test]
    fn refuses_what_strangers_try() {
        let long = format!("/v2/{}/tags/list", "a".repeat(10_000));
        for (path, error) in [
            ("/", PathError::NoSuchPath),
            ("/v1/", PathError::NoSuchPath),
            ("/v2foo", PathError::NoSuchPath),
            ("/v2/_catalog", PathError::NoSuchPath),
            ("/v2/a/uploads/x", PathError::NoSuchPath),
            ("/v2/../../etc/passwd/tags/list", PathError::Name(NameError::Repository)),
            ("/v2/a/%2e%2e/tags/list", PathError::Name(NameError::Repository)),
            ("/v2/a%2fb/tags/list", PathError::Name(NameError::Repository)),
            ("/v2/a\0b/tags/list", PathError::Name(NameError::Repository)),
            ("/v2//tags/list", PathError::Name(NameError::Repository)),
            ("/v2/a//b/tags/list", PathError::Name(NameError::Repository)),
            (long.as_str(), PathError::Name(NameError::Repository)),
            ("/v2/a/manifests/.INVALID_MANIFEST_NAME", PathError::Reference(NameError::Tag)),
            ("/v2/a/manifests/%2e%2e", PathError::Reference(NameError::Tag)),
            ("/v2/a/manifests/a%2fb", PathError::Reference(NameError::Tag)),
            ("/v2/a/manifests/%ff", PathError::Reference(NameError::Tag)),
            ("/v2/a/manifests/sha256:totallywrong", PathError::Digest(DigestError::Hex)),
            ("/v2/a/blobs/latest", PathError::Digest(DigestError::Form)),
            ("/v2/a/blobs/md5:00", PathError::Digest(DigestError::Algorithm)),
        ] {
            assert_eq!(parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn reads_queries() {
        let query = Query::parse(Some("ns=docker.io&n=5&last=a%20b&artifactType=x%2Fy&token=t")).unwrap();
        assert_eq!(query.ns.as_deref(), Some("docker.io"));
        assert_eq!((query.n, query.last.as_deref()), (Some(5), Some("a b")));
        assert_eq!(query.artifact_type.as_deref(), Some("x/y"));
        assert_eq!((query.rest.as_str(), query.foreign), ("n=5&last=a+b&artifactType=x%2Fy&token=t", true));
        assert!(!Query::parse(Some("ns=a&n=1&artifactType=b")).unwrap().foreign);
        assert_eq!(Query::parse(None), Ok(Query::default()));
        assert_eq!(Query::parse(Some("n=99999999999")).unwrap().n, Some(1000));
        assert_eq!(Query::parse(Some("ns=a&ns=b")), Err(QueryError::Repeated("ns")));
        assert_eq!(Query::parse(Some("n=-1")), Err(QueryError::Number));
        assert_eq!(Query::parse(Some(&"x".repeat(5000))), Err(QueryError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn what_is_let_through_is_harmless(path in "/v2/[a-z./%:0-9\\\\]{0,60}(/manifests/|/blobs/|/tags/list)[a-z./%:0-9]{0,20}") {
            if let Ok(Asked::Of(name, _)) = parse(&path) {
                proptest::prop_assert!(!name.contains("..") || repository(name).is_err());
                proptest::prop_assert!(!name.contains('%') && !name.contains('\\'));
            }
        }

        #[test]
        fn never_panics(path in ".{0,200}", query in ".{0,200}") {
            let _ = parse(&path);
            let _ = Query::parse(Some(&query));
        }
    }
}
