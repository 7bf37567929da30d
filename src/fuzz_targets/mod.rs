//! Properties that hold for any input, as functions of arbitrary bytes.
//!
//! The fuzzer runs them (`make fuzz`), and a test runs them on the corpus and on some thousands of
//! generated inputs, so that they do not fall behind the code. Each panics if its property does not
//! hold.

mod decision;
mod fields;
mod path;
mod proxy_header;

pub use decision::decision;
pub use fields::{forwarding_fields, response_head};
pub use path::path;
pub use proxy_header::proxy_header;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header lines of a message head; lines that hyper would not accept are left out. At most as
/// many as it accepts.
fn headers(lines: &[u8]) -> HeaderMap {
    const MAX_HEADERS: usize = 100;
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(MAX_HEADERS) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 5] = [
        ("path", path),
        ("decision", decision),
        ("forwarding_fields", forwarding_fields),
        ("response_head", response_head),
        ("proxy_header", proxy_header),
    ];

    /// Inputs per target that are made by changing the corpus. `make fuzz` tries as many as there
    /// is time for.
    const CHANGED_INPUTS: u64 = 2_000;

    /// A generator of numbers that are the same in every run (splitmix64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut number = self.0;
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((number ^ (number >> 31)) % limit.max(1) as u64).expect("below a limit that is a usize")
        }

        /// `input` with some bytes replaced, inserted or removed.
        fn change(&mut self, input: &[u8]) -> Vec<u8> {
            const LIKELY: &[u8] = b"/%2Ff.;:,\"=\\?#[]@ _-\tAa0\n";
            let mut changed = input.to_vec();
            for _ in 0..=self.below(4) {
                let (at, byte) = (self.below(changed.len()), LIKELY[self.below(LIKELY.len())]);
                match self.below(4) {
                    0 if !changed.is_empty() => changed[at] = byte,
                    1 if !changed.is_empty() => drop(changed.remove(at)),
                    2 if !changed.is_empty() => changed[at] = u8::try_from(self.below(256)).expect("below 256"),
                    _ => changed.insert(at, byte),
                }
            }
            changed
        }
    }

    #[test]
    fn the_properties_hold_for_the_corpus_and_for_what_resembles_it() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
            assert!(!corpus.is_empty(), "{name}: no corpus");
            for input in &corpus {
                target(input);
            }
            let mut numbers = Numbers(1);
            for _ in 0..CHANGED_INPUTS {
                let chosen = numbers.below(corpus.len());
                let changed = numbers.change(&corpus[chosen]);
                target(&changed);
            }
        }
    }
}
