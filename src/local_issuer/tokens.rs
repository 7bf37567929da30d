//! Signing: access tokens in the format of RFC 9068, with a key that lives as long as the process.
//!
//! Header, key and signature are `jsonwebtoken`'s: an issuer only writes tokens, and needs none of
//! the strictness with which the gateway reads them.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::primitives::random;

/// The crypto library failed to generate a key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the crypto library cannot generate a signing key")]
pub(crate) struct KeyGenerationError;

/// An ES256 key (RFC 7518 §3.4): generated in no time, unlike an RSA key.
pub(super) struct SigningKey {
    key: EncodingKey,
    public: Jwk,
    kid: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn generate() -> Result<Self, KeyGenerationError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyGenerationError)?;
        let private = pair.to_pkcs8v1().map_err(|_| KeyGenerationError)?;
        let key = EncodingKey::from_ec_der(private.as_ref());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| KeyGenerationError)?;
        let kid = random::hex(&random::bytes::<8>());
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { key, public, kid })
    }

    /// The public key as a JWK (RFC 7517 §4, RFC 7518 §6.2).
    pub(super) fn public_jwk(&self) -> Value {
        serde_json::to_value(&self.public).expect("a JWK is a JSON object")
    }

    /// A signed token with these claims, in compact form (RFC 7515 §7.1).
    pub(super) fn sign(&self, claims: &Map<String, Value>) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).expect("an ES256 key signs any JSON object")
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, TokenData, Validation};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_published_key_verifies_a_token() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(json!({ "sub": "alice", "exp": u32::MAX }).as_object().unwrap());
        let published: Jwk = serde_json::from_value(key.public_jwk()).unwrap();
        let reader = DecodingKey::from_jwk(&published).unwrap();
        let decode = |token: &str| -> Result<TokenData<Value>, _> {
            jsonwebtoken::decode(token, &reader, &Validation::new(Algorithm::ES256))
        };
        let read = decode(&token).unwrap();
        assert_eq!((read.header.typ.as_deref(), read.header.kid), (Some("at+jwt"), published.common.key_id));
        assert_eq!(read.claims["sub"], "alice");
        let other = SigningKey::generate().unwrap().sign(json!({ "exp": u32::MAX }).as_object().unwrap());
        assert!(decode(&other).is_err());
    }
}
