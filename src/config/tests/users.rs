//! `users` of a listener.

use super::*;

fn listener_with(line: &str) -> String {
    format!("[[listener]]\nname = 'nodes'\naddress = '127.0.0.1:5000'\n{line}\n")
}

#[test]
fn users_of_a_listener_are_read() {
    let config = good(&listener_with("users = { file = 'users.htpasswd' }"));
    let users = config.listeners[0].users.clone().unwrap();
    assert!(users.file.ends_with("users.htpasswd") && users.file.is_absolute());
    assert_eq!((users.mode, users.realm), (UsersMode::Require, None));

    let config =
        good(&listener_with("users = { file = 'users.htpasswd', mode = 'optional', realm = 'https://m.example/a/token' }"));
    let users = config.listeners[0].users.clone().unwrap();
    assert_eq!((users.mode, users.realm.unwrap().as_str()), (UsersMode::Optional, "https://m.example/a/token"));
    assert_eq!(good(&listener_with("")).listeners[0].users, None);
}

#[test]
fn users_that_cannot_be_asked_are_told() {
    let (realm, mode) = ("realm = 'https://m.example'", "mode = 'sometimes'");
    each(&[
        (
            &listener_with("users = {}"),
            "4: listener.users.file:",
            "missing; name the file with the users, as `htpasswd -B` writes it",
        ),
        (
            &listener_with("users = { file = 'none' }"),
            "4: listener.users.file:",
            &format!("none cannot be read: No such file or directory (os error 2); {PEM_REMEDY}"),
        ),
        (
            &listener_with(&format!("users = {{ file = 'users.htpasswd', {mode} }}")),
            "4: listener.users.mode:",
            "\"sometimes\" is not a mode; write \"require\" or \"optional\"",
        ),
        (
            &listener_with(&format!("users = {{ file = 'users.htpasswd', {realm} }}")),
            "4: listener.users.realm:",
            "\"https://m.example\" has no path; write https://host[:port]/token",
        ),
        (
            &listener_with("users = { htpasswd = 'x', file = 'users.htpasswd' }"),
            "4: listener.users.htpasswd:",
            "unknown key; the keys here are file, mode, realm",
        ),
        (&listener_with("users = 'users.htpasswd'"), "4: listener.users:", "expected a table, found string; write { … }"),
    ]);
}

#[test]
fn passwords_in_the_clear_are_warned_of() {
    let beyond = |tls: &str| {
        format!(
            "[policy]\ndefault = 'allow'\n[[listener]]\naddress = '10.0.0.1:5000'\nusers = {{ file = 'users.htpasswd' }}\n{tls}\n"
        )
    };
    let told = "roadstead.toml:5: listener.users: passwords cross the network unencrypted; give the listener tls = { certificate = …, key = … }";
    assert_eq!(warnings(&beyond("")), [told]);
    assert!(warnings(&beyond("tls = { certificate = 'tls.crt', key = 'tls.key' }")).is_empty());
    assert!(warnings(&listener_with("users = { file = 'users.htpasswd' }")).is_empty());
}
