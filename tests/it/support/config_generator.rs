//! Configurations with mistakes, made of the keys and values of `gateway.toml`, and what holds for
//! each of them. `fuzz/fuzz_targets/config.rs` uses this file as well.

use std::fmt::Write as _;

use portcullis::internals::{Plan, load_text};

const REFERENCE: &str = include_str!("../../../gateway.toml");

/// Characters that mean something to TOML, to the loader or to a terminal.
const SPECIAL: [&str; 18] =
    ["[", "]", "{", "}", "=", ",", ".", "\"", "'''", "\n", "#", "\\", "${", "}", "\u{0}", "\u{1b}", "\u{202e}", "é"];

/// What decides what is generated: the bytes of a fuzzer, or those of [`random_bytes`]. Once they
/// are used up, every choice is the first one.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    /// Less than `bound`, which is at most 65 536.
    fn below(&mut self, bound: usize) -> usize {
        (self.byte() << 8 | self.byte()) % bound.max(1)
    }

    fn one_of<'t>(&mut self, list: &[&'t str]) -> &'t str {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.byte() % bound == 1
    }
}

/// The words of the reference: headers of tables, keys, values.
struct Vocabulary {
    headers: Vec<&'static str>,
    keys: Vec<&'static str>,
    values: Vec<&'static str>,
}

impl Vocabulary {
    fn new() -> Self {
        let lines = || REFERENCE.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
        let pairs = || lines().filter_map(|line| line.split_once(" = "));
        Self {
            headers: lines().filter(|line| line.starts_with('[')).map(without_comment).collect(),
            keys: pairs().map(|(key, _)| key).filter(|key| !key.contains([' ', '`'])).collect(),
            values: pairs().map(|(_, value)| without_comment(value)).collect(),
        }
    }
}

fn without_comment(line: &str) -> &str {
    line.split_once(" #").map_or(line, |(text, _)| text).trim_end()
}

/// Bytes that look random, the same for the same `seed` (`SplitMix64`).
pub(crate) fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// The reference with mistakes that `choices` decides: lines left out or repeated, keys of other
/// tables, values of other types, and sometimes text that is not TOML.
pub(crate) fn generate(choices: &[u8]) -> String {
    let (mut choices, words) = (Choices(choices), Vocabulary::new());
    let mut text = String::new();
    // Few mistakes or many: with many, whole tables go, and little of the rest is looked at.
    let rarity = [4, 20, 100][choices.below(3)];
    for line in REFERENCE.lines() {
        let line = match line.strip_prefix("# ") {
            Some(line) if line.contains(" = ") && choices.one_in(2) => line,
            Some(_) | None => line,
        };
        if choices.one_in(rarity) {
            write_mistake(&mut text, without_comment(line), &words, &mut choices);
        } else {
            text.push_str(without_comment(line));
        }
        text.push('\n');
    }
    if choices.one_in(8) {
        for _ in 0..=choices.below(3) {
            let position = choices.below(text.len());
            let position = (position..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.insert_str(position, choices.one_of(&SPECIAL));
        }
    }
    text
}

/// Writes something in place of `line`.
fn write_mistake(text: &mut String, line: &str, words: &Vocabulary, choices: &mut Choices<'_>) {
    let key = line.split_once(" = ").map_or("", |(key, _)| key);
    match choices.below(8) {
        0 => {}
        1 => {
            let _ = write!(text, "{line}\n{line}");
        }
        2 => text.push_str(choices.one_of(&words.headers)),
        3 => {
            let header = choices.one_of(&words.headers).trim_matches(['[', ']']);
            let key = choices.one_of(&words.keys);
            let _ = match choices.below(4) {
                0 => write!(text, "[[{header}]]"),
                1 => write!(text, "[{header}.{key}]"),
                2 => write!(text, "[[{header}.{key}]]"),
                _ => write!(text, "[{header}]"),
            };
        }
        4 => {
            let _ = write!(text, "{} = {}", choices.one_of(&words.keys), choices.one_of(&words.values));
        }
        5 => {
            let _ = write!(text, "{}.{} = ", choices.one_of(&words.keys), choices.one_of(&words.keys));
            write_value(text, 0, words, choices);
        }
        _ => {
            let _ = write!(text, "{} = ", if key.is_empty() { choices.one_of(&words.keys) } else { key });
            write_value(text, 0, words, choices);
        }
    }
}

fn write_value(text: &mut String, depth: usize, words: &Vocabulary, choices: &mut Choices<'_>) {
    let kind = choices.below(if depth < 4 { 14 } else { 10 });
    let scalars =
        ["\"\"", "true", "-1", "1.5", "nan", "1979-05-27", "07:32:00", "\"${NAME}${NONE}\"", "99999999999999999999"];
    match kind {
        0..=8 => text.push_str(scalars[kind]),
        9 => text.push_str(choices.one_of(&words.values)),
        10 | 11 => {
            text.push('[');
            for _ in 0..choices.below(4) {
                write_value(text, depth + 1, words, choices);
                text.push(',');
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for number in 0..choices.below(4) {
                text.push_str(if number > 0 { "," } else { "" });
                let _ = write!(text, "{} = ", choices.one_of(&words.keys));
                write_value(text, depth + 1, words, choices);
            }
            text.push('}');
        }
    }
}

/// Loads and compiles `text`, and checks what holds for every file: it is a plan, or there is a
/// report that is not too long, says where each problem is, and cannot control a terminal.
pub(crate) fn check_loading(text: &str) {
    let environment = |name: &str| (name == "NAME").then(|| "value\u{1b}".to_owned());
    let Err(problems) = Plan::compile(load_text("fuzz.toml", text, &environment)) else { return };
    assert!(!problems.is_empty(), "neither a plan nor a problem:\n{text}");
    let lines = text.lines().count() + 1;
    for problem in &problems {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?}\n{text}");
        assert!(!problem.what.contains("$__"), "a name of the TOML library: {problem:?}\n{text}");
    }
    let report = problems.to_string();
    let is_safe = |character: char| character == '\n' || !character.is_control();
    assert!(report.chars().all(is_safe), "{report:?}");
    // A problem shows no more than a few hundred bytes of the file.
    assert!(report.len() <= 200 + problems.len() * 4096, "{} bytes: {report}", report.len());
}
