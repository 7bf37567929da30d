//! Leaf: the routes of one host and path pattern, by method.

use http::{HeaderValue, Method};

use super::outcome::{Conflict, RouteMatch};

/// The routes of one pattern.
#[derive(Debug)]
pub(super) struct Leaf {
    /// The routes that list methods, once for each method.
    by_method: Vec<(Method, usize)>,
    /// The route that lists no methods and so allows all of them.
    any_method: Option<usize>,
    /// The value of `Allow`, built in advance.
    allow: HeaderValue,
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self { by_method: Vec::new(), any_method: None, allow: HeaderValue::from_static("") }
    }

    /// Adds a route. If an earlier route has a method in common with it, the pair is added to
    /// `conflicts`.
    pub(super) fn add(&mut self, route: usize, methods: &[Method], conflicts: &mut Vec<Conflict>) {
        if methods.is_empty() {
            match self.any_method {
                Some(first) => conflicts.push(Conflict { first, second: route }),
                None => self.any_method = Some(route),
            }
            return;
        }
        for method in methods {
            match self.route_listing(method) {
                Some(first) if first == route => {}
                Some(first) => {
                    let conflict = Conflict { first, second: route };
                    if !conflicts.contains(&conflict) {
                        conflicts.push(conflict);
                    }
                }
                None => self.by_method.push((method.clone(), route)),
            }
        }
        self.allow = self.allowed_methods();
    }

    fn route_listing(&self, method: &Method) -> Option<usize> {
        self.by_method.iter().find(|(listed, _)| listed == method).map(|(_, route)| *route)
    }

    /// Finds the route for a method. A route that lists the method takes precedence over one that
    /// lists none. The response to `HEAD` is the response to `GET` without content
    /// (RFC 9110 §9.3.2), so `HEAD` matches the route for `GET` unless a route lists `HEAD` itself.
    pub(super) fn find(&self, method: &Method) -> RouteMatch {
        self.route_listing(method)
            .or_else(|| if method == Method::HEAD { self.route_listing(&Method::GET) } else { None })
            .or(self.any_method)
            .map_or_else(|| RouteMatch::MethodNotAllowed(self.allow.clone()), RouteMatch::Found)
    }

    /// Appends the leaf's routes to `order`, those that list methods first.
    pub(super) fn append_to(&self, order: &mut Vec<usize>) {
        for index in self.by_method.iter().map(|(_, index)| *index).chain(self.any_method) {
            // A route has an entry for each of its methods.
            if !order.contains(&index) {
                order.push(index);
            }
        }
    }

    fn allowed_methods(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.dedup();
        HeaderValue::from_str(&names.join(", ")).expect("methods are tokens (RFC 9110 §9.1)")
    }
}
