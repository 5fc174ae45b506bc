//! `WWW-Authenticate` (RFC 9110 section 11.6.1; the registry token protocol, fact sheet section 7).

/// One challenge of a 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Send user name and password.
    Basic,
    /// Fetch a token from `realm` first.
    Bearer {
        /// Where tokens are given out, as the upstream wrote it.
        realm: String,
        /// Who the token is for.
        service: Option<String>,
        /// What the token must allow, scopes separated by spaces.
        scope: Option<String>,
    },
}

/// All challenges of one answer that this proxy can meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenges(Vec<Challenge>);

/// An upstream's challenge longer than this is not read.
const MAX_CHALLENGE: usize = 8192;

impl Challenges {
    /// Reads the values of all `WWW-Authenticate` headers. Unknown schemes and malformed rests are passed over.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Vec::new();
        for value in values {
            if value.len() <= MAX_CHALLENGE {
                parse_value(value, &mut found);
            }
        }
        Self(found)
    }

    /// The challenge to meet: Bearer before Basic, as containerd prefers.
    pub fn preferred(&self) -> Option<&Challenge> {
        self.0.iter().find(|c| matches!(c, Challenge::Bearer { .. })).or_else(|| self.0.first())
    }
}

#[derive(Default)]
struct Open {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Open {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.parameters.iter().position(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(self.parameters.swap_remove(at).1)
    }

    fn close(mut self, found: &mut Vec<Challenge>) {
        if self.scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if self.scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = self.take("realm")
        {
            found.push(Challenge::Bearer { realm, service: self.take("service"), scope: self.take("scope") });
        }
    }
}

/// A word followed by `=` is a parameter of the challenge that is open; any other word opens the next one.
fn parse_value(value: &str, found: &mut Vec<Challenge>) {
    let mut open = Open::default();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            Some(after) => {
                let Some((parameter, after)) = parameter_value(after.trim_start()) else { break };
                open.parameters.push((word.to_owned(), parameter));
                rest = after;
            }
            None => {
                std::mem::replace(&mut open, Open { scheme: word.to_owned(), ..Open::default() }).close(found);
                rest = after;
            }
        }
    }
    open.close(found);
}

fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned), scope: scope.map(str::to_owned) }
    }

    #[test]
    fn reads_what_registries_send() {
        for (value, challenge) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:library/busybox:pull")),
            ),
            (r#"bearer REALM="r", error="invalid_token""#, bearer("r", None, None)),
            (r#"Bearer realm=https://x/y"#, bearer("https://x/y", None, None)),
            (r#"Bearer realm="a\"b\\c", service = "s""#, bearer("a\"b\\c", Some("s"), None)),
            (r#"Basic realm="e2e""#, Challenge::Basic),
            ("Basic", Challenge::Basic),
            (r#"Basic realm="x", Bearer realm="y",service="a,b""#, bearer("y", Some("a,b"), None)),
            (r#"Digest realm="d", nonce="n", Basic realm="b""#, Challenge::Basic),
        ] {
            assert_eq!(Challenges::parse([value]).preferred(), Some(&challenge), "{value}");
        }
    }

    #[test]
    fn passes_over_what_it_cannot_meet() {
        for value in ["", "Negotiate", "Bearer", r#"Bearer service="x""#, r#"Bearer realm="unclosed"#, "===", "\"\""] {
            assert_eq!(Challenges::parse([value]).preferred(), None, "{value}");
        }
        let long = format!("Bearer realm=\"{}\"", "x".repeat(10_000));
        assert_eq!(Challenges::parse([long.as_str()]).preferred(), None);
    }

    #[test]
    fn several_headers_are_one_list() {
        assert_eq!(Challenges::parse(["Basic", "Bearer realm=r"]).preferred(), Some(&bearer("r", None, None)));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in ".{0,200}") {
            let _ = Challenges::parse([value.as_str()]);
        }
    }
}
