//! "Did you mean": the known name nearest to an unknown one.

/// Longest name that is compared, in characters; the distance costs the product of both lengths.
const MAX_NAME_CHARS: usize = 64;

/// The candidate that `name` was probably meant to be, if there is one.
///
/// The distance is the number of characters inserted, deleted, replaced or swapped with their
/// neighbour. Case is ignored, and `-` equals `_`. At most one such slip in three characters counts
/// as near; of several equally near candidates the first wins.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = normalize(name)?;
    let max_distance = (unknown.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let Some(known) = normalize(candidate) else { continue };
        let distance = strsim::osa_distance(&unknown, &known);
        // A name of one or two characters is one slip away from every other such name.
        let is_near = distance == 0 || (distance <= max_distance && known.chars().count() > 2);
        if is_near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Keys that earlier versions had, and what to write in their place.
const RENAMED: [(&str, &str); 1] = [("path_parameters", "write `unusual_paths = [\"parameters\"]` to accept `;`")];

/// [`nearest`] as a hint: "did you mean `scopes`?" For a key that earlier versions had, what took
/// its place.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if let Some((_, hint)) = RENAMED.iter().find(|(renamed, _)| *renamed == name) {
        return Some((*hint).to_owned());
    }
    nearest(name, candidates).map(|candidate| format!("did you mean {}?", super::problem::quoted(candidate)))
}

/// The form in which names are compared; `None` if the name is too long.
fn normalize(name: &str) -> Option<String> {
    let is_short = name.chars().nth(MAX_NAME_CHARS).is_none();
    is_short.then(|| name.to_ascii_lowercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_distant_one_is_not() {
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
    fn a_very_long_name_has_no_suggestion() {
        let name = "a".repeat(100_000);
        assert_eq!(nearest(&name, [name.as_str()]), None);
    }
}
