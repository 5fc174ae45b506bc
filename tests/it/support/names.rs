//! Host names that tests give meaning to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

/// A name service that knows only what it was told, and remembers what it was asked.
#[derive(Default)]
pub struct Hosts {
    known: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Hosts {
    /// Names for these addresses; more can be said later.
    pub fn of(names: &[(&str, SocketAddr)]) -> Self {
        let hosts = Self::default();
        names.iter().for_each(|(name, address)| hosts.point(name, &[*address]));
        hosts
    }

    /// `name` means these addresses from now on.
    pub fn point(&self, name: &str, addresses: &[SocketAddr]) {
        self.known.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    /// What `name` means; nothing where it was never said.
    pub fn look_up(&self, name: &str) -> Vec<SocketAddr> {
        self.asked.lock().unwrap().push(name.to_owned());
        self.known.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    /// All names asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
