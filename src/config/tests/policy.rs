//! `[policy]` and its statements.

use super::*;

/// A file with one statement of these keys, which begin on line 4.
fn statement_with(keys: &str) -> String {
    format!("[[policy.statement]]\nid = 'a'\neffect = 'allow'\n{keys}\n")
}

#[test]
fn statements_without_a_name_or_effect_are_told() {
    each(&[
        (
            "[[policy.statement]]\neffect = 'allow'\n",
            "1: policy.statement.id:",
            "missing; give the statement a name of its own, such as id = \"payments\"",
        ),
        (
            "[[policy.statement]]\nid = 'a'\n",
            "1: policy.statement.effect:",
            "missing; write effect = \"allow\" or effect = \"deny\"",
        ),
        (
            "[[policy.statement]]\nid = 'a'\neffect = 'permit'\n",
            "3: policy.statement.effect:",
            "\"permit\" is not an effect; write \"allow\" or \"deny\"",
        ),
        (
            "[[policy.statement]]\nid = 'a b'\neffect = 'allow'\n",
            "2: policy.statement.id:",
            "\"a b\" is not a name; use at most 64 letters, digits, '.', '_' and '-'",
        ),
        (
            "[[policy.statement]]\nid = 'default'\neffect = 'allow'\n",
            "2: policy.statement.id:",
            "\"default\" is what decisions without a statement are called; choose another name",
        ),
        (
            "[[policy.statement]]\nid = 'a'\neffect = 'allow'\n[[policy.statement]]\nid = 'a'\neffect = 'deny'\n",
            "5: policy.statement.id:",
            "another statement is named \"a\", first on line 2; give each statement a name of its own",
        ),
        (
            "[policy]\nmode = 'dry-run'\n",
            "2: policy.mode:",
            "\"dry-run\" is not a mode; write \"enforce\", or \"shadow\" to only record",
        ),
        (
            "[policy.statement]\nid = 'a'\n",
            "1: policy.statement:",
            "expected a list of tables, found table; write [[policy.statement]], with two brackets",
        ),
    ]);
}

#[test]
fn values_of_statements_that_mean_nothing_are_told() {
    for (keys, place, told) in [
        ("ressources = []", "ressources:", "unknown key; did you mean resources?"),
        ("sources = []", "sources:", "an empty list matches nothing; leave the key out to match everything"),
        ("sources = '10.0.0.0/8'", "sources:", "expected a list, found string; write it in brackets: [\"…\"]"),
        (
            "sources = ['10.0.0.0/33']",
            "sources:",
            "\"10.0.0.0/33\" is not a network; write an address and a prefix length, such as \"10.0.0.0/8\"",
        ),
        (
            "sources = ['10.1.0.0/8']",
            "sources:",
            "\"10.1.0.0/8\" has bits beyond its prefix; write \"10.0.0.0/8\" or \"10.1.0.0/32\"",
        ),
        (
            "except = ['10.0.0.0/8']",
            "except:",
            "cuts out of sources, and there are none; write sources, or not_sources instead of this",
        ),
        ("actions = ['push']", "actions:", "\"push\" is not an action; write pull, list, referrers, manifest:get, blob:get or *"),
        (
            "resources = ['docker.io']",
            "resources:",
            "\"docker.io\" names no repository of a registry; write \"docker.io/**\" for all of it",
        ),
        (
            "resources = ['busybox']",
            "resources:",
            "\"busybox\" names no repository of a registry; write registry/repository, such as \"docker.io/busybox\"",
        ),
        ("principals = [\"a\\u0007\"]", "principals:", "\"a\\u{7}\" has a control character; remove it"),
        (
            "conditions = { hours = '9-17' }",
            "conditions.hours:",
            "\"9-17\" is not a part of the day; write it in UTC, such as \"22:00-06:00\"",
        ),
        (
            "conditions = { hours = '24:01-06:00' }",
            "conditions.hours:",
            "\"24:01-06:00\" is not a part of the day; write it in UTC, such as \"22:00-06:00\"",
        ),
        (
            "conditions = { hours = '06:00-06:00' }",
            "conditions.hours:",
            "\"06:00-06:00\" is no time at all; leave hours out to mean the whole day",
        ),
        (
            "conditions = { days = ['Saturday'] }",
            "conditions.days:",
            "\"Saturday\" is not a day; write mon, tue, wed, thu, fri, sat or sun",
        ),
        (
            "conditions = { tls = 'yes' }",
            "conditions.tls:",
            "expected true or false, found string; write true or false without quotes",
        ),
        (
            "conditions = { not_after = '2026-01-01' }",
            "conditions.not_after:",
            "\"2026-01-01\" is not a moment; write date, time and zone, such as \"2026-01-31T06:00:00Z\"",
        ),
        (
            "conditions = { not_after = 2026-01-01T00:00:00 }",
            "conditions.not_after:",
            "\"2026-01-01T00:00:00\" is not a moment; write date, time and zone, such as \"2026-01-31T06:00:00Z\"",
        ),
        (
            "conditions = { not_before = 2026-01-02T00:00:00Z, not_after = 2026-01-01T00:00:00Z }",
            "conditions.not_after:",
            "is before not_before, so the statement would never hold; correct one of the two",
        ),
    ] {
        assert_eq!(faults(&statement_with(keys)), format!("roadstead.toml:4: policy.statement.{place} {told}"), "{keys}");
    }
}

#[test]
fn more_than_anybody_needs_is_refused() {
    let list = format!("sources = [{}]", "'10.0.0.1',".repeat(1001));
    assert!(faults(&statement_with(&list)).contains("policy.statement.sources: more than 1000 items"));
    let long = format!("principals = ['user:{}']", "x".repeat(600));
    assert!(faults(&statement_with(&long)).contains("policy.statement.principals: longer than 512 bytes"));
    let many: String = (0..10_001).map(|number| format!("[[policy.statement]]\nid = 's{number}'\neffect = 'deny'\n")).collect();
    assert!(faults(&many).starts_with("roadstead.toml:1: policy.statement: more than 10000 statements"), "too many statements");
}

#[test]
fn statements_that_name_what_there_is_not_are_warned_of() {
    for (keys, told) in [
        ("endpoints = ['nodes']", "endpoints: \"nodes\" is no endpoint of this proxy"),
        ("endpoints = ['azure:x']", "endpoints: \"azure:x\" is no endpoint of this proxy"),
        ("endpoints = ['vpc:1']", "endpoints: \"vpc:1\" is no endpoint of this proxy"),
        ("not_principals = ['ci']", "not_principals: \"ci\" is nobody's name"),
        ("principals = ['ci-*']", "principals: \"ci-*\" is nobody's name"),
        ("resources = ['registry.example/a']", "resources: registry.example is not a registry of this proxy"),
    ] {
        let told_of = warnings(&statement_with(keys));
        assert!(
            matches!(&told_of[..], [one] if one.contains(&format!("roadstead.toml:4: policy.statement.{told}"))),
            "{told_of:?}"
        );
    }
    for keys in [
        "endpoints = ['default', 'aws:vpce-1', 'n*', 'azure:1', 'gcp:1']",
        "principals = ['user:ci', '*', 'u*', 'dns:*.example', 'spiffe://a/b', 'cn:x', 'anonymous', '?n:x']",
        "resources = ['ghcr.io/a', 'eu.pkg.dev/a', '*.example/a', '**/a', 'INDEX.docker.io/a']",
    ] {
        assert_eq!(warnings(&statement_with(keys)), [""; 0], "{keys}");
    }
}

#[test]
fn a_policy_that_lets_nobody_or_everybody_pull_is_warned_of() {
    let deny = warnings("[[policy.statement]]\nid = 'a'\neffect = 'deny'\n");
    assert!(deny[0].contains(":1: policy.statement: without a statement that allows, this refuses every request"), "{deny:?}");
    let open = "[[listener]]\naddress = '0.0.0.0:1'\n[policy]\nmode = 'shadow'\ndefault = 'deny'\n";
    let open = warnings(open);
    assert!(
        matches!(&open[..], [one] if one.contains(":4: policy.mode: everybody who reaches the listeners may pull")),
        "{open:?}"
    );
}

#[test]
fn a_limit_of_nobody_is_warned_of() {
    for (by, of, told) in [
        ("endpoint", "vpce-1", Some("\"vpce-1\" is no endpoint of this proxy, so it never matches")),
        ("endpoint", "azure:x", Some("\"azure:x\" is no endpoint of this proxy, so it never matches")),
        ("endpoint", "aws:*", None),
        ("endpoint", "{default,a}", None),
        ("endpoint", "default", None),
        ("principal", "ci", Some("\"ci\" is nobody's name, so it never matches")),
        ("principal", "ci[0-9]", Some("\"ci[0-9]\" is nobody's name, so it never matches")),
        ("principal", "user:[a-z]*", None),
        ("principal", "anonymous", None),
        ("source", "10.0.0.0/8", None),
    ] {
        let told_of = warnings(&format!("[[limit]]\nby = '{by}'\nof = ['{of}']\nrequests = 1\n"));
        let told: Vec<String> = told.into_iter().map(|told| format!("roadstead.toml:3: limit.of: {told}")).collect();
        assert!(told_of.len() == told.len() && told_of.iter().zip(&told).all(|(of, told)| of.starts_with(told)), "{told_of:?}");
    }
}

#[test]
fn a_registry_whose_credentials_serve_nobody_is_warned_of() {
    let credentials = "credentials = { kind = 'basic', username = 'us', password = { file = 'hub-token' } }\n";
    let registry = format!("[[registry]]\nname = 'ghcr.io'\n{credentials}[[registry]]\nname = 'quay.io'\n");
    let told = |rest: &str| warnings(&format!("{registry}{rest}"));
    let allow = |keys: &str| format!("[policy]\ndefault = 'allow'\n[[policy.statement]]\nid = 'a'\neffect = 'allow'\n{keys}\n");
    let warned = ["roadstead.toml:3: registry.credentials: anonymous clients will be refused: those of listener \"default\" are \
                   not asked who they are; write a [[policy.statement]] that allows this registry, or give the listener users \
                   or client_ca"];
    for rest in [
        "".to_owned(),
        allow("resources = ['quay.io/**']"),
        allow("principals = ['user:ci', '*']"),
        allow("not_principals = ['anonymous']"),
        allow("mode = 'shadow'"),
        allow("").replace("effect = 'allow'", "effect = 'deny'"),
    ] {
        assert_eq!(told(&rest), warned, "{rest}");
    }
    for rest in [
        allow(""),
        allow("resources = ['quay.io/**', 'ghcr.io/a/**']"),
        allow("resources = ['*/a']\nprincipals = ['anonymous']\nendpoints = ['default']"),
        "[policy]\nmode = 'shadow'\n".to_owned(),
        "[policy]\ndefault = 'deny'\n[[policy.statement]]\nid = 'a'\neffect = 'allow'\nresources = ['quay.io/**']\n".to_owned(),
    ] {
        assert_eq!(told(&rest), [""; 0], "{rest}");
    }
    let two = "[[listener]]\nname = 'a'\naddress = '127.0.0.1:1'\n[[listener]]\nname = 'b'\naddress = '127.0.0.1:2'\n";
    let told_of = told(&format!("{two}{}", allow("endpoints = ['b']")));
    assert!(matches!(&told_of[..], [one] if one.contains("those of listener \"a\" are not asked")), "{told_of:?}");
}

#[test]
fn statements_open_a_listener_and_deny_the_rest() {
    let config = good(&format!("{}[[listener]]\naddress = '0.0.0.0:1'\n", statement_with("")));
    assert_eq!((config.policy.default, config.policy.mode, config.policy.statements.len()), (Effect::Deny, Mode::Enforce, 1));
    let refused = faults("[[listener]]\naddress = '0.0.0.0:1'\n[policy]\nmode = 'shadow'\n");
    assert!(refused.contains("other machines reach this address and there is no policy"), "{refused}");
}

#[test]
fn a_statement_has_what_its_section_says() {
    let keys = "mode = 'shadow'\nsources = ['10.0.0.1', '::ffff:10.0.0.0/104']\nresources = ['Docker.io/busybox:1', 'ghcr.io/a/**']\n\
                conditions = { not_before = 2026-01-01T02:00:00+02:00, hours = '22:00-24:00', days = ['sat'] }";
    let policy = good(&statement_with(keys)).policy;
    let statement = &policy.statements[0];
    assert_eq!((&*statement.id, statement.effect, statement.mode, statement.line), ("a", Effect::Allow, Mode::Shadow, 2));
    let when = &statement.when;
    let texts = |networks: &Option<Vec<IpNet>>| networks.iter().flatten().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&when.sources), ["10.0.0.1/32", "10.0.0.0/8"]);
    let resources: Vec<String> = when.resources.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(resources, ["docker.io/library/busybox:1", "ghcr.io/a/**"]);
    assert_eq!(when.conditions.not_before.map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(when.conditions.hours, Some(Hours { from: 22 * 60, to: 24 * 60 }));
    assert!(when.principals.is_none() && when.conditions.days.as_deref() == Some(&[Day::Sat]));
}

#[test]
fn a_policy_alone_is_read_without_knowing_what_there_is() {
    let path = Path::new("policy.toml");
    let (policy, warnings) = Policy::parse(&statement_with("resources = ['nowhere.example/a']\nendpoints = ['x']"), path).unwrap();
    assert_eq!((policy.statements.len(), warnings.len()), (1, 0));
    assert!(Policy::parse("[cache]\n", path).unwrap_err().to_string().contains("policy.toml:1: cache: unknown key"));
}
