//! A token server, by the rules of the distribution project's token authentication.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Response};
use serde_json::json;
use tokio::time::Instant;

use super::pki::Identity;
use super::registry::basic;
use super::server::{Recorded, Server, refusal};

const SERVICE: &str = "registry.test";

/// A token server; derefs to its server, for faults and the record. Clones are the same one.
#[derive(Clone)]
pub struct Tokens {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    realm: Option<String>,
    /// `Authorization` values and passwords of the users; anyone where there are none.
    users: BTreeMap<String, (String, String)>,
    withheld: BTreeSet<String>,
    lifetime: Option<Duration>,
    issued: Vec<Token>,
}

struct Token {
    scopes: Vec<String>,
    until: Instant,
}

impl Deref for Tokens {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Tokens {
    pub async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        Self { server: Server::start(answers(&state)).await, state }
    }

    pub async fn start_tls(identity: &Identity) -> Self {
        let state = Arc::<Mutex<State>>::default();
        Self { server: Server::start_tls(identity, None, answers(&state)).await, state }
    }

    /// Where challenges send clients.
    pub fn realm(&self) -> String {
        self.lock().realm.clone().unwrap_or_else(|| format!("{}/token", self.server.url()))
    }

    /// Sends clients elsewhere for tokens: to the registry itself, or astray.
    pub fn set_realm(&self, realm: impl Into<String>) {
        self.lock().realm = Some(realm.into());
    }

    /// Only known users get tokens from now on, and this is one.
    pub fn add_user(&self, name: &str, password: &str) {
        self.lock().users.insert(name.to_owned(), (basic(name, password), password.to_owned()));
    }

    /// Tokens are given out, but none is good for this repository.
    pub fn withhold(&self, repository: &str) {
        self.lock().withheld.insert(repository.to_owned());
    }

    /// How long tokens hold, and say so in `expires_in`. At first they hold for the 60 s of the rules and say nothing.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.lock().lifetime = Some(lifetime);
    }

    /// No token given out so far is good any longer.
    pub fn revoke_all(&self) {
        self.lock().issued.iter_mut().for_each(|token| token.scopes.clear());
    }

    /// Whether tokens are given out at this path.
    pub fn is_realm(&self, path: &str) -> bool {
        let realm = self.realm();
        url::Url::parse(&realm).is_ok_and(|realm| realm.path() == path)
    }

    /// How many tokens were given out.
    pub fn issued(&self) -> usize {
        self.lock().issued.len()
    }

    pub(super) fn challenge(&self, repository: Option<&str>, had_token: bool) -> String {
        let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
        let error = if had_token { ",error=\"invalid_token\"" } else { "" };
        format!("Bearer realm=\"{}\",service=\"{SERVICE}\"{scope}{error}", self.realm())
    }

    pub(super) fn admits(&self, token: &str, repository: Option<&str>) -> bool {
        let state = self.lock();
        let number = token.strip_prefix("token-").and_then(|number| number.parse::<usize>().ok());
        let Some(token) = number.and_then(|number| state.issued.get(number)).filter(|token| token.until > Instant::now()) else {
            return false;
        };
        repository.is_none_or(|name| {
            !state.withheld.contains(name) && token.scopes.iter().any(|scope| *scope == format!("repository:{name}:pull"))
        })
    }

    pub(super) fn answer(&self, request: &Recorded) -> Response<Bytes> {
        self.lock().answer(request)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn answers(state: &Arc<Mutex<State>>) -> impl Fn(&Recorded) -> Response<Bytes> + Send + Sync + 'static {
    let state = state.clone();
    move |request| state.lock().unwrap().answer(request)
}

impl State {
    fn answer(&mut self, request: &Recorded) -> Response<Bytes> {
        let (scopes, known) = match request.method {
            Method::GET => (request.parameters("scope"), self.knows(request.header(AUTHORIZATION))),
            Method::POST => self.form(&request.body),
            _ => return refusal(405, "UNSUPPORTED", "GET or POST"),
        };
        if !known {
            return refusal(401, "UNAUTHORIZED", "incorrect username or password");
        }
        let scopes = scopes.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect();
        let until = Instant::now() + self.lifetime.unwrap_or(Duration::from_secs(60));
        let token = format!("token-{}", self.issued.len());
        self.issued.push(Token { scopes, until });
        let mut body = json!({ "token": token, "access_token": token });
        if let Some(lifetime) = self.lifetime {
            body["expires_in"] = lifetime.as_secs().into();
        }
        Response::builder().header(CONTENT_TYPE, "application/json").body(body.to_string().into()).unwrap()
    }

    fn knows(&self, shown: Option<&str>) -> bool {
        match shown {
            None => self.users.is_empty(),
            Some(shown) => self.users.values().any(|(expected, _)| expected == shown),
        }
    }

    /// The scopes and standing of an OAuth 2 password grant.
    fn form(&self, body: &[u8]) -> (Vec<String>, bool) {
        let fields: BTreeMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let known = self.users.get(field("username")).is_some_and(|(_, password)| password == field("password"));
        (vec![field("scope").to_owned()], known && field("grant_type") == "password")
    }
}
