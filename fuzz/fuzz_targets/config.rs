//! Loads configurations that the fuzzer makes of the keys of `gateway.toml`, and arbitrary text.

#![no_main]

#[path = "../../tests/it/support/config_generator.rs"]
mod config_generator;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses, so that the fuzzer can work on either.
    match data.split_first() {
        Some((0..=63, text)) => config_generator::check_loading(&String::from_utf8_lossy(text)),
        Some((_, choices)) => config_generator::check_loading(&config_generator::generate(choices)),
        None => {}
    }
});
