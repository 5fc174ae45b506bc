//! The mark that this process leaves on its requests, by which it knows them again (RFC 9110 section 7.6.3).

use http::HeaderValue;

/// This process's own `Via`.
#[derive(Clone, Debug)]
pub struct Via {
    pseudonym: String,
    value: HeaderValue,
}

impl Via {
    /// A name that no other process has.
    pub(super) fn random() -> Self {
        let pseudonym = format!("roadstead-{:016x}", rand::random::<u64>());
        let value = HeaderValue::try_from(format!("1.1 {pseudonym}")).expect("letters, digits and a dash make a header value");
        Self { pseudonym, value }
    }

    /// What goes out with every request.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether one of these `Via` headers is ours: then the request began here, and answering it would ask ourselves.
    pub fn is_in<'a>(&self, values: impl IntoIterator<Item = &'a HeaderValue>) -> bool {
        let hops = values.into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        hops.map(|hop| hop.split_whitespace().nth(1)).any(|by| by == Some(&self.pseudonym))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_mark_among_others() {
        let (ours, other) = (Via::random(), Via::random());
        let mixed = HeaderValue::try_from(format!("HTTP/1.1 proxy (squid), {} ", ours.value().to_str().unwrap())).unwrap();
        assert!(ours.is_in([&mixed]));
        assert!(ours.is_in([other.value(), ours.value()]));
        assert!(!other.is_in([&mixed]));
        assert!(!ours.is_in([&HeaderValue::from_static("garbage,,")]));
    }
}
