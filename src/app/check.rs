//! What keeps a proxy from starting though its configuration is good: files that do not hold what they should.

use super::Error;
use crate::config::{Config, Listener};
use crate::front::Terms;
use crate::identity::Users;

/// Reads the certificates, keys, authorities and users of all listeners as a start does. Whatever is wrong with them, at most
/// one thing for each listener's TLS and one for its users. Blocks on the disk.
pub fn check_files(config: &Config) -> Vec<Error> {
    let terms = config.listeners.iter().filter_map(|listener| Terms::read(listener).err()).map(Error::from);
    let files = config.listeners.iter().filter_map(|listener: &Listener| listener.users.as_ref());
    let users = files.filter_map(|users| Users::load(&users.file).err()).map(Error::from);
    terms.chain(users).collect()
}
