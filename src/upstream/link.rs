//! The next page of a list: `Link: <…>; rel="next"` (RFC 8288). Pure.

use http::HeaderMap;
use http::header::LINK;
use url::Url;

/// A next page's query longer than this is not followed.
const MAX_QUERY: usize = 4096;

/// The query of the next page of the list at `url`. Only the query is kept, and only from a link to the same origin: a page
/// is always asked for where the first one was. A page is not its own next one, and `ns` is left out: it would lead the client
/// to another of our registries.
pub(super) fn next(headers: &HeaderMap, url: &Url) -> Option<String> {
    let values = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = values.flat_map(links).find(|(_, parameters)| is_next(parameters))?.0;
    let next = url.join(target.trim()).ok()?;
    let query = next.query().filter(|query| query.len() <= MAX_QUERY && Some(*query) != url.query())?;
    let query = query.split('&').filter(|pair| !names_registry(pair)).collect::<Vec<_>>().join("&");
    (next.origin() == url.origin() && !query.is_empty()).then_some(query)
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

    fn query(value: &str) -> Option<String> {
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
            assert_eq!(query(value).as_deref(), Some("n=2&last=b"), "{value}");
        }
    }

    #[test]
    fn a_link_elsewhere_is_not_followed() {
        for value in [
            "",
            r#"<https://evil.test/v2/a/tags/list?n=2>; rel="next""#,
            r#"<http://r.test/v2/a/tags/list?n=2>; rel="next""#,
            r#"<//evil.test/x?n=2>; rel="next""#,
            r#"</v2/a/tags/list?n=2&last=b>; rel="last""#,
            r#"</v2/a/tags/list>; rel="next""#,
            r#"</v2/a?n=2; rel="next""#,
            r#"?n=2; rel="next""#,
            r#"<?n=2>; rel="next""#,
            r#"<?ns=evil.test>; rel="next""#,
        ] {
            assert_eq!(query(value), None, "{value}");
        }
        assert_eq!(query(&format!(r#"<?{}>; rel="next""#, "x".repeat(5000))), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in "[<>;,=\" a-z/?:&-]{0,80}") {
            let _ = query(&value);
        }
    }
}
