//! Signature algorithms of JWS (RFC 7518 §3.1, RFC 8037 §3.1): the asymmetric ones that the gateway
//! verifies.
//!
//! Symmetric algorithms and `none` have no variant, so a token's header cannot select them.

/// An algorithm, in the order of RFC 7518 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// Ed25519.
    EdDsa,
}

/// The kind of key that an algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Curve P-256 (NIST).
    EcP256,
    /// Curve P-384 (NIST).
    EcP384,
    /// The Edwards curve of Ed25519.
    Ed25519,
    /// RSA, any padding.
    Rsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// Parses a registered name, which is case-sensitive. `Ed25519`, the fully specified name of
    /// RFC 9864 §2.2, is [`Algorithm::EdDsa`]: Ed448, the other curve of `EdDSA`, is not supported.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The kind of key that the algorithm needs.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 => Family::EcP256,
            Self::Es384 => Family::EcP384,
            Self::EdDsa => Family::Ed25519,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_parsed() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
    }

    /// Threats J-01, A12, A29: names are case-sensitive, and unsigned, symmetric and unknown
    /// algorithms do not exist.
    #[test]
    fn other_names_are_not_algorithms() {
        for name in [
            "",
            "none",
            "None",
            "NONE",
            "rs256",
            "RS256 ",
            " RS256",
            "RS256\0",
            "HS256",
            "HS384",
            "HS512",
            "ES512",
            "ES256K",
            "Ed448",
            "ED25519",
            "eddsa",
            "XS256",
            "ML-DSA-44",
            "RSA-OAEP",
            "RS1",
        ] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }
}
