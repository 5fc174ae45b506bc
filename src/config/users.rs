//! `users` of a listener: who may log in there, and whether everybody must.

use std::net::SocketAddr;

use super::fault::Complaint;
use super::raw::{Keys, Section};
use super::{ListenerUsers, UsersMode, file, is_loopback, urls};

const KEYS: Keys = Keys { known: &["file", "mode", "realm"], later: &[] };

/// Reads the key `users` of a listener at `address`, where it has one. What is in the file is not looked at here.
pub(super) fn check(listener: &Section<'_>, address: SocketAddr) -> Option<ListenerUsers> {
    let value = listener.get("users")?;
    let section = value.section(&KEYS)?;
    // Encryption may end in front of us, where addresses come by the PROXY protocol.
    let in_the_clear = listener.get("tls").is_none() && listener.get("proxy_protocol").is_none();
    if in_the_clear && !is_loopback(address.ip()) {
        value.warn("passwords cross the network unencrypted", "give the listener tls = { certificate = …, key = … }");
    }
    let path = section.require("file", "name the file with the users, as `htpasswd -B` writes it").and_then(|value| {
        let path = file::path(&value)?;
        file::read(&value, &path).map(|_| path)
    });
    let mode = section.get("mode").map_or(Some(UsersMode::Require), |value| value.parse(mode));
    let realm = section.get("realm").and_then(|value| value.parse(urls::token_server));
    Some(ListenerUsers { file: path?, mode: mode?, realm })
}

fn mode(text: &str) -> Result<UsersMode, Complaint> {
    match text {
        "require" => Ok(UsersMode::Require),
        "optional" => Ok(UsersMode::Optional),
        _ => Err(Complaint::new(format!("{text:?} is not a mode"), "write \"require\" or \"optional\"")),
    }
}
