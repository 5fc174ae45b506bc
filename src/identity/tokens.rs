//! Tokens of our own: a user's name, or nobody's, under a signature that only this process can make.
//!
//! They are opaque to clients, good for one listener and a short time, and hold only as long as the user's line in the file
//! stays as it was. None survives the process: whoever shows one then is answered 401 and fetches another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::htpasswd::MAX_NAME;
use super::key::{CODE, Key};
use super::presented::Token;
use super::{User, Users};

/// How long a token is good for: 5 min. Clients fetch another by themselves.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// What is signed begins with: form (1 byte), seconds of issue and of expiry (4 each), fingerprint of the hash (8), length of
/// the name (1). Then come the name and, signed but not sent, the listener's.
const FORM: u8 = 1;
const FIXED: usize = 18;
const MAX_TOKEN: usize = FIXED + MAX_NAME + CODE;

/// Issues tokens and tells whether one was issued here. Lives as long as the process.
pub struct Tokens {
    key: Key,
    /// What a token's times are counted from, so that a clock that is set changes nothing.
    epoch: Instant,
}

/// Whom a token is good for.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'u> {
    /// Whoever does not want to be known.
    Anonymous,
    /// A user.
    User(&'u Arc<User>),
}

impl Tokens {
    /// With a key of its own. `now` is the beginning of its time.
    pub fn new(now: Instant) -> Self {
        Self { key: Key::random(), epoch: now }
    }

    /// A token for `holder` on `listener`, good for [`TOKEN_LIFETIME`] from `now` on.
    pub fn issue(&self, holder: Holder<'_>, listener: &str, now: Instant) -> String {
        let (name, fingerprint) = match holder {
            Holder::Anonymous => ("", [0; 8]),
            Holder::User(user) => (&*user.name, user.fingerprint),
        };
        let issued = self.seconds(now);
        let expires = issued.saturating_add(u32::try_from(TOKEN_LIFETIME.as_secs()).unwrap_or(u32::MAX));
        let mut bytes = Vec::with_capacity(MAX_TOKEN);
        bytes.push(FORM);
        bytes.extend(issued.to_be_bytes());
        bytes.extend(expires.to_be_bytes());
        bytes.extend(fingerprint);
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend(name.as_bytes());
        bytes.extend(self.key.code([&bytes, listener.as_bytes()]));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whom `token` is good for, on `listener` and at `now`: nobody where it has expired, was issued elsewhere, or the user is
    /// no more what it was then.
    pub fn holder<'u>(&self, token: Token<'_>, users: &'u Users, listener: &str, now: Instant) -> Option<Holder<'u>> {
        let mut buffer = [0; MAX_TOKEN + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(token.0, &mut buffer).ok()?;
        let (signed, code) = buffer[..length].split_at_checked(length.checked_sub(CODE)?)?;
        if !self.key.confirms([signed, listener.as_bytes()], code) {
            return None;
        }
        // What is signed was written by `issue`.
        let expires = u32::from_be_bytes(signed.get(5..9)?.try_into().ok()?);
        if self.seconds(now) >= expires {
            return None;
        }
        let name = std::str::from_utf8(signed.get(FIXED..)?).ok()?;
        // Else the end of one listener's name could pass for that of a user's.
        if usize::from(signed[FIXED - 1]) != name.len() {
            return None;
        }
        match name {
            "" => Some(Holder::Anonymous),
            name => users.get(name).filter(|user| signed[9..17] == user.fingerprint).map(Holder::User),
        }
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.epoch).as_secs()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Htpasswd;

    const CI: &str = "ci:$2b$04$hj2Bx7iSyQzhVgalNf222uO8wKmP4BdHXtmsVxR8FnOBPHs063XjW";

    fn users(text: &str) -> Users {
        Htpasswd::parse(text).unwrap().into()
    }

    struct Scene {
        users: Users,
        tokens: Tokens,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let start = Instant::now();
            Self { users: users(CI), tokens: Tokens::new(start), start }
        }

        fn issue(&self) -> String {
            self.tokens.issue(Holder::User(self.users.get("ci").unwrap()), "nodes", self.start)
        }

        fn holder(&self, token: &str, users: &Users, listener: &str, after: u64) -> Option<String> {
            match self.tokens.holder(Token(token), users, listener, self.start + Duration::from_secs(after))? {
                Holder::Anonymous => Some(String::new()),
                Holder::User(user) => Some(user.name.to_string()),
            }
        }
    }

    #[test]
    fn a_token_is_good_for_its_user_and_listener_until_it_expires() {
        let scene = Scene::new();
        let token = scene.issue();
        let ci = Some("ci".to_owned());
        assert_eq!(scene.holder(&token, &scene.users, "nodes", 0), ci);
        assert_eq!(scene.holder(&token, &scene.users, "nodes", 299), ci);
        assert_eq!(scene.holder(&token, &scene.users, "nodes", 300), None);
        assert_eq!(scene.holder(&token, &scene.users, "other", 0), None);
        assert_eq!(scene.holder(&token, &scene.users, "", 0), None);
        assert!(token.len() < 256 && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
    }

    #[test]
    fn the_end_of_a_listener_s_name_is_none_of_the_user_s() {
        let scene = Scene::new();
        let users = users(&format!("{CI}\n{}", CI.replace("ci:", "cix:")));
        let token = scene.tokens.issue(Holder::User(users.get("ci").unwrap()), "xnodes", scene.start);
        let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        bytes.insert(bytes.len() - CODE, b'x');
        assert_eq!(scene.holder(&URL_SAFE_NO_PAD.encode(bytes), &users, "nodes", 0), None);
    }

    #[test]
    fn anonymous_is_a_holder_too() {
        let scene = Scene::new();
        let token = scene.tokens.issue(Holder::Anonymous, "nodes", scene.start);
        assert_eq!(scene.holder(&token, &scene.users, "nodes", 0), Some(String::new()));
    }

    #[test]
    fn a_user_that_is_gone_or_changed_takes_the_token_along() {
        let scene = Scene::new();
        let token = scene.issue();
        // One more letter in the salt, and the file says another password.
        let changed = CI.replace("hj2B", "hj3B");
        for (text, holds) in
            [("", false), (&*changed, false), (&*CI.replace("ci:", "cj:"), false), (&*format!("# new\na{CI}\n{CI}"), true)]
        {
            assert_eq!(scene.holder(&token, &users(text), "nodes", 1).is_some(), holds, "{text}");
        }
    }

    #[test]
    fn no_other_process_can_make_one_and_no_bit_can_be_changed() {
        let scene = Scene::new();
        let (token, foreign) = (scene.issue(), Scene::new().issue());
        assert_eq!(scene.holder(&foreign, &scene.users, "nodes", 0), None);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(scene.holder(&URL_SAFE_NO_PAD.encode(other), &scene.users, "nodes", 0), None, "bit {bit}");
        }
        for length in 0..token.len() {
            assert_eq!(scene.holder(&token[..length], &scene.users, "nodes", 0), None, "{length}");
        }
        assert_eq!(scene.holder(&"A".repeat(100_000), &scene.users, "nodes", 0), None);
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "n".repeat(MAX_NAME);
        let users = users(&CI.replace("ci:", &format!("{name}:")));
        let (tokens, now) = (Tokens::new(Instant::now()), Instant::now());
        let token = tokens.issue(Holder::User(users.get(&name).unwrap()), "nodes", now);
        assert!(tokens.holder(Token(&token), &users, "nodes", now).is_some());
    }
}
