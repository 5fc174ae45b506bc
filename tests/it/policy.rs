//! `roadstead policy`: what an operator asks about a policy, on the real program.

use std::path::PathBuf;
use std::process::Output;

use tempfile::TempDir;

use super::support::process::run;

const POLICY: &str = r#"[cache]
directory = "cache"
[[listener]]
name = "nodes"
address = "127.0.0.1:5000"
[[registry]]
name = "docker.io"
[[registry]]
name = "ghcr.io"
credentials = { kind = "basic", username = "us", password = "hunter2" }
[policy]
default = "deny"
[[policy.statement]]
id = "hub"
effect = "allow"
resources = ["docker.io/**"]
[[policy.statement]]
id = "ci"
effect = "allow"
sources = ["10.0.0.0/8"]
except = ["10.9.0.0/16"]
principals = ["user:ci"]
actions = ["pull"]
resources = ["ghcr.io/acme/*"]
[[policy.statement]]
id = "no-latest"
effect = "deny"
resources = ["docker.io/acme/app:latest"]
[[policy.statement]]
id = "tls"
effect = "deny"
mode = "shadow"
conditions = { tls = false, hours = "22:00-06:00", days = ["sat", "sun"], user_agent = ["curl/*"] }
"#;
const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(TempDir::new().unwrap());
        bench.write("policy.toml", POLICY);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `roadstead policy VERB --config policy.toml …`, with what begins with a `/` taken for a file of the bench.
    async fn run(&self, verb: &str, arguments: &[&str]) -> Said {
        let file = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let arguments = arguments.iter().map(|argument| argument.strip_prefix('/').map_or((*argument).to_owned(), file));
        let all: Vec<_> = ["policy", verb, "--config"].map(str::to_owned).into_iter().chain([file("policy.toml")]).collect();
        let all: Vec<_> = all.into_iter().chain(arguments).collect();
        Said(run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await)
    }
}

struct Said(Output);

impl Said {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn out(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    fn err(&self) -> String {
        let text = std::str::from_utf8(&self.0.stderr).unwrap();
        // The configuration's own warning is not what these tests are about.
        text.lines().filter(|line| !line.contains("credentials.password")).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }
}

const CI: [&str; 4] = ["--source", "10.1.2.3", "--principal", "user:ci"];

#[tokio::test]
async fn a_described_request_is_decided_and_held_against_what_is_expected() {
    let bench = Bench::new();
    for (arguments, told) in [
        (&["docker.io/busybox:1"][..], "allow, by hub on line 14\n"),
        (&["ghcr.io/acme/app:1"], "deny, by default: no statement allows it\n"),
        (&[&CI[..], &["ghcr.io/acme/app:1"]].concat(), "allow, by ci on line 18\n"),
        (&[&CI[..], &["--action", "list", "ghcr.io/acme/app"]].concat(), "deny, by default: no statement allows it\n"),
        (&[&CI[..], &["--action", "pull", "ghcr.io/acme/app:1"]].concat(), "allow, by ci on line 18\n"),
        (&["docker.io/acme/app:latest"], "deny, by no-latest on line 26\n"),
        (
            &["--action", "blob:get", &format!("docker.io/acme/app@{DIGEST}")],
            "limited, by hub on line 14: it depends on the tags and digests by which the content was reached\n",
        ),
        (
            &["--user-agent", "curl/8", "--time", "2026-08-22T23:00:00Z", "docker.io/busybox:1"],
            "shadow-deny, by tls on line 30: it is served, and would be refused if that were enforced\n",
        ),
        (
            &["--tls", "--user-agent", "curl/8", "--time", "2026-08-22T23:00:00Z", "docker.io/busybox:1"],
            "allow, by hub on line 14\n",
        ),
    ] {
        let said = bench.run("test", arguments).await;
        assert_eq!((said.code(), said.out()), (0, told), "{arguments:?} {}", said.err());
        let answer = told.split(',').next().unwrap();
        assert_eq!(bench.run("test", &[arguments, &["--expect", answer]].concat()).await.code(), 0);
        let other = if answer == "deny" { "allow" } else { "deny" };
        let wrong = bench.run("test", &[arguments, &["--expect", other]].concat()).await;
        assert_eq!((wrong.code(), wrong.out(), wrong.err()), (1, told, format!("expected was {other}")));
    }
    let json = bench.run("test", &["--json", "docker.io/busybox:1"]).await.json();
    assert_eq!((&json["answer"], &json["statement"], &json["line"]), (&"allow".into(), &"hub".into(), &14.into()));
}

#[tokio::test]
async fn our_credentials_for_a_registry_count_in_what_is_asked() {
    let bench = Bench::new();
    bench.write("policy.toml", POLICY.replace("default = \"deny\"", "default = \"allow\""));
    let said = bench.run("test", &["ghcr.io/other/app:1"]).await;
    assert!(said.out().starts_with("deny, by default: its registry is asked with credentials"), "{}", said.out());
    assert_eq!(bench.run("test", &["--principal", "cn:x", "ghcr.io/other/app:1"]).await.out(), "allow, by default\n");
}

#[tokio::test]
async fn a_request_that_means_nothing_is_told_before_anything_is_decided() {
    let bench = Bench::new();
    for (arguments, told) in [
        (&["docker.io"][..], "names no repository of a registry"),
        (&["docker.io/a:v*"], "is not one tag"),
        (&["--principal", "ci", "docker.io/a:1"], "is not a principal"),
        (&["--endpoint", "azure:x", "docker.io/a:1"], "is not an endpoint"),
        (&["--time", "noon", "docker.io/a:1"], "is not a time"),
        (&["--action", "pull", "docker.io/a"], "does not go with this resource"),
        (&["--cases", "/missing.toml"], "missing.toml: cannot be read"),
    ] {
        let said = bench.run("test", arguments).await;
        assert_eq!((said.code(), said.out()), (1, ""), "{arguments:?}");
        assert!(said.err().contains(told), "{arguments:?}: {}", said.err());
    }
    for wrong in [&[][..], &["--cases", "/c", "docker.io/a:1"], &["--cases", "/c", "--tls"], &["--source", "x", "docker.io/a:1"]] {
        assert_eq!(bench.run("test", wrong).await.code(), 2, "{wrong:?}");
    }
}

const CASES: &str = r#"
case = [
  { describe = "anybody", request = { resource = "docker.io/busybox:1" }, expect = "allow", by = "hub" },
  { describe = "ci", request = { resource = "ghcr.io/acme/app:1", principals = ["user:ci"], source = "10.0.0.1" }, expect = "allow" },
  { describe = "by default", request = { resource = "ghcr.io/acme/app:1" }, expect = "deny", by = "default" },
]
[[group]]
about = "a policy of its own"
policy = "policy = { default = 'allow' }"
case = [{ describe = "all", request = { resource = "ghcr.io/acme/app:1" }, expect = "allow" }]
"#;

#[tokio::test]
async fn a_table_of_cases_is_run_and_each_difference_told() {
    let bench = Bench::new();
    bench.write("cases.toml", CASES);
    let said = bench.run("test", &["--cases", "/cases.toml"]).await;
    assert_eq!((said.code(), said.out()), (0, "4 cases, 4 as expected, 0 different\n"), "{}", said.err());
    bench.write(
        "cases.toml",
        CASES
            .replace("\"hub\"", "\"ci\"")
            .replace("expect = \"deny\", by = \"default\"", "expect = \"allow\"")
            .replace("'allow'", "'deny'"),
    );
    let said = bench.run("test", &["--cases", "/cases.toml"]).await;
    let told = "a policy of its own: all\n  expected allow, found deny by default\n\
                anybody\n  expected allow by ci, found allow by hub\n\
                by default\n  expected allow, found deny by default\n\
                4 cases, 1 as expected, 3 different\n";
    assert_eq!((said.code(), said.out()), (1, told));
    let json = bench.run("test", &["--json", "--cases", "/cases.toml"]).await;
    assert_eq!((json.code(), &json.json()["different"], &json.json()["differences"][1]["by"]), (1, &3.into(), &"hub".into()));
    bench.write("cases.toml", "case = []\n");
    assert!(bench.run("test", &["--cases", "/cases.toml"]).await.err().contains("there is no case in it"));
}

#[tokio::test]
async fn the_truth_table_can_be_run_by_anybody() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policy/truth-table.toml");
    let said = Said(run(&["policy", "test", "--cases", table]).await);
    assert!(said.code() == 0 && said.out().ends_with(" as expected, 0 different\n"), "{}", said.out());
    let bench = Bench::new();
    bench.write("cases.toml", CASES);
    let said = Said(run(&["policy", "test", "--cases", bench.path("cases.toml").to_str().unwrap()]).await);
    assert_eq!((said.code(), said.out()), (1, ""));
    assert!(said.err().contains("brings no policy, and none is given; name a configuration with --config"), "{}", said.err());
}

#[tokio::test]
async fn explain_says_of_every_statement_why_it_does_not_match() {
    let bench = Bench::new();
    let said = bench
        .run("explain", &["--source", "10.9.1.1", "--endpoint", "nodes", "--time", "2026-08-21T10:00:00Z", "ghcr.io/acme/app:1"])
        .await;
    let told = "deny, by default: no statement allows it\n  \
        hub (line 14, allow) does not match: resources: ghcr.io/acme/app:1 is none of docker.io/**\n  \
        ci (line 18, allow) does not match: sources: 10.9.1.1 is not in 10.0.0.0/8 except 10.9.0.0/16; nor by principals\n  \
        no-latest (line 26, deny) does not match: resources: ghcr.io/acme/app:1 is none of docker.io/acme/app:latest\n  \
        tls (line 30, deny, shadow) does not match: conditions.hours: 10:00 UTC is not in 22:00-06:00; nor by conditions.days, conditions.user_agent\n";
    assert_eq!((said.code(), said.out()), (0, told), "{}", said.err());
    let blob = format!("docker.io/acme/app@{DIGEST}");
    let said = bench.run("explain", &["--action", "blob:get", &blob]).await;
    for line in ["hub (line 14, allow) matches\n", "no-latest (line 26, deny) depends on the tags and digests by which"] {
        assert!(said.out().contains(line), "{}", said.out());
    }
    let json = bench.run("explain", &["--json", "ghcr.io/acme/app:1"]).await.json();
    let misses = &json["statements"][1]["misses"];
    assert_eq!((&misses[0]["key"], &misses[0]["given"]), (&"sources".into(), &"127.0.0.1".into()));
    assert_eq!((&misses[1]["given"], &misses[1]["wanted"]), (&"anonymous".into(), &"user:ci".into()));
}

/// A record of a request, as the audit log has it.
fn record(who: &str, action: &str, name: &str, reference: &str, decision: &str) -> String {
    let (registry, repository) = name.split_once('/').unwrap();
    format!(
        "{{\"schema\":1,\"time\":\"2026-08-21T10:00:00.000Z\",\"event\":\"request\",\"event_id\":\"a-1\",\"request_id\":\"1\",\
         \"listener\":\"nodes\",\"endpoint\":{{\"id\":\"nodes\",\"source\":\"listener\"}},\"peer_ip\":\"10.0.0.1\",\
         \"client_ip\":\"10.0.0.1\",\"client_port\":7,{who}\"method\":\"GET\",\"path\":\"/\",\"action\":\"{action}\",\
         \"registry\":\"{registry}\",\"repository\":\"{repository}\",\"reference\":{{{reference}}},\
         \"decision\":\"{decision}\",\"statement\":\"default\",\"policy\":\"0123456789abcdef\",\"status\":200,\"bytes\":0}}\n"
    )
}

fn log() -> Vec<String> {
    let (v1, digest) = ("\"tag\":\"v1\"", format!("\"digest\":\"{DIGEST}\""));
    let ci = "\"identity\":[\"user:ci\"],";
    let latest = format!("\"tag\":\"latest\"}},\"resolved_digest\":\"{DIGEST}\",\"x\":{{");
    vec![
        "{\"chain\":{\"number\":0,\"records\":0}}\n".to_owned(),
        record("", "manifest", "docker.io/library/busybox", v1, "allow"),
        record(ci, "manifest", "ghcr.io/acme/app", v1, "allow"),
        record(ci, "blob", "ghcr.io/acme/app", &digest, "deny"),
        record("", "manifest", "ghcr.io/acme/app", v1, "allow"),
        record("", "manifest", "quay.io/acme/one", v1, "allow"),
        record("", "manifest", "ghcr.io/acme/app", v1, "shadow-deny"),
        record("", "blob", "docker.io/acme/app", &digest, "allow"),
        record("", "manifest", "docker.io/acme/app", &latest, "allow"),
        "{\"schema\":1,\"time\":\"2026-08-21T10:00:00.000Z\",\"event\":\"connection\",\"reason\":\"x\"}\n".to_owned(),
        "{\"schema\":1,\"time\":\"2026-08-21T10:00:00.000Z\",\"event\":\"request\",\"path\":\"/v2/\",\"status\":401}\n".to_owned(),
        "{\"schema\":1,\"time\":\"2026-08-2\n".to_owned(),
    ]
}

#[tokio::test]
async fn recorded_requests_are_asked_about_again() {
    let bench = Bench::new();
    bench.write("audit.log", log().concat());
    let said = bench.run("simulate", &["--audit", "/audit.log"]).await;
    let told = "8 decisions, 2 the same\n\
        4 newly denied\n         \
        2  nodes  anonymous  ghcr.io/acme/app  manifest, by default\n         \
        1  nodes  anonymous  docker.io/acme/app  manifest, by no-latest\n         \
        1  nodes  anonymous  quay.io/acme/one  manifest, by default\n\
        1 newly allowed\n         \
        1  nodes  user:ci  ghcr.io/acme/app  blob, by ci\n\
        0 newly denied if what is only tried out were enforced\n\
        1 depend on the tags by which the content was reached\n         \
        1  nodes  anonymous  docker.io/acme/app  blob, by hub\n\
        1 requests were answered before the policy was asked, and are not counted\n\
        1 lines cannot be read, and are not counted\n";
    assert_eq!((said.code(), said.out()), (0, told));
    assert!(said.err().contains("audit.log:12: not a record: EOF"), "{}", said.err());
    let top = bench.run("simulate", &["--top", "1", "--audit", "/audit.log"]).await;
    assert!(top.out().contains("by default\n  and 2 more groups (--top 3)\n1 newly allowed"), "{}", top.out());
    let json = bench.run("simulate", &["--json", "--fail-on-change", "--audit", "/audit.log", "/audit.log"]).await;
    assert_eq!((json.code(), &json.json()["newly_denied"], &json.json()["groups"][0]["requests"]), (1, &8.into(), &4.into()));
    assert_eq!(json.json()["groups"][0]["change"], "newly-denied");
}

#[tokio::test]
async fn a_log_without_changes_fails_nothing_and_an_endless_line_is_passed_over() {
    let bench = Bench::new();
    let same = &log()[1];
    bench.write("audit.log", format!("{same}{}\n{same}", "x".repeat(3 << 20)));
    let said = bench.run("simulate", &["--fail-on-change", "--audit", "/audit.log"]).await;
    assert!(said.code() == 0 && said.out().starts_with("2 decisions, 2 the same\n0 newly denied\n"), "{}", said.out());
    assert!(said.err().contains("audit.log:2: longer than 256 KiB"), "{}", said.err());
    let missing = bench.run("simulate", &["--audit", "/missing.log"]).await;
    assert!(missing.code() == 1 && missing.err().contains("missing.log: cannot be read: No such file"), "{}", missing.err());
}
