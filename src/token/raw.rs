//! Raw token: the secret text of a token, split into segments but not interpreted.
//!
//! A bearer token is a password. It has no `Display`, its `Debug` hides it, and maps use its digest
//! as the key. The text is borrowed from the request, so that no copy stays in memory. The caller
//! bounds its length.

use std::fmt;
use std::hash::{Hash, Hasher};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::VerifyError;

/// The text of a token as the client sent it. Unverified.
#[derive(Clone, Copy)]
pub struct RawToken<'a>(&'a [u8]);

/// SHA-256 of a whole token: identifies it where the token itself must not be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl Hash for TokenDigest {
    /// Hashes only the first eight bytes: the digest is already uniformly distributed.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.prefix());
    }
}

impl TokenDigest {
    fn prefix(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect("a digest has more than eight bytes"))
    }
}

/// The three segments of a JWS in compact form (RFC 7515 §3.1), decoded from base64url.
pub struct Parts<'a> {
    /// The header's bytes: JSON, if the token is well-formed.
    pub header: Vec<u8>,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// The signed text: header and payload as sent, with the dot between them.
    pub signed: &'a [u8],
    /// The signature.
    pub signature: Vec<u8>,
}

impl<'a> RawToken<'a> {
    /// Wraps the text without checking it.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self(text.as_bytes())
    }

    /// Wraps bytes that may not be UTF-8. [`RawToken::parts`] then refuses them.
    #[must_use]
    pub const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// SHA-256 over every byte of the token. Tokens that differ anywhere, even in unused bits of
    /// base64url, have different digests.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, self.0).as_ref());
        TokenDigest(bytes)
    }

    /// Splits and decodes the token. Reads no further than the fifth dot.
    ///
    /// Base64url is decoded strictly: no padding, no other alphabet, no white space, unused bits
    /// zero (RFC 7515 §2, RFC 4648 §3.5). Otherwise one token would have several spellings.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Encrypted`] for five segments (RFC 7516 §3.1),
    /// [`VerifyError::NotThreeSegments`], [`VerifyError::NotBase64Url`].
    pub fn parts(&self) -> Result<Parts<'a>, VerifyError> {
        let text = std::str::from_utf8(self.0).map_err(|_| VerifyError::NotBase64Url)?;
        let mut segments = text.splitn(6, '.');
        let segments: [Option<&str>; 6] = std::array::from_fn(|_| segments.next());
        let (header, payload, signature) = match segments {
            [Some(header), Some(payload), Some(signature), None, ..] => (header, payload, signature),
            [Some(_), Some(_), Some(_), Some(_), Some(_), None] => return Err(VerifyError::Encrypted),
            _ => return Err(VerifyError::NotThreeSegments),
        };
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(VerifyError::NotThreeSegments);
        }
        let decode = |segment: &str| URL_SAFE_NO_PAD.decode(segment).map_err(|_| VerifyError::NotBase64Url);
        Ok(Parts {
            header: decode(header)?,
            payload: decode(payload)?,
            signed: &self.0[..header.len() + 1 + payload.len()],
            signature: decode(signature)?,
        })
    }
}

impl fmt::Debug for RawToken<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RawToken(…)")
    }
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Parts(…)")
    }
}

impl fmt::Debug for TokenDigest {
    /// Writes only the first four bytes: enough to correlate log lines, too few to identify a
    /// token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TokenDigest({}…)", crate::primitives::random::hex(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Result<(), VerifyError> {
        RawToken::new(text).parts().map(drop)
    }

    /// Threats J-02, J-19a, J-19b, J-20, A16, A17; RFC 7515 §2, §3.1.
    #[test]
    fn only_three_segments_of_strict_base64url_are_accepted() {
        for (name, text, expected) in [
            ("three segments", "e30.e30.AAAA", Ok(())),
            ("one", "e30", Err(VerifyError::NotThreeSegments)),
            ("two", "e30.e30", Err(VerifyError::NotThreeSegments)),
            ("no signature", "e30.e30.", Err(VerifyError::NotThreeSegments)),
            ("no payload", "e30..AAAA", Err(VerifyError::NotThreeSegments)),
            ("no header", ".e30.AAAA", Err(VerifyError::NotThreeSegments)),
            ("four", "e30.e30.AAAA.AAAA", Err(VerifyError::NotThreeSegments)),
            ("five: encrypted", "e30.e30.AAAA.AAAA.AAAA", Err(VerifyError::Encrypted)),
            ("six", "e30.e30.AAAA.AAAA.AAAA.AAAA", Err(VerifyError::NotThreeSegments)),
            ("padding in the header", "e30=.e30.AAAA", Err(VerifyError::NotBase64Url)),
            ("padding in the signature", "e30.e30.AA==", Err(VerifyError::NotBase64Url)),
            ("the other alphabet", "e30.e30.A+/A", Err(VerifyError::NotBase64Url)),
            ("a space", "e30.e 30.AAAA", Err(VerifyError::NotBase64Url)),
            ("a line end", "e30.e30.AAAA\n", Err(VerifyError::NotBase64Url)),
            ("an escape", "e30.e30.AAA%3D", Err(VerifyError::NotBase64Url)),
            ("a NUL", "e30.e30.AAA\0", Err(VerifyError::NotBase64Url)),
            ("spare bits in the header", "e31.e30.AAAA", Err(VerifyError::NotBase64Url)),
            ("spare bits in the signature", "e30.e30.AB", Err(VerifyError::NotBase64Url)),
            ("an impossible length", "e30.e30.AAAAA", Err(VerifyError::NotBase64Url)),
            ("JSON", "{\"payload\":\"e30.e30.AAAA\"}", Err(VerifyError::NotBase64Url)),
        ] {
            assert_eq!(split(text), expected, "{name}");
        }
        assert_eq!(split(&".".repeat(1 << 20)), Err(VerifyError::NotThreeSegments));
    }

    #[test]
    fn the_signed_text_ends_before_the_second_dot() {
        let parts = RawToken::new("e30.W10.AAAA").parts().unwrap();
        assert_eq!(parts.signed, b"e30.W10");
        assert_eq!(parts.signature, [0; 3]);
        assert_eq!((&parts.header[..], &parts.payload[..]), (&b"{}"[..], &b"[]"[..]));
    }

    /// A cache whose keys all have one hash would be searched entry by entry.
    #[test]
    fn digests_of_different_tokens_have_different_hashes() {
        let hashes: std::collections::HashSet<u64> =
            (0..100).map(|number| hash_of(RawToken::new(&format!("e30.e30.{number}")).digest())).collect();
        assert_eq!(hashes.len(), 100);
    }

    fn hash_of(digest: TokenDigest) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        digest.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn debug_output_hides_the_token() {
        assert_eq!(format!("{:?}", RawToken::new("secret")), "RawToken(…)");
    }

    /// SHA-256 of "abc": FIPS 180-4, example.
    #[test]
    fn the_digest_is_sha_256_of_the_text() {
        assert_eq!(format!("{:?}", RawToken::new("abc").digest()), "TokenDigest(ba7816bf…)");
        assert_ne!(RawToken::new("e30.e30.AA").digest(), RawToken::new("e30.e30.AB").digest());
    }
}
