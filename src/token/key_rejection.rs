//! Why a key of a key set is not used.

/// Why a key was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum KeyRejection {
    /// `alg` is not supported, or is not for this type of key.
    Algorithm,
    /// The set has more keys than are read from it.
    BeyondLimit,
    /// `crv` is not supported, or does not belong to this `kty`.
    Curve,
    /// The RSA exponent is 1, even, or longer than 33 bits.
    Exponent,
    /// `kid` is not a string, or is too long.
    KeyId,
    /// `key_ops` lacks `verify`.
    KeyOperations,
    /// `kty` is missing or not supported.
    KeyType,
    /// A member is missing, has the wrong type, or is not base64.
    Malformed,
    /// The RSA modulus is even, or does not have 2048 to 8192 bits.
    Modulus,
    /// The point is not on the curve, or has small order.
    Point,
    /// The key has private members: the issuer has published a private key.
    Private,
    /// `kty` is `oct`.
    Symmetric,
    /// `use` is not `sig`.
    Use,
}

impl KeyRejection {
    /// A fixed text per variant, for the log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm not supported",
            Self::BeyondLimit => "beyond the limit of 500 keys",
            Self::Curve => "curve not supported",
            Self::Exponent => "bad RSA exponent",
            Self::KeyId => "bad key id",
            Self::KeyOperations => "not for verifying",
            Self::KeyType => "key type not supported",
            Self::Malformed => "malformed",
            Self::Modulus => "bad RSA modulus",
            Self::Point => "bad point",
            Self::Private => "private key published",
            Self::Symmetric => "symmetric",
            Self::Use => "not for signatures",
        }
    }
}
