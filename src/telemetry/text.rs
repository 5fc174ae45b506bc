//! What strangers wrote, as it may stand in a log: short, on one line, and without what may be a secret.

use std::borrow::Cow;

/// What a stranger wrote is kept to this many characters in logs.
const MAX_TEXT: usize = 512;

/// The query's parameters that the protocol has. Any other may be a password or a signature.
const PARAMETERS: [&str; 4] = ["ns", "n", "last", "artifactType"];

/// Stands in for the parameters that are left out.
const LEFT_OUT: &str = "...";

/// Whether a byte of `text` is `odd`. Looks at sixteen at once, without a way out among them.
pub(super) fn has(text: &str, odd: impl Fn(u8) -> bool) -> bool {
    let (pieces, rest) = text.as_bytes().as_chunks::<16>();
    let in_piece = |piece: &[u8; 16]| piece.iter().fold(false, |any, byte| any | odd(*byte));
    pieces.iter().any(in_piece) || rest.iter().any(|byte| odd(*byte))
}

/// `text`, shortened, without what could break a line.
pub(super) fn printable(text: &str) -> String {
    if text.len() <= MAX_TEXT && !has(text, |byte| !(b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A method, shortened. Those that are asked for are not copied.
pub(super) fn method(method: &str) -> Cow<'static, str> {
    match method {
        "GET" => "GET".into(),
        "HEAD" => "HEAD".into(),
        _ => printable(method).into(),
    }
}

/// The beginning of `text` that is no longer than what is kept.
pub(super) fn shortened(text: &str) -> &str {
    if text.len() <= MAX_TEXT {
        return text;
    }
    text.char_indices().nth(MAX_TEXT).map_or(text, |(end, _)| &text[..end])
}

/// A request's target without what may be a secret: the path, and of the query the parameters that the protocol has. `-`
/// stands for any other form, in which a name and password may stand in front of a host.
pub(super) fn target(raw: &str) -> String {
    if raw != "*" && !raw.starts_with('/') {
        return "-".to_owned();
    }
    if !has(raw, |byte| (byte == b'?') | (byte == b'#')) {
        return printable(raw);
    }
    let whole = if has(raw, |byte| byte == b'#') { raw.split('#').next().unwrap_or_default() } else { raw };
    let Some((path, query)) = whole.split_once('?') else { return printable(whole) };
    if query.split('&').all(is_known) {
        return printable(whole);
    }
    let mut kept: Vec<&str> = query.split('&').filter(|pair| is_known(pair)).collect();
    kept.push(LEFT_OUT);
    printable(&format!("{path}?{}", kept.join("&")))
}

/// Whether this is a parameter of the protocol, and no second query hides in its value.
fn is_known(pair: &str) -> bool {
    pair.split_once('=').is_some_and(|(key, value)| PARAMETERS.contains(&key) && !value.contains(['=', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_query_only_what_the_protocol_has_is_kept() {
        for (raw, logged) in [
            ("/v2/a/manifests/x", "/v2/a/manifests/x"),
            ("/v2/a/tags/list?n=5&last=b&ns=docker.io", "/v2/a/tags/list?n=5&last=b&ns=docker.io"),
            ("/v2/a/referrers/d?artifactType=x%2Fy", "/v2/a/referrers/d?artifactType=x%2Fy"),
            ("/token?account=u&password=hunter2&service=x", "/token?..."),
            ("/v2/?ns=docker.io&X-Amz-Signature=hunter2", "/v2/?ns=docker.io&..."),
            ("/v2/?hunter2", "/v2/?..."),
            ("/v2/?N=hunter2&n%73=hunter2&=hunter2", "/v2/?..."),
            ("/v2/?n=1?password=hunter2", "/v2/?..."),
            ("/v2/#token=hunter2", "/v2/"),
            ("http://user:hunter2@host:1/v2/?ns=a", "-"),
            ("user:hunter2@host:443", "-"),
            ("*", "*"),
            ("-", "-"),
        ] {
            assert_eq!(target(raw), logged, "{raw}");
        }
    }

    #[test]
    fn a_long_or_odd_text_is_cut_and_cleaned() {
        assert_eq!(printable("a\r\nb\u{7f}é"), "a\u{fffd}\u{fffd}b\u{fffd}é");
        assert_eq!(printable(&"é".repeat(600)), "é".repeat(MAX_TEXT));
        assert_eq!(shortened(&"é".repeat(600)), "é".repeat(MAX_TEXT));
        assert_eq!(shortened("short"), "short");
        for length in 0..50 {
            let text = "a".repeat(length);
            assert_eq!(printable(&text), text);
            for place in 0..length {
                let mut text = text.clone();
                text.replace_range(place..=place, "\n");
                assert_eq!(printable(&text), text.replace('\n', "\u{fffd}"));
            }
        }
        assert_eq!(target(&format!("/v2/?ns={}", "a".repeat(600))).len(), MAX_TEXT);
    }
}
