//! What a client shows of itself: the `Authorization` field (RFC 9110 section 11.6.2, RFC 7617, RFC 6750). Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented<'h> {
    /// Nothing.
    Nothing,
    /// A user's name and password.
    Password(Login),
    /// A token.
    Token(Token<'h>),
    /// Something that is neither, or several things.
    Unreadable,
}

/// A user's name and password. Prints as `***`.
#[derive(PartialEq, Eq)]
pub struct Login {
    /// Name, colon, password. The name is text; neither has control characters.
    bytes: Vec<u8>,
    colon: usize,
}

/// A token as it was sent. Prints as `***`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'h>(pub(super) &'h str);

impl<'h> Presented<'h> {
    /// Reads the one `Authorization` field.
    pub fn read(headers: &'h HeaderMap) -> Self {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        match (fields.next(), fields.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => value.to_str().map_or(Self::Unreadable, Self::parse),
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }

    fn parse(value: &'h str) -> Self {
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("basic") {
            Login::parse(rest).map_or(Self::Unreadable, Self::Password)
        } else if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            Self::Token(Token(rest))
        } else {
            Self::Unreadable
        }
    }
}

impl Login {
    fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let good = !bytes.iter().any(u8::is_ascii_control) && std::str::from_utf8(&bytes[..colon]).is_ok();
        good.then_some(Self { bytes, colon })
    }

    /// The name that was given, which may be empty.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.colon]).unwrap_or_default()
    }

    pub(super) fn password(&self) -> &[u8] {
        &self.bytes[self.colon + 1..]
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(login: &str) -> String {
        format!("Basic {}", STANDARD.encode(login))
    }

    fn login(value: &str) -> Option<(String, Vec<u8>)> {
        match Presented::parse(value) {
            Presented::Password(login) => Some((login.name().to_owned(), login.password().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn names_and_passwords_are_read() {
        for (text, name, password) in [
            ("ci:secret", "ci", "secret"),
            ("ci:", "ci", ""),
            (":", "", ""),
            ("ci:a:b c", "ci", "a:b c"),
            ("Jürgen:pässe", "Jürgen", "pässe"),
        ] {
            assert_eq!(login(&basic(text)), Some((name.to_owned(), password.into())), "{text}");
        }
        assert_eq!(login("bAsIc  Y2k6c2VjcmV0 "), Some(("ci".to_owned(), b"secret".to_vec())));
    }

    #[test]
    fn tokens_are_read() {
        assert_eq!(Presented::parse("Bearer abc"), Presented::Token(Token("abc")));
        assert_eq!(Presented::parse("bearer  abc"), Presented::Token(Token("abc")));
    }

    #[test]
    fn what_is_neither_is_not_taken_for_nothing() {
        let odd = [
            basic("ci"),
            basic("c\ni:x"),
            basic("ci:\0"),
            "Basic".to_owned(),
            "Basic !".to_owned(),
            "Basic Y2k6".to_owned() + "==",
        ];
        for value in
            odd.iter().map(String::as_str).chain(["", "Bearer", "Bearer ", "Negotiate abc", "Digest x=\"y\"", "Basic\tY2k6"])
        {
            assert_eq!(Presented::parse(value), Presented::Unreadable, "{value}");
        }
        let latin = format!("Basic {}", STANDARD.encode(b"J\xfcrgen:x"));
        assert_eq!(Presented::parse(&latin), Presented::Unreadable);
    }

    #[test]
    fn only_one_field_is_taken() {
        let mut headers = HeaderMap::new();
        assert_eq!(Presented::read(&headers), Presented::Nothing);
        headers.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(Presented::read(&headers), Presented::Token(Token("a")));
        headers.append(AUTHORIZATION, "Bearer a".parse().unwrap());
        assert_eq!(Presented::read(&headers), Presented::Unreadable);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let (first, second) = (basic("ci:hunter2"), "Bearer hunter2");
        for value in [first.as_str(), second] {
            let shown = format!("{:?}", Presented::parse(value));
            assert!(shown.contains("***") && !shown.contains("hunter") && !shown.contains("104"), "{shown}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(value in "((?i)basic|bearer)? ?[ -~]{0,60}", login in "\\PC{0,20}") {
            let _ = format!("{:?}", Presented::parse(&value));
            let value = basic(&login);
            if let Presented::Password(read) = Presented::parse(&value) {
                proptest::prop_assert_eq!(login, format!("{}:{}", read.name(), String::from_utf8_lossy(read.password())));
            }
        }
    }
}
