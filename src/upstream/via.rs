//! The mark that this process leaves on its requests, by which it knows them again (RFC 9110 section 7.6.3).
//!
//! What is asked on behalf of a request carries the marks of all proxies of this kind that the request has passed, so that a loop
//! over several of them ends as well: at the first that finds its own mark, or at the last that is passed by so many.

use http::HeaderValue;

/// A request that so many proxies of whatever kind have passed on goes round in a circle, or might as well.
const MAX_HOPS: usize = 8;
const NAME: &str = "roadstead-";

/// This process's own `Via`.
#[derive(Clone, Debug)]
pub struct Via {
    pseudonym: String,
    value: HeaderValue,
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circle {
    /// It began here: answering it would ask ourselves.
    Here,
    /// It has passed 8 proxies.
    TooMany,
}

impl Via {
    /// A name that no other process has.
    pub(super) fn random() -> Self {
        let pseudonym = format!("{NAME}{:016x}", rand::random::<u64>());
        let value = HeaderValue::try_from(format!("1.1 {pseudonym}")).expect("letters, digits and a dash make a header value");
        Self { pseudonym, value }
    }

    /// What goes out with every request that began here.
    pub(super) fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// What goes out on behalf of a request with these `Via` headers: the marks like ours in them, then ours. `None` where there
    /// are none. What else stands in them is nobody's business upstream.
    ///
    /// # Errors
    /// The request is not to be passed on.
    pub fn after<'a>(&self, values: impl IntoIterator<Item = &'a HeaderValue>) -> Result<Option<HeaderValue>, Circle> {
        let hops = values.into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let hops: Vec<&str> = hops.filter_map(|hop| hop.split_whitespace().nth(1)).collect();
        if hops.contains(&self.pseudonym.as_str()) {
            return Err(Circle::Here);
        }
        if hops.len() >= MAX_HOPS {
            return Err(Circle::TooMany);
        }
        let marks: Vec<String> = hops.into_iter().filter(|hop| is_mark(hop)).map(|hop| format!("1.1 {hop}, ")).collect();
        let own = format!("1.1 {}", self.pseudonym);
        Ok(HeaderValue::try_from(marks.concat() + &own).ok().filter(|_| !marks.is_empty()))
    }
}

fn is_mark(hop: &str) -> bool {
    hop.strip_prefix(NAME).is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_mark_among_others() {
        let (ours, other) = (Via::random(), Via::random());
        let mixed = HeaderValue::try_from(format!("HTTP/1.1 proxy (squid), {} ", ours.value().to_str().unwrap())).unwrap();
        assert_eq!(ours.after([&mixed]), Err(Circle::Here));
        assert_eq!(ours.after([other.value(), ours.value()]), Err(Circle::Here));
        assert!(other.after([&mixed]).is_ok());
        assert_eq!(ours.after([&HeaderValue::from_static("garbage,,")]), Ok(None));
    }

    #[test]
    fn a_circle_over_several_closes_where_it_began() {
        let chain: Vec<Via> = std::iter::repeat_with(Via::random).take(4).collect();
        let mut value = chain[0].value().clone();
        for via in &chain[1..] {
            value = via.after([&value]).unwrap().unwrap();
        }
        assert_eq!(chain[0].after([&value]), Err(Circle::Here));
    }

    #[test]
    fn a_mark_of_ours_is_passed_on_and_what_others_say_is_not() {
        let (ours, other) = (Via::random(), Via::random());
        let came = HeaderValue::try_from(format!("1.0 gw.corp.example (secret), {}", other.value().to_str().unwrap())).unwrap();
        let goes = ours.after([&came]).unwrap().unwrap();
        assert_eq!(goes.to_str().unwrap(), format!("1.1 {}, 1.1 {}", other.pseudonym, ours.pseudonym));
        assert_eq!(ours.after([&HeaderValue::from_static("1.1 roadstead-x, 1.1 roadstead-00000000000000000")]), Ok(None));
    }

    #[test]
    fn eight_are_one_too_many() {
        let hops = |count: usize| HeaderValue::try_from(vec!["1.1 a"; count].join(", ")).unwrap();
        let ours = Via::random();
        assert!(ours.after([&hops(7)]).is_ok());
        assert_eq!(ours.after([&hops(8)]), Err(Circle::TooMany));
        assert_eq!(ours.after([&hops(4), &hops(4)]), Err(Circle::TooMany));
    }
}
