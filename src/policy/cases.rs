//! Cases in a file: requests, and what the policy is to say to them.
//!
//! ```toml
//! [names]                      # what $app stands for in the texts below
//! app = "ghcr.io/acme/app"
//!
//! [[group]]
//! about = "versions are for everybody"
//! policy = '''
//! [[policy.statement]]
//! id = "versions"
//! effect = "allow"
//! resources = ["$app:v*"]
//! '''
//! case = [
//!   { describe = "a version", request = { resource = "$app:v1" }, expect = "allow", by = "versions" },
//! ]
//! ```
//!
//! A group without a `policy` is about the one that is given with the file, and so is a `[[case]]` outside any group.

mod request;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(test)]
use super::Question;
use super::{Permit, Refusal, Rules, Scope, Way};
use crate::config::{Faults, Policy};
use crate::oci::{Digest, RegistryName};
use crate::request::Verdict;
pub use request::{Asked, NotARequest, Request};

/// Why cases cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// The file is not TOML, or has other keys.
    #[error("{0}")]
    Syntax(String),
    /// A group's policy is at fault.
    #[error("the policy of the group {0:?}:\n{1}")]
    Policy(String, Faults),
    /// A case means nothing.
    #[error("the case {0:?}: {1}")]
    Case(String, String),
    /// There is no policy to ask.
    #[error("the case {0:?} brings no policy, and none is given")]
    NoPolicy(String),
}

/// Cases, read and checked.
#[derive(Debug)]
pub struct Cases(Vec<Group>);

#[derive(Debug)]
struct Group {
    about: String,
    rules: Option<Rules>,
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    describe: String,
    asked: Asked,
    reached: Option<Vec<Reached>>,
    expect: Answer,
    by: Option<String>,
}

/// What a policy says to a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It may be read.
    Allow,
    /// It may not.
    Deny,
    /// It may, and what is only tried out would have refused it.
    ShadowDeny,
    /// It depends on how the content was reached, which the case does not say.
    Limited,
}

impl Answer {
    /// What a decision comes to, as long as it is not known how the content was reached.
    pub fn of(decided: &Result<Permit, Refusal>) -> Self {
        match decided {
            Err(_) => Self::Deny,
            Ok(permit) if matches!(permit.scope(), Scope::Limited(_)) => Self::Limited,
            Ok(permit) => Self::allowed(permit),
        }
    }

    fn allowed(permit: &Permit) -> Self {
        if permit.decision().verdict == Verdict::ShadowDeny { Self::ShadowDeny } else { Self::Allow }
    }

    /// The word in files of cases.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::ShadowDeny => "shadow-deny",
            Self::Limited => "limited",
        }
    }
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// What its group is about; empty outside groups.
    pub group: String,
    /// What it is about.
    pub describe: String,
    /// What was to come out.
    pub expected: Answer,
    /// And by which statement, where that matters.
    pub expected_by: Option<String>,
    /// What came out.
    pub answer: Answer,
    /// And by which statement.
    pub by: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    names: BTreeMap<String, String>,
    #[serde(default)]
    group: Vec<GroupSection>,
    #[serde(default)]
    case: Vec<CaseSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupSection {
    about: String,
    policy: Option<String>,
    case: Vec<CaseSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSection {
    describe: String,
    request: Request,
    reached: Option<Vec<ReachedSection>>,
    expect: Answer,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReachedSection {
    tag: Option<String>,
    digests: Vec<String>,
}

#[derive(Debug)]
struct Reached {
    tag: Option<String>,
    digests: Vec<Digest>,
}

/// What words with a `$` stand for; the longest first, so that none is cut short by another.
struct Names(Vec<(String, String)>);

impl Names {
    fn new(names: BTreeMap<String, String>) -> Self {
        let mut names: Vec<_> = names.into_iter().map(|(name, text)| (format!("${name}"), text)).collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self(names)
    }

    fn put_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, meaning)| text.replace(name, meaning))
    }
}

impl Cases {
    /// Reads the text of a file at `path`.
    ///
    /// # Errors
    /// The first thing wrong in it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CasesError> {
        let file: File = toml::from_str(text).map_err(|error| CasesError::Syntax(format!("{}: {error}", path.display())))?;
        let names = Names::new(file.names);
        let alone = GroupSection { about: String::new(), policy: None, case: file.case };
        let groups = file.group.into_iter().chain([alone]).filter(|group| !group.case.is_empty());
        groups.map(|section| group(section, &names)).collect::<Result<_, _>>().map(Self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|group| group.cases.len()).sum()
    }

    /// Asks every case's policy, or the one that is `given` where it brings none; of that, `has_credentials` says which
    /// registries are asked with credentials of ours. Requests without a time are made `now`.
    ///
    /// # Errors
    /// [`CasesError::NoPolicy`].
    pub fn run(
        &self,
        given: Option<&Rules>,
        has_credentials: impl Fn(&RegistryName) -> bool,
        now: Timestamp,
    ) -> Result<Vec<Judged>, CasesError> {
        let all = self.0.iter().flat_map(|group| group.cases.iter().map(move |case| (group, case)));
        all.map(|(group, case)| {
            let rules = group.rules.as_ref().or(given).ok_or_else(|| CasesError::NoPolicy(case.describe.clone()))?;
            let has_credentials = |registry: &RegistryName| group.rules.is_none() && has_credentials(registry);
            let (answer, by) = case.ask(rules, has_credentials, now);
            Ok(Judged {
                group: group.about.clone(),
                describe: case.describe.clone(),
                expected: case.expect,
                expected_by: case.by.clone(),
                answer,
                by,
            })
        })
        .collect()
    }

    /// The questions of all cases, each with the policy that its group brings.
    #[cfg(test)]
    pub(super) fn questions(&self) -> impl Iterator<Item = (Option<&Rules>, Question<'_>)> {
        self.0.iter().flat_map(|group| {
            group.cases.iter().map(|case| (group.rules.as_ref(), case.asked.question(|_| false, Timestamp::UNIX_EPOCH)))
        })
    }
}

impl Judged {
    /// Whether it came out as it was to.
    pub fn is_as_expected(&self) -> bool {
        self.answer == self.expected && self.expected_by.as_ref().is_none_or(|by| *by == self.by)
    }
}

impl Case {
    fn ask(&self, rules: &Rules, has_credentials: impl Fn(&RegistryName) -> bool, now: Timestamp) -> (Answer, String) {
        let decided = rules.decide(&self.asked.question(has_credentials, now));
        match (Answer::of(&decided), &decided, &self.reached) {
            (Answer::Limited, Ok(permit), Some(reached)) => self.judge(permit, reached, Answer::allowed(permit)),
            (answer, Ok(permit), _) => (answer, permit.decision().statement.to_string()),
            (answer, Err(refusal), _) => (answer, refusal.decision.statement.to_string()),
        }
    }

    /// As the mirror does: one way that is admitted suffices, and where none is known the digest alone is asked about.
    fn judge(&self, permit: &Permit, reached: &[Reached], allowed: Answer) -> (Answer, String) {
        let Scope::Limited(limited) = permit.scope() else { return (allowed, String::new()) };
        let alone: Vec<Digest> = self.asked.digest().into_iter().collect();
        let unknown = reached.is_empty().then_some(Way { tag: None, digests: &alone });
        let known = reached.iter().map(|way| Way { tag: way.tag.as_deref(), digests: &way.digests });
        let judged: Vec<_> = known.chain(unknown).map(|way| limited.judge(way)).collect();
        match judged.iter().find_map(|judged| judged.ok()) {
            Some(_) if allowed == Answer::ShadowDeny => (allowed, permit.decision().statement.to_string()),
            Some(id) => (allowed, id.to_string()),
            None => (Answer::Deny, judged.iter().find_map(|judged| judged.err()).map(ToString::to_string).unwrap_or_default()),
        }
    }
}

fn group(section: GroupSection, names: &Names) -> Result<Group, CasesError> {
    let rules = |text: &String| match Policy::parse(&names.put_in(text), Path::new("policy")) {
        Ok((policy, _)) => Ok(Rules::new(&policy)),
        Err(faults) => Err(CasesError::Policy(section.about.clone(), faults)),
    };
    let rules = section.policy.as_ref().map(rules).transpose()?;
    let cases = section.case.into_iter().map(|case| {
        let describe = case.describe.clone();
        self::case(case, names).map_err(|message| CasesError::Case(describe, message))
    });
    Ok(Group { cases: cases.collect::<Result<_, _>>()?, about: section.about, rules })
}

fn case(section: CaseSection, names: &Names) -> Result<Case, String> {
    let asked = section.request.check_with(&|text| names.put_in(text))?;
    let ways = |ways: Vec<ReachedSection>| ways.into_iter().map(|way| reached(way, names, &asked)).collect::<Result<_, _>>();
    let reached: Option<Vec<Reached>> = section.reached.map(ways).transpose()?;
    if reached.as_ref().is_some_and(Vec::is_empty) && asked.digest().is_none() {
        return Err("reached has to say what the tag meant".to_owned());
    }
    Ok(Case { describe: section.describe, asked, reached, expect: section.expect, by: section.by })
}

fn reached(section: ReachedSection, names: &Names, asked: &Asked) -> Result<Reached, String> {
    let digest = |text: &String| names.put_in(text).parse::<Digest>().map_err(|error| format!("{text:?}: {error}"));
    let digests: Vec<Digest> = section.digests.iter().map(digest).collect::<Result<_, _>>()?;
    match (digests.last(), asked.digest()) {
        (None, _) => Err("a way has at least one digest".to_owned()),
        (Some(last), Some(digest)) if *last != digest => Err(format!("a way leads to {last}, and {digest} is asked for")),
        _ => Ok(Reached { tag: section.tag, digests }),
    }
}
