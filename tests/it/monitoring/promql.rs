//! Finds the metrics and labels in a query. Not a parser: promtool checks the syntax.

/// What an expression reads, and by which labels it groups.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) selectors: Vec<Selector>,
    /// The labels of each `by`, `on`, `without`, `ignoring`.
    pub(super) groupings: Vec<Vec<String>>,
    /// The labels of each `by`: those that the result of an aggregation keeps.
    pub(super) aggregations: Vec<Vec<String>>,
}

/// A metric with its conditions.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) metric: String,
    pub(super) matchers: Vec<Matcher>,
}

/// A label and what it is compared with; the operator is left out.
#[derive(Debug)]
pub(super) struct Matcher {
    pub(super) label: String,
    pub(super) value: String,
}

/// Words that are neither a function nor a metric.
const KEYWORDS: [&str; 11] =
    ["and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count", "group_left"];

impl Expression {
    /// Reads an expression, or a sample's name with its labels, which has the same form.
    pub(super) fn parse(text: &str) -> Self {
        let mut expression = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if first == '[' || first == '"' {
                let end = if first == '[' { ']' } else { '"' };
                rest = rest[1..].split_once(end).unwrap_or_else(|| panic!("no {end} in {text}")).1;
            } else if is_word(first) {
                let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
                rest = after.trim_start();
                if let Some((inside, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
                    if ["by", "on", "without", "ignoring"].contains(&word) {
                        let labels: Vec<String> = inside.split(',').map(|label| label.trim().to_owned()).collect();
                        if word == "by" {
                            expression.aggregations.push(labels.clone());
                        }
                        expression.groupings.push(labels);
                        rest = after;
                    }
                    // Otherwise a function; its arguments follow.
                } else if !KEYWORDS.contains(&word) && !first.is_ascii_digit() && !first.eq(&'.') {
                    let (matchers, after) = match rest.strip_prefix('{') {
                        Some(rest) => matchers(rest),
                        None => (Vec::new(), rest),
                    };
                    expression.selectors.push(Selector { metric: word.to_owned(), matchers });
                    rest = after;
                }
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        expression
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// The matchers from behind `{` to `}`, and what follows. Values here contain no `"`.
fn matchers(mut rest: &str) -> (Vec<Matcher>, &str) {
    let mut matchers = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return (matchers, after.trim_start());
        }
        let mut parts = rest.splitn(3, '"');
        let (Some(label), Some(value), Some(after)) = (parts.next(), parts.next(), parts.next()) else {
            panic!("a matcher without end: {rest}");
        };
        let label = label.trim_end_matches(['=', '~', '!', ' ']);
        matchers.push(Matcher { label: label.to_owned(), value: value.to_owned() });
        rest = after;
    }
}

#[test]
fn finds_metrics_matchers_and_groupings() {
    let found = Expression::parse(
        "histogram_quantile(0.99, sum by (le, a) (rate(one_bucket{a=\"x\", b=~\"y|z\"}[5m]))) > 18 * 3600 and on (job) two",
    );
    let metrics: Vec<_> = found.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["one_bucket", "two"]);
    let matchers: Vec<_> = found.selectors[0].matchers.iter().map(|m| (m.label.as_str(), m.value.as_str())).collect();
    assert_eq!(matchers, [("a", "x"), ("b", "y|z")]);
    assert_eq!(found.groupings, [vec!["le", "a"], vec!["job"]]);
    assert_eq!(found.aggregations, [["le", "a"]]);
}
