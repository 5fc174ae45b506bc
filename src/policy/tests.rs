mod reference;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::cases::Cases;
use super::*;
use crate::config::{self, Effect, Policy};
use crate::oci::{Digest, Reference};
use crate::request::{Endpoint, Item, Principal, Tls};

const TRUTH_TABLE: &str = include_str!("../../tests/policy/truth-table.toml");
const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

fn truth_table() -> Cases {
    Cases::parse(TRUTH_TABLE, Path::new("truth-table.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("test.toml")).unwrap_or_else(|faults| panic!("{faults}\n{text}")).0
}

#[test]
fn the_truth_table_holds() {
    let judged = truth_table().run(None, |_| true, NOW).unwrap();
    assert!(judged.len() >= 290, "{}", judged.len());
    let wrong: Vec<String> = judged.iter().filter(|case| !case.is_as_expected()).map(|case| format!("{case:#?}")).collect();
    assert!(wrong.is_empty(), "{} cases came out otherwise:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_of_the_truth_table_is_explained_as_it_is_decided() {
    for (rules, question) in truth_table().questions() {
        explained_alike(rules.unwrap(), &question);
    }
}

/// What a decision came to, in a form that can be compared.
fn told(decided: &Result<Permit, Refusal>) -> String {
    match decided {
        Ok(permit) => format!("{:?} {:?}", permit.decision, permit.scope),
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[track_caller]
fn explained_alike(rules: &Rules, question: &Question<'_>) {
    let (decided, explained) = (rules.decide(question), rules.explain(question));
    assert_eq!(told(&decided), told(&explained.decided), "{question:?}");
    let decision = decided.as_ref().map_or_else(|refusal| &refusal.decision, |permit| &permit.decision);
    match explained.statements.iter().find(|considered| considered.id == decision.statement) {
        Some(by) => assert!(!matches!(by.fit, Fit::Misses(_)), "{by:?} decided"),
        None => assert_eq!(&*decision.statement, "default"),
    }
    let misses = explained.statements.iter().filter_map(|considered| match &considered.fit {
        Fit::Misses(keys) => Some(keys),
        Fit::Matches | Fit::Depends => None,
    });
    assert!(misses.into_iter().all(|keys| !keys.is_empty()));
}

fn caller() -> Caller {
    Caller::direct("nodes".into(), ([10, 1, 2, 3], 4000).into())
}

fn target(text: &str) -> Target {
    let (registry, rest) = text.split_once('/').unwrap();
    let (repository, tag) = rest.split_once(':').unwrap();
    let item = Item::Manifest(Reference::Tag(tag.parse().unwrap()));
    Target { registry: registry.parse().unwrap(), repository: repository.parse().unwrap(), item }
}

#[test]
fn a_refusal_tells_the_operator_what_is_needed() {
    let (caller, target) = (caller(), target("ghcr.io/a/b:v1"));
    let question = Question { caller: &caller, target: &target, user_agent: None, is_private: true, now: NOW };
    let refusal = |default| Rules::new(&Policy::without_statements(default)).decide(&question).unwrap_err();
    assert_eq!(refusal(Effect::Deny).to_string(), "the policy does not allow this (decided by: default)");
    let told = refusal(Effect::Allow);
    assert_eq!((&*told.decision.statement, told.reason), ("default", Reason::PrivateToAnonymous));
    assert!(told.to_string().contains("an anonymous caller needs a statement that allows"), "{told}");
}

#[test]
fn explain_names_every_key_that_does_not_hold() {
    let rules = Rules::new(&policy(
        "[[policy.statement]]\nid = 'a'\neffect = 'allow'\nsources = ['192.0.2.0/24']\nnot_endpoints = ['nodes']\n\
         actions = ['pull']\nconditions = { tls = true, user_agent = ['x'], not_before = 1999-01-01T00:00:00Z, days = ['fri'] }\n",
    ));
    let (caller, target) = (caller(), target("ghcr.io/a/b:v1"));
    let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now: NOW };
    let [considered] = &rules.explain(&question).statements[..] else { panic!("one statement") };
    let Fit::Misses(keys) = &considered.fit else { panic!("{considered:?}") };
    let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    assert_eq!(
        keys,
        ["not_endpoints", "sources", "conditions.tls", "conditions.not_before", "conditions.days", "conditions.user_agent"]
    );
    assert_eq!((&*considered.id, considered.line), ("a", 2));
}

#[test]
fn a_policys_name_is_that_of_what_it_says() {
    let name = |text: &str| Rules::new(&policy(text)).name().to_string();
    let plain = name("[[policy.statement]]\nid = 'a'\neffect = 'allow'\nresources = ['docker.io/busybox']\n");
    assert!(plain.len() == 16 && plain.bytes().all(|byte| byte.is_ascii_hexdigit()), "{plain}");
    let same = "# said\n[policy]\nmode = \"enforce\"\ndefault = 'deny'\n\n\
                [[policy.statement]]\nresources = ['docker.io/library/busybox'] # otherwise\neffect = 'allow'\nid = 'a'\n";
    assert_eq!(name(same), plain);
    for (said, other) in
        [("'a'", "'b'"), ("'allow'", "'deny'"), ("busybox", "alpine"), ("enforce", "shadow"), ("'deny'", "'allow'")]
    {
        assert_ne!(name(&same.replacen(said, other, 1)), plain, "{other}");
    }
    let (caller, target) = (caller(), target("docker.io/library/busybox:1"));
    let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now: NOW };
    assert_eq!(*Rules::new(&policy(same)).decide(&question).unwrap().decision().policy, *plain);
}

#[test]
fn cases_that_mean_nothing_are_told() {
    let digest = format!("sha256:{}", "1".repeat(64));
    let reached = format!("resource = 'ghcr.io/a/b@{digest}' }}, reached = [{{ digests = ['sha256:{}'] }}]", "2".repeat(64));
    for (request, error) in [
        ("resource = 'ghcr.io' }", "names no repository"),
        ("resource = 'ghcr.io/a/*' }", "does not name one repository"),
        ("resource = 'ghcr.io/a/b:v*' }", "is not one tag"),
        ("resource = 'ghcr.io/a/b@sha256:*' }", "is not one digest"),
        ("resource = 'ghcr.io/a/b:v1', action = 'blob:get' }", "\"blob:get\" does not go with this resource"),
        ("resource = 'ghcr.io/a/b:v1', principals = ['ci'] }", "is not a principal"),
        ("resource = 'ghcr.io/a/b:v1', endpoint = 'azure:x' }", "not an endpoint"),
        ("resource = 'ghcr.io/a/b:v1', time = 'noon' }", "is not a time"),
        ("resource = 'ghcr.io/a/b:v1' }, reached = []", "what the tag meant"),
        (&reached, "is asked for"),
        ("resource = 'ghcr.io/a/b:v1', surce = '::1' }", "unknown field `surce`"),
    ] as [(&str, &str); 11]
    {
        let text = format!("case = [{{ describe = 'x', request = {{ {request}, expect = 'allow' }}]");
        let told = Cases::parse(&text, Path::new("cases.toml")).unwrap_err().to_string();
        assert!(told.contains(error), "{request}: {told}");
    }
    let good = "case = [{ describe = 'x', request = { resource = 'ghcr.io/a/b:v1' }, expect = 'deny', by = 'other' }]";
    let cases = Cases::parse(good, Path::new("cases.toml")).unwrap();
    assert!(matches!(cases.run(None, |_| false, NOW), Err(cases::CasesError::NoPolicy(case)) if case == "x"));
    let judged = cases.run(Some(&Rules::new(&Policy::without_statements(Effect::Deny))), |_| false, NOW).unwrap();
    assert!(judged.len() == cases.count() && !judged[0].is_as_expected(), "{judged:?}");
}

const DIGESTS: [char; 3] = ['1', '2', '3'];

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

/// Some of these words as a key of a statement; mostly none.
fn key(name: &'static str, words: &'static [&'static str], often: f64) -> impl Strategy<Value = String> {
    let list = prop::collection::vec(prop::sample::select(words), 1..3);
    prop::option::weighted(often, list)
        .prop_map(move |words| words.map_or_else(String::new, |words| format!("{name} = {words:?}\n")))
}

const ENDPOINTS: &[&str] = &["aws:a", "aws:*", "nodes", "?odes", "gcp:1"];
const SOURCES: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "::/0", "10.1.2.3", "0.0.0.0/0"];
const PRINCIPALS: &[&str] = &["user:a", "user:*", "*", "anonymous", "cn:?"];
const ACTIONS: &[&str] = &["pull", "list", "referrers", "manifest:get", "blob:get", "*"];
const RESOURCES: &[&str] = &[
    "ghcr.io/a/b",
    "ghcr.io/a/*",
    "ghcr.io/**",
    "**",
    "ghcr.io/a/b:v1",
    "ghcr.io/a/b:v*",
    "ghcr.io/**:?1",
    "docker.io/x",
    "*/x",
    "docker.io/**",
    "ghcr.io/a/*@sha256:2222222222222222222222222222222222222222222222222222222222222222",
    "ghcr.io/a/b@sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "ghcr.io/a/b@sha256:1*",
];

fn statement() -> impl Strategy<Value = String> {
    let head = (prop::sample::select(&["allow", "deny"][..]), prop::bool::weighted(0.15))
        .prop_map(|(effect, shadow)| format!("effect = '{effect}'\nmode = '{}'\n", if shadow { "shadow" } else { "enforce" }));
    let who = (
        key("endpoints", ENDPOINTS, 0.25),
        key("not_endpoints", ENDPOINTS, 0.1),
        key("sources", SOURCES, 0.2),
        key("not_sources", SOURCES, 0.1),
        key("principals", PRINCIPALS, 0.2),
        key("not_principals", PRINCIPALS, 0.1),
    );
    let what = (
        key("actions", ACTIONS, 0.2),
        key("not_actions", ACTIONS, 0.1),
        key("resources", RESOURCES, 0.8),
        key("not_resources", RESOURCES, 0.2),
        prop::option::weighted(0.1, any::<bool>())
            .prop_map(|tls| tls.map_or_else(String::new, |tls| format!("conditions = {{ tls = {tls} }}\n"))),
    );
    (head, who, what).prop_map(|(head, who, what)| {
        let (who, what) = ([who.0, who.1, who.2, who.3, who.4, who.5].concat(), [what.0, what.1, what.2, what.3, what.4].concat());
        format!("{head}{who}{what}")
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let head = (any::<bool>(), prop::bool::weighted(0.1));
    (head, prop::collection::vec(statement(), 0..7)).prop_map(|((allow, shadow), statements)| {
        let (default, mode) = (if allow { "allow" } else { "deny" }, if shadow { "shadow" } else { "enforce" });
        let numbered = statements.iter().enumerate();
        let statements: String = numbered.map(|(number, keys)| format!("[[policy.statement]]\nid = 's{number}'\n{keys}")).collect();
        policy(&format!("[policy]\ndefault = '{default}'\nmode = '{mode}'\n{statements}"))
    })
}

fn callers() -> impl Strategy<Value = Caller> {
    let endpoints = [Endpoint::aws("a"), Endpoint::aws("b"), Endpoint::gcp(1), Endpoint::listener("nodes".into())];
    let sources = ["10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3"];
    let names = [Principal::user("a"), Principal::user("b"), Principal::common_name("c")];
    let (endpoint, source) = (prop::sample::select(endpoints.to_vec()), prop::sample::select(sources.to_vec()));
    let principals = prop::collection::vec(prop::sample::select(names.to_vec()), 0..3);
    (endpoint, source, principals, any::<bool>()).prop_map(|(endpoint, source, principals, tls)| Caller {
        endpoint,
        principals: principals.into(),
        tls: tls.then(|| Arc::new(Tls { version: "1.3", server_name: None })),
        ..Caller::direct("nodes".into(), (source.parse::<std::net::IpAddr>().unwrap(), 1).into())
    })
}

fn targets() -> impl Strategy<Value = Target> {
    let names = ["ghcr.io a/b", "ghcr.io a/c", "ghcr.io x", "docker.io library/x", "quay.io a/b"];
    let tag = prop::sample::select(&["v1", "v2", "latest"][..]);
    let digest = prop::sample::select(&DIGESTS[..]).prop_map(digest);
    let item = prop_oneof![
        tag.prop_map(|tag| Item::Manifest(Reference::Tag(tag.parse().unwrap()))),
        digest.clone().prop_map(|digest| Item::Manifest(Reference::Digest(digest))),
        digest.clone().prop_map(Item::Blob),
        digest.prop_map(Item::Referrers),
        Just(Item::Tags),
    ];
    (prop::sample::select(names.to_vec()), item).prop_map(|(name, item)| {
        let (registry, repository) = name.split_once(' ').unwrap();
        Target { registry: registry.parse().unwrap(), repository: repository.parse().unwrap(), item }
    })
}

/// Ways to the target's content.
fn ways(target: &Target) -> Vec<(Option<&'static str>, Vec<Digest>)> {
    let tags = [Some("v1"), Some("v2"), Some("latest"), Some("x1"), None];
    let above = [None, Some('1'), Some('2'), Some('3')].map(|digit| digit.map(digest));
    let ends: Vec<(Option<&str>, Digest)> = match &target.item {
        Item::Tags => Vec::new(),
        Item::Manifest(Reference::Tag(tag)) => {
            let tag = tags.into_iter().flatten().find(|known| *known == tag.as_str());
            DIGESTS.map(|digit| (tag, digest(digit))).to_vec()
        }
        Item::Manifest(Reference::Digest(digest)) | Item::Blob(digest) | Item::Referrers(digest) => {
            tags.map(|tag| (tag, *digest)).to_vec()
        }
    };
    let chain = |above: &Option<Digest>, end| above.iter().copied().chain([end]).collect();
    ends.iter().flat_map(|(tag, end)| above.iter().map(move |above| (*tag, chain(above, *end)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn decisions_are_those_of_the_plain_rule(
        policy in policies(), caller in callers(), target in targets(), is_private in prop::bool::weighted(0.3)
    ) {
        let rules = Rules::new(&policy);
        let question = Question { caller: &caller, target: &target, user_agent: None, is_private, now: NOW };
        explained_alike(&rules, &question);
        let decided = rules.decide(&question);
        let plain = reference::Request { policy: &policy, question: &question };
        if target.item == Item::Tags {
            prop_assert_eq!(decided.is_ok(), plain.admits(None, &[]) || policy.mode == config::Mode::Shadow);
        }
        let mut all = Vec::new();
        for (tag, digests) in ways(&target) {
            let admitted = match &decided {
                Err(_) => false,
                Ok(permit) => match permit.scope() {
                    Scope::Whole => true,
                    Scope::Limited(limited) => limited.judge(Way { tag, digests: &digests }).is_ok(),
                },
            };
            if policy.mode == config::Mode::Shadow {
                prop_assert!(admitted && matches!(decided.as_ref().map(Permit::scope), Ok(Scope::Whole)));
            } else if tag.is_some() {
                prop_assert_eq!(admitted, plain.admits(tag, &digests), "{:?} {:?}", tag, digests);
                all.push((digests, admitted));
            } else if admitted {
                // What may have been reached by any tag is admitted only if none of them would have it refused.
                let others = all.iter().filter(|(known, _)| *known == digests);
                prop_assert!(others.into_iter().all(|(_, admitted)| *admitted), "{:?}", digests);
            }
        }
    }

    #[test]
    fn what_is_whole_or_refused_is_so_in_every_way(policy in policies(), caller in callers(), target in targets()) {
        let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now: NOW };
        let plain = reference::Request { policy: &policy, question: &question };
        let decided = Rules::new(&policy).decide(&question);
        let mut answers = ways(&target).into_iter().filter(|(tag, _)| tag.is_some()).map(|(tag, digests)| plain.admits(tag, &digests));
        match decided {
            _ if policy.mode == config::Mode::Shadow => {}
            Err(_) => prop_assert!(!answers.any(|admitted| admitted)),
            Ok(permit) if matches!(permit.scope(), Scope::Whole) => prop_assert!(answers.all(|admitted| admitted)),
            Ok(_) => {}
        }
    }

    #[test]
    fn what_is_said_to_be_shadowed_never_allows(policy in policies(), caller in callers(), target in targets()) {
        let question = Question { caller: &caller, target: &target, user_agent: None, is_private: false, now: NOW };
        let told = review(&policy, NOW);
        let idle: Vec<&str> = told.iter().filter(|remark| remark.message.contains("denied by") || remark.message.contains("never"))
            .map(|remark| &*remark.statement).collect();
        let Ok(permit) = Rules::new(&policy).decide(&question) else { return Ok(()) };
        match permit.scope() {
            // What depends on how content was reached is not looked into then.
            _ if policy.mode == config::Mode::Shadow => {}
            Scope::Whole => prop_assert!(!idle.contains(&&*permit.decision().statement), "{:?} {:?}", told, permit.decision()),
            Scope::Limited(limited) => {
                for (tag, digests) in ways(&target) {
                    let by = limited.judge(Way { tag, digests: &digests });
                    prop_assert!(!by.is_ok_and(|by| idle.contains(&&**by)), "{:?} {:?}", told, by);
                }
            }
        }
    }
}
