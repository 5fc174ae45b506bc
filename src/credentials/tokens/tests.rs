use http::header::WWW_AUTHENTICATE;

use super::*;
use crate::config;
use crate::credentials::Authenticator;
use crate::egress::scripted::{Reply, Scripted, registry};
use crate::telemetry::Telemetry;

const MINUTE: Duration = Duration::from_secs(60);

/// An authenticator for `https://r.test` with a token server at `https://auth.test/token` that is `script`.
fn authenticator(script: &Arc<Scripted>, password: Option<&str>) -> Authenticator {
    let mut registry = registry("https://r.test");
    registry.realm = Some("https://auth.test/token".parse().unwrap());
    let way = Arc::new(Way::new(&registry, &config::Egress::default()).unwrap());
    let credentials = password.map(|password| Credentials { username: "u".to_owned(), password: config::Secret::new(password) });
    let tokens = Tokens::new(Client::new(script.clone(), Telemetry::quiet()), way, credentials);
    Authenticator::new(registry.urls[0].clone(), registry.realm, Arc::new(tokens))
}

/// A token server that gives out `t1`, `t2`, … which live `expires` seconds.
fn server(expires: u64) -> Arc<Scripted> {
    let count = std::sync::atomic::AtomicU64::new(0);
    Scripted::new(move |_, _| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        Reply::ok(format!(r#"{{"token":"t{n}","expires_in":{expires}}}"#))
    })
}

fn challenge(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(WWW_AUTHENTICATE, value.parse().unwrap())])
}

fn bearer() -> HeaderMap {
    challenge(r#"Bearer realm="https://auth.test/token",service="s & t",scope="repository:wide:pull,push""#)
}

fn text(header: Result<HeaderValue, Error>) -> String {
    header.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_anonymous_token_is_asked_for_just_what_is_needed() {
    let server = server(300);
    let authenticator = authenticator(&server, None);
    let scope = Scope::pull("library/busybox");
    assert_eq!(authenticator.first(&scope).await.unwrap(), None);
    assert_eq!(text(authenticator.after(&bearer(), None, &scope).await), "Bearer t1");
    assert_eq!(server.lines(), ["GET https://auth.test/token?service=s+%26+t&scope=repository%3Alibrary%2Fbusybox%3Apull"]);
    assert!(!server.seen()[0].headers.contains_key(AUTHORIZATION));
}

#[tokio::test]
async fn the_query_of_a_realm_asks_for_nothing_that_is_ours_to_say() {
    let server = server(300);
    let headers = challenge(
        r#"Bearer realm="https://auth.test/token?scope=repository:secret:pull&x=a%20b&%73ervice=t&account=v#f",service="s""#,
    );
    authenticator(&server, None).after(&headers, None, &Scope::pull("a")).await.unwrap();
    assert_eq!(server.lines(), ["GET https://auth.test/token?x=a+b&service=s&scope=repository%3Aa%3Apull"]);
}

#[tokio::test]
async fn credentials_go_to_the_token_server_as_basic() {
    let server = server(300);
    let authenticator = authenticator(&server, Some("p:w"));
    assert_eq!(text(authenticator.after(&bearer(), None, &Scope::pull("a")).await), "Bearer t1");
    let request = &server.seen()[0];
    assert_eq!(request.headers[AUTHORIZATION], "Basic dTpwOnc=");
    assert!(request.headers[AUTHORIZATION].is_sensitive());
    assert!(request.url.as_str().ends_with("&account=u"), "{}", request.url);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_used_until_shortly_before_its_end() {
    let server = server(300);
    let authenticator = authenticator(&server, None);
    let scope = Scope::pull("a");
    assert_eq!(text(authenticator.after(&bearer(), None, &scope).await), "Bearer t1");
    for (wait, token) in [(0, "t1"), (280, "t1"), (11, "t2"), (0, "t2")] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert_eq!(authenticator.first(&scope).await.unwrap().unwrap(), format!("Bearer {token}"), "after {wait}");
    }
    assert_eq!(authenticator.first(&Scope::pull("b")).await.unwrap().unwrap(), "Bearer t3");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_had_worked_is_replaced_when_it_is_refused_and_one_that_never_did_is_not() {
    let server = server(300);
    let authenticator = authenticator(&server, None);
    let scope = Scope::pull("a");
    let first = authenticator.after(&bearer(), None, &scope).await.unwrap();
    authenticator.accepted(&first, &scope);
    let second = authenticator.after(&bearer(), Some(&first), &scope).await.unwrap();
    assert_eq!(second, "Bearer t2");
    assert!(authenticator.after(&bearer(), Some(&second), &scope).await.is_err());
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_who_need_one_token_share_the_fetch_and_its_failure() {
    let slow = |reply: fn() -> Reply| Scripted::new(move |_, _| Reply::After(Duration::from_secs(1), Box::new(reply())));
    let good = slow(|| Reply::ok(r#"{"token":"t"}"#));
    let bad = slow(|| Reply::status(503));
    for (server, ok) in [(good, true), (bad, false)] {
        let authenticator = authenticator(&server, None);
        let (headers, scope) = (bearer(), Scope::pull("a"));
        let started = Instant::now();
        let all = futures_util::future::join_all((0..50).map(|_| authenticator.after(&headers, None, &scope))).await;
        assert!(all.iter().all(|result| result.is_ok() == ok));
        assert_eq!((server.seen().len(), started.elapsed().as_secs()), (1, 1));
        // A server that failed is asked again by whoever comes later.
        let _ = authenticator.after(&headers, None, &scope).await;
        assert_eq!(server.seen().len(), if ok { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_takes_over_from_one_who_left() {
    let server = Scripted::new(|_, _| Reply::After(Duration::from_secs(1), Box::new(Reply::ok(r#"{"token":"t"}"#))));
    let authenticator = authenticator(&server, None);
    let (headers, scope) = (bearer(), Scope::pull("a"));
    let gone = tokio::time::timeout(Duration::from_millis(500), authenticator.after(&headers, None, &scope));
    let (gone, stays) = tokio::join!(gone, authenticator.after(&headers, None, &scope));
    assert!(gone.is_err() && stays.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once_and_not_in_a_loop() {
    let server = server(3600);
    let authenticator = authenticator(&server, None);
    let (headers, scope) = (bearer(), Scope::pull("a"));
    let first = authenticator.after(&headers, None, &scope).await.unwrap();
    for _ in 0..5 {
        let again = authenticator.after(&headers, Some(&first), &scope).await;
        assert_eq!(again, Err(Error::Rejected("auth.test".to_owned())));
    }
    assert_eq!(server.seen().len(), 1);
    tokio::time::advance(MINUTE).await;
    assert_eq!(text(authenticator.after(&headers, Some(&first), &scope).await), "Bearer t2");
    assert_eq!(text(authenticator.after(&headers, Some(&first), &scope).await), "Bearer t2");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_never_worked_rests_after_a_refusal() {
    let server = Scripted::new(|_, _| Reply::status(401));
    let authenticator = authenticator(&server, Some("wrong"));
    let rejected = Err(Error::Rejected("auth.test".to_owned()));
    for repository in ["a", "a", "b", "c"] {
        assert_eq!(authenticator.after(&bearer(), None, &Scope::pull(repository)).await, rejected);
    }
    assert_eq!(server.seen().len(), 1);
    tokio::time::advance(MINUTE).await;
    assert_eq!(authenticator.after(&bearer(), None, &Scope::pull("b")).await, rejected);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn one_forbidden_repository_does_not_shut_out_the_others() {
    let server = Scripted::new(|_, request| match request.url.as_str().contains("secret") {
        true => Reply::status(401),
        false => Reply::ok(r#"{"token":"t"}"#),
    });
    let authenticator = authenticator(&server, Some("right"));
    assert!(authenticator.after(&bearer(), None, &Scope::pull("a")).await.is_ok());
    assert!(authenticator.after(&bearer(), None, &Scope::pull("secret")).await.is_err());
    assert!(authenticator.after(&bearer(), None, &Scope::pull("b")).await.is_ok());
}

#[tokio::test]
async fn a_realm_that_is_not_the_registry_s_gets_nothing() {
    for password in [None, Some("p")] {
        let server = server(300);
        let authenticator = authenticator(&server, password);
        let headers = challenge(r#"Bearer realm="https://evil.test/token",service="s""#);
        let error = authenticator.after(&headers, None, &Scope::pull("a")).await.unwrap_err();
        assert_eq!(error, Error::Realm("https://evil.test/token".to_owned()));
        assert!(error.to_string().contains("set realm = \"https://evil.test/token\""), "{error}");
        assert!(server.seen().is_empty());
        assert_eq!(authenticator.first(&Scope::pull("a")).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_server_s_failures_keep_their_meaning() {
    let fails = async |reply: fn() -> Reply| {
        let authenticator = authenticator(&Scripted::new(move |_, _| reply()), None);
        authenticator.after(&bearer(), None, &Scope::pull("a")).await.unwrap_err()
    };
    assert!(matches!(fails(|| Reply::Hang).await, Error::Egress(error) if error.kind == egress::Kind::TimedOut));
    assert!(matches!(fails(|| Reply::status(503)).await, Error::Failed { .. }));
    assert!(matches!(fails(|| Reply::status(307)).await, Error::Failed { .. }));
    assert!(matches!(fails(|| Reply::ok("<html>")).await, Error::Failed { .. }));
    assert!(matches!(fails(|| Reply::status(401)).await, Error::Missing(_)));
    assert!(matches!(fails(|| Reply::status(403)).await, Error::Rejected(_)));
    assert!(matches!(
        fails(|| Reply::status(429).header("retry-after", "7")).await,
        Error::RateLimited { retry_after: Some(wait), .. } if wait.as_secs() == 7
    ));
    let endless = fails(|| Reply::ok(vec![b' '; MAX_ANSWER as usize + 1])).await;
    assert!(matches!(endless, Error::Egress(error) if error.kind == egress::Kind::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn basic_is_sent_where_it_is_asked_for() {
    let nobody = server(300);
    let authenticator = authenticator(&nobody, Some("pw"));
    let (headers, scope) = (challenge("Basic realm=\"x\""), Scope::pull("a"));
    let header = authenticator.after(&headers, None, &scope).await.unwrap();
    assert_eq!(header, "Basic dTpwdw==");
    assert_eq!(authenticator.first(&scope).await.unwrap(), Some(header.clone()));
    let rejected = Err(Error::Rejected("r.test".to_owned()));
    assert_eq!(authenticator.after(&headers, Some(&header), &scope).await, rejected);
    assert!(authenticator.first(&scope).await.is_err(), "a refused password rests");
    tokio::time::advance(MINUTE).await;
    assert_eq!(authenticator.first(&scope).await.unwrap(), Some(header.clone()));
    authenticator.accepted(&header, &scope);
    assert_eq!(authenticator.after(&headers, Some(&header), &scope).await, rejected);
    assert!(authenticator.first(&Scope::pull("b")).await.is_ok());
    assert!(nobody.seen().is_empty());
}

#[tokio::test]
async fn without_credentials_basic_cannot_be_met() {
    let authenticator = authenticator(&server(300), None);
    let error = authenticator.after(&challenge("Basic"), None, &Scope::pull("a")).await.unwrap_err();
    assert!(matches!(error, Error::Missing(_)));
    assert!(matches!(authenticator.after(&HeaderMap::new(), None, &Scope::pull("a")).await, Err(Error::Missing(_))));
}
