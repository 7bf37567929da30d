//! Leaf: the routes of one pattern, by method.

use http::{HeaderValue, Method};

use super::{Conflict, RouteMatch};

/// The routes of one pattern.
#[derive(Debug)]
pub(super) struct Leaf {
    by_method: Vec<(Method, usize)>,
    any_method: Option<usize>,
    allow: HeaderValue,
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self { by_method: Vec::new(), any_method: None, allow: HeaderValue::from_static("") }
    }

    pub(super) fn add(&mut self, route: usize, methods: &[Method], conflicts: &mut Vec<Conflict>) {
        if methods.is_empty() {
            match self.any_method {
                Some(first) => conflicts.push(Conflict { first, second: route }),
                None => self.any_method = Some(route),
            }
            return;
        }
        for method in methods {
            match self.listed(method) {
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

    fn listed(&self, method: &Method) -> Option<usize> {
        self.by_method.iter().find(|(listed, _)| listed == method).map(|(_, route)| *route)
    }

    /// A route that lists the method before one that lists none. `HEAD` is what `GET` answers without the content
    /// (RFC 9110 §9.3.2), so it goes where `GET` goes unless a route asks for it by name.
    pub(super) fn choose(&self, method: &Method) -> RouteMatch {
        self.listed(method)
            .or_else(|| if method == Method::HEAD { self.listed(&Method::GET) } else { None })
            .or(self.any_method)
            .map_or_else(|| RouteMatch::MethodNotAllowed(self.allow.clone()), RouteMatch::Found)
    }

    /// Appends the leaf's routes to `order`, those that list methods first.
    pub(super) fn list(&self, order: &mut Vec<usize>) {
        for index in self.by_method.iter().map(|(_, index)| *index).chain(self.any_method) {
            // A route is listed once for each of its methods.
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
