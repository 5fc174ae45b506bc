//! Which statements a request may match at all, so that few of many are looked at.
//!
//! Each statement is found by one of its keys, the one that fewest others share values of: its endpoints, its principals, or
//! what its resources begin with. One that has none of these written out is always looked at.

use std::collections::HashMap;

use super::resources;
use super::statement::{Facts, Statement};

type Postings = HashMap<Box<str>, Vec<usize>>;

/// Numbers of statements by what a request must have.
#[derive(Debug, Default)]
pub(super) struct Index {
    endpoints: Postings,
    principals: Postings,
    names: Postings,
    rest: Vec<usize>,
}

#[derive(Clone, Copy)]
enum By {
    Endpoint,
    Principal,
    Name,
}

const WAYS: [By; 3] = [By::Endpoint, By::Principal, By::Name];

impl Index {
    pub(super) fn new(statements: &[Statement]) -> Self {
        let mut crowd = [(); 3].map(|()| HashMap::<&str, usize>::new());
        for statement in statements {
            for by in WAYS {
                for value in values(statement, by).into_iter().flatten() {
                    *crowd[by as usize].entry(value).or_default() += 1;
                }
            }
        }
        let mut index = Self::default();
        for (number, statement) in statements.iter().enumerate() {
            let ways = WAYS.into_iter().filter_map(|by| values(statement, by).map(|values| (by, values)));
            let shared = |(by, values): &(By, Vec<&str>)| values.iter().map(|value| crowd[*by as usize][value]).max();
            match ways.min_by_key(shared) {
                Some((by, values)) => index.post(by, &values, number),
                None => index.rest.push(number),
            }
        }
        index
    }

    fn post(&mut self, by: By, values: &[&str], number: usize) {
        let postings = match by {
            By::Endpoint => &mut self.endpoints,
            By::Principal => &mut self.principals,
            By::Name => &mut self.names,
        };
        for value in values {
            let numbers = postings.entry((*value).into()).or_default();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
    }

    /// Calls `look` with the number of every statement that the request may match; with some of them more than once.
    pub(super) fn each(&self, facts: &Facts<'_>, mut look: impl FnMut(usize)) {
        let caller = facts.question.caller;
        let mut find = |postings: &Postings, value: &str| {
            postings.get(value).into_iter().flatten().for_each(|number| look(*number));
        };
        find(&self.endpoints, caller.endpoint.as_str());
        caller.principals.iter().for_each(|principal| find(&self.principals, principal.as_str()));
        if !self.names.is_empty() {
            resources::anchors(facts.name).for_each(|anchor| find(&self.names, anchor));
        }
        self.rest.iter().for_each(|number| look(*number));
    }
}

/// The values of which a request must have one to match the statement; none where they cannot be listed.
fn values(statement: &Statement, by: By) -> Option<Vec<&str>> {
    match by {
        By::Endpoint => statement.endpoints.as_ref()?.exact().map(list),
        By::Principal => {
            let principals = statement.principals.as_ref().filter(|principals| !principals.anonymous)?;
            principals.names.exact().map(list)
        }
        By::Name => statement.resources.as_ref()?.anchors(),
    }
}

fn list(texts: &[Box<str>]) -> Vec<&str> {
    texts.iter().map(|text| &**text).collect()
}
