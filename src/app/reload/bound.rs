//! What a reload cannot change, because it was opened when the process started. Pure.

use crate::app::Error;
use crate::config::{Config, Effect, Listener};

/// What differs from what the process was `started` with and cannot be changed while serving, in words for the operator.
pub(super) fn needs_restart(started: &Config, new: &Config) -> Vec<String> {
    let mut parts = Vec::new();
    if started.cache != new.cache {
        parts.push("[cache]".to_owned());
    }
    if started.admin != new.admin {
        parts.push("[admin]".to_owned());
    }
    if started.audit != new.audit {
        parts.push("[audit]".to_owned());
    }
    let key = |listener: &Listener| (listener.name.clone(), listener.address, listener.max_connections);
    for listener in new.listeners.iter().filter(|listener| started.listeners.iter().all(|other| key(other) != key(listener))) {
        parts.push(format!("name, address or max_connections of listener {:?}", listener.name));
    }
    for listener in started.listeners.iter().filter(|listener| of(new, listener).is_none()) {
        parts.push(format!("the end of listener {:?}", listener.name));
    }
    parts
}

/// Has `new` keep the listeners that it does not name and that yet are bound, as they were `before`: else they would go on
/// without asking who comes.
pub(super) fn keep(started: &Config, before: &Config, new: &mut Config) {
    let ended: Vec<_> = started.listeners.iter().filter(|listener| of(new, listener).is_none()).collect();
    new.listeners.extend(ended.into_iter().filter_map(|listener| of(before, listener)).cloned());
}

/// Without a policy everybody may pull, which is meant for loopback alone: a listener that is to move there is where it was
/// until the restart.
///
/// # Errors
/// [`Error::StillReached`].
pub(super) fn refuse_opening(started: &Config, before: &Config, new: &Config) -> Result<(), Error> {
    let withdrawn = started.listens_beyond_loopback() && !new.listens_beyond_loopback();
    let opened = new.policy.default == Effect::Allow && new.policy.canonical() != before.policy.canonical();
    if withdrawn && opened { Err(Error::StillReached) } else { Ok(()) }
}

fn of<'c>(config: &'c Config, listener: &Listener) -> Option<&'c Listener> {
    config.listeners.iter().find(|other| other.name == listener.name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("test.toml"), &|_| Some("/home".to_owned())).unwrap_or_else(|faults| panic!("{faults}")).0
    }

    fn listener(name: &str, address: &str) -> String {
        format!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n")
    }

    #[test]
    fn what_was_opened_at_the_start_needs_a_restart_and_nothing_else_does() {
        let base = "[cache]\ndirectory = \"/c\"\n[admin]\naddress = \"127.0.0.1:9\"\n";
        let all = |rest: &str| format!("{base}{}{rest}", listener("a", "127.0.0.1:1"));
        let started = config(&all(""));
        for (new, parts) in [
            (all(""), &[][..]),
            (all("default_registry = \"ghcr.io\"\n[policy]\ndefault = \"deny\"\n[egress]\nallow = [\"x.test\"]\n"), &[]),
            (all("").replace("/c", "/d"), &["[cache]"]),
            (all("").replace(":9", ":8"), &["[admin]"]),
            (all("[audit]\noutput = \"stdout\"\n"), &["[audit]"]),
            (all("max_connections = 7\n"), &["name, address or max_connections of listener \"a\""]),
            (
                all("").replace("\"a\"", "\"b\""),
                &["name, address or max_connections of listener \"b\"", "the end of listener \"a\""],
            ),
        ] {
            assert_eq!(needs_restart(&started, &config(&new)), parts, "{new}");
        }
    }

    #[test]
    fn a_listener_that_is_gone_from_the_file_stays_what_it_was_while_it_is_bound() {
        let (a, b) = (listener("a", "127.0.0.1:1"), listener("b", "127.0.0.1:2"));
        let started = config(&format!("{a}{b}"));
        let before = config(&format!("{a}default_registry = \"ghcr.io\"\n{}", listener("never-bound", "127.0.0.1:3")));
        let mut new = config(&b);
        keep(&started, &before, &mut new);
        let names: Vec<_> = new.listeners.iter().map(|listener| (&*listener.name, listener.default_registry.is_some())).collect();
        assert_eq!(names, [("b", false), ("a", true)]);
    }

    #[test]
    fn nothing_is_opened_to_other_machines_by_a_listener_that_only_moves_at_the_restart() {
        let everywhere = |policy: &str| config(&format!("{}{policy}", listener("a", "0.0.0.0:1")));
        let (deny, allow) = ("[policy]\ndefault = \"deny\"\n", "[policy]\ndefault = \"allow\"\n");
        let here = |policy: &str| config(&format!("{}{policy}", listener("a", "127.0.0.1:1")));
        let refused = |started: &Config, before: &Config, new: &Config| refuse_opening(started, before, new).is_err();
        let closed = everywhere(deny);
        assert!(refused(&closed, &closed, &here("")) && refused(&closed, &here(deny), &here(allow)));
        assert!(!refused(&closed, &closed, &here(deny)) && !refused(&closed, &closed, &everywhere(allow)));
        let open = everywhere(allow);
        assert!(!refused(&open, &open, &here("")), "it is no more open than it was");
        assert!(!refused(&here(deny), &here(deny), &here("")));
    }
}
