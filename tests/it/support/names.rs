//! Host names that tests give meaning to.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;

/// A name service that knows only what it was told, and remembers what it was asked.
#[derive(Default)]
pub struct Hosts {
    /// What each name means, now and after each time it is asked for.
    known: Mutex<BTreeMap<String, VecDeque<Vec<SocketAddr>>>>,
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
        self.known.lock().unwrap().insert(name.to_owned(), [addresses.to_vec()].into());
    }

    /// `name` means these addresses once it was asked for so often that all it meant before was told.
    pub fn then(&self, name: &str, addresses: &[SocketAddr]) {
        self.known.lock().unwrap().entry(name.to_owned()).or_default().push_back(addresses.to_vec());
    }

    /// What `name` means; nothing where it was never said.
    pub fn look_up(&self, name: &str) -> Vec<SocketAddr> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut known = self.known.lock().unwrap();
        let Some(meanings) = known.get_mut(name) else { return Vec::new() };
        if meanings.len() > 1 { meanings.pop_front().unwrap() } else { meanings[0].clone() }
    }

    /// All names asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
