//! Header rules: what a route sets and removes, on the request or on the response.

use http::header::{HeaderMap, HeaderName, HeaderValue};

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

    /// Applies the rules to `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, action) in &self.0 {
            match action {
                Action::Remove => {
                    headers.remove(name);
                }
                Action::Set(value) => {
                    headers.insert(name, value.clone());
                }
            }
        }
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
}
