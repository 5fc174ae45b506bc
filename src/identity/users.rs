//! The users of a listener, as their file has them.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::{Error, Flaw, Hash, Htpasswd};
use crate::request::Principal;

/// A larger file is refused.
const MAX_FILE: u64 = 1 << 20;

/// The users of a listener. Immutable; a reload reads the file anew.
#[derive(Debug)]
pub struct Users {
    by_name: HashMap<Box<str>, Arc<User>>,
    /// What the password of a user that does not exist is compared with.
    nobody: Hash,
}

/// One user.
#[derive(Debug)]
pub struct User {
    pub(super) name: Box<str>,
    pub(super) hash: Hash,
    /// Of the hash.
    pub(super) fingerprint: [u8; 8],
    principals: Arc<[Principal]>,
}

impl Users {
    /// Reads a file. Blocks on the disk.
    ///
    /// # Errors
    /// It cannot be read, or the first line with something wrong.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source: Arc::new(source) };
        let mut bytes = Vec::new();
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
        let read = text(&bytes).and_then(Htpasswd::parse);
        read.map(Self::from).map_err(|(line, flaw)| Error::Line { path: path.to_owned(), line, flaw })
    }

    /// The user of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// What a password for `name` is compared with, whether there is such a user or not.
    pub(super) fn hash(&self, name: &str) -> &Hash {
        self.get(name).map_or(&self.nobody, |user| &user.hash)
    }
}

impl From<Htpasswd> for Users {
    fn from(read: Htpasswd) -> Self {
        let nobody = Hash::of_nobody(read.users().iter().map(|(_, hash)| hash));
        let by_name = read.into_users().into_iter().map(|(name, hash)| (name.clone(), Arc::new(User::new(name, hash))));
        Self { by_name: by_name.collect(), nobody }
    }
}

impl User {
    fn new(name: Box<str>, hash: Hash) -> Self {
        let principals = Arc::new([Principal::user(&name)]);
        Self { fingerprint: hash.fingerprint(), name, hash, principals }
    }

    /// What this user has proved to be: `user:NAME`, alone.
    pub fn principals(&self) -> &Arc<[Principal]> {
        &self.principals
    }
}

fn text(bytes: &[u8]) -> Result<&str, (usize, Flaw)> {
    let line = |upto: usize| 1 + bytes[..upto].iter().filter(|byte| **byte == b'\n').count();
    if bytes.len() as u64 > MAX_FILE {
        return Err((line(bytes.len()), Flaw::TooLarge));
    }
    std::str::from_utf8(bytes).map_err(|error| (line(error.valid_up_to()), Flaw::NotText))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: &[u8]) -> Result<Users, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        std::fs::write(&path, bytes).unwrap();
        let shown = format!("{}/", folder.path().display());
        Users::load(&path).map_err(|error| error.to_string().replace(&shown, ""))
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_line() {
        assert_eq!(
            load(b"# ours\nci:$1$hunter2").unwrap_err().split("; ").next(),
            Some("users:2: the password is hashed by MD5, which is not taken")
        );
        assert_eq!(load(b"#\n#\n\xff").unwrap_err(), "users:3: not UTF-8");
        assert_eq!(load(&b"#\n".repeat(1 << 19)).map(|users| users.by_name.len()), Ok(0));
        assert_eq!(load(&b"#\n".repeat((1 << 19) + 1)).unwrap_err(), "users:524289: the file is larger than 1 MiB");
        let missing = Users::load(Path::new("/nonexistent/users")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/users cannot be read: No such file"), "{missing}");
    }

    #[test]
    fn a_user_is_a_principal_and_somebody_else_is_compared_with_nobody() {
        let users = load(b"ci:$2b$04$hj2Bx7iSyQzhVgalNf222uO8wKmP4BdHXtmsVxR8FnOBPHs063XjW\n").unwrap();
        assert_eq!(**users.get("ci").unwrap().principals(), [Principal::user("ci")]);
        assert!(users.get("CI").is_none() && users.get("").is_none());
        assert!(users.hash("ci").fits(b"secret") && !users.hash("").fits(b"secret"));
        assert!(!format!("{users:?}").contains("$2b$"), "{users:?}");
    }
}
