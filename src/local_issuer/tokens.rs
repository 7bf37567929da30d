//! Signing: access tokens in the format of RFC 9068, with an RSA key that lives as long as the process.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::primitives::random;

/// The crypto library failed to generate a key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the crypto library cannot generate an RSA key")]
pub(crate) struct KeyGenerationError;

/// An RS256 key (RFC 7518 §3.3).
pub(super) struct SigningKey {
    pair: RsaKeyPair,
    kid: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    pub(super) fn generate() -> Result<Self, KeyGenerationError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyGenerationError)?;
        Ok(Self { pair, kid: random::hex(&random::bytes::<8>()) })
    }

    /// The public key as a JWK (RFC 7517 §4, RFC 7518 §6.3).
    pub(super) fn public_jwk(&self) -> Value {
        let public = self.pair.public_key();
        let number = |bytes: &[u8]| {
            let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
            URL_SAFE_NO_PAD.encode(&bytes[start..])
        };
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// A signed token with these claims, in compact form (RFC 7515 §7.1).
    pub(super) fn sign(&self, claims: &Map<String, Value>) -> String {
        let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": self.kid });
        let part = |value: &[u8]| URL_SAFE_NO_PAD.encode(value);
        let claims = serde_json::to_vec(claims).expect("a JSON object always serializes");
        let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(&claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("the buffer is as long as the modulus");
        format!("{signed}.{}", part(&signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_key_verifies_a_token() {
        let key = SigningKey::generate().unwrap();
        let claims = json!({ "sub": "alice" });
        let token = key.sign(claims.as_object().unwrap());
        let jwk = key.public_jwk();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let decode = |member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
        let public = aws_lc_rs::signature::RsaPublicKeyComponents { n: decode("n"), e: decode("e") };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verify = |message: &[u8]| {
            public.verify(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, message, &signature).is_ok()
        };
        assert!(verify(signed.as_bytes()));
        assert!(!verify(b"something else"));
    }
}
