//! Rust source made ready for searching: comments and literals blanked out in place, so that offsets and lines stay.

use std::ops::Range;
use std::path::Path;

pub struct Source {
    code: String,
    strings: Vec<(usize, String)>,
    tests: Vec<Range<usize>>,
}

/// All `.rs` files below `folder`, by their path from `root` with `/` between.
pub fn read_all(root: &Path, folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(read_all(root, &path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let parts: Vec<_> = path.strip_prefix(root).unwrap().iter().map(|part| part.to_string_lossy()).collect();
            files.push((parts.join("/"), std::fs::read_to_string(&path).unwrap()));
        }
    }
    files
}

impl Source {
    pub fn new(text: &str) -> Self {
        let (code, strings) = blank(text);
        let tests = code.match_indices("#[cfg(test)]").map(|(at, _)| at..item_end(&code, at)).collect();
        Self { code, strings, tests }
    }

    pub fn lines(&self) -> usize {
        self.code.lines().count()
    }

    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The modules that `#[cfg(test)] mod name;` puts beside this one, whose own path is `stem`.
    pub fn test_modules(&self, stem: &str) -> Vec<String> {
        let items = self.tests.iter().filter_map(|range| self.code[range.clone()].strip_suffix(';'));
        items.filter_map(|item| item.rsplit_once("mod ")).map(|(_, name)| format!("{stem}/{}", name.trim())).collect()
    }

    /// What follows each `prefix` (`crate::`), tests included: the name, or each first name of a `{group}`.
    pub fn after(&self, prefix: &str) -> Vec<(usize, String)> {
        let starts = self.code.match_indices(prefix).filter(|(at, _)| !ends_in_word(&self.code[..*at]));
        starts.flat_map(|(at, _)| firsts(&self.code[at + prefix.len()..]).into_iter().map(move |name| (at, name))).collect()
    }

    /// What follows chains of `super::` that may reach the crate's root from a module `depth` below it.
    pub fn climbs(&self, depth: usize) -> Vec<(usize, String)> {
        self.after(&"super::".repeat(depth)).into_iter().filter(|(_, name)| name != "super").collect()
    }

    /// Where `word` stands outside of tests, as a whole word or (ending in `*`) as the beginning of one.
    pub fn words(&self, word: &str) -> Vec<usize> {
        let (word, whole) = word.strip_suffix('*').map_or((word, true), |start| (start, false));
        let inside = |at: usize| ends_in_word(&self.code[..at]) || (whole && starts_with_word(&self.code[at + word.len()..]));
        self.code.match_indices(word).map(|(at, _)| at).filter(|at| !inside(*at) && !self.in_test(*at)).collect()
    }

    /// String literals outside of tests, without their quotes.
    pub fn strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings.iter().filter(|(at, _)| !self.in_test(*at)).map(|(at, text)| (*at, text.as_str()))
    }

    /// Where outside of tests a struct of this name is made: `Name {` that is no definition, `impl` or return type.
    pub fn literals_of(&self, name: &str) -> Vec<usize> {
        let opens = |at: &usize| self.code[at + name.len()..].trim_start().starts_with('{');
        let before = |at: usize| self.code[..at].trim_end();
        let other = |at: usize| ["struct", "impl", "for", "->"].iter().any(|word| before(at).ends_with(word));
        self.words(name).into_iter().filter(opens).filter(|at| !other(*at)).collect()
    }

    fn in_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn starts_with_word(text: &str) -> bool {
    text.starts_with(is_word)
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(is_word)
}

/// The name that `text` begins with, or the first names of the group it begins with.
fn firsts(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else { return vec![first(text)] };
    let (mut to_end, mut depth) = (0, 0);
    let end = group.find(|c| closes(c, &mut to_end)).unwrap_or(group.len());
    let separates = |c| {
        closes(c, &mut depth);
        c == ',' && depth == 0
    };
    group[..end].split(separates).map(|part| first(part.trim_start())).filter(|name| !name.is_empty()).collect()
}

fn first(text: &str) -> String {
    if text.starts_with('*') { "*".to_owned() } else { text.chars().take_while(|c| is_word(*c)).collect() }
}

/// Counts braces; true at the one that closes more than was opened.
fn closes(c: char, depth: &mut i32) -> bool {
    *depth += i32::from(c == '{') - i32::from(c == '}');
    *depth < 0
}

/// Where the item that starts at `at` ends: after its `;`, or after the brace that closes its block.
fn item_end(code: &str, at: usize) -> usize {
    let Some(open) = code[at..].find(['{', ';']).map(|offset| at + offset) else { return code.len() };
    if code[open..].starts_with(';') {
        return open + 1;
    }
    let mut depth = 0;
    code[open + 1..].find(|c| closes(c, &mut depth)).map_or(code.len(), |offset| open + 1 + offset + 1)
}

enum Token {
    Code,
    Comment,
    /// A literal; so many bytes of quoting before and after its text.
    Literal(usize, usize),
}

fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let (mut code, mut strings, mut at) = (String::with_capacity(text.len()), Vec::new(), 0);
    while at < text.len() {
        let (token, length) = token(&text[at..], ends_in_word(&text[..at]));
        let piece = &text[at..at + length];
        match token {
            Token::Code => code.push_str(piece),
            Token::Comment => spaces(&mut code, piece),
            Token::Literal(before, after) => {
                strings.push((at, piece[before..piece.len().saturating_sub(after).max(before)].to_owned()));
                spaces(&mut code, piece);
            }
        }
        at += length;
    }
    (code, strings)
}

fn spaces(code: &mut String, piece: &str) {
    code.extend(piece.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

fn token(rest: &str, in_word: bool) -> (Token, usize) {
    if rest.starts_with("//") {
        return (Token::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Token::Comment, comment_end(rest));
    }
    if let Some(open) = raw_opening(rest).filter(|_| !in_word) {
        let close = format!("\"{}", "#".repeat(rest[..open].matches('#').count()));
        let end = rest[open..].find(&close).map_or(rest.len(), |offset| open + offset + close.len());
        return (Token::Literal(open, close.len()), end);
    }
    match rest.chars().next() {
        Some('"') => (Token::Literal(1, 1), quoted_end(rest, '"')),
        Some('\'') if is_char_literal(rest) => (Token::Literal(1, 1), quoted_end(rest, '\'')),
        c => (Token::Code, c.map_or(1, char::len_utf8)),
    }
}

/// The length of `r"`, `br##"` and their like.
fn raw_opening(rest: &str) -> Option<usize> {
    let hashed = rest.strip_prefix("br").or(rest.strip_prefix('r'))?;
    let text = hashed.trim_start_matches('#').strip_prefix('"')?;
    Some(rest.len() - text.len())
}

/// Tells `'x'` and `'\n'` from a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn quoted_end(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let closes = |(_, c): &(usize, char)| {
        let end = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        end
    };
    rest.char_indices().skip(1).find(closes).map_or(rest.len(), |(at, _)| at + 1)
}

fn comment_end(rest: &str) -> usize {
    let (mut depth, mut at) = (1, 2);
    while depth > 0 && at < rest.len() {
        let step = if rest[at..].starts_with("/*") {
            depth += 1;
            2
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        at += step;
    }
    at.min(rest.len())
}
