//! Whether a password is a user's: bcrypt, on few processors at once, and memory of what it said.
//!
//! bcrypt is slow so that a stolen file is of little use, and so it must not be what a stranger can have us do at will. At most
//! [`AT_ONCE`] comparisons run, few wait for one, whoever fails often is not compared any more for a while, and a password that
//! was right is known again for [`KNOWN_FOR`] by a code that only this process can compute.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::guesses::Guesses;
use super::key::{CODE, Key};
use super::{Login, User, Users};

/// So many comparisons run at once, each on a thread of the blocking pool.
const AT_ONCE: usize = 2;
/// So many more wait for their turn; one beyond is refused at once.
const WAITING: usize = 64;
/// For so long at most.
const WAIT: Duration = Duration::from_secs(5);
/// When to try again where too many wait.
const LATER: Duration = Duration::from_secs(2);
/// So long a right password is known without bcrypt.
const KNOWN_FOR: Duration = Duration::from_secs(300);
/// So many right passwords are known at once.
const MAX_KNOWN: u64 = 4096;

/// Compares passwords. Lives as long as the process; a reload changes only what it is asked about.
pub struct Passwords(Arc<Inner>);

struct Inner {
    key: Key,
    /// When which password was right, by the code of hash and password: another hash makes it another entry.
    known: Cache<[u8; CODE], Instant>,
    guesses: Mutex<Guesses>,
    /// The right to run or to wait.
    queue: Arc<Semaphore>,
    /// The right to run.
    turns: Arc<Semaphore>,
}

/// Why nobody was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such user, or another password: which of them is not told.
    #[error("the user's name or password is wrong")]
    Wrong,
    /// Too many failures from there.
    #[error("too many failed logins from this address")]
    Limited {
        /// When to try again.
        after: Duration,
    },
    /// Too many are being compared.
    #[error("too many logins at once")]
    Busy {
        /// When to try again.
        after: Duration,
    },
}

/// One comparison to be made.
struct Attempt<'u, 'l> {
    users: &'u Users,
    source: IpAddr,
    login: &'l Login,
    code: [u8; CODE],
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With a key of its own, and knowing nobody.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            key: Key::random(),
            known: Cache::new(MAX_KNOWN),
            guesses: Mutex::default(),
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }

    /// The user that `login` proves, for a client at `source` ([`Caller::host`](crate::request::Caller::host)). A password that
    /// was right lately takes a microsecond, any other a bcrypt, whether there is such a user or not.
    ///
    /// A future that is dropped leaves a comparison under way to its end; it counts as failed unless it was right.
    ///
    /// # Errors
    /// See [`Refused`]. A source beyond its limit is refused without a look at the password, unless that is known to be right.
    pub async fn prove<'u>(&self, users: &'u Users, source: IpAddr, login: &Login) -> Result<&'u Arc<User>, Refused> {
        let code = self.0.key.code([users.hash(login.name()).as_bytes(), login.password()]);
        let attempt = Attempt { users, source, login, code };
        if let Some(user) = self.known(&attempt, Instant::now()) {
            return Ok(user);
        }
        self.0.guesses().admit(source, Instant::now()).map_err(limited)?;
        let _place = self.0.queue.clone().try_acquire_owned().map_err(|_| Refused::Busy { after: LATER })?;
        let turn = timeout(WAIT, self.0.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refused::Busy { after: LATER }) };
        // Nodes that start together all come with the same password: one comparison is enough for them.
        if let Some(user) = self.known(&attempt, Instant::now()) {
            return Ok(user);
        }
        self.compare(&attempt, turn).await
    }

    fn known<'u>(&self, attempt: &Attempt<'u, '_>, now: Instant) -> Option<&'u Arc<User>> {
        let at = self.0.known.get(&attempt.code)?;
        let lately = now.saturating_duration_since(at) < KNOWN_FOR;
        attempt.users.get(attempt.login.name()).filter(|_| lately)
    }

    /// Runs bcrypt. All that follows from it is noted there too, where nobody can cancel it.
    async fn compare<'u>(&self, attempt: &Attempt<'u, '_>, turn: OwnedSemaphorePermit) -> Result<&'u Arc<User>, Refused> {
        let (users, source, code) = (attempt.users, attempt.source, attempt.code);
        self.0.guesses().begin(source, Instant::now()).map_err(limited)?;
        let user = users.get(attempt.login.name());
        let (inner, exists) = (self.0.clone(), user.is_some());
        let (hash, password) = (users.hash(attempt.login.name()).clone(), attempt.login.password().to_owned());
        let compared = tokio::task::spawn_blocking(move || {
            let right = hash.fits(&password) && exists;
            if right {
                inner.known.insert(code, Instant::now());
                inner.guesses().succeeded(source);
            }
            drop(turn);
            right
        });
        let right = compared.await.map_err(|_| Refused::Busy { after: LATER })?;
        user.filter(|_| right).ok_or(Refused::Wrong)
    }
}

impl Inner {
    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limited(after: Duration) -> Refused {
    Refused::Limited { after }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use base64::Engine as _;
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use http::HeaderMap;

    use super::*;
    use crate::identity::guesses::MOST;
    use crate::identity::{Htpasswd, Presented};

    fn users(pairs: &[(&str, &str)]) -> Users {
        let line = |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        Htpasswd::parse(&pairs.iter().map(line).collect::<String>()).unwrap().into()
    }

    fn login(name: &str, password: &str) -> Login {
        let value = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, format!("Basic {value}").parse().unwrap())]);
        match Presented::read(&headers) {
            Presented::Password(login) => login,
            other => panic!("{other:?}"),
        }
    }

    struct Scene {
        passwords: Passwords,
        users: Users,
        source: IpAddr,
    }

    impl Scene {
        fn new() -> Self {
            Self { passwords: Passwords::new(), users: users(&[("ci", "secret"), ("ops", "other")]), source: [10, 0, 0, 1].into() }
        }

        async fn prove(&self, name: &str, password: &str) -> Result<String, Refused> {
            self.prove_for(&self.users, name, password).await
        }

        async fn prove_for(&self, users: &Users, name: &str, password: &str) -> Result<String, Refused> {
            self.passwords.prove(users, self.source, &login(name, password)).await.map(|user| user.name.to_string())
        }

        /// Whether the password is known without bcrypt so long from now.
        fn knows(&self, name: &str, password: &str, later: Duration) -> bool {
            let (users, login) = (&self.users, &login(name, password));
            let code = self.passwords.0.key.code([users.hash(name).as_bytes(), login.password()]);
            let attempt = Attempt { users, source: self.source, login, code };
            self.passwords.known(&attempt, Instant::now() + later).is_some()
        }

        /// Waits until no comparison is under way, and lets none begin.
        async fn occupy(&self) -> OwnedSemaphorePermit {
            self.passwords.0.turns.clone().acquire_many_owned(u32::try_from(AT_ONCE).unwrap()).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_password_proves_its_own_user_and_no_other() {
        let scene = Scene::new();
        assert_eq!(scene.prove("ci", "secret").await, Ok("ci".to_owned()));
        assert_eq!(scene.prove("ops", "other").await, Ok("ops".to_owned()));
        for (name, password) in [("ci", "other"), ("ops", "secret"), ("nobody", "secret"), ("", ""), ("CI", "secret"), ("ci", "")] {
            assert_eq!(scene.prove(name, password).await, Err(Refused::Wrong), "{name}:{password}");
        }
    }

    #[tokio::test]
    async fn a_right_password_is_known_for_five_minutes_and_a_wrong_one_never() {
        let scene = Scene::new();
        assert!(!scene.knows("ci", "secret", Duration::ZERO));
        scene.prove("ci", "secret").await.unwrap();
        scene.prove("ci", "wrong").await.unwrap_err();
        assert!(scene.knows("ci", "secret", KNOWN_FOR - Duration::from_secs(1)));
        assert!(!scene.knows("ci", "secret", KNOWN_FOR));
        assert!(!scene.knows("ci", "wrong", Duration::ZERO) && !scene.knows("ops", "secret", Duration::ZERO));
        // It needs no comparison, so it works where none can be made.
        let _all = scene.occupy().await;
        assert_eq!(scene.prove("ci", "secret").now_or_never(), Some(Ok("ci".to_owned())));
    }

    #[tokio::test]
    async fn a_reload_of_other_users_forgets_what_was_right() {
        let scene = Scene::new();
        scene.prove("ci", "secret").await.unwrap();
        assert_eq!(scene.prove_for(&users(&[("ci", "new")]), "ci", "secret").await, Err(Refused::Wrong));
        assert_eq!(scene.prove_for(&users(&[]), "ci", "secret").await, Err(Refused::Wrong));
        assert_eq!(scene.prove_for(&users(&[("ci", "new")]), "ci", "new").await, Ok("ci".to_owned()));
    }

    #[tokio::test]
    async fn guessing_ends_after_ten_failures_and_what_is_known_goes_on() {
        let scene = Scene::new();
        scene.prove("ci", "secret").await.unwrap();
        for n in 0..MOST {
            assert_eq!(scene.prove(["ci", "nobody"][n as usize % 2], &n.to_string()).await, Err(Refused::Wrong));
        }
        for (name, password) in [("ci", "wrong"), ("nobody", "x"), ("ops", "other")] {
            assert!(matches!(scene.prove(name, password).await, Err(Refused::Limited { .. })), "{name}");
        }
        assert_eq!(scene.prove("ci", "secret").await, Ok("ci".to_owned()));
        let elsewhere = Scene { source: [10, 0, 0, 2].into(), ..scene };
        assert_eq!(elsewhere.prove("ops", "other").await, Ok("ops".to_owned()));
    }

    #[tokio::test]
    async fn leaving_early_is_no_way_to_guess_for_longer() {
        let scene = Scene::new();
        assert_eq!(scene.prove("ci", "first").now_or_never(), None);
        for n in 1..MOST {
            assert_eq!(scene.prove("ci", &n.to_string()).await, Err(Refused::Wrong));
        }
        assert!(matches!(scene.prove("ci", "last").await, Err(Refused::Limited { .. })));
    }

    #[tokio::test]
    async fn who_leaves_early_with_the_right_password_is_known_all_the_same() {
        let scene = Scene::new();
        for _ in 0..3 * MOST {
            assert_eq!(scene.prove("ci", "secret").now_or_never().and_then(Result::err), None);
            drop(scene.occupy().await);
        }
        assert!(scene.knows("ci", "secret", Duration::ZERO));
        assert_eq!(scene.prove("ops", "other").await, Ok("ops".to_owned()));
    }

    #[tokio::test]
    async fn many_with_one_password_are_one_comparison() {
        let scene = Scene::new();
        let one = scene.passwords.0.turns.clone().acquire_owned().await.unwrap();
        let (mut first, mut second) = (pin!(scene.prove("ci", "secret")), pin!(scene.prove("ci", "secret")));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(first.await, Ok("ci".to_owned()));
        assert_eq!(second.now_or_never(), Some(Ok("ci".to_owned())), "it waits for no comparison of its own");
        drop(one);
        let many = join_all((0..3 * MOST).map(|_| scene.prove("ops", "other"))).await;
        assert!(many.iter().all(Result::is_ok), "{many:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_compared_in_time_is_told_to_come_again() {
        let scene = Scene::new();
        let all = scene.occupy().await;
        let busy = Err(Refused::Busy { after: LATER });
        assert_eq!(scene.prove("ci", "secret").await, busy);
        let crowd = scene.passwords.0.queue.clone().acquire_many_owned(u32::try_from(AT_ONCE + WAITING).unwrap()).await.unwrap();
        assert_eq!(scene.prove("ci", "secret").now_or_never(), Some(busy));
        drop((all, crowd));
        assert_eq!(scene.prove("ci", "secret").await, Ok("ci".to_owned()));
    }
}
