//! Patterns with `*`, `**` and `?`.
//!
//! A pattern is followed as a machine with one state per token, all of its states at once: the time is at most the length of
//! the text times that of the pattern, whatever somebody writes into either.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: Box<str>,
    /// So many of its bytes are in front of the first wildcard.
    start: usize,
    /// What comes after that; begins with a wildcard where it is not empty.
    rest: Box<[Token]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(char),
    /// One character that is no slash.
    One,
    /// One character.
    Any,
    /// Any text without a slash.
    Star,
    /// Any text.
    Stars,
}

impl Glob {
    /// A pattern in which a slash is like any other character: `*` and `**` stand for any text, `?` for one character.
    pub fn flat(text: &str) -> Self {
        Self::new(text, Token::Any, Token::Stars)
    }

    /// A pattern for paths: `*` stands for any text without a slash, `**` for any text, `?` for one character but a slash.
    pub fn path(text: &str) -> Self {
        Self::new(text, Token::One, Token::Star)
    }

    fn new(text: &str, one: Token, star: Token) -> Self {
        let start = text.find(['*', '?']).unwrap_or(text.len());
        let mut rest = Vec::new();
        for c in text[start..].chars() {
            match c {
                '*' if matches!(rest.last(), Some(Token::Star | Token::Stars)) => {
                    rest.pop();
                    rest.push(Token::Stars);
                }
                '*' => rest.push(star),
                '?' => rest.push(one),
                _ => rest.push(Token::Char(c)),
            }
        }
        Self { text: text.into(), start, rest: rest.into() }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text that everything it matches begins with.
    pub fn start(&self) -> &str {
        &self.text[..self.start]
    }

    /// The texts between its wildcards, which everything it matches has in it.
    pub fn literals(&self) -> Vec<String> {
        let mut found = vec![self.start().to_owned()];
        for token in &self.rest {
            match (token, found.last_mut()) {
                (Token::Char(c), Some(last)) => last.push(*c),
                _ => found.push(String::new()),
            }
        }
        found
    }

    /// Whether it matches but one text, its own.
    pub fn is_literal(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether it matches all of `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Some(tail) = text.strip_prefix(self.start()) else { return false };
        match *self.rest {
            [] => tail.is_empty(),
            [Token::Stars] => true,
            [Token::Star] => !tail.contains('/'),
            _ => accepts(&self.rest, tail.chars().map(Token::Char)),
        }
    }

    /// Whether it surely matches whatever `other` matches. That it does may go unseen.
    pub fn covers(&self, other: &Self) -> bool {
        let all: Vec<Token> = self.tokens().collect();
        accepts(&all, other.tokens())
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        self.start().chars().map(Token::Char).chain(self.rest.iter().copied())
    }
}

impl Token {
    /// Whether it stands for whatever `symbol` stands for, taken once.
    fn takes(self, symbol: Self) -> bool {
        let is_slash = matches!(symbol, Self::Char('/') | Self::Any | Self::Stars);
        let is_one = !symbol.repeats();
        match self {
            Self::Char(_) => self == symbol,
            Self::One => is_one && !is_slash,
            Self::Any => is_one,
            Self::Star => !is_slash,
            Self::Stars => true,
        }
    }

    fn repeats(self) -> bool {
        matches!(self, Self::Star | Self::Stars)
    }
}

fn accepts(tokens: &[Token], symbols: impl Iterator<Item = Token>) -> bool {
    // Short patterns have all their states in one word.
    if tokens.len() < WORD { States::<1>::run(tokens, symbols) } else { States::<LONGEST>::run(tokens, symbols) }
}

const WORD: usize = u64::BITS as usize;

/// In words, for patterns of up to 1023 characters.
const LONGEST: usize = 16;

/// Which tokens are next, a bit each, and one for the end.
struct States<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> States<WORDS> {
    fn run(tokens: &[Token], symbols: impl Iterator<Item = Token>) -> bool {
        // Longer ones cannot be configured; one that is too long matches nothing rather than anything.
        if tokens.len() >= WORDS * WORD {
            return false;
        }
        let mut now = Self([0; WORDS]);
        now.enter(tokens, 0);
        for symbol in symbols {
            now = now.step(tokens, symbol);
            if now.0 == [0; WORDS] {
                return false;
            }
        }
        now.0[tokens.len() / WORD] >> (tokens.len() % WORD) & 1 == 1
    }

    /// A token that may stand for nothing lets the next one in too.
    fn enter(&mut self, tokens: &[Token], mut at: usize) {
        self.0[at / WORD] |= 1 << (at % WORD);
        while tokens.get(at).is_some_and(|token| token.repeats()) {
            at += 1;
            self.0[at / WORD] |= 1 << (at % WORD);
        }
    }

    fn step(&self, tokens: &[Token], symbol: Token) -> Self {
        let mut next = Self([0; WORDS]);
        for (index, mut word) in self.0.into_iter().enumerate() {
            while word != 0 {
                let at = index * WORD + word.trailing_zeros() as usize;
                word &= word - 1;
                if let Some(token) = tokens.get(at).filter(|token| token.takes(symbol)) {
                    next.enter(tokens, if token.repeats() { at } else { at + 1 });
                }
            }
        }
        next
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a pattern means, said as plainly as possible.
    pub(crate) fn naive(pattern: &[char], text: &[char], slash: bool) -> bool {
        let Some(first) = pattern.first() else { return text.is_empty() };
        let is_free = |c: char| slash || c != '/';
        match first {
            '*' => {
                let run = pattern.iter().take_while(|c| **c == '*').count();
                let crosses = run > 1;
                let reach = if crosses { text.len() } else { text.iter().take_while(|c| is_free(**c)).count() };
                (0..=reach).any(|taken| naive(&pattern[run..], &text[taken..], slash))
            }
            '?' => text.first().is_some_and(|c| is_free(*c)) && naive(&pattern[1..], &text[1..], slash),
            c => text.first() == Some(c) && naive(&pattern[1..], &text[1..], slash),
        }
    }

    pub(crate) fn chars(text: &str) -> Vec<char> {
        text.chars().collect()
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        for (pattern, text, fits) in [
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/*", "a/", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", false),
            ("**/c", "a/b/c", true),
            ("*/b/*", "a/b/c", true),
            ("a?c", "a/c", false),
            ("a?c", "aéc", true),
            ("***", "a/b", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::path(pattern).matches(text), fits, "{pattern} {text}");
        }
        assert!(Glob::flat("spiffe://*/ns?x").matches("spiffe://a/b/ns/x"));
    }

    #[test]
    fn what_would_take_others_for_ever_is_done_at_once() {
        let pattern = Glob::path(&"**a*".repeat(128));
        assert!(!pattern.matches(&"a/".repeat(2000).replace("a/a/", "b/b/")));
        assert!(!Glob::path(&"?*".repeat(1000)).matches("a"), "too long to be followed");
    }

    #[test]
    fn one_pattern_covers_another() {
        for (wide, narrow, covers) in [
            ("ghcr.io/**", "ghcr.io/acme/*", true),
            ("ghcr.io/*", "ghcr.io/acme/*", false),
            ("**", "*/a?", true),
            ("ghcr.io/a*", "ghcr.io/a?b", true),
            ("ghcr.io/a?b", "ghcr.io/a*", false),
            ("a", "a", true),
            ("a*", "a", true),
            ("a", "a*", false),
            ("*a", "*", false),
        ] {
            assert_eq!(Glob::path(wide).covers(&Glob::path(narrow)), covers, "{wide} {narrow}");
        }
        assert!(Glob::flat("*").covers(&Glob::flat("?/*")) && !Glob::path("*").covers(&Glob::flat("?")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_matches_what_the_plain_meaning_does(pattern in "[ab/é*?]{0,9}", text in "[ab/é]{0,9}") {
            let (p, t) = (chars(&pattern), chars(&text));
            prop_assert_eq!(Glob::path(&pattern).matches(&text), naive(&p, &t, false), "path");
            prop_assert_eq!(Glob::flat(&pattern).matches(&text), naive(&p, &t, true), "flat");
        }

        #[test]
        fn short_and_long_machines_agree(pattern in "[ab/*?]{0,12}", text in "[ab/]{0,12}", pad in 60..200_usize) {
            let long = format!("?*{pattern}{}", "z".repeat(pad));
            let longer = format!("q{text}{}", "z".repeat(pad));
            let (p, t) = (chars(&format!("?*{pattern}")), chars(&format!("q{text}")));
            prop_assert_eq!(Glob::path(&long).matches(&longer), naive(&p, &t, false));
        }

        #[test]
        fn what_is_covered_is_matched(wide in "[ab/*?]{0,6}", narrow in "[ab/*?]{0,6}", text in "[ab/]{0,6}") {
            if Glob::path(&wide).covers(&Glob::path(&narrow)) && Glob::path(&narrow).matches(&text) {
                prop_assert!(Glob::path(&wide).matches(&text));
            }
        }
    }
}
