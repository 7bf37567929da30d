//! Random bytes from the crypto library's generator, drawn in blocks; and cheap numbers for choices
//! that need not be unpredictable.
//!
//! A call to the generator costs about as much as a system call. Each thread draws a block at a
//! time, so that the few bytes that a request needs cost a copy.

use std::cell::{Cell, RefCell};

use super::stable_hash::mix;

/// How many bytes one refill draws. At sixteen bytes per request, one request in 64 pays for a
/// refill.
const BLOCK_BYTES: usize = 1024;

struct Block {
    bytes: [u8; BLOCK_BYTES],
    used: usize,
}

thread_local! {
    static BLOCK: RefCell<Block> = const { RefCell::new(Block { bytes: [0; BLOCK_BYTES], used: BLOCK_BYTES }) };
}

/// `N` unpredictable bytes, `N` at most 64.
///
/// # Panics
///
/// If the operating system provides no randomness: request ids and keys made without it could be
/// guessed.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= 64, "draw large amounts from the generator directly") };
    BLOCK.with_borrow_mut(|block| {
        if block.used + N > BLOCK_BYTES {
            aws_lc_rs::rand::fill(&mut block.bytes).expect("the operating system provides random bytes");
            block.used = 0;
        }
        let mut drawn = [0; N];
        drawn.copy_from_slice(&block.bytes[block.used..block.used + N]);
        block.bytes[block.used..block.used + N].fill(0);
        block.used += N;
        drawn
    })
}

/// A number uniformly distributed over all of its values, for load balancing. Cheap, but not
/// secret: some of them are enough to predict the others.
#[must_use]
pub fn draw() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(u64::from_le_bytes(bytes()));
    }
    /// The golden ratio, as the increment of `SplitMix64`.
    const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;
    STATE.with(|state| {
        let next = state.get().wrapping_add(INCREMENT);
        state.set(next);
        mix(next)
    })
}

/// `bytes` as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut text);
    String::from_utf8(text).expect("hexadecimal digits")
}

/// Writes `bytes` as lower-case hexadecimal digits into `text`.
///
/// # Panics
///
/// If `text` is not twice as long as `bytes`.
pub fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    assert_eq!(text.len(), 2 * bytes.len(), "two digits for each byte");
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// A number uniformly distributed over `0.0..1.0`, for jitter.
#[must_use]
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_do_not_repeat() {
        let drawn: std::collections::BTreeSet<[u8; 16]> = (0..1_000).map(|_| bytes()).collect();
        assert_eq!(drawn.len(), 1_000);
    }

    #[test]
    fn drawn_numbers_are_spread_evenly() {
        let mut counts = [0; 8];
        for _ in 0..8_000 {
            counts[usize::try_from(draw() % 8).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn hex_has_two_digits_per_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa5]), "000fa5");
    }

    #[test]
    fn fractions_stay_below_one() {
        assert!((0..1_000).map(|_| fraction()).all(|f| (0.0..1.0).contains(&f)));
    }
}
