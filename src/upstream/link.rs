//! The next page of a list: `Link: <…>; rel="next"` (RFC 8288). Pure.

use http::HeaderMap;
use http::header::LINK;
use url::{Position, Url};

/// A next page's query longer than this is not followed.
const MAX_QUERY: usize = 4096;
/// What an upstream wrote is kept to this many characters in messages.
const MAX_PLACE: usize = 200;

/// The next page is said to be on this other origin, which is not asked: without it the list would pass for whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere(pub(super) String);

/// The query of the next page of the list at `url`. Only the query is kept, and only from a link to the same origin: a page
/// is always asked for where the first one was. A page is not its own next one, and `ns` is left out: it would lead the client
/// to another of our registries.
pub(super) fn next(headers: &HeaderMap, url: &Url) -> Result<Option<String>, Elsewhere> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = values.flat_map(links).find(|(_, parameters)| is_next(parameters));
    let Some(next) = target.and_then(|(target, _)| url.join(target.trim()).ok()) else { return Ok(None) };
    if next.origin() != url.origin() {
        let place = format!("{}://{}", next.scheme(), &next[Position::BeforeHost..Position::AfterPort]);
        return Err(Elsewhere(place.chars().take(MAX_PLACE).collect()));
    }
    let fit = |query: &&str| query.len() <= MAX_QUERY && Some(*query) != url.query();
    let Some(query) = next.query().filter(fit) else { return Ok(None) };
    let query = query.split('&').filter(|pair| !names_registry(pair)).collect::<Vec<_>>().join("&");
    Ok(Some(query).filter(|query| !query.is_empty()))
}

fn names_registry(pair: &str) -> bool {
    url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == "ns")
}

/// The links of one header value: target and parameters of each.
fn links(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let end = after.find('<').unwrap_or(after.len());
        rest = &after[end..];
        Some((target, &after[..end]))
    })
}

fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
        let words = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel") && words.split_whitespace().any(|word| word.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(value: &str) -> Result<Option<String>, Elsewhere> {
        let headers = HeaderMap::from_iter([(LINK, value.parse().unwrap())]);
        next(&headers, &"https://r.test/v2/a/tags/list?n=2".parse().unwrap())
    }

    #[test]
    fn the_next_page_is_found() {
        for value in [
            r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
            r#"<?n=2&last=b>; rel=next"#,
            r#"<https://r.test:443/v2/a/tags/list?n=2&last=b>;rel="prev next""#,
            r#"<?ns=evil.test&n=2&%6es=evil.test&last=b>; rel=next"#,
            r#"</x?y>; rel="prev", </v2/a/tags/list?n=2&last=b>; title="t"; Rel="NEXT""#,
        ] {
            assert_eq!(query(value).unwrap().as_deref(), Some("n=2&last=b"), "{value}");
        }
    }

    #[test]
    fn a_link_elsewhere_is_not_followed() {
        for (value, place) in [
            (r#"<https://evil.test/v2/a/tags/list?n=2>; rel="next""#, "https://evil.test"),
            (r#"<http://r.test/v2/a/tags/list?n=2>; rel="next""#, "http://r.test"),
            (r#"<//evil.test:8443/x?n=2>; rel="next""#, "https://evil.test:8443"),
            (r#"<file:///etc/passwd>; rel="next""#, "file://"),
        ] {
            assert_eq!(query(value), Err(Elsewhere(place.to_owned())), "{value}");
        }
    }

    #[test]
    fn what_is_no_next_page_is_none() {
        for value in [
            "",
            r#"</v2/a/tags/list?n=2&last=b>; rel="last""#,
            r#"</v2/a/tags/list>; rel="next""#,
            r#"</v2/a?n=2; rel="next""#,
            r#"?n=2; rel="next""#,
            r#"<?n=2>; rel="next""#,
            r#"<?ns=evil.test>; rel="next""#,
        ] {
            assert_eq!(query(value), Ok(None), "{value}");
        }
        assert_eq!(query(&format!(r#"<?{}>; rel="next""#, "x".repeat(5000))), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in "[<>;,=\" a-z/?:&-]{0,80}") {
            let _ = query(&value);
        }
    }
}
