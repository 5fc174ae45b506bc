//! Who asks: on a listener with users, what a request shows of itself decides who its caller is, before any policy.
//!
//! | shown | `require` | `optional` |
//! |---|---|---|
//! | nothing | 401 | anonymous; `/v2/` is 401, for there clients learn how to log in |
//! | a right password, a good token | the user | the user |
//! | an anonymous token | 401 | anonymous |
//! | anything else | 401 | 401 |
//!
//! What the policy refuses is 403 to a user, and 401 to whoever may still become one.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::path::Asked;
use super::snapshot::Door;
use crate::config::UsersMode;
use crate::front::{Answer, Body, Fault, FaultKind, Reply, Request};
use crate::identity::challenge::{self, Complaint};
use crate::identity::{Holder, Login, Passwords, Presented, Refused, TOKEN_LIFETIME, Tokens, User};
use crate::oci::ErrorCode;
use crate::request::Caller;
use crate::telemetry::{Outcome, Telemetry};

/// Proves users. Lives as long as the process; which users there are is the snapshot's business.
pub(super) struct Identify {
    passwords: Passwords,
    tokens: Tokens,
    telemetry: Arc<Telemetry>,
}

/// Who asks, as far as it is proved.
pub(super) struct Who<'r> {
    pub(super) caller: Cow<'r, Caller>,
    /// Where there are users and this is none of them.
    stranger: Option<Stranger<'r>>,
}

/// Somebody who has not logged in and could.
struct Stranger<'r> {
    visit: Visit<'r>,
    has_token: bool,
}

/// A request to a listener with users.
#[derive(Clone, Copy)]
struct Visit<'r> {
    door: &'r Door,
    request: &'r Request,
    /// What it is about, as the client calls it.
    repository: Option<&'r str>,
}

impl Identify {
    /// With keys of its own.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { passwords: Passwords::new(), tokens: Tokens::new(Instant::now()), telemetry }
    }

    /// Who sends `request`, which is for what is `asked`; noted in `outcome` too. Without a door, what it shows is not looked
    /// at. Nothing is left behind by a future that is dropped.
    ///
    /// # Errors
    /// See the table above; 503 where there is no room to compare passwords, or too many were wrong.
    pub(super) async fn who<'r>(
        &self,
        door: Option<&'r Door>,
        request: &'r Request,
        asked: Option<&Asked<'r>>,
        outcome: &mut Outcome,
    ) -> Result<Who<'r>, Fault> {
        let caller = Cow::Borrowed(&*request.caller);
        let Some(door) = door else { return Ok(Who { caller, stranger: None }) };
        let visit = Visit { door, request, repository: asked.and_then(Asked::repository) };
        match self.holder(visit).await? {
            Some(Holder::User(user)) => {
                let caller = with_user(&request.caller, user);
                note(&caller, outcome);
                Ok(Who { caller: Cow::Owned(caller), stranger: None })
            }
            None if door.mode == UsersMode::Require || asked == Some(&Asked::Ping) => {
                Err(visit.unauthorized("log in to be served here", None))
            }
            holder => Ok(Who { caller, stranger: Some(Stranger { visit, has_token: holder.is_some() }) }),
        }
    }

    /// Answers `GET /token`: a token for the user whose name and password are shown, or for nobody where that is enough.
    /// Whatever else is asked for (service, scope, account, a refresh token) changes nothing: what may be pulled is decided
    /// when it is. The user is noted in `outcome`.
    ///
    /// # Errors
    /// 401 that asks for a password; 503 as [`Identify::who`].
    pub(super) async fn token(&self, door: &Door, request: &Request, outcome: &mut Outcome) -> Result<Answer, Fault> {
        let token = self.grant(door, request, outcome).await?;
        let body = serde_json::json!({
            "token": token,
            "access_token": token,
            "expires_in": TOKEN_LIFETIME.as_secs(),
            "issued_at": format!("{:.0}", jiff::Timestamp::now()),
        });
        let answer = Answer::new(Reply::Ok).header(CONTENT_TYPE, "application/json").header(CACHE_CONTROL, "no-store");
        Ok(answer.body(Body::Bytes(body.to_string().into()), None))
    }

    async fn grant(&self, door: &Door, request: &Request, outcome: &mut Outcome) -> Result<String, Fault> {
        let basic = || challenge::BASIC.to_owned();
        let holder = match Presented::read(&request.headers) {
            Presented::Nothing if door.mode == UsersMode::Optional => Holder::Anonymous,
            Presented::Nothing => return Err(unauthorized("log in to get a token", basic())),
            Presented::Password(login) => {
                let user = self.login(door, request, &login, basic).await?;
                note(&with_user(&request.caller, user), outcome);
                Holder::User(user)
            }
            Presented::Token(_) | Presented::Unreadable => return Err(self.unreadable(door, basic())),
        };
        Ok(self.tokens.issue(holder, &door.listener, Instant::now()))
    }

    /// Whom that proves what a request shows; `None` where it shows nothing.
    async fn holder<'r>(&self, visit: Visit<'r>) -> Result<Option<Holder<'r>>, Fault> {
        let Visit { door, request, .. } = visit;
        match Presented::read(&request.headers) {
            Presented::Nothing => Ok(None),
            Presented::Password(login) => {
                let user = self.login(door, request, &login, || visit.challenge(None)).await?;
                Ok(Some(Holder::User(user)))
            }
            Presented::Token(token) => match self.tokens.holder(token, &door.users, &door.listener, Instant::now()) {
                Some(holder @ Holder::User(_)) => Ok(Some(holder)),
                Some(holder @ Holder::Anonymous) if door.mode == UsersMode::Optional => Ok(Some(holder)),
                Some(Holder::Anonymous) | None => {
                    self.telemetry.metrics.login(&door.listener, "bad_token");
                    Err(visit.unauthorized("the token has expired, or is not good here", Some(Complaint::InvalidToken)))
                }
            },
            Presented::Unreadable => Err(self.unreadable(door, visit.challenge(None))),
        }
    }

    async fn login<'d>(
        &self,
        door: &'d Door,
        request: &Request,
        login: &Login,
        challenge: impl FnOnce() -> String,
    ) -> Result<&'d Arc<User>, Fault> {
        let proved = self.passwords.prove(&door.users, request.caller.host(), login).await;
        self.telemetry.metrics.login(&door.listener, proved.as_ref().map_or_else(word, |_| "ok"));
        proved.map_err(|refused| match refused {
            Refused::Wrong => unauthorized(refused.to_string(), challenge()),
            Refused::Limited { after } | Refused::Busy { after } => {
                Fault::new(FaultKind::Overloaded, ErrorCode::TooManyRequests, refused.to_string()).retry_after(after)
            }
        })
    }

    fn unreadable(&self, door: &Door, challenge: String) -> Fault {
        self.telemetry.metrics.login(&door.listener, "unreadable");
        unauthorized("what the Authorization field holds cannot be used here", challenge)
    }
}

impl Who<'_> {
    /// What is said where the policy refused: somebody who may still become a user is asked to.
    pub(super) fn refused(&self, fault: Fault) -> Fault {
        let Some(Stranger { visit, has_token }) = &self.stranger else { return fault };
        let message = format!("{} without a login", fault.message);
        visit.unauthorized(message, has_token.then_some(Complaint::InsufficientScope))
    }
}

impl Visit<'_> {
    fn unauthorized(self, message: impl Into<String>, complaint: Option<Complaint>) -> Fault {
        unauthorized(message, self.challenge(complaint))
    }

    fn challenge(self, complaint: Option<Complaint>) -> String {
        let realm = challenge::realm(self.door.realm.as_ref(), &self.request.host, self.door.speaks_tls);
        challenge::bearer(realm.as_deref(), self.repository, complaint)
    }
}

/// The caller with the names of its certificate, where it has one, and then its user's.
fn with_user(caller: &Caller, user: &User) -> Caller {
    let mut caller = caller.clone();
    caller.principals = match &*caller.principals {
        [] => user.principals().clone(),
        proved => proved.iter().chain(&**user.principals()).cloned().collect(),
    };
    caller
}

fn note(caller: &Caller, outcome: &mut Outcome) {
    if let Some(noted) = &mut outcome.caller {
        Arc::make_mut(noted).principals = caller.principals.clone();
    }
}

fn unauthorized(message: impl Into<String>, challenge: String) -> Fault {
    Fault::new(FaultKind::Unauthorized { challenge }, ErrorCode::Unauthorized, message)
}

/// The label of a metric.
fn word(refused: &Refused) -> &'static str {
    match refused {
        Refused::Wrong => "wrong",
        Refused::Limited { .. } => "limited",
        Refused::Busy { .. } => "busy",
    }
}
