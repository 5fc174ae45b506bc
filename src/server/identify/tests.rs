use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::super::path;
use super::super::snapshot::Snapshot;
use super::*;
use crate::config::Config;
use crate::request::Principal;

const MANIFEST: &str = "/v2/docker.io/library/app/manifests/latest";

/// One process, and a file of users that may change under it.
struct Scene {
    folder: tempfile::TempDir,
    identify: Identify,
    telemetry: Arc<Telemetry>,
}

impl Scene {
    fn new() -> Self {
        let telemetry = Telemetry::quiet();
        let scene = Self { folder: tempfile::tempdir().unwrap(), identify: Identify::new(telemetry.clone()), telemetry };
        scene.write(&[("ci", "secret"), ("ops", "other")]);
        scene
    }

    fn write(&self, users: &[(&str, &str)]) {
        let line = |(name, password): &(&str, &str)| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(self.folder.path().join("users"), users.iter().map(line).collect::<String>()).unwrap();
    }

    /// What a reload makes of the file as it is now: a listener in each mode, and one without users.
    fn load(&self) -> Snapshot {
        self.try_load().unwrap()
    }

    fn try_load(&self) -> Result<Snapshot, crate::identity::Error> {
        let text = "
            [[listener]]
            name = 'require'
            address = '127.0.0.1:0'
            users = { file = 'users' }
            [[listener]]
            name = 'optional'
            address = '127.0.0.1:0'
            users = { file = 'users', mode = 'optional', realm = 'https://mirror.example/token' }
            [[listener]]
            name = 'open'
            address = '127.0.0.1:0'
        ";
        let environment = |key: &str| (key == "HOME").then(|| "/nonexistent".to_owned());
        let file = self.folder.path().join("roadstead.toml");
        Snapshot::new(Arc::new(Config::parse(text, Path::new(&file), &environment).unwrap().0), None)
    }

    /// Who asks, in words: `anonymous`, the names that were proved, or what was answered instead.
    async fn ask(&self, now: &Snapshot, listener: &str, path: &str, shown: &str) -> String {
        let request = request(listener, path, shown);
        let mut outcome = Outcome::open(&self.telemetry, "GET", path);
        outcome.caller(request.caller.clone(), None);
        let asked = path::parse(&request.path);
        match self.identify.who(now.door(listener), &request, asked.as_ref().ok(), &mut outcome).await {
            Ok(who) => {
                assert_eq!(outcome.caller.as_ref().unwrap().principals, who.caller.principals);
                names(&who.caller)
            }
            Err(fault) => told(&fault),
        }
    }

    /// The Authorization that the token server gives for `shown`.
    async fn token(&self, now: &Snapshot, listener: &str, shown: &str) -> Result<String, String> {
        let (request, mut outcome) =
            (request(listener, challenge::TOKEN_PATH, shown), Outcome::open(&self.telemetry, "GET", "/token"));
        let token = self.identify.grant(now.door(listener).unwrap(), &request, &mut outcome).await;
        Ok(format!("Bearer {}", token.map_err(|fault| told(&fault))?))
    }

    fn logins(&self, labels: &str, times: u32) -> bool {
        let line = format!("roadstead_logins_total{{{labels}}} {times}\n");
        self.telemetry.metrics.render(&self.telemetry.health).contains(&line)
    }
}

fn request(listener: &str, path: &str, shown: &str) -> Request {
    let shown = (!shown.is_empty()).then(|| (AUTHORIZATION, shown.parse().unwrap()));
    Request {
        method: http::Method::GET,
        path: path.to_owned(),
        query: None,
        headers: HeaderMap::from_iter(shown),
        host: "mirror.test:5000".to_owned(),
        caller: Caller::direct(listener.into(), ([10, 0, 0, 1], 4000).into()).into(),
    }
}

fn basic(login: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

fn names(caller: &Caller) -> String {
    let names: Vec<&str> = caller.principals.iter().map(Principal::as_str).collect();
    if names.is_empty() { "anonymous".to_owned() } else { names.join(" ") }
}

fn told(fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::Unauthorized { challenge } => challenge.clone(),
        kind => format!("{kind:?}"),
    }
}

const REQUIRE: &str = "Bearer realm=\"http://mirror.test:5000/token\",service=\"roadstead\"";
const OPTIONAL: &str = "Bearer realm=\"https://mirror.example/token\",service=\"roadstead\"";
const SCOPE: &str = ",scope=\"repository:docker.io/library/app:pull\"";
const INVALID: &str = ",error=\"invalid_token\"";

#[tokio::test]
async fn what_is_shown_decides_who_asks() {
    let scene = Scene::new();
    let now = scene.load();
    let user = scene.token(&now, "require", &basic("ci:secret")).await.unwrap();
    let other = scene.token(&now, "optional", &basic("ci:secret")).await.unwrap();
    let anonymous = scene.token(&now, "optional", "").await.unwrap();
    // From before a reload that made the listener ask everybody.
    let outdated = format!("Bearer {}", scene.identify.tokens.issue(Holder::Anonymous, "require", Instant::now()));
    let require = |more: &str| format!("{REQUIRE}{more}");
    let optional = |more: &str| format!("{OPTIONAL}{more}");
    for (listener, path, shown, who) in [
        ("require", "/v2/", "", require("")),
        ("require", MANIFEST, "", require(SCOPE)),
        ("require", "/v2/_catalog", "", require("")),
        ("require", "/v2/", &*basic("ci:secret"), "user:ci".to_owned()),
        ("require", MANIFEST, &*basic("ops:other"), "user:ops".to_owned()),
        ("require", MANIFEST, &*user, "user:ci".to_owned()),
        ("require", MANIFEST, &*basic("ci:other"), require(SCOPE)),
        ("require", MANIFEST, &*basic("nobody:secret"), require(SCOPE)),
        ("require", MANIFEST, "Negotiate abc", require(SCOPE)),
        ("require", MANIFEST, "Bearer abc", require(&format!("{SCOPE}{INVALID}"))),
        ("require", "/v2/", &*outdated, require(INVALID)),
        // A token is good where it was issued.
        ("require", "/v2/", &*other, require(INVALID)),
        ("optional", "/v2/", "", optional("")),
        ("optional", "/v2", "", optional("")),
        ("optional", MANIFEST, "", "anonymous".to_owned()),
        ("optional", "/v2/", &*anonymous, "anonymous".to_owned()),
        ("optional", MANIFEST, &*anonymous, "anonymous".to_owned()),
        ("optional", MANIFEST, &*other, "user:ci".to_owned()),
        ("optional", MANIFEST, &*basic("ci:secret"), "user:ci".to_owned()),
        ("optional", MANIFEST, &*basic("ci:wrong"), optional(SCOPE)),
        ("optional", "/v2/", "Bearer abc", optional(INVALID)),
        ("optional", MANIFEST, "Basic ?", optional(SCOPE)),
        ("open", "/v2/", "", "anonymous".to_owned()),
        ("open", MANIFEST, &*basic("ci:secret"), "anonymous".to_owned()),
        ("open", MANIFEST, "Bearer abc", "anonymous".to_owned()),
    ] {
        assert_eq!(scene.ask(&now, listener, path, shown).await, who, "{listener} {path} {}", &shown[..shown.len().min(12)]);
    }
}

#[tokio::test]
async fn tokens_are_given_for_a_right_password_or_for_nothing_where_that_is_enough() {
    let scene = Scene::new();
    let now = scene.load();
    let refused = Err(challenge::BASIC.to_owned());
    for listener in ["require", "optional"] {
        for shown in [&*basic("ci:wrong"), &*basic("nobody:secret"), "Bearer abc", "Negotiate abc", "Basic"] {
            assert_eq!(scene.token(&now, listener, shown).await, refused, "{listener} {shown}");
        }
        assert!(scene.token(&now, listener, &basic("ci:secret")).await.is_ok());
    }
    assert_eq!(scene.token(&now, "require", "").await, refused);
    assert!(scene.token(&now, "optional", "").await.is_ok());
}

#[tokio::test]
async fn a_reload_ends_the_tokens_and_passwords_of_whom_it_removes_or_changes_and_of_nobody_else() {
    let scene = Scene::new();
    let now = scene.load();
    let (ci, ops) = (basic("ci:secret"), basic("ops:other"));
    let (token, kept) = (scene.token(&now, "require", &ci).await.unwrap(), scene.token(&now, "require", &ops).await.unwrap());
    let ops_line = std::fs::read_to_string(scene.folder.path().join("users")).unwrap().lines().nth(1).unwrap().to_owned();
    for changed in [String::new(), format!("ci:{}\n", bcrypt::hash("new", 4).unwrap())] {
        std::fs::write(scene.folder.path().join("users"), format!("{changed}{ops_line}\n")).unwrap();
        let after = scene.load();
        assert!(scene.ask(&after, "require", "/v2/", &token).await.ends_with(INVALID));
        assert_eq!(scene.ask(&after, "require", "/v2/", &ci).await, REQUIRE);
        assert_eq!(scene.ask(&after, "require", "/v2/", &kept).await, "user:ops");
        assert_eq!(scene.ask(&after, "require", "/v2/", &ops).await, "user:ops");
    }
    assert_eq!(scene.ask(&now, "require", "/v2/", &token).await, "user:ci", "who began before goes on");
    assert_eq!(scene.ask(&scene.load(), "require", "/v2/", &basic("ci:new")).await, "user:ci");
}

#[tokio::test]
async fn a_certificate_s_names_come_before_the_user_s() {
    let scene = Scene::new();
    let now = scene.load();
    let mut request = request("optional", MANIFEST, &basic("ci:secret"));
    Arc::make_mut(&mut request.caller).principals = [Principal::dns("node-1"), Principal::common_name("node")].into();
    let mut outcome = Outcome::open(&scene.telemetry, "GET", MANIFEST);
    let who = scene.identify.who(now.door("optional"), &request, None, &mut outcome).await.unwrap_or_else(|_| panic!());
    assert_eq!(names(&who.caller), "dns:node-1 cn:node user:ci");
    request.headers.clear();
    let who = scene.identify.who(now.door("optional"), &request, None, &mut outcome).await.unwrap_or_else(|_| panic!());
    assert_eq!(names(&who.caller), "dns:node-1 cn:node");
}

#[tokio::test]
async fn who_gets_a_token_is_on_record() {
    let scene = Scene::new();
    let now = scene.load();
    for (shown, noted) in [(basic("ci:secret"), "user:ci"), (String::new(), "anonymous")] {
        let request = request("optional", challenge::TOKEN_PATH, &shown);
        let mut outcome = Outcome::open(&scene.telemetry, "GET", challenge::TOKEN_PATH);
        outcome.caller(request.caller.clone(), None);
        assert!(scene.identify.token(now.door("optional").unwrap(), &request, &mut outcome).await.is_ok());
        assert_eq!(outcome.caller.as_deref().map(names).as_deref(), Some(noted));
    }
}

#[tokio::test]
async fn a_refusal_asks_whoever_is_no_user_to_log_in() {
    let scene = Scene::new();
    let now = scene.load();
    let denied = || Fault::new(FaultKind::Denied, ErrorCode::Denied, "not allowed");
    let anonymous = scene.token(&now, "optional", "").await.unwrap();
    for (listener, shown, told_is, message) in [
        ("optional", "", format!("{OPTIONAL}{SCOPE}"), "not allowed without a login"),
        ("optional", &*anonymous, format!("{OPTIONAL}{SCOPE},error=\"insufficient_scope\""), "not allowed without a login"),
        ("optional", &*basic("ci:secret"), "Denied".to_owned(), "not allowed"),
        ("require", &*basic("ci:secret"), "Denied".to_owned(), "not allowed"),
        ("open", "", "Denied".to_owned(), "not allowed"),
    ] {
        let request = request(listener, MANIFEST, shown);
        let (asked, mut outcome) = (path::parse(MANIFEST).unwrap(), Outcome::open(&scene.telemetry, "GET", MANIFEST));
        let who = scene.identify.who(now.door(listener), &request, Some(&asked), &mut outcome).await.unwrap_or_else(|_| panic!());
        let fault = who.refused(denied());
        assert_eq!((told(&fault), &*fault.message), (told_is, message), "{listener}");
    }
}

#[tokio::test]
async fn many_failures_are_503_and_every_login_is_counted() {
    let scene = Scene::new();
    let now = scene.load();
    for n in 0..10 {
        assert_eq!(scene.ask(&now, "require", "/v2/", &basic(&format!("ci:{n}"))).await, REQUIRE);
    }
    let request = request("require", "/v2/", &basic("ci:secret"));
    let mut outcome = Outcome::open(&scene.telemetry, "GET", "/v2/");
    let Err(fault) = scene.identify.who(now.door("require"), &request, None, &mut outcome).await else { panic!() };
    assert_eq!((fault.kind, fault.code), (FaultKind::Overloaded, ErrorCode::TooManyRequests));
    assert!(fault.retry_after.is_some_and(|after| after <= std::time::Duration::from_secs(60)), "{:?}", fault.retry_after);
    assert_eq!(scene.token(&now, "require", &basic("ci:secret")).await, Err("Overloaded".to_owned()));
    scene.ask(&now, "require", "/v2/", "Bearer x").await;
    scene.ask(&now, "require", "/v2/", "Basic x").await;
    for (result, times) in [("wrong", 10), ("limited", 2), ("bad_token", 1), ("unreadable", 1)] {
        assert!(scene.logins(&format!("listener=\"require\",result=\"{result}\""), times), "{result}");
    }
}

#[test]
fn a_file_that_cannot_be_used_keeps_the_old_snapshot() {
    let scene = Scene::new();
    std::fs::write(scene.folder.path().join("users"), "# ours\nci:hunter2\n").unwrap();
    let error = scene.try_load().unwrap_err().to_string();
    assert!(error.contains("users:2: the password is hashed by") && !error.contains("hunter2"), "{error}");
}
