//! The file of users, as `htpasswd -B` writes it: lines `name:hash`, and comments after `#`. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Flaw;

/// So many users may be in one file.
const MAX_USERS: usize = 10_000;
/// So many bytes may be in a name: it is part of every token.
pub(super) const MAX_NAME: usize = 128;
/// The highest cost that is taken. One more doubles the time; this one takes about a second of a processor.
const MAX_COST: u32 = 14;
const MIN_COST: u32 = 4;
/// What the cost is where nobody has chosen one: that of `htpasswd -B -C 10`.
const USUAL_COST: u32 = 10;

/// What a file says: users in its order, no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Htpasswd(Vec<(Box<str>, Hash)>);

/// A password's bcrypt hash. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    text: Box<str>,
    cost: u32,
}

impl Htpasswd {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line, from 1, with something wrong, and what.
    pub fn parse(text: &str) -> Result<Self, (usize, Flaw)> {
        let (mut users, mut lines) = (Vec::new(), HashMap::new());
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = user(line).map_err(|flaw| (number, flaw))?;
            match lines.entry(name) {
                Entry::Occupied(first) => return Err((number, Flaw::Twice { name: name.into(), first: *first.get() })),
                Entry::Vacant(free) => free.insert(number),
            };
            users.push((name.into(), hash));
            if users.len() > MAX_USERS {
                return Err((number, Flaw::TooMany));
            }
        }
        Ok(Self(users))
    }

    /// Names and hashes, in the file's order.
    pub fn users(&self) -> &[(Box<str>, Hash)] {
        &self.0
    }

    /// The same, to keep.
    pub(super) fn into_users(self) -> Vec<(Box<str>, Hash)> {
        self.0
    }
}

fn user(line: &str) -> Result<(&str, Hash), Flaw> {
    let (name, hash) = line.split_once(':').ok_or(Flaw::NoUser)?;
    if name.is_empty() || name.len() > MAX_NAME || name.trim() != name || name.contains(char::is_control) {
        return Err(Flaw::Name);
    }
    Ok((name, Hash::parse(hash)?))
}

impl Hash {
    /// Reads a hash: `$2a$`, `$2b$` or `$2y$`, two digits of cost, then salt and hash.
    ///
    /// # Errors
    /// Another scheme (told by its beginning), a cost that is not taken, or something that bcrypt did not write.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Err(Flaw::Scheme(scheme(text)));
        }
        let cost = text.get(4..6).filter(|cost| cost.bytes().all(|byte| byte.is_ascii_digit())).ok_or(Flaw::Damaged)?;
        text.parse::<bcrypt::HashParts>().map_err(|_| Flaw::Damaged)?;
        let cost = cost.parse().map_err(|_| Flaw::Damaged)?;
        if !(MIN_COST..=MAX_COST).contains(&cost) {
            return Err(Flaw::Cost(cost));
        }
        Ok(Self { text: text.into(), cost })
    }

    /// A hash that no password has and that takes as long to compare as the dearest of these: for users that do not exist.
    pub(super) fn of_nobody<'h>(others: impl IntoIterator<Item = &'h Self>) -> Self {
        let cost = others.into_iter().map(|hash| hash.cost).max().unwrap_or(USUAL_COST);
        Self { text: format!("$2b${cost:02}${}", ".".repeat(53)).into(), cost }
    }

    /// Whether this is the hash of `password`. Takes milliseconds to a second of a processor. As bcrypt has it, only the
    /// first 72 bytes count.
    pub fn fits(&self, password: &[u8]) -> bool {
        // A hash that was read cannot be refused, and what cannot be compared does not fit.
        bcrypt::verify(password, &self.text).unwrap_or(false)
    }

    /// Eight bytes that another hash does not have: another salt is enough to change them.
    pub(super) fn fingerprint(&self) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&Sha256::digest(self.text.as_bytes())[..8]);
        short
    }

    /// The 60 bytes of its text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a hash that is not bcrypt's seems to be. What it is made of is not told: it might be the password itself.
fn scheme(text: &str) -> &'static str {
    const KNOWN: [(&str, &str); 8] = [
        ("$apr1$", "apr1 (MD5)"),
        ("$1$", "MD5"),
        ("{SHA}", "SHA-1"),
        ("{SSHA}", "SHA-1"),
        ("$5$", "SHA-256"),
        ("$6$", "SHA-512"),
        ("$2x$", "a bcrypt with a known fault"),
        ("$argon2", "Argon2"),
    ];
    KNOWN.iter().find(|(prefix, _)| text.starts_with(prefix)).map_or("crypt(3), or not at all", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password is `secret`.
    const B: &str = "$2b$04$hj2Bx7iSyQzhVgalNf222uO8wKmP4BdHXtmsVxR8FnOBPHs063XjW";

    fn flaw(text: &str) -> (usize, String) {
        let (line, flaw) = Htpasswd::parse(text).unwrap_err();
        (line, flaw.to_string())
    }

    #[test]
    fn names_come_in_order_without_comments_and_blank_lines() {
        let text = format!("# ours\r\nci:{B}\r\n\n  \n\t# more\nalice@example.org:{}\nJürgen x:{B}", B.replace("$2b$", "$2y$"));
        let read = Htpasswd::parse(&text).unwrap();
        let names: Vec<&str> = read.users().iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["ci", "alice@example.org", "Jürgen x"]);
        assert!(Htpasswd::parse("").unwrap().users().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_what_stands_there() {
        let many: String = (0..=MAX_USERS).map(|n| format!("u{n}:{B}\n")).collect();
        for (text, line, told) in [
            ("hunter2", 1, "not a user"),
            (&*format!("\n# x\n:{B}"), 3, "not a name"),
            (&*format!("a\u{7}b:{B}"), 1, "not a name"),
            (&*format!("a :{B}"), 1, "not a name"),
            (&*format!("{}:{B}", "a".repeat(129)), 1, "not a name"),
            (&*format!("a:{B}\nb:{B}\na:{B}"), 3, "\"a\" stands on line 1 already"),
            ("a:$apr1$hunter2$x", 1, "hashed by apr1 (MD5), which is not taken; make the line anew with `htpasswd -B`"),
            ("a:{SHA}hunter2", 1, "SHA-1"),
            ("a:$6$hunter2", 1, "SHA-512"),
            (&*format!("a:{}", B.replace("$2b$", "$2x$")), 1, "a known fault"),
            ("a:hunter2", 1, "hashed by crypt(3), or not at all"),
            ("a:", 1, "crypt(3)"),
            (&*format!("a:{B}:hunter2"), 1, "damaged"),
            (&*format!("a:{}", &B[..59]), 1, "damaged"),
            (&*format!("a:{}", B.replace("$04$", "$+4$")), 1, "damaged"),
            (&*format!("a:{}", B.replace("$04$", "$15$")), 1, "a bcrypt cost of 15 is not taken"),
            (&*format!("a:{}", B.replace("$04$", "$03$")), 1, "a bcrypt cost of 3 is not taken"),
            (&*many, MAX_USERS + 1, "more than 10000"),
        ] {
            let (found, message) = flaw(text);
            let shown = &text[..text.len().min(40)];
            assert!(found == line && message.contains(told) && !message.contains("hunter"), "{shown}: {found}: {message}");
        }
    }

    #[test]
    fn a_password_fits_its_own_hash_in_each_dress_of_it() {
        for version in ["$2a$", "$2b$", "$2y$"] {
            let hash = Hash::parse(&B.replace("$2b$", version)).unwrap();
            assert!(hash.fits(b"secret"), "{version}");
            assert!(!hash.fits(b"Secret") && !hash.fits(b"") && !hash.fits(b"secret "), "{version}");
        }
    }

    #[test]
    fn nobody_has_a_good_hash_of_the_highest_cost() {
        let (four, five) = (Hash::parse(B).unwrap(), Hash::parse(&B.replace("$04$", "$05$")).unwrap());
        let nobody = Hash::of_nobody([&four, &five, &four]);
        assert_eq!(Hash::parse(std::str::from_utf8(nobody.as_bytes()).unwrap()).unwrap().cost, 5);
        assert!(!nobody.fits(b"") && !nobody.fits(b"secret"));
        assert_eq!(Hash::of_nobody([]).cost, USUAL_COST);
    }

    #[test]
    fn a_hash_is_not_printed() {
        let read = Htpasswd::parse(&format!("ci:{B}")).unwrap();
        assert_eq!(format!("{read:?}"), "Htpasswd([(\"ci\", ***)])");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_was_there(text in "(([a-c:# \t\r]{0,3}:)?(\\$2[abxy]\\$(04|15|1)\\$[./A-Za-z0-9]{0,55}|[$a-z{}:]{0,8})\n?){0,5}|.{0,200}") {
            if let Ok(read) = Htpasswd::parse(&text) {
                for (name, hash) in read.users() {
                    let line = format!("{name}:{}", std::str::from_utf8(hash.as_bytes()).unwrap());
                    proptest::prop_assert!(text.lines().any(|there| there.trim() == line), "{line}");
                }
            }
        }
    }
}
