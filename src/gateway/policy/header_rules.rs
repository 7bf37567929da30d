//! Header rules: what a route sets and removes, on the request or on the response.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::upstream::headers::names::is_same;

/// The headers that a route sets or removes in one direction. Empty by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderRules(Box<[(HeaderName, Action)]>);

/// What a rule does with a header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Removes the header.
    Remove,
    /// Sets the header to this value, in place of all others.
    Set(HeaderValue),
}

impl HeaderRules {
    /// Rules that remove `removed` and then set `set`. A name in both is set.
    #[must_use]
    pub fn new(removed: Vec<HeaderName>, set: Vec<(HeaderName, HeaderValue)>) -> Self {
        let removed = removed.into_iter().map(|name| (name, Action::Remove));
        Self(removed.chain(set.into_iter().map(|(name, value)| (name, Action::Set(value)))).collect())
    }

    /// Applies the rules to `headers`. A rule for a name is one for all its spellings: the
    /// recipient may read `X_Tenant` as `X-Tenant`, and would then have two values to choose from.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, action) in &self.0 {
            remove_all_spellings(headers, name);
            match action {
                Action::Remove => {}
                Action::Set(value) => {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}

fn remove_all_spellings(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    let others: Vec<HeaderName> =
        headers.keys().filter(|other| is_same(other.as_str(), name.as_str())).cloned().collect();
    for other in others {
        headers.remove(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_removed_and_set_is_set() {
        let name = HeaderName::from_static("x-a");
        let rules = HeaderRules::new(
            vec![name.clone(), HeaderName::from_static("x-b")],
            vec![(name, HeaderValue::from_static("1"))],
        );
        let mut headers = HeaderMap::new();
        for name in ["x-a", "x-b", "x-c"] {
            headers.append(name, HeaderValue::from_static("client"));
            headers.append(name, HeaderValue::from_static("again"));
        }
        rules.apply(&mut headers);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1"]);
        assert!(!headers.contains_key("x-b"));
        assert_eq!(headers.get_all("x-c").iter().count(), 2);
    }

    /// HH-9.
    #[test]
    fn a_rule_applies_to_every_spelling_of_its_name() {
        let rules = HeaderRules::new(
            vec![HeaderName::from_static("x_b")],
            vec![(HeaderName::from_static("x-a"), HeaderValue::from_static("1"))],
        );
        let mut headers = HeaderMap::new();
        for name in ["x-a", "x_a", "x.a", "x-b", "x_b", "x-ab", "xa"] {
            headers.append(name, HeaderValue::from_static("client"));
        }
        rules.apply(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, [("x-a", "1"), ("x-ab", "client"), ("xa", "client")]);
    }
}
