//! A hash that is the same in every process and on every machine.
//!
//! Consistent hashing needs it: all gateways in front of the same servers must send a key to the
//! same server, also after a restart and after an update of the compiler, whose own hash function
//! may change. It does not protect against keys that are chosen to collide, and its callers must
//! not depend on that.

/// FNV-1a over several byte strings, each with its length, so that `("ab", "c")` and `("a", "bc")`
/// differ. Mixed at the end, because FNV alone spreads short inputs poorly over the high bits.
#[must_use]
pub(crate) fn stable_hash(parts: &[&[u8]]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for part in parts {
        let length = (part.len() as u64).to_le_bytes();
        for byte in length.iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    mix(hash)
}

/// Spreads every bit of `value` over all bits: the last step of `SplitMix64`. Different values stay
/// different.
#[must_use]
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateways of different versions must agree, so these values never change.
    #[test]
    fn the_hash_of_a_key_never_changes() {
        for (parts, hash) in [
            (&[][..], 0xf52a_15e9_a9b5_e89b),
            (&[&b"alice"[..]][..], 0x267b_49b1_de2d_32f8),
            (&[b"ab", b"c"], 0x482f_6f54_3bbc_5465),
            (&[b"a", b"bc"], 0x461d_2521_4179_d9fb),
        ] {
            assert_eq!(stable_hash(parts), hash, "{parts:?}: {:#x}", stable_hash(parts));
        }
    }
}
