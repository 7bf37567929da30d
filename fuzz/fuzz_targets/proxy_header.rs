//! Runs the property of the same name in `src/fuzz_targets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::fuzz_targets::proxy_header(data));
