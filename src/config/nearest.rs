//! "Did you mean": the known name that is nearest to one that is not known.

/// Longest name for which a neighbour is looked for, in characters; the distance costs the product of both lengths.
const MAX_NAME: usize = 64;

/// The candidate that `name` was probably meant to be, if there is one.
///
/// Nearness is the number of letters inserted, left out, replaced or swapped with their neighbour, without regard to case
/// and to `-` for `_`. One slip in three letters is the most that counts; of several equally near the first is taken.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name)?;
    let allowed = (wanted.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let Some(known) = folded(candidate) else { continue };
        let distance = distance(&wanted, &known);
        // A name of one or two letters is one slip away from every other such name.
        if distance == 0 || (distance <= allowed && known.len() > 2) {
            let nearer = best.is_none_or(|(least, _)| distance < least);
            if nearer {
                best = Some((distance, candidate));
            }
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// [`nearest`] as a hint: "did you mean `scopes`?"
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean {}?", super::problem::quoted(candidate)))
}

fn folded(name: &str) -> Option<Vec<char>> {
    let folded: Vec<char> =
        name.chars().take(MAX_NAME + 1).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect();
    (folded.len() <= MAX_NAME).then_some(folded)
}

/// Optimal string alignment distance: like Levenshtein's, and two neighbours swapped count once.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let mut least = (above[column] + usize::from(a != b)).min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_fetched() {
        let known = ["scopes", "any_scopes", "upstream", "path", "host", "ip"];
        for (name, expected) in [
            ("scope", Some("scopes")),
            ("any-scopes", Some("any_scopes")),
            ("Path", Some("path")),
            ("usptream", Some("upstream")),
            ("hots", Some("host")),
            ("ip", Some("ip")),
            ("to", None),
            ("introspection", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }

    #[test]
    fn a_very_long_name_has_no_neighbour() {
        let name = "a".repeat(100_000);
        assert_eq!(nearest(&name, [name.as_str()]), None);
    }
}
